"""Order of updates: which players are updated at which step."""

import dataclasses
import re
from typing import TypeVar

import numpy as np
from jaxtyping import Array

from asmjax.game import PREDICTOR

_Steps = TypeVar("_Steps", int, Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class UpdateSchedule:
  """Order in which the players are updated.

  "joint" (0, 0): all players, every step, from the same pass. "alternate(c, p)": the critics for c
  steps, then the predictor for p steps, each step on a fresh minibatch: (1, 1) is Algorithm 1 of
  Hwang et al. 2019 and the fast scheme of Luc et al. 2016, (500, 500) their slow one. Before that
  the critics are updated alone for some warm-up steps.

  A training of T steps updates the predictor T times, whatever the critics do, so that schemes can
  be compared. The predictor's steps so far are a function of the steps of all players.

  Attributes:
    critic_steps: Number c of the critics' steps in each round; 0 updates all players jointly.
    predictor_steps: Number p of the predictor's steps in each round; 0 if and only if
      `critic_steps` is.
    critic_warmup_steps: Number of steps that update the critics alone, before the first round.

  Examples:
    >>> slow = UpdateSchedule.parse("alternate(500, 500)", critic_warmup_steps=100)
    >>> total = slow.total_steps(600)
    >>> total, slow.count_predictor_steps(1100), slow.count_predictor_steps(total)
    (1700, 500, 600)
  """

  critic_steps: int = 0
  predictor_steps: int = 0
  critic_warmup_steps: int = 0

  @classmethod
  def parse(cls, text: str, critic_warmup_steps: int = 0) -> "UpdateSchedule":
    """Reads "joint", "alternate(c, p)", or "alternate" for "alternate(1, 1)".

    Raises:
      ValueError: The text has another form, or the number of warm-up steps is negative.
    """
    if critic_warmup_steps < 0:
      raise ValueError(f"critic_warmup_steps={critic_warmup_steps}; expected 0 or more")
    if text == "joint":
      return cls(critic_warmup_steps=critic_warmup_steps)
    match = re.fullmatch(r"alternate(?:\(\s*(\d+)\s*,\s*(\d+)\s*\))?", text)
    steps = [int(group or 1) for group in match.groups()] if match else [0]
    if 0 in steps:
      raise ValueError(f"unknown updates {text!r}; known: 'joint', 'alternate', 'alternate(c, p)'")
    critic_steps, predictor_steps = steps
    return cls(critic_steps, predictor_steps, critic_warmup_steps)

  def count_predictor_steps(self, step: _Steps) -> _Steps:
    """Counts the predictor's steps among the first `step` of all players; takes arrays, too."""
    step = _clip_below_zero(step - self.critic_warmup_steps)
    if not self.critic_steps:
      return step
    round_length = self.critic_steps + self.predictor_steps
    in_round = _clip_below_zero(step % round_length - self.critic_steps)
    return step // round_length * self.predictor_steps + in_round

  def total_steps(self, predictor_steps: int) -> int:
    """Counts the steps of all players up to the predictor's last of `predictor_steps`."""
    if not predictor_steps:
      return 0
    rounds = -(-predictor_steps // self.predictor_steps) if self.critic_steps else 0
    return self.critic_warmup_steps + rounds * self.critic_steps + predictor_steps

  def active_players(self, step: int, players: tuple[str, ...]) -> tuple[str, ...]:
    """Selects the players that step `step`, counted from 0 over all players, updates."""
    critics = tuple(name for name in players if name != PREDICTOR)
    if step < self.critic_warmup_steps:
      return critics
    if not self.critic_steps:
      return players
    step_of_round = (step - self.critic_warmup_steps) % (self.critic_steps + self.predictor_steps)
    return critics if step_of_round < self.critic_steps else (PREDICTOR,)


JOINT = UpdateSchedule()


def _clip_below_zero(number: _Steps) -> _Steps:
  """Returns max(number, 0) for a Python int as well as for an array."""
  return number * (number > 0)
