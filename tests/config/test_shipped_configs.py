"""Settings of the config files that are shipped."""

import importlib

import pytest

from asmjax.config import methods
from asmjax.config.build import build_predictor
from asmjax.config.data import Data
from asmjax.config.schema import construct
from asmjax.game import PREDICTOR
from asmjax.models.predictors.published import PUBLISHED
from asmjax.train.optim import Optimizer, check_critic_lr
from configs import any as any_source
from configs import (
  cityscapes,
  horse,
  kitchen,
  scenes,
  stanford2d3ds,
  stanford_background,
  voc,
  voc_animals,
)
from tests.helpers import small_configs as small

SHIPPED = {
  "any": "folder,{}",
  "cityscapes": "{}",
  "horse": "{}",
  "kitchen": "{}",
  "scenes": "{}",
  "stanford2d3ds": "{}",
  "stanford_background": "{}",
  "voc": "{}",
  "voc_animals": "{}",
}


@pytest.mark.parametrize("file", SHIPPED)
def test_get_config_has_no_critic_weight_that_adam_divides_out(file):
  config = importlib.import_module(f"configs.{file}").get_config(SHIPPED[file].format("cgan"))
  released = config.optimizer.critic.name == "sgd"
  assert config.terms.adversarial.critic_weight == (0.01 if released else 1.0)
  assert config.terms.adversarial.weight == 0.01


@pytest.mark.parametrize("file", SHIPPED)
@pytest.mark.parametrize("method", ["asm", "asm_aaf", "gan_basic", "cgan"])
def test_get_config_has_no_fast_critic_but_that_of_luc_et_al(file, method):
  config = importlib.import_module(f"configs.{file}").get_config(SHIPPED[file].format(method))
  players = {
    name: construct(Optimizer, section, name) for name, section in config.optimizer.items()
  }
  if config.train.allow_fast_critic:
    assert (file, method) == ("voc", "gan_basic")
  else:
    check_critic_lr(players.pop(PREDICTOR), players, config.train.steps)


@pytest.mark.parametrize("file", [voc, cityscapes])
def test_get_config_has_one_predictor_and_optimizer_for_all_methods(file):
  """All but those that go on from a trained network: they have settings of their own."""
  configs = {
    method: file.get_config(f"{method}@pspnet_resnet101")
    for method in methods.METHODS
    if method not in methods.FINETUNED
  }
  assert {"iid", "aaf", "gan_basic", "gan_product", "asm", "embedding"} <= set(configs)
  for config in configs.values():
    assert config.optimizer.predictor.to_dict() == configs["iid"].optimizer.predictor.to_dict()
    assert config.train.to_dict() == configs["iid"].train.to_dict()
    assert config.predictor.to_dict() == configs["iid"].predictor.to_dict()
  assert configs["iid"].predictor.dropout == 0 and configs["iid"].train.updates == "joint"
  assert configs["aaf"].tasks.segmentation.count_without_ids == "once"


@pytest.mark.parametrize(
  "config", [any_source.get_config("pascal_voc"), voc.get_config("iid"), voc_animals.get_config()]
)
def test_get_config_fills_the_void_outlines_of_voc(config):
  assert config.tasks.segmentation.void_band == 5


def test_get_config_of_scenes_has_the_pixel_loss_to_compare_with_where_it_can():
  for variant, comparable in {
    "iid": True,
    "aaf_released+dice": True,
    "load": False,
    "asm@segformer_b0": False,
    "asm,all": False,
  }.items():
    assert ("reference" in scenes.get_config(variant)) == comparable


@pytest.mark.parametrize("config", [voc, cityscapes, stanford2d3ds])
def test_get_config_clips_the_gradients_of_sgd(config):
  for method in ("iid", "asm"):
    player = config.get_config(method).optimizer.predictor
    assert player.name == "sgd" and player.clip_norm > 0


@pytest.mark.parametrize(
  "config",
  [
    voc.get_config("asm"),
    cityscapes.get_config("asm"),
    stanford2d3ds.get_config("asm"),
    stanford_background.get_config("iid_asm"),
    any_source.get_config("folder,asm"),
    kitchen.get_config("iid_asm"),
    voc_animals.get_config("iid_asm"),
    small.config("asm"),
  ],
)
def test_get_config_bounds_structure_matching_unless_published_otherwise(config):
  term = config.terms.structure
  assert term.normalize != "none" and term.margin > 0 and term.binarize
  assert config.optimizer.critic.clip_norm > 0


@pytest.mark.parametrize("file", [voc, cityscapes, scenes, stanford_background, voc_animals])
def test_get_config_balances_structure_matching_beside_a_pixel_loss(file):
  expected = {"asm": 0.0, "iid_asm": 0.25, "asm_aaf": 0.25, "iid_asm_released": 0.0}
  assert expected == {
    method: file.get_config(method).terms.structure.balance for method in expected
  }


@pytest.mark.parametrize(
  "config",
  [
    any_source.get_config("folder,gan_basic"),
    cityscapes.get_config("gan_product"),
    horse.get_config("gan_scaling"),
    kitchen.get_config("gan_product"),
    scenes.get_config("gan_branches"),
    stanford2d3ds.get_config("gan_basic"),
    voc.get_config("gan_basic@pspnet_resnet101"),
    voc.get_config("gan_branches@dilated8"),
    voc_animals.get_config("gan_product"),
  ],
)
def test_get_config_lets_discriminators_of_untrained_predictors_set_in_late_and_softly(config):
  term = config.terms.adversarial
  assert term.weight.start == 0 and 0 < term.weight.begin < term.weight.end < 1
  assert 0 < term.balance < 1 / 3 and term.label_smoothing > 0


@pytest.mark.parametrize(
  "config, weight",
  [
    (voc.get_config("gan_basic"), 1.0),
    (voc.get_config("gan_scaling@dilated8"), 1.0),
    (voc.get_config("cgan"), 0.01),
    (voc.get_config("gan_basic+dice"), 1.0),
    (voc.get_config("cgan+dice"), 0.01),
    (cityscapes.get_config("cgan+dice"), 0.01),
    (stanford2d3ds.get_config("iid+cgan"), 0.01),
    (stanford_background.get_config("cgan"), 0.01),
    (stanford_background.get_config("gan_branches"), 2.0),
  ],
)
def test_get_config_has_published_discriminators_as_published(config, weight):
  term = config.terms.adversarial
  assert (term.weight, term.balance, term.label_smoothing) == (weight, 0.0, 0.0)


@pytest.mark.parametrize("network", ["pspnet_resnet101", "deeplab_v3_mobilenet_v2"])
def test_fit_size_adds_a_pixel_to_networks_with_aligned_corners(network):
  config = voc.get_config(f"iid@{network}")
  assert config.predictor.align_corners and config.data.eval_size == (513, 513)
  assert voc.get_config("iid@fcn8s_vgg16").data.eval_size == (512, 512)


def test_get_config_does_not_limit_structure_matching_of_depth_and_normals():
  balance = lambda variant: {
    name: term.balance for name, term in scenes.get_config(variant).terms.items() if name != "pixel"
  }
  assert balance("iid_asm,all") == {"structure": 0.25}
  assert balance("iid_asm,depth+normals") == {"structure": 0.0}
  assert balance("iid_asm,all,apart") == {
    "structure_segmentation": 0.25,
    "structure_depth": 0.0,
    "structure_normals": 0.0,
  }


@pytest.mark.parametrize(
  "variant, rates",
  [
    ("gan_basic", (1e-4, 0.5)),
    ("gan_product", (1e-6, 0.1)),
    ("gan_scaling@dilated8", (1e-5, 0.1)),
    ("iid@dilated8", (1e-6, 1e-6)),
    ("gan_product+dice", (1e-6, 0.1)),
    ("gan_product@fcn8s_vgg16", (1e-3, 5e-4)),
    ("asm", (1e-3, 5e-4)),
  ],
)
def test_get_config_of_voc_has_the_rates_of_luc_et_al_for_their_network(variant, rates):
  config = voc.get_config(variant)
  players = config.optimizer
  assert (players.predictor.learning_rate, players.critic.learning_rate) == rates
  is_published = config.predictor.name == "dilated" and "gan" in variant
  assert config.train.updates == ("alternate(500, 500)" if is_published else "joint")
  assert config.train.allow_fast_critic is is_published
  assert bool(players.predictor.lr_multipliers) is (config.predictor.name != "dilated")


@pytest.mark.parametrize("variant", ["load", "load@fcn8s_vgg16", "alternating"])
def test_get_config_of_voc_trains_load_on_the_official_photos(variant):
  config = voc.get_config(variant)
  assert config.data.split == "train" and voc.get_config("asm").data.split == "train_aug"
  assert config.predictor.get("stride") in (4, 8)  # The latter is FCN-8s, not an enlarged map.


def test_get_config_of_stanford_background_validates_on_no_test_photos():
  for variant in ("iid", "gan_branches"):
    config = stanford_background.get_config(variant)
    assert (config.data.split, config.eval.split) == ("luc_fit", "luc_val")
  for variant in ("iid_balanced", "iid_balanced+dice", "load,segmentation"):
    config = stanford_background.get_config(variant)
    assert (config.data.split, config.eval.split) == ("load_train", "load_val")


def test_get_config_of_stanford_background_trains_load_longer_than_the_stage_before():
  first = stanford_background.get_config("iid_balanced")
  assert first.train.steps == 685 and first.init.required  # 12 epochs of 400 photos.
  for variant in ("load", "alternating"):
    second = stanford_background.get_config(variant)
    assert second.train.steps == 10_000 and second.optimizer.predictor.learning_rate == 1e-6
  assert not second.data.eval_resize and second.data.resize == "none"


def test_get_config_alternates_for_the_steps_of_load():
  for file in ("horse", "scenes", "voc_animals"):
    module = importlib.import_module(f"configs.{file}")
    load, alternating = (module.get_config(name) for name in ("load", "alternating"))
    assert alternating.train.updates == "alternate" and load.train.updates == "joint"
    assert alternating.train.steps == load.train.steps


def test_get_config_of_stanford2d3ds_has_the_released_networks():
  config = stanford2d3ds.get_config("asm_released,depth+normals")
  assert dict(config.tasks.depth)["released"] and config.terms.structure.critic.filters[-1] == 128
  unet = build_predictor(config.predictor, {"normals": 3})
  assert (unet.levels, unet.stride, unet.down_kernel, unet.decoder_convs) == (9, 2, 4, 3)
  assert stanford2d3ds.get_config("iid@fcrn50,depth").predictor.name == "fcrn"
  assert config.data.size == (512, 512) and config.data.eval_size == (540, 540)


@pytest.mark.parametrize(
  "method, released",
  [
    ("iid", False),
    ("asm", False),
    ("aaf_released", False),  # By other authors, who have neither depth nor normals.
    ("asm_aaf_released", False),
    ("iid_released", True),
    ("asm_released", True),
    ("iid_asm_released", True),
    ("iid+cgan", True),
    ("cgan", True),
  ],
)
def test_get_config_of_stanford2d3ds_has_released_losses_for_released_methods(method, released):
  tasks = stanford2d3ds.get_config(f"{method},depth+normals").tasks
  assert tasks.depth.released == tasks.normals.released == released


def test_unet18_has_the_epsilon_of_tensorflow():
  assert PUBLISHED["unet18"]({}).norm.epsilon == 1e-3


@pytest.mark.parametrize(
  "source, splits",
  [
    ("pascal_voc", ("train", "val")),
    ("gta5", ("part1", "part2")),
    ("tfds", ("train", "val")),
    ("stanford_background", ("luc_fit", "luc_val")),
    ("folder", ("train", "val")),
    ("stanford2d3ds", ("fold1_train", "fold1_test")),
    ("coco", ("train", "val")),
    ("coco_stuff", ("train2017", "val2017")),
    ("labelme", ("train", "val")),
    ("nyuv2", ("train", "test")),
  ],
)
def test_get_config_of_any_takes_every_source(source, splits):
  config = any_source.get_config(f"{source},iid")
  assert (config.data.source, config.data.split, config.eval.split) == (source, *splits)
  assert set(config.terms) == {"pixel"}
  construct(Data, config.data, "data")
  with pytest.raises(ValueError, match="unknown source 'voc'; known: .*pascal_voc"):
    any_source.get_config("voc")


@pytest.mark.parametrize(
  "source, terms",
  [
    ("folder", {"pixel", "affinity"}),
    ("rgbd_sweep", {"pixel", "structure"}),
    ("kitti_depth", {"pixel", "structure"}),
  ],
)
def test_get_config_of_any_has_a_method_for_what_the_source_provides(source, terms):
  assert set(any_source.get_config(source).terms) == terms
