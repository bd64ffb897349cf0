"""Experiments that configs describe; mistakes are refused with what is known."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from asmjax.config import methods
from asmjax.config.build import build_experiment, build_schedule
from asmjax.game import PREDICTOR
from asmjax.models.critics import LucNet, MobileNetCritic, PatchNet, TwoBranchNet
from asmjax.models.layers import Norm
from asmjax.models.predictors import DeepLab
from tests.data.sources.test_coco import CATEGORIES
from tests.data.sources.test_coco import write as write_coco
from tests.helpers import small_configs as small
from tests.helpers.tiny_horses import write_horses


@pytest.fixture(scope="module")
def horses(tmp_path_factory):
  root = tmp_path_factory.mktemp("data") / "weizmann_horse_db"
  return str(write_horses(root, train=["train"], val=["val"], size=(20, 30)))


@pytest.fixture(scope="module")
def kitchens(tmp_path_factory):
  """A sweep of ten frames of a wall."""
  root = tmp_path_factory.mktemp("sweep")
  (root / "camera-intrinsics.txt").write_text("60 0 32\n0 60 24\n0 0 1\n")
  for number in range(10):
    name = f"frame-{number:06d}"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(root / f"{name}.color.jpg")
    Image.fromarray(np.full((48, 64), 2000, np.uint16)).save(root / f"{name}.depth.png")
    (root / f"{name}.pose.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
  return str(root)


def test_build_experiment_renders_scenes_at_the_size_of_the_network():
  run = build_experiment(small.config(**{"data.size": (24, 16)}))
  assert run.source[0]["image"].shape == run.validation[0]["image"].shape == (24, 16, 3)


def test_build_experiment_refuses_splits_whose_labels_are_of_other_classes(tmp_path):
  """COCO's JSON has categories of its own for each split."""
  for split, categories in (("train", CATEGORIES), ("val", CATEGORIES[:1])):
    path = f"annotations/instances_{split}.json"
    write_coco(tmp_path, path=path, categories=categories, annotations=[])
  skip = {"data.loader.on_error": "skip"}  # There are no photos.
  config = photo_config("coco,iid", "any", str(tmp_path), **skip)
  with pytest.raises(
    ValueError,
    match=r"data\.split 'train' and eval\.split 'val' have different classes: "
    "label 1 is 'car' in one and 'cat' in the other",
  ):
    build_experiment(config)


def horse(root, variant="iid", **changes):
  return photo_config(variant, "horse", root, **changes)


def photo_config(variant, file, root, **changes):
  """A config of a data set on disk with photos of 48 x 64 pixels."""
  sizes = {"data.root": root, "data.options": {}, "data.size": (48, 64)}
  return small.config(variant, file, **(sizes | changes))


def with_critic(**section):
  config = small.config("gan_basic").to_dict()
  config["terms"]["adversarial"]["critic"] = section
  return config


def test_build_experiment_renumbers_classes_by_name(horses):
  run = build_experiment(horse(horses, **{"data.classes": {"horse": 0}}))
  assert run.game.tasks["segmentation"].classes == ("horse",)
  # The left half is the horse; the background is not named.
  np.testing.assert_array_equal(run.source[0]["label"], np.repeat([[0, 255]], 15, 1).repeat(20, 0))
  with pytest.raises(ValueError, match="no class 'cow'; known: background, horse"):
    build_experiment(horse(horses, **{"data.classes": {"cow": 0}}))


def test_build_experiment_pastes_instances_where_there_are_some(horses):
  run = build_experiment(small.config(**{"data.copy_paste": 0.5}))
  assert "instance" in run.source[0] and "instance" not in run.sampler().example(0, 0)
  horse = small.config("iid", "horse", **{"data.root": horses, "data.copy_paste": 0.5})
  with pytest.raises(ValueError, match="weizmann_horse gives no instance, which copy-paste need"):
    build_experiment(horse)


def test_build_schedule_refuses_pasting():
  config = small.config("load", **{"data.copy_paste": 0.5})
  with pytest.raises(ValueError, match=r"data\.copy_paste is 0\.5; expected 0 with lookahead"):
    build_schedule(config, build_experiment(config))


def test_build_experiment_refuses_missing_files_unless_they_are_skipped(horses, tmp_path):
  root = shutil.copytree(horses, tmp_path / "horses")
  (root / "rgb" / "three.jpg").write_bytes((root / "rgb" / "train.jpg").read_bytes()[:300])
  (root / "train.txt").write_text("two\nthree\ntrain\n")
  with pytest.raises(FileNotFoundError, match=r"lacks 3 files: .*rgb/two\.jpg"):
    build_experiment(horse(str(root)))
  config = horse(str(root), **{"data.loader.on_error": "skip", "data.size": (20, 30)})
  run, faults = build_experiment(config), []
  batches = list(run.train_batches(run.training.steps - 3, faults.append))
  assert [batch["weight"].sum() for batch in batches] == [8] * 3
  assert {pathlib.Path(fault.split()[0]).stem for fault in faults} == {"two", "three"}


@pytest.mark.parametrize("variant", methods.METHODS)
@pytest.mark.parametrize("file", ["scenes", "horse"])
def test_build_experiment_builds_every_variant(file, variant, horses):
  config = horse(horses, variant) if file == "horse" else small.config(variant)
  run = build_experiment(config)
  assert set(run.game.terms) == set(methods.METHODS[variant].terms)
  assert run.game.tasks["segmentation"].classes == run.descriptor.classes
  assert (PREDICTOR, *run.game.critics) == tuple(run.optimizers)


def test_build_experiment_takes_parts_of_one_split():
  parts = {"data.split": "train[:80%]", "eval.split": "train[80%:]"}
  full, run = build_experiment(small.config()), build_experiment(small.config(**parts))
  assert (run.source.split, run.validation.split) == tuple(parts.values())
  assert (len(run.source), len(run.validation)) == (19, 5)
  for part, index, full_index in ((run.source, 18, 18), (run.validation, 0, 19)):
    np.testing.assert_array_equal(part[index]["image"], full.source[full_index]["image"])


@pytest.mark.parametrize(
  "argument, tasks, critics",
  [
    ("asm", ["segmentation"], ["structure"]),
    ("iid,depth", ["depth"], []),
    ("iid_asm_released,normals", ["normals"], ["structure"]),
    ("asm,all", ["segmentation", "depth", "normals"], ["structure"]),
    ("asm,normals+depth,apart", ["depth", "normals"], ["structure_depth", "structure_normals"]),
  ],
)
def test_build_experiment_names_tasks_and_critics_after_the_method(argument, tasks, critics):
  run = build_experiment(small.config(argument))
  assert list(run.game.tasks) == tasks and sorted(run.game.critics) == critics
  assert run.source.descriptor.provides == {task.truth_key for task in run.game.tasks.values()}
  released = {task.released for name, task in run.game.tasks.items() if name != "segmentation"}
  assert released <= {"released" in argument}
  for name in critics:
    assert run.game.terms[name].tasks == (tuple(name.split("_")[1:]) if "apart" in argument else ())


@pytest.mark.parametrize("method", ["gan_basic", "gan_product", "gan_branches", "cgan"])
@pytest.mark.parametrize("apart", ["", ",depth+normals,apart"])
def test_build_experiment_gives_discriminators_tasks_together_or_apart(method, apart, kitchens):
  run = build_experiment(photo_config(method + apart, "kitchen", kitchens))
  assert sorted(run.game.tasks) == ["depth", "normals"]
  tasks = {name: run.game.terms[name].tasks for name in run.game.critics}
  assert tasks == (
    {"adversarial_depth": ("depth",), "adversarial_normals": ("normals",)}
    if apart
    else {"adversarial": ()}
  )
  assert {run.game.terms[name].inputs for name in tasks} == {
    {"gan_basic": "basic", "gan_product": "product", "gan_branches": "branches"}.get(
      method, "concatenated"
    )
  }


def test_build_experiment_shows_discriminators_apart_one_task(kitchens):
  config = photo_config("gan_basic,depth+normals,apart", "kitchen", kitchens)
  for term in ("adversarial_depth", "adversarial_normals"):
    config.terms[term].critic = methods.critic("patch", filters=(4, 6))
  players = build_experiment(config).init_state().players
  channels = {
    name: player.params["conv1"]["kernel"].shape[2]
    for name, player in players.items()
    if name != PREDICTOR
  }
  assert channels == {"adversarial_depth": 1, "adversarial_normals": 3}


@pytest.mark.parametrize(
  "name, kind", [("luc", LucNet), ("patch", PatchNet), ("mobilenet", MobileNetCritic)]
)
def test_build_experiment_chooses_critics_by_name(name, kind):
  config = small.config("gan_basic")
  config.terms.adversarial.critic = methods.critic(name)
  assert type(build_experiment(config).game.terms["adversarial"].critic) is kind


def test_build_experiment_computes_predictor_and_critic_in_bfloat16():
  run = build_experiment(small.config(**{"train.dtype": "bfloat16"}))
  assert run.game.predictor.dtype == run.game.terms["structure"].critic.dtype == "bfloat16"


def test_build_experiment_reads_the_section_of_a_backbone():
  config = small.config("iid@deeplab_v3_mobilenet_v2")
  config.predictor.backbone.update(
    width=0.5, norm=dict(config.predictor.backbone.norm, frozen=True)
  )
  config.predictor.features, config.train.dtype = 8, "bfloat16"
  predictor = build_experiment(config).game.predictor
  assert isinstance(predictor, DeepLab) and predictor.features == 8 and predictor.rates == ()
  assert predictor.backbone.width == 0.5 and not predictor.backbone.top
  assert predictor.backbone.norm == Norm(momentum=0.9997, epsilon=1e-3, frozen=True)
  assert predictor.norm == Norm()
  assert predictor.dtype == predictor.backbone.dtype == "bfloat16"


@pytest.mark.parametrize("file", ["scenes", "horse"])
def test_build_experiment_gives_affinity_the_predictors_rule_and_rates(file, horses):
  config = horse(horses, "aaf") if file == "horse" else small.config("aaf")
  section = config.optimizer.predictor
  # As `--config.optimizer.predictor.learning_rate=0.0123` does.
  section.update(learning_rate=0.0123, name="sgd", weight_decay=0.5, clip_norm=0.7, warmup_steps=2)
  optimizers = build_experiment(config).optimizers
  predictor, affinity = optimizers[PREDICTOR], optimizers["affinity"]
  assert predictor.learning_rate == 0.0123 and predictor.weight_decay == 0.5
  assert affinity == dataclasses.replace(predictor, weight_decay=0.0, clip_norm=0.0)
  stored = json.loads(json.dumps(config.to_dict()))
  assert build_experiment(stored).optimizers["affinity"] == affinity


@pytest.mark.parametrize(
  "argument, message",
  [
    ("gan_scaling,depth", "terms.adversarial: inputs 'scaling' need .*; depth have none"),
    ("gan_scaling,all", "need class probabilities; depth, normals have none"),
    ("aaf,depth", "terms.affinity: affinity fields need the task segmentation; trained: depth"),
    (
      "embedding,depth+normals",
      "an embedding needs the task segmentation; trained: depth, normals",
    ),
  ],
)
def test_build_experiment_refuses_methods_for_classes_with_other_tasks(argument, message):
  with pytest.raises(ValueError, match=message):
    build_experiment(small.config(argument))


@pytest.mark.parametrize(
  "variant, key, value, message",
  [
    (
      "gan_basic",
      "adversarial.downsample",
      0,
      "terms.adversarial.downsample=0; expected at least 1",
    ),
    (
      "gan_basic",
      "adversarial.label_smoothing",
      1.0,
      r"label_smoothing=1.0; expected a number in \[0, 1\)",
    ),
    ("affinity", "affinity.sizes", (4,), "terms.affinity: a neighborhood of size 4; expected"),
    ("aaf", "affinity.neighbors", "near", "unknown neighbors 'near'; known: corners, full"),
    ("aaf", "affinity.ignore", "all", "unknown ignore 'all'; known: pair, opposite"),
    ("embedding", "embedding.size", 2, "a neighborhood of size 2; expected an odd size from 3"),
  ],
)
def test_build_experiment_refuses_wrong_settings_of_terms(variant, key, value, message):
  config = small.config(variant)
  term, name = key.split(".")
  config.terms[term][name] = value
  with pytest.raises(ValueError, match=message):
    build_experiment(config)


@pytest.mark.parametrize(
  "section, message",
  [
    (
      {"name": "autoencoder"},
      "unknown terms.adversarial.critic.name 'autoencoder'; .*known: luc, "
      "mobilenet, patch, two_branch",
    ),
    ({"name": "vgg"}, "unknown terms.adversarial.critic.name 'vgg'; .*known: luc, mobilenet"),
    ({}, "unknown terms.adversarial.critic.name None; .*known: luc"),
    (
      {"name": "luc", "filters": (4, 6)},
      "unknown key terms.adversarial.critic.filters; .*known: large, light, spectral",
    ),
    (
      {"name": "patch", "large": True},
      "unknown key terms.adversarial.critic.large; .*known: filters, norm, spectral",
    ),
    (
      {"name": "patch", "norm": 1},
      "terms.adversarial.critic.norm is 1; expected a section with kind, momentum, epsilon, frozen",
    ),
    ({"name": "two_branch"}, "terms.adversarial: inputs 'basic' for TwoBranchNet"),
  ],
)
def test_build_experiment_refuses_wrong_critics_and_lists_known_ones(section, message):
  with pytest.raises(ValueError, match=message):
    build_experiment(with_critic(**section))


def test_build_experiment_refuses_branches_for_other_networks():
  config = small.config("gan_branches")
  assert type(build_experiment(config).game.terms["adversarial"].critic) is TwoBranchNet
  config.terms.adversarial.critic = methods.critic("patch")
  with pytest.raises(ValueError, match="terms.adversarial: inputs 'branches' for PatchNet"):
    build_experiment(config)


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("name", "resnet18", "unknown predictor.backbone.name 'resnet18'; .*known: convnext"),
    ("width", "wide", "predictor.backbone.width is 'wide', a str; expected float"),
    ("output_stride", 4, "predictor.backbone: output_stride=4; known: 8, 16, 32"),
  ],
)
def test_build_experiment_refuses_wrong_backbones(key, value, message):
  config = small.config("iid@deeplab_v3_mobilenet_v2")
  config.predictor.backbone = {**config.predictor.backbone, key: value}
  with pytest.raises(ValueError, match=message):
    build_experiment(config)


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("data.source", "cityscape", "unknown data.source 'cityscape'; .*known: .*scenes"),
    ("predictor.name", "vgg", "unknown predictor 'vgg'; .*known: deeplab, deeplab_v2, dilated"),
    ("predictor.norm.kind", 3, "predictor.norm.kind is 3, a int; expected str"),
    ("predictor.depth", 3, "unknown key predictor.depth; .*known: .*levels"),
    ("terms.adversary", {}, "unknown term 'adversary'; .*known: adversarial, affinity, bound"),
    ("terms.structure.layers", ("conv1", "relu9"), r"terms.structure: unknown layers \['relu9'\]"),
    (
      "terms.structure.critic.filter",
      3,
      "unknown key terms.structure.critic.filter; .*known: filters",
    ),
    ("terms.structure.weight", "one", "terms.structure.weight is 'one', a str; expected float"),
    ("tasks.depths", {}, "unknown task 'depths'; .*known: depth, normals, segmentation"),
    ("optimizer.predictor.name", "lion", "optimizer.predictor: unknown name 'lion'; known"),
    ("optimizer.critic.learning_rate", 1.0, "'structure' would outpace the predictor"),
    ("optimizer.critics", {}, "unknown key optimizer.critics; .*known: critic, predictor, s"),
    ("train.updates", "sometimes", "train: unknown updates 'sometimes'; known: 'joint'"),
    ("train.steps", 1.5, "train.steps is 1.5, a float; expected int"),
    ("train.batch_size", 12, "train.batch_size=12 is no multiple of 8"),
    ("train.batch_size", 10**6, "train.batch_size=1000000 is more than the 24 examples that there"),
    ("eval.batch_size", 10**6, "eval.batch_size=1000000 is more than the .* expected at most 2048"),
    ("train.dtype", "float8", "unknown train.dtype 'float8'"),
    ("eval.split", "test2", "unknown split 'test2'; known"),
    ("eval.split", "test2[:80%]", "unknown split 'test2'; known: train, val, test"),
    ("data.split", "train[:80%", r"malformed slice 'train\[:80%'; expected NAME"),
    ("data.split", "train[:1000]", "beyond the 24 examples"),
    ("data.size", (16,), r"data.size is \(16,\)"),
    ("seed", "zero", "seed is 'zero', a str; expected int"),
    ("extra", 1, "unknown key config.extra; .*known: .*checkpoint"),
  ],
)
def test_build_experiment_refuses_mistakes_and_names_them(key, value, message):
  config = small.config().to_dict()
  target = config
  *path, name = key.split(".")
  for part in path:
    target = target[part]
  target[name] = value
  with pytest.raises(ValueError, match=message):
    build_experiment(config)


def test_build_experiment_names_missing_keys():
  config = small.config().to_dict()
  del config["train"]["steps"]
  with pytest.raises(ValueError, match="missing key train.steps"):
    build_experiment(config)


def test_build_experiment_refuses_no_terms_and_no_tasks():
  config = small.config().to_dict()
  with pytest.raises(ValueError, match="config.terms is empty"):
    build_experiment(config | {"terms": {}})
  with pytest.raises(ValueError, match="tasks is empty"):
    build_experiment(config | {"tasks": {}})
