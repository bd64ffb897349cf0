"""Order of updates: who is updated when, and how many steps are the predictor's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.game import PREDICTOR
from asmjax.train.updates import UpdateSchedule


@pytest.mark.parametrize(
  "text, steps", [("joint", (0, 0)), ("alternate", (1, 1)), ("alternate(500, 3)", (500, 3))]
)
def test_parse_reads_every_scheme(text, steps):
  assert UpdateSchedule.parse(text) == UpdateSchedule(*steps)


def test_parse_reads_warmup_steps():
  assert UpdateSchedule.parse("alternate(500, 500)", 1000) == UpdateSchedule(500, 500, 1000)
  assert UpdateSchedule.parse("joint", 3) == UpdateSchedule(0, 0, 3)
  with pytest.raises(ValueError, match="critic_warmup_steps=-1"):
    UpdateSchedule.parse("joint", -1)


@pytest.mark.parametrize(
  "text",
  [
    "",
    "jointly",
    "alternate(1)",
    "alternate(0,1)",
    "alternate(00,1)",
    "alternate(500, 0)",
    "alternate(500, 500",
    "alternate(5, 5) ",
    "alternate(-1, 2)",
    "alternate(1, 2, 3)",
  ],
)
def test_parse_refuses_what_is_unknown_and_lists_the_known(text):
  with pytest.raises(ValueError, match="known: 'joint', 'alternate'"):
    UpdateSchedule.parse(text)


def test_active_players_are_the_critics_first_in_every_round():
  players = (PREDICTOR, "structure", "adversarial")
  assert UpdateSchedule().active_players(7, players) == players
  critics, predictor = players[1:], (PREDICTOR,)
  active = [UpdateSchedule(2, 1).active_players(step, players) for step in range(6)]
  assert active == [critics, critics, predictor] * 2


@pytest.mark.parametrize(
  "text, after",
  [("joint", ["both"] * 6), ("alternate(2, 1)", ["critic", "critic", "predictor"] * 2)],
)
def test_active_players_are_critics_alone_during_the_warmup(text, after):
  names = {("adversarial",): "critic", (PREDICTOR,): "predictor"}
  updates, players = UpdateSchedule.parse(text, 4), (PREDICTOR, "adversarial")
  active = [names.get(updates.active_players(step, players), "both") for step in range(10)]
  assert active == ["critic"] * 4 + after


@pytest.mark.parametrize(
  "text", ["joint", "alternate", "alternate(500, 500)", "alternate(3, 2)", "alternate(1, 7)"]
)
@pytest.mark.parametrize("warmup", [0, 1, 60])
@pytest.mark.parametrize("steps", [0, 1, 40, 1003])
def test_total_steps_give_the_predictor_just_its_steps(text, warmup, steps):
  updates, players = UpdateSchedule.parse(text, warmup), (PREDICTOR, "adversarial")
  is_active = [
    PREDICTOR in updates.active_players(step, players) for step in range(updates.total_steps(steps))
  ]
  assert sum(is_active) == steps and (not is_active or is_active[-1])
  counted = np.cumsum([0, *is_active])
  assert [updates.count_predictor_steps(step) for step in range(len(counted))] == counted.tolist()
  compiled = jax.jit(updates.count_predictor_steps)(jnp.arange(len(counted), dtype=jnp.int32))
  assert compiled.dtype == jnp.int32
  np.testing.assert_array_equal(compiled, counted)


def test_active_players_change_every_500_steps_in_a_slow_scheme():
  updates, players = UpdateSchedule.parse("alternate(500, 500)", 100), (PREDICTOR, "adversarial")
  is_active = [PREDICTOR in updates.active_players(step, players) for step in range(2200)]
  changes = [step for step in range(1, 2200) if is_active[step] != is_active[step - 1]]
  assert changes == [600, 1100, 1600, 2100] and not is_active[0]
