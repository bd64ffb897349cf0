"""From a file to a network: published weights, real and made up, and those of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from asmjax.models.backbones import HRNet, MobileNetV2, ResNet
from asmjax.models.layers import Norm
from asmjax.models.predictors import HRNetV2, UNet
from asmjax.models.predictors.deeplab import DeepLab
from asmjax.pretrained import load, read
from asmjax.pretrained.load import NAMINGS
from asmjax.pretrained.readers import READERS
from asmjax.train.checkpoint import Checkpoints
from asmjax.train.optim import Optimizer
from asmjax.train.state import Player, TrainState
from asmjax.utils.trees import leaves_by_path
from tests.helpers import published_weights
from tests.helpers.published_weights import stored

HEADS = {"segmentation": 3}
BACKBONE = ResNet((1, 1, 1, 1), 2, placement="first_3x3")


def network(**options):
  return DeepLab(HEADS, BACKBONE, rates=(), features=4, convs=1, **options)


def values(tree):
  """The values of all leaves, as a set."""
  return {float(x) for leaf in jax.tree.leaves(tree) for x in np.unique(leaf)}


def test_namings_cover_every_format():
  assert NAMINGS.keys() == READERS.keys()


def test_load_fills_a_complete_network(tmp_path):
  net = network()
  save_file(stored(net), tmp_path / "x.safetensors")
  variables, coverage = load(
    tmp_path / "x.safetensors", "safetensors", net, published_weights.fresh(net)
  )
  assert values(variables) == {1.0} and not coverage.describe_faults()


def test_load_fills_a_part_and_leaves_all_else_fresh(tmp_path):
  net = network()
  save_file(stored(BACKBONE) | {"fc.bias": np.ones(9)}, tmp_path / "x.safetensors")
  variables, coverage = load(
    tmp_path / "x.safetensors", "safetensors", net, published_weights.fresh(net), part="backbone"
  )
  for collection, tree in variables.items():
    assert values(tree.pop("backbone")) == {1.0}
    assert values(tree) == {0.0}, collection
  assert "fresh outside of backbone" in str(coverage) and set(coverage.ignored) == {"fc.bias"}
  with pytest.raises(ValueError, match='all of the backbone: part="backbone" loads that alone'):
    load(tmp_path / "x.safetensors", "safetensors", net, published_weights.fresh(net))


@pytest.mark.parametrize(
  "prefix, others",
  [
    ("", ("incre_modules.0.0.bn1.bias", "downsamp_modules.0.0.bias", "final_layer.0.bias")),
    ("model.", ("model.last_layer.0.bias", "loss.criterion.weight")),
  ],
)
def test_load_takes_hrnet_from_classifiers_of_images_and_of_pixels(prefix, others, tmp_path):
  net = HRNetV2(HEADS, HRNet(2, (1, 1, 1), blocks=1, stem=4, bottlenecks=1))
  arrays = stored(net.backbone, prefix) | {name: np.ones(2, np.float32) for name in others}
  save_file(arrays, tmp_path / "x.safetensors")
  variables, coverage = load(
    tmp_path / "x.safetensors", "safetensors", net, published_weights.fresh(net), part="backbone"
  )
  assert values({name: tree["backbone"] for name, tree in variables.items()}) == {1.0}
  assert set(coverage.ignored) == set(others)


def test_load_suggests_no_part_that_the_file_lacks(tmp_path):
  net, arrays = network(), stored(BACKBONE)
  del arrays["bn1.weight"]
  save_file(arrays, tmp_path / "x.safetensors")
  with pytest.raises(ValueError, match="x.safetensors: none of the weights fits") as error:
    load(tmp_path / "x.safetensors", "safetensors", net, published_weights.fresh(net))
  assert "part=" not in str(error.value)
  with pytest.raises(ValueError, match="no 'bn1.weight' in the file"):
    load(
      tmp_path / "x.safetensors", "safetensors", net, published_weights.fresh(net), part="backbone"
    )


def test_load_passes_options_to_transfer(tmp_path):
  net = network()
  arrays = stored(net) | {"odd": np.ones(1)}
  save_file(arrays, tmp_path / "x.safetensors")
  find = lambda **options: load(
    tmp_path / "x.safetensors", "safetensors", net, published_weights.fresh(net), **options
  )[1]
  with pytest.raises(ValueError, match="unused of the file"):
    find()
  assert find(strict=False).unused and find(ignore=("odd",)).ignored
  assert find(ignore=("odd",), reinitialize=("*/aspp0/*",)).reinitialized


@pytest.mark.parametrize("part", ["head", "norm", "parent"])
def test_load_refuses_parts_that_are_no_modules(tmp_path, part):
  net = network()
  with pytest.raises(ValueError, match=rf"DeepLab has no module '{part}' .*; known: .'backbone'."):
    load(tmp_path / "x", "safetensors", net, {}, part=part)


def test_load_fills_mobilenet_from_published_weights():
  net = MobileNetV2()
  variables, coverage = load(
    published_weights.real("mobilenet_v2_imagenet.safetensors"),
    "safetensors",
    net,
    published_weights.fresh(net),
  )
  assert coverage.count_parameters() == (2_223_872, 2_223_872) and len(coverage.loaded) == 260
  assert not coverage.describe_faults() and all(np.std(x) > 0 for x in jax.tree.leaves(variables))


@pytest.mark.parametrize("classes", [21, 4])
def test_load_fills_deeplab_from_published_weights_except_for_the_head(classes):
  pytest.importorskip("tensorflow")
  net = DeepLab({"segmentation": classes}, MobileNetV2(top=False), rates=())
  _, coverage = load(
    published_weights.real("deeplabv3_mnv2_pascal/model.ckpt"),
    "tensorflow",
    net,
    published_weights.fresh(net),
  )
  assert len(coverage.shapes) == 272 and not coverage.unused and not coverage.ignored
  assert len(coverage.loaded) == (272 if classes == 21 else 270)
  assert len(coverage.reinitialized) == 272 - len(coverage.loaded)


def tiny(**options):
  return UNet(HEADS, levels=2, width=4, **options)


def make_state(net, *, average, value, step):
  """A state whose parameters and statistics are `value`, and their average twice that."""
  variables = jax.tree.map(lambda x: x + value, published_weights.fresh(net))
  params = variables["params"]
  twice = jax.tree.map(lambda x: 2 * x, params)
  opt_state = Optimizer(ema_decay=average).make_transformation(10).init(twice)
  player = Player(params, variables.get("batch_stats", {}), opt_state)
  critic = Player({"conv1": {"kernel": jnp.ones((1, 1))}}, {}, ())
  players = {"predictor": player, "structure": critic}
  return TrainState(jnp.array(step), players, jax.random.key_data(jax.random.key(0)))


def save_run(workdir, *states):
  with Checkpoints(workdir / "checkpoints", metric="a", keep=len(states)) as checkpoints:
    for state in states:
      checkpoints.save(state)
  return workdir


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_load_reads_the_predictor_of_a_run_as_it_is_evaluated(tmp_path, average, norm):
  net = tiny(norm=Norm(norm))
  states = [make_state(net, average=average, value=value, step=value) for value in (9, 10)]
  workdir = save_run(tmp_path, *states)
  for path, expected in ((workdir, states[1]), (workdir / "checkpoints" / "9", states[0])):
    stored = read(path, "orbax")
    variables = leaves_by_path(expected.variables())
    assert stored.keys() == variables.keys()
    for name, array in variables.items():
      np.testing.assert_array_equal(stored[name], array)
  variables, coverage = load(workdir, "orbax", net, published_weights.fresh(net))
  scale = 2.0 if average else 1.0
  assert values(variables["params"]) == {10 * scale} and not coverage.describe_faults()


def test_load_puts_a_part_of_a_run_into_another_network(tmp_path):
  workdir = save_run(tmp_path, make_state(network(), average=0.0, value=3, step=1))
  depth_net = DeepLab({"depth": 1}, BACKBONE, features=8)
  variables, coverage = load(
    workdir, "orbax", depth_net, published_weights.fresh(depth_net), part="backbone"
  )
  assert values(variables["params"].pop("backbone")) == {3.0}
  assert values(variables["params"]) == {0.0} and not coverage.describe_faults()
  with pytest.raises(ValueError, match='part="backbone" loads that alone'):
    load(workdir, "orbax", depth_net, published_weights.fresh(depth_net))


def test_load_names_folders_without_checkpoints_and_damaged_ones(tmp_path):
  with pytest.raises(FileNotFoundError, match="expected the folder of a run or of one of its"):
    read(tmp_path / "nothing", "orbax")
  workdir = save_run(tmp_path, make_state(tiny(), average=0.0, value=1, step=1))
  (workdir / "checkpoints" / "1" / "state" / "_METADATA").write_text("{")
  with pytest.raises(ValueError, match="checkpoints/1/state is damaged .*; no other checkpoint"):
    read(workdir, "orbax")
