"""When to look on, when to keep a model and when to step back: LoAd's Algorithm 3, as transitions.

Nothing here knows networks, files or clocks: a propagation ends in one number, the mIoU of the
hold-out examples, and what follows is a function of the numbers so far. The symbols of the paper
stand in brackets.
"""

import dataclasses
import enum


class Action(enum.Enum):
  """What is to be done next."""

  TRAIN = "train the predictor for another propagation"
  KEEP_BEST = "keep the predictor as the best one"
  KEEP_START = "keep the predictor as the one that the cycle starts from"
  BACK_TO_BEST = "end the cycle, whose best is a new peak, and step back to that"
  BACK_TO_START = "end the cycle and step back to where it started"
  RETRAIN = "train the critic on the truth and on the maps of the buffer"
  STOP = "end with the best predictor"


@dataclasses.dataclass(frozen=True)
class Rules:
  """The parameters of Algorithm 3; mIoUs are between 0 and 1.

  Attributes:
    cycles: [Psi] cycles in a row without a new peak after which everything ends.
    patience: [Gamma] propagations after which a cycle ends.
    peak_patience: [Omega] after more than this many propagations above the threshold of a peak the
      next one's model becomes the cycle's start, and its patience begins anew.
    dynamic: whether that happens at all; without it this is Algorithm 2.
    fall: [beta_l] how far below its start the mIoU ends a cycle.
    rise: [beta_u] how far above its start an mIoU may be a peak.

  Raises:
    ValueError: a number out of range.
  """

  cycles: int = 50
  patience: int = 50
  peak_patience: int = 5
  dynamic: bool = True
  fall: float = 0.05
  rise: float = 0.001

  def __post_init__(self):
    least = {"cycles": 1, "patience": 1, "peak_patience": 0, "rise": 0}
    for name, limit in least.items():
      if not getattr(self, name) >= limit:
        raise ValueError(f"{name}={getattr(self, name)}; expected at least {limit}")
    if not self.fall > 0:
      raise ValueError(f"fall={self.fall}; expected more than 0, or every cycle ends at once")


@dataclasses.dataclass(frozen=True)
class Cycle:
  """Where the algorithm stands.

  Attributes:
    failures: [psi] cycles in a row without a new peak.
    gone: [gamma] propagations since the cycle, or its new start, began.
    above: [omega] propagations above the threshold of a peak since then.
    origin: [mu_0] mIoU of the model that the cycle began with.
    start: [mu_s] mIoU of the model that it is measured against.
    last: [mu] mIoU of the present model.
    best: [mu*] the best mIoU so far.
    start_model: which model has the mIoU `start`.
    best_model: which has `best`.
  """

  failures: int
  gone: int
  above: int
  origin: float
  start: float
  last: float
  best: float
  start_model: int
  best_model: int


def begin(miou: float, model: int = 0) -> Cycle:
  """The first cycle, from a model with that mIoU; the critic is to be trained first."""
  return Cycle(0, 0, 0, miou, miou, miou, miou, model, model)


def advance(
  cycle: Cycle, miou: float, model: int, rules: Rules
) -> tuple[Cycle, tuple[Action, ...]]:
  """What follows from the mIoU of a propagation (lines 9 to 35 of Algorithm 3).

  After stepping back the present mIoU is that of the model stepped back to: otherwise the next
  cycle would end at once.

  Args:
    cycle: before the propagation.
    miou: of the hold-out examples after it, in [0, 1].
    model: a number of the present model, unlike all before.
    rules: the algorithm's parameters.

  Returns:
    The cycle, or that which begins, and what to do, in this order: keep models; then either train
    on, or step back and after that retrain the critic or stop.

  Example:
    >>> rules = Rules(patience=3)
    >>> cycle, actions = advance(begin(0.50), 0.52, 1, rules)
    >>> [action.name for action in actions]
    ['KEEP_BEST', 'TRAIN']
    >>> cycle, actions = advance(cycle, 0.44, 2, rules)
    >>> [action.name for action in actions], cycle.start, cycle.start_model
    (['BACK_TO_BEST', 'RETRAIN'], 0.52, 1)
  """
  cycle, kept = _watched(cycle, miou, model, rules)
  cycle = dataclasses.replace(cycle, last=miou, gone=cycle.gone + 1)
  if miou > cycle.start - rules.fall and cycle.gone < rules.patience:
    return cycle, (*kept, Action.TRAIN)
  peak = cycle.best > cycle.origin
  failures = 0 if peak else cycle.failures + 1
  start, start_model = (cycle.best, cycle.best_model) if peak else (cycle.start, cycle.start_model)
  following = Cycle(failures, 0, 0, start, start, start, cycle.best, start_model, cycle.best_model)
  back = Action.BACK_TO_BEST if peak else Action.BACK_TO_START
  return following, (*kept, back, Action.STOP if failures == rules.cycles else Action.RETRAIN)


def _watched(
  cycle: Cycle, miou: float, model: int, rules: Rules
) -> tuple[Cycle, tuple[Action, ...]]:
  """The peak finder (lines 10 to 22)."""
  kept = ()
  if not miou > cycle.start + rules.rise:
    return cycle, kept
  if miou > cycle.best:
    cycle = dataclasses.replace(cycle, best=miou, best_model=model)
    kept = (Action.KEEP_BEST,)
  if rules.dynamic and cycle.above > rules.peak_patience:
    cycle = dataclasses.replace(cycle, start=miou, start_model=model, above=0, gone=0)
    kept = (*kept, Action.KEEP_START)
  return dataclasses.replace(cycle, above=cycle.above + 1), kept
