"""How far a run of LoAd is: what its checkpoints say of it, in numbers."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from asmjax.lookahead.buffer import MapSet
from asmjax.lookahead.cycle import Cycle


class End(enum.Enum):
  """How a cycle ended, as runs log it."""

  OPEN = 0
  FELL = 1
  PATIENCE = 2
  BUDGET = 3


@dataclasses.dataclass(frozen=True)
class Standing:
  """How far a run is.

  Attributes:
    taken: steps of the predictor, those that were taken back among them; it is also the number of
      the present model.
    judged: steps of the critics.
    retraining: whether the critics are being trained.
    mark: `judged` if they are, else `taken`, when that began.
    propagations: evaluated on the hold-out examples.
    ended: cycles.
    rounds: trainings of the critics.
    cycle: of the predictor.
    sets: the buffer.
    loss: the critics' best one on the hold-out examples, in this round.
    waited: evaluations since then.
    first: the start's metric on the hold-out examples and, if there are any, on the others.
    finished: whether the run is.
  """

  cycle: Cycle
  first: tuple[float, ...]
  sets: tuple[MapSet, ...] = (MapSet(0, peak=True),)
  taken: int = 0
  judged: int = 0
  retraining: bool = False
  mark: int = 0
  propagations: int = 0
  ended: int = 0
  rounds: int = 0
  loss: float = 0.0
  waited: int = 0
  finished: bool = False

  @classmethod
  def parse(cls, facts: Mapping[str, Any]) -> "Standing":
    """From what JSON has made of it."""
    sets = tuple(MapSet(*each) for each in facts["sets"])
    own = {"cycle": Cycle(**facts["cycle"]), "sets": sets, "first": tuple(facts["first"])}
    return cls(**{**facts, **own})
