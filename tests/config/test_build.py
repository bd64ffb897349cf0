"""Configs: every shipped one builds, every mistake is refused with what is known."""

import dataclasses
import importlib
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from asmjax.config import presets
from asmjax.config.build import Data, build_experiment, build_predictor
from asmjax.config.schema import construct, defaults
from asmjax.game import PREDICTOR
from asmjax.lookahead.settings import Retraining
from asmjax.models.critics import LucNet, MobileNetCritic, PatchNet, TwoBranchNet
from asmjax.models.layers import Norm
from asmjax.models.predictors import DeepLab, UNet
from asmjax.models.predictors.published import PUBLISHED
from asmjax.terms import Structure
from asmjax.terms.weight import Ramp
from asmjax.train.optim import Optimizer, check_critic_lr
from asmjax.train.updates import UpdateSchedule
from configs import any as any_source
from configs import cityscapes, scenes, stanford2d3ds, stanford_background, voc, voc_animals
from tests.helpers import small_configs as small


@pytest.fixture(scope="module")
def horses(tmp_path_factory):
  """A data set of two photos."""
  root = tmp_path_factory.mktemp("data") / "weizmann_horse_db"
  for folder in ("rgb", "figure_ground"):
    (root / folder).mkdir(parents=True)
  for name in ("train", "val"):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "rgb" / f"{name}.jpg")
    Image.fromarray(np.zeros((10, 15), np.uint8)).save(root / "figure_ground" / f"{name}.jpg")
    (root / f"{name}.txt").write_text(f"{name}\n")
  return str(root)


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


def horse(root, **changes):
  small_horse = {"data.root": root, "data.options": {}, "data.size": (48, 64)}
  return small.config("iid", "horse", **(small_horse | changes))


def test_classes_are_renumbered_by_name(horses):
  run = build_experiment(horse(horses, **{"data.classes": {"horse": 0}}))
  assert run.game.tasks["segmentation"].classes == ("horse",)
  assert (run.source[0]["label"] == 255).all()  # Nothing but background, which is not named.
  with pytest.raises(ValueError, match="no class 'cow'; known: background, horse"):
    build_experiment(horse(horses, **{"data.classes": {"cow": 0}}))


def test_missing_files_end_a_run_before_it_begins_unless_they_are_skipped(horses, tmp_path):
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


@pytest.mark.parametrize("variant", presets.METHODS)
@pytest.mark.parametrize("file", ["scenes", "horse"])
def test_every_variant_of_every_config_builds_a_run(file, variant, horses):
  changes = {"data.root": horses, "data.options": {}, "data.size": (48, 64)}
  made = small.config(variant, file, **(changes if file == "horse" else {}))
  run = build_experiment(made)
  assert set(run.game.terms) == set(presets.METHODS[variant])
  assert run.game.tasks["segmentation"].classes == run.descriptor.classes
  assert (PREDICTOR, *run.game.critics) == tuple(run.optimizers)


@pytest.mark.parametrize("method", ["gan_basic", "gan_product", "gan_branches", "cgan"])
@pytest.mark.parametrize("apart", ["", ",depth+normals,apart"])
def test_discriminators_judge_depth_and_normals_together_or_apart(method, apart, kitchens):
  changes = {"data.root": kitchens, "data.options": {}, "data.size": (48, 64)}
  run = build_experiment(small.config(method + apart, "kitchen", **changes))
  assert sorted(run.game.tasks) == ["depth", "normals"]
  judged = {name: run.game.terms[name].tasks for name in run.game.critics}
  assert judged == (
    {"adversarial_depth": ("depth",), "adversarial_normals": ("normals",)}
    if apart
    else {"adversarial": ()}
  )
  assert {run.game.terms[name].inputs for name in judged} == {
    {"gan_basic": "basic", "gan_product": "product", "gan_branches": "branches"}.get(
      method, "concatenated"
    )
  }


def test_a_discriminator_of_each_task_sees_that_task_alone(kitchens):
  changes = {"data.root": kitchens, "data.options": {}, "data.size": (48, 64)}
  made = small.config("gan_basic,depth+normals,apart", "kitchen", **changes)
  for term in ("adversarial_depth", "adversarial_normals"):
    made.terms[term].critic = presets.critic("patch", filters=(4, 6))
  players = build_experiment(made).init_state().players
  channels = {
    name: player.params["conv1"]["kernel"].shape[2]
    for name, player in players.items()
    if name != PREDICTOR
  }
  assert channels == {"adversarial_depth": 1, "adversarial_normals": 3}


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
def test_a_method_for_classes_is_refused_for_other_tasks(argument, message):
  with pytest.raises(ValueError, match=message):
    build_experiment(small.config(argument))


@pytest.mark.parametrize(
  "name, kind", [("luc", LucNet), ("patch", PatchNet), ("mobilenet", MobileNetCritic)]
)
def test_the_name_of_a_critic_chooses_its_network(name, kind):
  made = small.config("gan_basic")
  made.terms.adversarial.critic = presets.critic(name)
  assert type(build_experiment(made).game.terms["adversarial"].critic) is kind


@pytest.mark.parametrize(
  "variant, key, value, message",
  [
    (
      "gan_basic",
      "adversarial.downsample",
      0,
      "terms.adversarial: downsample=0, .*expected at least 1",
    ),
    ("gan_basic", "adversarial.label_smoothing", 1.0, "label_smoothing=1.0; .*below 1"),
    ("affinity", "affinity.sizes", (4,), "terms.affinity: a neighborhood of size 4; expected"),
    ("aaf", "affinity.neighbors", "near", "unknown neighbors 'near'; known: corners, full"),
    ("aaf", "affinity.ignore", "all", "unknown ignore 'all'; known: pair, opposite"),
    ("embedding", "embedding.num_sampled", 5, "terms.embedding: num_sampled=5 of 4 directions"),
    ("embedding", "embedding.size", 2, "a neighborhood of size 2; expected an odd size from 3"),
  ],
)
def test_numbers_and_names_of_terms_are_refused_before_anything_runs(variant, key, value, message):
  made = small.config(variant)
  term, name = key.split(".")
  made.terms[term][name] = value
  with pytest.raises(ValueError, match=message):
    build_experiment(made)


def with_critic(**section):
  made = small.config("gan_basic").to_dict()
  made["terms"]["adversarial"]["critic"] = section
  return made


@pytest.mark.parametrize(
  "section, message",
  [
    (
      {"name": "autoencoder"},
      "unknown terms.adversarial.critic.name 'autoencoder'; known: luc, "
      "mobilenet, patch, two_branch",
    ),
    ({"name": "vgg"}, "unknown terms.adversarial.critic.name 'vgg'; known: luc, mobilenet"),
    ({}, "unknown terms.adversarial.critic.name None; known: luc"),
    (
      {"name": "luc", "filters": (4, 6)},
      "unknown key terms.adversarial.critic.filters; known: large, light, spectral",
    ),
    (
      {"name": "patch", "large": True},
      "unknown key terms.adversarial.critic.large; known: filters, norm, spectral",
    ),
    (
      {"name": "patch", "norm": 1},
      "terms.adversarial.critic.norm is 1; expected a section with kind, momentum, epsilon, frozen",
    ),
    ({"name": "two_branch"}, "terms.adversarial: inputs 'basic' for TwoBranchNet"),
  ],
)
def test_a_wrong_critic_is_refused_and_the_known_listed(section, message):
  with pytest.raises(ValueError, match=message):
    build_experiment(with_critic(**section))


def test_branches_need_a_network_of_two():
  made = small.config("gan_branches")
  assert type(build_experiment(made).game.terms["adversarial"].critic) is TwoBranchNet
  made.terms.adversarial.critic = presets.critic("patch")
  with pytest.raises(ValueError, match="terms.adversarial: inputs 'branches' for PatchNet"):
    build_experiment(made)


@pytest.mark.parametrize("file", ["scenes", "horse"])
def test_free_weights_follow_the_predictors_rule_and_rates_alone(file, horses):
  changes = {"data.root": horses, "data.options": {}, "data.size": (48, 64)}
  made = small.config("aaf", file, **(changes if file == "horse" else {}))
  own = made.optimizer.predictor
  # As `--config.optimizer.predictor.learning_rate=0.0123` does.
  own.learning_rate, own.name, own.weight_decay, own.clip_norm = 0.0123, "sgd", 0.5, 0.7
  own.update(warmup_steps=2)
  found = build_experiment(made).optimizers
  assert found[PREDICTOR].learning_rate == 0.0123 and found[PREDICTOR].weight_decay == 0.5
  assert found["affinity"] == dataclasses.replace(found[PREDICTOR], weight_decay=0.0, clip_norm=0.0)
  written = json.loads(json.dumps(made.to_dict()))
  assert build_experiment(written).optimizers["affinity"] == found["affinity"]


def test_critics_without_settings_of_their_own_share_those_of_critic():
  made = small.config("asm_aaf").to_dict()
  made["optimizer"]["critic"]["learning_rate"] = 1e-5
  found = build_experiment(made).optimizers
  assert found["structure"].learning_rate == 1e-5 < found["affinity"].learning_rate
  made["optimizer"]["structure"] = {"learning_rate": 2e-5}
  found = build_experiment(made).optimizers
  assert found["structure"] == Optimizer(learning_rate=2e-5)
  made["optimizer"]["pixel"] = {}
  known = "unknown key optimizer.pixel; known: affinity, critic, predictor, structure"
  with pytest.raises(ValueError, match=known):
    build_experiment(made)


def test_fixed_fields_have_no_optimizer():
  made = small.config("affinity")
  assert "affinity" not in made.optimizer
  made.optimizer.affinity = {}
  with pytest.raises(ValueError, match="unknown key optimizer.affinity; known: critic, predictor"):
    build_experiment(made)


@pytest.mark.parametrize("file", [voc, cityscapes])
def test_all_methods_of_a_paper_share_the_predictors_optimizer(file):
  """All but those that go on from a trained network: they have settings of their own."""
  found = {
    method: file.get_config(f"{method}@pspnet_resnet101")
    for method in presets.METHODS
    if method not in presets.FINETUNED
  }
  assert {"iid", "aaf", "gan_basic", "gan_product", "asm", "embedding"} <= set(found)
  for config in found.values():
    assert config.optimizer.predictor.to_dict() == found["iid"].optimizer.predictor.to_dict()
    assert config.train.to_dict() == found["iid"].train.to_dict()
    assert config.predictor.to_dict() == found["iid"].predictor.to_dict()
  assert found["iid"].predictor.dropout == 0 and found["iid"].train.updates == "joint"
  assert found["aaf"].tasks.segmentation.count_without_ids == "once"


def test_all_that_follows_the_backbone_learns_tenfold():
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
  for name, each in updates.items():
    rates = {round(-float(u) / optimizer.learning_rate, 4) for u in jax.tree.leaves(each)}
    assert rates == {1.0 if name == "backbone" else 10.0}, name


@pytest.mark.parametrize(
  "variant, rates",
  [
    ("gan_basic", (1e-4, 0.5)),
    ("gan_product", (1e-6, 0.1)),
    ("gan_scaling@dilated8", (1e-5, 0.1)),
    ("iid@dilated8", (1e-6, 1e-6)),
    ("gan_product@fcn8s_vgg16", (1e-3, 5e-4)),
    ("asm", (1e-3, 5e-4)),
  ],
)
def test_the_rates_of_luc_et_al_belong_to_their_network(variant, rates):
  config = voc.get_config(variant)
  players = config.optimizer
  assert (players.predictor.learning_rate, players.critic.learning_rate) == rates
  theirs = config.predictor.name == "dilated" and "gan" in variant
  assert config.train.updates == ("alternate(500, 500)" if theirs else "joint")
  assert config.train.allow_fast_critic is theirs
  assert bool(players.predictor.lr_multipliers) is (config.predictor.name != "dilated")


def test_the_final_model_is_not_chosen_by_the_test_photos():
  for variant in ("iid", "gan_branches"):
    config = stanford_background.get_config(variant)
    assert (config.data.split, config.eval.split) == ("luc_fit", "luc_val")
  config = stanford_background.get_config("iid_balanced")
  assert (config.data.split, config.eval.split) == ("load_train", "load_val")


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
def test_no_shipped_discriminator_has_a_weight_that_adam_divides_out(file):
  made = importlib.import_module(f"configs.{file}").get_config(SHIPPED[file].format("cgan"))
  released = made.optimizer.critic.name == "sgd"
  assert made.terms.adversarial.critic_weight == (0.01 if released else 1.0)
  assert made.terms.adversarial.weight == 0.01


@pytest.mark.parametrize("file", SHIPPED)
@pytest.mark.parametrize("method", ["asm", "asm_aaf", "gan_basic", "cgan"])
def test_no_shipped_critic_outpaces_the_predictor_but_those_of_luc_et_al(file, method):
  made = importlib.import_module(f"configs.{file}").get_config(SHIPPED[file].format(method))
  players = {name: construct(Optimizer, section, name) for name, section in made.optimizer.items()}
  if made.train.allow_fast_critic:
    assert (file, method) == ("voc", "gan_basic")
  else:
    check_critic_lr(players.pop(PREDICTOR), players, made.train.steps)


def test_the_alternating_scheme_gives_the_predictor_the_steps_of_load():
  for file in ("horse", "scenes", "voc_animals"):
    module = importlib.import_module(f"configs.{file}")
    load, alternating = (module.get_config(name) for name in ("load", "alternating"))
    assert alternating.train.updates == "alternate" and load.train.updates == "joint"
    assert alternating.train.steps == load.train.steps


@pytest.mark.parametrize(
  "variant, changes, scale",
  [
    ("cgan", {"terms.adversarial.critic_weight": 0.01}, "0.01"),
    ("aaf", {"terms.affinity.critic_weight": 0.5}, "0.5"),
    ("asm_no_rec", {"terms.structure.critic_weight": 0.1}, "0.1"),
    ("asm", {"terms.structure.critic_weight": 0.1}, None),  # The reconstruction weighs against it.
    ("asm_no_adv", {}, None),
    ("cgan", {}, None),
    ("asm_released", {}, None),
    ("iid", {}, None),
  ],
)
def test_a_critics_weight_that_its_optimizer_divides_out_is_named(variant, changes, scale):
  found = build_experiment(small.config(variant, **changes)).warnings()
  assert len(found) == (scale is not None)
  if scale:
    assert f"is multiplied by {scale}, which Adam divides out" in found[0]
    player = "affinity" if variant == "aaf" else "critic"
    plain = {f"optimizer.{player}.name": "sgd", "train.allow_fast_critic": True}
    assert not build_experiment(small.config(variant, **changes, **plain)).warnings()


def test_turns_of_a_game_without_critics_are_joint():
  changes = {"train.updates": "alternate(2, 1)", "train.critic_warmup_steps": 7}
  run = build_experiment(small.config("iid", **changes))
  assert run.updates == UpdateSchedule() and len(list(run.train_batches(0))) == run.training.steps
  run = build_experiment(small.config("asm", **changes))
  assert len(list(run.train_batches(0))) == 7 + 3 * run.training.steps


def test_pretraining_reaches_the_turns():
  made = small.config(
    "gan_basic", **{"train.critic_warmup_steps": 7, "train.updates": "alternate(2, 1)"}
  )
  assert build_experiment(made).updates == UpdateSchedule(2, 1, 7)
  made.train.critic_warmup_steps = -1
  with pytest.raises(ValueError, match="train: critic_warmup_steps=-1"):
    build_experiment(made)


def test_discriminators_are_lightened_for_one_cpu():
  shipped = {
    name: small.config(name).terms.adversarial for name in ("gan_basic", "gan_branches", "cgan")
  }
  assert shipped["gan_basic"].critic.light and not shipped["gan_basic"].critic.large
  assert shipped["gan_basic"].downsample == shipped["gan_branches"].downsample == 4
  assert (
    shipped["cgan"].critic.filters == (32, 64, 128, 256, 256) and shipped["cgan"].downsample == 1
  )
  assert presets.CGAN["critic"]["filters"] == (64, 128, 256, 512, 512)


SECOND_STAGES = [
  f"{file}:{method}"
  for file in ("scenes", "horse", "voc", "voc_animals", "cityscapes", "stanford_background")
  for method in presets.FINETUNED
]


def norms(network):
  """The sections `norm` of a network and of those within it."""
  for name, section in network.items():
    if name == "norm":
      yield section
    elif hasattr(section, "items"):
      yield from norms(section)


@pytest.mark.parametrize("stage", SECOND_STAGES)
def test_a_second_stage_is_plain_descent_with_the_statistics_of_the_first(stage):
  file, method = stage.split(":")
  made = importlib.import_module(f"configs.{file}").get_config(method)
  player = made.optimizer.predictor
  assert (player.name, player.momentum, player.schedule) == ("sgd", 0.95, "constant")
  assert player.lr_multipliers.to_dict() == {} and player.clip_norm == player.weight_decay == 0
  found = list(norms(made.predictor))
  assert len(found) == 1 + ("backbone" in made.predictor) and all(n.frozen for n in found)
  for term in made.terms.values():
    assert not any(norm.frozen for norm in norms(term.get("critic", {})))
  if method != "load_asm":
    assert made.terms.adversarial.joint_batch and made.terms.adversarial.hard


def test_a_first_stage_may_move_a_network_at_several_rates_and_moves_its_statistics():
  made = voc_animals.get_config("iid")
  assert made.optimizer.predictor.lr_multipliers.to_dict() == {"^(?!backbone/)": 5.0}
  assert [norm.frozen for norm in norms(made.predictor)] in ([True, False], [False, True])
  assert not any(norm.frozen for norm in norms(small.config("iid").predictor))


def test_a_second_stage_trains_the_very_network_that_is_evaluated():
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
def test_critics_of_a_second_stage_judge_maps_of_stride_4(stage):
  file, method = stage.split(":")
  made = importlib.import_module(f"configs.{file}").get_config(method)
  network = build_predictor(made.predictor, {"segmentation": 19})
  image = jax.ShapeDtypeStruct((1, *made.data.size, 3), "float32")
  of = lambda image: network.init_with_output(jax.random.key(0), image, train=False)[0]
  assert jax.eval_shape(of, image)["segmentation"].shape == (1, 129, 129, 19)


@pytest.mark.parametrize("variant", ["load", "load@fcn8s_vgg16", "alternating"])
def test_load_trains_on_the_official_photos_of_voc(variant):
  made = voc.get_config(variant)
  assert made.data.split == "train" and voc.get_config("asm").data.split == "train_aug"
  assert made.predictor.get("stride") in (4, 8)  # The latter is FCN-8s, not an enlarged map.


def test_a_round_of_the_critic_is_bounded_in_passes_over_the_buffer():
  retraining = Retraining()
  assert (retraining.epochs, retraining.batch_size) == (10.0, 16)
  assert [retraining.max_steps(1464 * sets) for sets in (1, 2, 3)] == [915, 1830, 2745]
  quick = dataclasses.replace(retraining, epochs=0.25)
  assert [quick.max_steps(pairs) for pairs in (1, 256, 640)] == [1, 4, 10]


def test_every_config_has_the_documented_keys():
  for file in ("scenes", "horse"):
    made = small.config("asm", file)
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
      assert name in (made[section] if section else made)


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
def test_tasks_and_their_critics_are_named_after_the_method(argument, tasks, critics):
  run = build_experiment(small.config(argument))
  assert list(run.game.tasks) == tasks and sorted(run.game.critics) == critics
  assert run.source.descriptor.provides == {task.truth_key for task in run.game.tasks.values()}
  released = {task.released for name, task in run.game.tasks.items() if name != "segmentation"}
  assert released <= {"released" in argument}
  for name in critics:
    judged = run.game.terms[name].tasks
    assert judged == (tuple(name.split("_")[1:]) if "apart" in argument else ())


@pytest.mark.parametrize(
  "argument, message",
  [
    ("asm,depths", "unknown task 'depths'; known: depth, normals, segmentation"),
    ("asm,depth,together", re.escape("expected METHOD[@NETWORK][,TASKS[,apart]]")),
    ("asm@vgg", "unknown network 'vgg'; known: deeplab_v2_resnet101, deeplab_v3_"),
  ],
)
def test_unknown_tasks_are_refused(argument, message):
  with pytest.raises(ValueError, match=message):
    small.config(argument)


def test_the_papers_config_of_2d3ds_has_the_released_networks():
  made = stanford2d3ds.get_config("asm_released,depth+normals")
  assert dict(made.tasks.depth)["released"] and made.terms.structure.critic.filters[-1] == 128
  unet = build_predictor(made.predictor, {"normals": 3})
  assert (unet.levels, unet.stride, unet.down_kernel, unet.decoder_convs) == (9, 2, 4, 3)
  assert stanford2d3ds.get_config("iid@fcrn50,depth").predictor.name == "fcrn"
  assert made.data.size == (512, 512) and made.data.eval_size == (540, 540)


@pytest.mark.parametrize(
  "source, splits",
  [
    ("pascal_voc", ("train", "val")),
    ("gta5", ("part1", "part2")),
    ("tfds", ("train", "val")),
    ("stanford_background", ("luc_fit", "luc_val")),
    ("folder", ("train", "val")),
    ("stanford2d3ds", ("fold1_train", "fold1_test")),
  ],
)
def test_any_source_has_a_config(source, splits):
  made = any_source.get_config(f"{source},iid")
  assert (made.data.source, made.data.split, made.eval.split) == (source, *splits)
  assert set(made.terms) == {"pixel"}
  construct(Data, made.data, "data")
  with pytest.raises(ValueError, match="unknown source 'voc'; known: .*pascal_voc"):
    any_source.get_config("voc")


def test_the_released_preset_is_the_papers_released_code():
  term = build_experiment(small.config("asm_released")).game.terms["structure"]
  assert (
    term.critic_weight == Ramp(0.012, 0.0012) and term.margin == 0.8 and term.normalize == "pixel"
  )
  assert term.binarize and term.reconstruction_weight == 1.0
  critic = stanford2d3ds.get_config("asm_released").terms.structure.critic
  assert critic.filters == (16, 64, 128, 128, 128)


def test_a_run_trains_and_is_evaluated_on_parts_of_one_split():
  parts = {"data.split": "train[:80%]", "eval.split": "train[80%:]"}
  whole, run = build_experiment(small.config()), build_experiment(small.config(**parts))
  assert (run.source.split, run.validation.split) == tuple(parts.values())
  assert (len(run.source), len(run.validation)) == (19, 5)
  for part, index, same in ((run.source, 18, 18), (run.validation, 0, 19)):
    np.testing.assert_array_equal(part[index]["image"], whole.source[same]["image"])


@pytest.mark.parametrize(
  "config",
  [
    voc.get_config("asm"),
    cityscapes.get_config("asm"),
    stanford2d3ds.get_config("asm"),
    voc_animals.get_config("iid_asm"),
    small.config("asm"),
  ],
)
def test_structure_matching_is_bounded_and_on_decided_maps_where_no_paper_shows_it_is_not(config):
  term = config.terms.structure
  assert term.normalize != "none" and term.margin > 0 and term.binarize
  assert config.optimizer.critic.clip_norm > 0


@pytest.mark.parametrize("file", [voc, cityscapes, scenes, voc_animals])
def test_structure_matching_beside_a_pixel_loss_is_balanced_but_as_released_it_is_not(file):
  expected = {"asm": 0.0, "iid_asm": 0.25, "asm_aaf": 0.25, "iid_asm_released": 0.0}
  assert expected == {
    method: file.get_config(method).terms.structure.balance for method in expected
  }


@pytest.mark.parametrize("config", [voc, cityscapes, stanford2d3ds])
def test_the_predictors_gradient_is_capped_under_sgd(config):
  for method in ("iid", "asm"):
    player = config.get_config(method).optimizer.predictor
    assert player.name == "sgd" and player.clip_norm > 0


@pytest.mark.parametrize(
  "method, released",
  [("iid", False), ("asm", False), ("iid_released", True), ("asm_released", True), ("cgan", True)],
)
def test_the_released_losses_of_depth_and_normals_are_those_of_all_released_methods(
  method, released
):
  tasks = stanford2d3ds.get_config(f"{method},depth+normals").tasks
  assert tasks.depth.released == tasks.normals.released == released


def test_the_released_unet_has_tensorflows_epsilon():
  assert PUBLISHED["unet18"]({}).norm.epsilon == 1e-3


@pytest.mark.parametrize("method", ["gan_basic", "gan_product", "gan_scaling"])
def test_discriminators_of_untrained_predictors_set_in_late_and_softly(method):
  term = small.config(method).terms.adversarial
  assert term.weight.start == 0 and 0 < term.weight.begin < term.weight.end < 1
  assert 0 < term.balance < 1 / 3 and term.label_smoothing > 0


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("data.source", "cityscape", "unknown data.source 'cityscape'; known: .*scenes"),
    ("predictor.name", "vgg", "unknown predictor 'vgg'; known: deeplab, deeplab_v2, dilated"),
    ("predictor.norm.kind", 3, "predictor.norm.kind is 3, a int; expected str"),
    ("predictor.depth", 3, "unknown key predictor.depth; known: .*levels"),
    ("terms.adversary", {}, "unknown term 'adversary'; known: adversarial, affinity, embed"),
    ("terms.structure.layers", ("conv1", "relu9"), r"terms.structure: unknown layers \['relu9'\]"),
    (
      "terms.structure.critic.filter",
      3,
      "unknown key terms.structure.critic.filter; known: filters",
    ),
    ("terms.structure.weight", "one", "terms.structure.weight is 'one', a str; expected float"),
    ("tasks.depths", {}, "unknown task 'depths'; known: depth, normals, segmentation"),
    ("optimizer.predictor.name", "lion", "optimizer.predictor: unknown name 'lion'; known"),
    ("optimizer.critic.learning_rate", 1.0, "'structure' would outpace the predictor"),
    ("optimizer.critics", {}, "unknown key optimizer.critics; known: critic, predictor, s"),
    ("train.updates", "sometimes", "train: unknown updates 'sometimes'; known: 'joint'"),
    ("train.steps", 1.5, "train.steps is 1.5, a float; expected int"),
    ("train.batch_size", 12, "train.batch_size=12 is no multiple of 8"),
    ("train.dtype", "float8", "unknown train.dtype 'float8'"),
    ("eval.split", "test2", "unknown split 'test2'; known"),
    ("eval.split", "test2[:80%]", "unknown split 'test2'; known: train, val, test"),
    ("data.split", "train[:80%", r"malformed slice 'train\[:80%'; expected NAME"),
    ("data.split", "train[:1000]", "beyond the 24 examples"),
    ("data.size", (16,), r"data.size is \(16,\)"),
    ("seed", "zero", "seed is 'zero', a str; expected int"),
    ("extra", 1, "unknown key config.extra; known: .*checkpoint"),
  ],
)
def test_a_mistake_is_refused_and_named(key, value, message):
  made = small.config().to_dict()
  target = made
  *path, name = key.split(".")
  for part in path:
    target = target[part]
  target[name] = value
  with pytest.raises(ValueError, match=message):
    build_experiment(made)


def test_an_unknown_variant_is_refused_and_the_known_listed():
  with pytest.raises(ValueError, match="unknown variant 'gan9'; known: aaf, aaf_released, aff"):
    small.config("gan9")


def test_a_missing_key_is_named():
  made = small.config().to_dict()
  del made["train"]["steps"]
  with pytest.raises(ValueError, match="missing key train.steps"):
    build_experiment(made)


def test_a_critic_may_outpace_the_predictor_if_asked():
  made = small.config(**{"optimizer.critic.learning_rate": 1.0, "train.allow_fast_critic": True})
  assert build_experiment(made).optimizers["structure"].learning_rate == 1.0


@pytest.mark.parametrize(
  "predictor, critic, refused",
  [
    ({}, {}, False),
    ({"^head": 10.0}, {}, False),
    ({"^down": 0.0}, {}, False),
    ({"^down": 0.5}, {}, True),
    ({"^down": 0.0, "^head": 0.9}, {}, True),
    ({}, {"^conv1": 1.5}, True),
    ({}, {"^conv1": 0.5}, False),
    ({}, {"^conv1": 0.0}, False),
  ],
)
def test_check_critic_lr_counts_multipliers(predictor, critic, refused):
  rate = small.config().optimizer.predictor.learning_rate
  made = small.config(
    **{
      "optimizer.critic.learning_rate": rate,
      "optimizer.predictor.lr_multipliers": predictor,
      "optimizer.critic.lr_multipliers": critic,
    }
  )
  if not refused:
    build_experiment(made)
    return
  with pytest.raises(ValueError, match="'structure' would outpace the predictor: .*multipliers"):
    build_experiment(made)


def test_a_warm_up_that_lets_the_critic_run_ahead_is_refused():
  made = small.config(**{"train.steps": 100, "optimizer.predictor.warmup_steps": 50})
  with pytest.raises(ValueError, match="first at step 0"):
    build_experiment(made)


def test_no_term_and_no_task_are_refused():
  made = small.config().to_dict()
  with pytest.raises(ValueError, match="config.terms is empty"):
    build_experiment(made | {"terms": {}})
  with pytest.raises(ValueError, match="tasks is empty"):
    build_experiment(made | {"tasks": {}})


def test_defaults_and_construct_are_inverse():
  for constructor in (Structure, Optimizer):
    assert construct(constructor, defaults(constructor), "section") == constructor()
  changed = defaults(Structure, weight={"start": 1.0, "stop": 0.5}, critic={"filters": [4, 4]})
  term = construct(Structure, changed, "terms.structure")
  assert term.weight == Ramp(1.0, 0.5) and term.critic.filters == (4, 4)


def test_bfloat16_reaches_predictor_and_critic():
  run = build_experiment(small.config(**{"train.dtype": "bfloat16"}))
  assert run.game.predictor.dtype == run.game.terms["structure"].critic.dtype == "bfloat16"
  assert dataclasses.replace(run.training, dtype="float32").dtype == "float32"


@pytest.mark.parametrize("network", PUBLISHED)
def test_a_published_network_can_be_named_after_the_method(network):
  heads = {"segmentation": 21}
  section = presets.base(f"asm@{network}", predictor=UNet({})).predictor
  assert build_predictor(section, heads) == PUBLISHED[network](heads)
  assert section.input_transform == "auto"


def test_a_networks_backbone_is_a_section_of_its_own():
  made = small.config("iid@deeplab_v3_mobilenet_v2")
  made.predictor.backbone.update(width=0.5, norm=dict(made.predictor.backbone.norm, frozen=True))
  made.predictor.features, made.train.dtype = 8, "bfloat16"
  found = build_experiment(made).game.predictor
  assert isinstance(found, DeepLab) and found.features == 8 and found.rates == ()
  assert found.backbone.width == 0.5 and not found.backbone.top
  assert found.backbone.norm == Norm(momentum=0.9997, epsilon=1e-3, frozen=True)
  assert found.norm == Norm()
  assert found.dtype == found.backbone.dtype == "bfloat16"


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("name", "resnet18", "unknown predictor.backbone.name 'resnet18'; known: mobilenet_v1"),
    ("width", "wide", "predictor.backbone.width is 'wide', a str; expected float"),
    ("output_stride", 4, "predictor.backbone: output_stride=4; known: 8, 16, 32"),
  ],
)
def test_a_backbone_that_cannot_be_is_refused(key, value, message):
  made = small.config("iid@deeplab_v3_mobilenet_v2")
  made.predictor.backbone = {**made.predictor.backbone, key: value}
  with pytest.raises(ValueError, match=message):
    build_experiment(made)
