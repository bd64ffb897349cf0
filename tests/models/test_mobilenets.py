"""Both MobileNets against published counts and their definition, and the critic with one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import mobilenet, mobilenet_v2
from asmjax.models.backbones.mobilenet import MobileNetV1
from asmjax.models.backbones.mobilenet_v2 import MobileNetV2, round_channels
from asmjax.models.critics.mobilenet import MobileNetCritic
from asmjax.models.layers import Norm
from asmjax.ops import resize_bilinear
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as oracle


def tiny_v1(**options):
  return MobileNetV1(0.125, **options)


def tiny_v2(**options):
  return MobileNetV2(width=0.1, top=False, **options)


# By version: its module, the name of its table of blocks, a tiny network, and a short table: each
# stride once, and a block after the last one; for version 2 a repeated block and one that does not
# expand.
VERSIONS = {
  "v1": (
    mobilenet,
    "V1_BLOCKS",
    tiny_v1,
    ((64, 1), (64, 2), (64, 2), (128, 2), (128, 2), (128, 1)),
  ),
  "v2": (
    mobilenet_v2,
    "V2_BLOCKS",
    tiny_v2,
    ((1, 8, 1, 1), (2, 8, 1, 2), (2, 8, 2, 2), (2, 16, 1, 2), (2, 16, 1, 2)),
  ),
}


@pytest.fixture(params=VERSIONS)
def shorten(request, monkeypatch):
  """Returns a function that makes a tiny network from the first blocks of a short table."""
  module, table, tiny, rows = VERSIONS[request.param]

  def make(count=None):
    monkeypatch.setattr(module, table, rows[:count])
    return tiny

  return make


@pytest.fixture
def short_critic(monkeypatch):
  """A critic whose MobileNet has few blocks."""
  monkeypatch.setattr(mobilenet, "V1_BLOCKS", VERSIONS["v1"][-1])
  return MobileNetCritic((40, 33), dropout=0.5, width=0.125)


def structure(*shape):
  return jnp.array(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_mobilenet_v1_has_the_published_number_of_parameters():
  _, variables = backbones.shapes(MobileNetV1(), 32, 32)
  assert backbones.count(variables["params"]) == 3_206_976
  assert backbones.count(variables["batch_stats"]) == 21_888
  assert f"{(3_206_976 + 1001 * 1000) / 1e6:.1f}" == "4.2"


@pytest.mark.parametrize("width, millions", [(1.0, 569), (0.75, 325), (0.5, 149), (0.25, 41)])
def test_mobilenet_v1_costs_what_the_papers_table_6_says(width, millions):
  products, _ = backbones.costs(MobileNetV1(width), 224, 224)
  assert round((products + int(1024 * width) * 1000) / 1e6) == millions


def test_mobilenet_v2_has_torchvisions_number_of_parameters():
  features, variables = backbones.shapes(MobileNetV2(), 224, 224)
  count = backbones.count(variables["params"])
  assert count == 2_223_872 and count + 1280 * 1000 + 1000 == 3_504_872
  assert {stride: x.shape[1:] for stride, x in features.items()} == {
    2: (112, 112, 16),
    4: (56, 56, 24),
    8: (28, 28, 32),
    16: (14, 14, 96),
    32: (7, 7, 1280),
  }


@pytest.mark.parametrize(
  "width, multiply_adds, parameters",
  [(1.4, 582, 6.06), (1.0, 300, 3.47), (0.5, 97, 1.95), (0.35, 59, 1.66)],
)
def test_mobilenet_v2_costs_what_the_released_networks_do(width, multiply_adds, parameters):
  """As tabulated with TF-slim's weights: whole millions, and kernels alone with the classifier."""
  net = MobileNetV2(width=width)
  features, variables = backbones.shapes(net, 224, 224)
  kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 4]
  classifier = features[32].shape[-1] * 1000
  assert (backbones.costs(net, 224, 224)[0] + classifier) // 10**6 == multiply_adds
  assert (backbones.count(kernels) + classifier) / 1e6 == pytest.approx(parameters, abs=0.006)


def test_mobilenet_v2_without_top_ends_in_320_channels_at_an_eighth_of_the_size():
  features, variables = backbones.shapes(MobileNetV2(output_stride=8, top=False), 513, 513)
  assert features[32].shape == (1, 65, 65, 320)
  assert backbones.count(variables["params"]) == 2_223_872 - 320 * 1280 - 2 * 1280


@pytest.mark.parametrize(
  "channels, expected",
  [(32, 32), (1.6, 8), (12, 16), (11.2, 16), (8.4, 8), (33.6, 32), (44.8, 48), (18, 24)],
)
def test_round_channels_gives_multiples_of_8_and_hardly_fewer(channels, expected):
  assert round_channels(channels) == expected


def test_mobilenet_v1_is_its_definition():
  x = backbones.image(35, 18)
  net = tiny_v1(norm=Norm("none"))
  variables = backbones.initial(net, x)
  params = jax.tree.map(np.asarray, variables["params"])

  def layer(x, name, stride=1, grouped=False):
    kernel, bias = (params[name][key] for key in ("kernel", "bias"))
    dense = kernel * np.eye(x.shape[-1]) if grouped else kernel
    return np.clip(oracle.convolve(x, dense, bias, stride, 1), 0, 6)

  y = layer(x, "conv1", 2)
  for i, (_, stride) in enumerate(mobilenet.V1_BLOCKS, 1):
    y = layer(layer(y, f"block{i}_depthwise", stride, grouped=True), f"block{i}_pointwise")
  features = jax.jit(lambda: net.apply(variables, x, train=False))()[32]
  np.testing.assert_allclose(features, y, rtol=1e-3, atol=1e-3 * np.std(y))


def test_mobilenet_v2_is_its_definition():
  x = backbones.image(35, 18)
  net = tiny_v2(norm=Norm("none"))
  variables = backbones.initial(net, x)
  params = jax.tree.map(np.asarray, variables["params"])

  def layer(x, name, stride=1, grouped=False, limit=6.0):
    kernel, bias = (params[name][key] for key in ("kernel", "bias"))
    dense = kernel * np.eye(x.shape[-1]) if grouped else kernel
    y = oracle.convolve(x, dense, bias, stride, 1)
    return np.clip(y, 0, limit) if limit else y

  y, i = layer(x, "conv1", 2), 0
  for expansion, _, count, stride in mobilenet_v2.V2_BLOCKS:
    for j in range(count):
      i += 1
      inner = layer(y, f"block{i}_expand") if expansion > 1 else y
      inner = layer(inner, f"block{i}_depthwise", stride if j == 0 else 1, grouped=True)
      inner = layer(inner, f"block{i}_project", limit=None)
      same = inner.shape == y.shape and (j > 0 or stride == 1)
      y = y + inner if same else inner
  assert f"block{i + 1}_depthwise" not in params and i == 17
  features = jax.jit(lambda: net.apply(variables, x, train=False))()[32]
  np.testing.assert_allclose(features, y, rtol=1e-3, atol=1e-3 * np.std(y))


@pytest.mark.parametrize("size", [(64, 67), (1, 5)])
def test_mobilenet_rounds_sizes_up(shorten, size):
  backbones.assert_rounded_up(shorten(), *size)


def test_mobilenet_dilated_in_place_of_strides_has_the_same_features_more_densely(shorten):
  backbones.assert_denser(shorten(), backbones.image(67, 90))


def test_mobilenet_remat_changes_nothing(shorten):
  backbones.assert_recomputed(shorten(3), backbones.image(20, 33))


def test_mobilenet_statistics_follow_training_unless_frozen(shorten):
  backbones.assert_statistics_follow_training(shorten(), backbones.image(20, 33))


def test_mobilenet_critic_resizes_the_structure(short_critic):
  x = structure(2, 19, 24, 6)
  variables = backbones.initial(short_critic, x)
  apply = jax.jit(lambda x: short_critic.apply(variables, x, train=False))
  logits = apply(x)
  assert logits.shape == (2, 1, 1, 1) and logits[0] != logits[1]
  np.testing.assert_allclose(
    apply(resize_bilinear(x, short_critic.size)), logits, rtol=1e-5, atol=1e-7
  )


def test_mobilenet_critic_drops_at_random_and_gradients_reach_everything(short_critic):
  net, x = short_critic.clone(norm=Norm("none")), structure(2, 19, 24, 6)
  params = backbones.initial(net, x)["params"]

  @jax.jit
  def graded(params, x, key):
    def total(params, x):
      logits = net.apply({"params": params}, x, train=True, rngs={"dropout": key})
      return jnp.sum(jnp.sin(logits)), logits

    return jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)

  runs = [graded(params, x, jax.random.key(seed)) for seed in (0, 0, 1)]
  logits, same_key, new_key = (np.ravel(logits) for (_, logits), _ in runs)
  assert np.array_equal(logits, same_key) and np.all(logits != new_key)
  _, grads = runs[0]
  assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in jax.tree.leaves(grads))
