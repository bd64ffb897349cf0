"""State of a run of LoAd besides its networks, as checkpoints keep it."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from asmjax.lookahead.buffer import MapSet
from asmjax.lookahead.cycle import Cycle


class End(enum.Enum):
  """Reason why a cycle ended, by the number that runs log."""

  OPEN = 0  # It has not ended yet.
  DROP = 1
  PATIENCE = 2
  BUDGET = 3


@dataclasses.dataclass(frozen=True)
class LookaheadState:
  """Progress of a run of LoAd.

  Attributes:
    cycle: State of Algorithm 3.
    initial_metrics: Metric of the start on the decision split and, if there are other validation
      examples, on those.
    sets: Sets of maps in the buffer.
    predictor_steps: Number of the predictor's steps, those that were taken back included; it is
      also the number of the present model.
    critic_steps: Number of the critics' steps.
    retraining: Whether the critics are being trained, rather than the predictor.
    phase_start: `critic_steps` where the present training of the critics began, or
      `predictor_steps` where the present cycle did.
    num_propagations: Number of propagations of the predictor.
    num_cycles: Number of cycles that have ended.
    num_retrainings: Number of the critics' trainings.
    best_critic_loss: Smallest loss of the critics on the decision split in their present training.
    evals_without_gain: Number of evaluations of the critics since then.
    finished: Whether the run has ended.
  """

  cycle: Cycle
  initial_metrics: tuple[float, ...]
  sets: tuple[MapSet, ...] = (MapSet(0, peak=True),)
  predictor_steps: int = 0
  critic_steps: int = 0
  retraining: bool = False
  phase_start: int = 0
  num_propagations: int = 0
  num_cycles: int = 0
  num_retrainings: int = 0
  best_critic_loss: float = 0.0
  evals_without_gain: int = 0
  finished: bool = False

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> "LookaheadState":
    """Restores the state from its fields, as JSON gives them back."""
    return cls(
      **{
        **fields,
        "cycle": Cycle(**fields["cycle"]),
        "initial_metrics": tuple(fields["initial_metrics"]),
        "sets": tuple(MapSet(*entry) for entry in fields["sets"]),
      }
    )
