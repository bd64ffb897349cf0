"""Optimizers and updates of experiments that configs describe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.config.build import build_experiment
from asmjax.train.optim import Optimizer
from asmjax.train.updates import UpdateSchedule
from asmjax.utils.trees import leaves_by_path
from tests.helpers import small_configs as small
from tests.helpers import tiny_backbones as backbones


def test_build_experiment_shares_the_optimizer_of_critics():
  config = small.config("asm_aaf").to_dict()
  config["optimizer"]["critic"]["learning_rate"] = 1e-5
  optimizers = build_experiment(config).optimizers
  assert optimizers["structure"].learning_rate == 1e-5 < optimizers["affinity"].learning_rate
  config["optimizer"]["structure"] = {"learning_rate": 2e-5}
  assert build_experiment(config).optimizers["structure"] == Optimizer(learning_rate=2e-5)
  config["optimizer"]["pixel"] = {}
  known = "unknown key optimizer.pixel; known: affinity, critic, predictor, structure"
  with pytest.raises(ValueError, match=known):
    build_experiment(config)


def test_build_experiment_refuses_an_optimizer_of_fixed_fields():
  config = small.config("affinity")
  assert "affinity" not in config.optimizer
  config.optimizer.affinity = {}
  with pytest.raises(ValueError, match="unknown key optimizer.affinity; known: critic, predictor"):
    build_experiment(config)


def test_build_experiment_updates_games_without_critics_jointly():
  changes = {"train.updates": "alternate(2, 1)", "train.critic_warmup_steps": 7}
  run = build_experiment(small.config("iid", **changes))
  assert run.updates == UpdateSchedule() and len(list(run.train_batches(0))) == run.training.steps
  run = build_experiment(small.config("asm", **changes))
  assert len(list(run.train_batches(0))) == 7 + 3 * run.training.steps


def test_build_experiment_reads_updates_and_critic_warmup():
  config = small.config(
    "gan_basic", **{"train.critic_warmup_steps": 7, "train.updates": "alternate(2, 1)"}
  )
  assert build_experiment(config).updates == UpdateSchedule(2, 1, 7)
  config.train.critic_warmup_steps = -1
  with pytest.raises(ValueError, match="train.critic_warmup_steps=-1"):
    build_experiment(config)


def test_build_experiment_allows_a_fast_critic_if_asked():
  config = small.config(**{"optimizer.critic.learning_rate": 1.0, "train.allow_fast_critic": True})
  assert build_experiment(config).optimizers["structure"].learning_rate == 1.0


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
  config = small.config(
    **{
      "optimizer.critic.learning_rate": rate,
      "optimizer.predictor.lr_multipliers": predictor,
      "optimizer.critic.lr_multipliers": critic,
    }
  )
  if not refused:
    build_experiment(config)
    return
  with pytest.raises(ValueError, match="'structure' would outpace the predictor: .*multipliers"):
    build_experiment(config)


def test_check_critic_lr_counts_warmup():
  config = small.config(**{"train.steps": 100, "optimizer.predictor.warmup_steps": 50})
  with pytest.raises(ValueError, match="first at step 0"):
    build_experiment(config)


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
def test_warnings_name_weights_that_adam_divides_out(variant, changes, scale):
  warnings = build_experiment(small.config(variant, **changes)).warnings()
  assert len(warnings) == (scale is not None)
  if scale:
    assert f"is multiplied by {scale}, which Adam divides out" in warnings[0]
    player = "affinity" if variant == "aaf" else "critic"
    sgd = {f"optimizer.{player}.name": "sgd", "train.allow_fast_critic": True}
    assert not build_experiment(small.config(variant, **changes, **sgd)).warnings()


@pytest.mark.parametrize("player", ["predictor", "critic"])
def test_experiment_refuses_multipliers_that_match_no_parameter(player):
  config = small.config("asm", **{f"optimizer.{player}.lr_multipliers": {"^haed": 0.0, "": 1.0}})
  name = {"predictor": "predictor", "critic": "structure"}[player]
  message = rf"optimizer\.{name}\.lr_multipliers: '\^haed' matches no parameter of .*, "
  with pytest.raises(ValueError, match=message):
    build_experiment(config).random_state()


# A tiny ViT in place of DINOv2's.
TINY_VIT = {
  f"predictor.backbone.{name}": value
  for name, value in {
    "patch": 4,
    "width": 8,
    "num_heads": 2,
    "depth": 4,
    "outputs": (1, 2, 3, 4),
    "positions": 4,
  }.items()
}


def test_build_experiment_freezes_what_adapters_adapt():
  changes = {**TINY_VIT, "predictor.backbone.adapters.rank": 2}
  run = build_experiment(small.config("asm@dinov2_small_linear", **changes))
  _, variables = backbones.shapes(run.game.predictor, 8, 8)
  params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), variables["params"])
  slopes = jax.grad(
    lambda params: sum(map(jnp.sum, jax.tree.leaves(run.stop_frozen("predictor", params))))
  )(params)
  for path, slope in leaves_by_path(slopes).items():
    moves = "/lora_" in path or not path.startswith("backbone/")
    assert np.all(slope == moves), path


def test_experiment_takes_layer_decay_of_backbones_alone():
  decay = {"optimizer.predictor.layer_decay": 0.5}
  config = small.config("asm@dinov2_small_linear", **TINY_VIT, **decay)
  with pytest.raises(ValueError, match="would outpace the predictor"):
    build_experiment(config)  # Its embedding has 0.5^5 of the rate.
  config.train.allow_fast_critic = True
  run = build_experiment(config)
  assert len(run.layer_groups("predictor")) == 5 and not run.layer_groups("structure")
  with pytest.raises(ValueError, match="optimizer.predictor.layer_decay=0.5: only a backbone"):
    build_experiment(small.config("iid", **decay))
