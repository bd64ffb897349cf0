"""Methods by name, and changes of complete configs."""

import dataclasses
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.config import methods, presets
from asmjax.config.build import build_experiment, build_predictor
from asmjax.config.schema import construct, defaults
from asmjax.lookahead.settings import Retraining
from asmjax.models.predictors import UNet
from asmjax.models.predictors.published import PUBLISHED
from asmjax.terms import Structure
from asmjax.terms.weight import Ramp
from asmjax.train.optim import Optimizer
from configs import stanford2d3ds, voc, voc_animals
from tests.helpers import small_configs as small


def test_base_has_the_documented_keys():
  for file in ("scenes", "horse"):
    config = small.config("asm", file)
    for key in (
      "seed",
      "data.root",
      "train.steps",
      "train.batch_size",
      "train.updates",
      "eval.every",
      "checkpoint.every",
    ):
      section, _, name = key.rpartition(".")
      assert name in (config[section] if section else config)


@pytest.mark.parametrize(
  "argument, message",
  [
    ("asm,depths", "unknown task 'depths'; .*known: depth, normals, segmentation"),
    ("asm,depth,together", re.escape("expected METHOD[@NETWORK][,TASKS[,apart]]")),
    ("asm@vgg", "unknown network 'vgg'; known: deeplab_v2_resnet101, deeplab_v3_"),
  ],
)
def test_base_refuses_unknown_tasks_and_networks(argument, message):
  with pytest.raises(ValueError, match=message):
    small.config(argument)


def test_base_refuses_unknown_variants_and_lists_known_ones():
  with pytest.raises(ValueError, match="unknown variant 'gan9'; .*known: aaf, aaf_released, aff"):
    small.config("gan9")


def test_base_joins_the_terms_of_methods():
  rmi, affinity, joined = (
    small.config(name).terms for name in ("rmi", "aaf_released", "rmi+aaf_released+asm")
  )
  assert set(joined) == {"pixel", "region_mutual_information", "affinity", "structure"}
  assert joined.pixel == rmi.pixel and joined.affinity == affinity.affinity
  assert small.config("rmi+aaf_released").optimizer.affinity.learning_rate > 0
  assert small.config("asm+cgan,depth").tasks.depth.released


@pytest.mark.parametrize(
  "argument, message",
  [
    ("aaf+aaf_released", "aaf_released sets affinity.neighbors to corners, another method to full"),
    ("asm+load", "load cannot be joined with others"),
    ("asm+gan9", "unknown variant 'gan9'"),
  ],
)
def test_base_refuses_to_join_methods_that_differ(argument, message):
  with pytest.raises(ValueError, match=message):
    small.config(argument)


@pytest.mark.parametrize("network", PUBLISHED)
def test_base_takes_a_published_network(network):
  heads = {"segmentation": 21}
  section = presets.base(f"asm@{network}", predictor=UNet({})).predictor
  assert build_predictor(section, heads) == PUBLISHED[network](heads)
  assert section.input_transform == "auto"


def test_base_has_the_settings_of_the_released_code():
  term = build_experiment(small.config("asm_released")).game.terms["structure"]
  assert (
    term.critic_weight == Ramp(0.012, 0.0012) and term.margin == 0.8 and term.normalize == "pixel"
  )
  assert term.binarize and term.reconstruction_weight == 1.0
  critic = stanford2d3ds.get_config("asm_released").terms.structure.critic
  assert critic.filters == (16, 64, 128, 128, 128)


def test_use_released_aaf_trains_layers_after_the_backbone_tenfold():
  config = voc.get_config("iid@pspnet_resnet50")
  network = PUBLISHED["pspnet_resnet50"]({"segmentation": 21})
  params = jax.eval_shape(
    lambda key: network.init(key, jnp.zeros((1, 48, 48, 3)), train=False), jax.random.key(0)
  )["params"]
  optimizer = construct(Optimizer, config.optimizer.predictor, "optimizer.predictor")
  transformation = dataclasses.replace(
    optimizer, name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=0.0, schedule="constant"
  ).make_transformation(1)
  ones = jax.tree.map(lambda x: jnp.ones(()), params)
  updates, _ = transformation.update(ones, transformation.init(ones), ones, step=0)
  assert set(updates) == {
    "backbone",
    "fuse",
    "fuse_norm",
    "head_segmentation",
    *(f"pool{bins}{norm}" for bins in (1, 2, 3, 6) for norm in ("", "_norm")),
  }
  for name, tree in updates.items():
    rates = {round(-float(u) / optimizer.learning_rate, 4) for u in jax.tree.leaves(tree)}
    assert rates == {1.0 if name == "backbone" else 10.0}, name


def test_use_small_critics_shrinks_discriminators():
  shipped = {
    name: small.config(name).terms.adversarial for name in ("gan_basic", "gan_branches", "cgan")
  }
  assert shipped["gan_basic"].critic.light and not shipped["gan_basic"].critic.large
  assert shipped["gan_basic"].downsample == shipped["gan_branches"].downsample == 4
  assert (
    shipped["cgan"].critic.filters == (32, 64, 128, 256, 256) and shipped["cgan"].downsample == 1
  )
  assert methods.CGAN["critic"]["filters"] == (64, 128, 256, 512, 512)


SECOND_STAGES = [
  f"{file}:{method}"
  for file in (
    "scenes",
    "horse",
    "voc",
    "voc_animals",
    "cityscapes",
    "kitchen",
    "stanford2d3ds",
    "stanford_background",
  )
  for method in methods.FINETUNED
] + [f"any:folder,{method}" for method in methods.FINETUNED]


def norms(network):
  """The sections `norm` of a network and of those within it."""
  for name, section in network.items():
    if name == "norm":
      yield section
    elif hasattr(section, "items"):
      yield from norms(section)


@pytest.mark.parametrize("stage", SECOND_STAGES)
def test_finetuning_schedule_is_sgd_with_frozen_statistics(stage):
  file, method = stage.split(":")
  config = importlib.import_module(f"configs.{file}").get_config(method)
  player = config.optimizer.predictor
  assert (player.name, player.momentum, player.schedule) == ("sgd", 0.95, "constant")
  assert player.lr_multipliers.to_dict() == {} and player.clip_norm == player.weight_decay == 0
  sections = list(norms(config.predictor))
  assert len(sections) == 1 + ("backbone" in config.predictor)
  assert all(section.frozen for section in sections)
  for term in config.terms.values():
    assert not any(norm.frozen for norm in norms(term.get("critic", {})))
  # Views of 2D-3D-S are shrunk to half for all methods.
  assert config.data.scale == ((0.5, 0.5) if file == "stanford2d3ds" else (1.0, 1.0))
  if not method.endswith("load_asm"):
    term = config.terms.adversarial
    assert term.joint_batch and term.hard
    # lambda 1, and nothing of a game with a predictor that knows nothing.
    assert (term.weight, term.balance, term.label_smoothing) == (1.0, 0.0, 0.0)


def test_finetuning_schedule_leaves_other_methods_as_they_are():
  config = voc_animals.get_config("iid")
  assert config.optimizer.predictor.lr_multipliers.to_dict() == {"^(?!backbone/)": 5.0}
  assert [norm.frozen for norm in norms(config.predictor)] in ([True, False], [False, True])
  assert not any(norm.frozen for norm in norms(small.config("iid").predictor))


def test_finetuning_schedule_trains_the_network_that_is_evaluated():
  predictor = build_experiment(small.config("load")).game.predictor
  image = jax.random.normal(jax.random.key(1), (3, 16, 16, 3))
  variables = predictor.init(jax.random.key(0), image, train=False)
  variables = jax.tree.map(lambda x: x + 0.3, variables)
  trained, updated = predictor.apply(variables, image, train=True, mutable=["batch_stats"])
  np.testing.assert_array_equal(
    trained["segmentation"], predictor.apply(variables, image, train=False)["segmentation"]
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    updated.get("batch_stats", variables["batch_stats"]),
    variables["batch_stats"],
  )


@pytest.mark.parametrize(
  "stage",
  ["cityscapes:load", "cityscapes:alternating", "voc:load@deeplab_v3_mobilenet_v2", "voc:load"],
)
def test_finetuning_schedule_shows_critics_maps_of_stride_4(stage):
  file, method = stage.split(":")
  config = importlib.import_module(f"configs.{file}").get_config(method)
  network = build_predictor(config.predictor, {"segmentation": 19})
  image = jax.ShapeDtypeStruct((1, *config.data.size, 3), "float32")
  outputs = lambda image: network.init_with_output(jax.random.key(0), image, train=False)[0]
  assert jax.eval_shape(outputs, image)["segmentation"].shape == (1, 129, 129, 19)


def test_max_steps_of_retraining_are_passes_over_the_buffer():
  retraining = Retraining()
  assert (retraining.epochs, retraining.batch_size) == (10.0, 16)
  assert [retraining.max_steps(1464 * sets) for sets in (1, 2, 3)] == [915, 1830, 2745]
  short = dataclasses.replace(retraining, epochs=0.25)
  assert [short.max_steps(pairs) for pairs in (1, 256, 640)] == [1, 4, 10]


def test_defaults_and_construct_are_inverse():
  for constructor in (Structure, Optimizer):
    assert construct(constructor, defaults(constructor), "section") == constructor()
  changed = defaults(Structure, weight={"start": 1.0, "stop": 0.5}, critic={"filters": [4, 4]})
  term = construct(Structure, changed, "terms.structure")
  assert term.weight == Ramp(1.0, 0.5) and term.critic.filters == (4, 4)
