"""LoAd's Algorithm 3 as pure transitions: when to go on, to keep a model and to step back.

A propagation, some steps of the predictor, ends in one number: the mIoU of the decision split. What
follows is a function of these numbers so far. A cycle is the propagations from one training of the
critic to the next; a peak is a model better than all before it. The symbols of the paper stand in
brackets.
"""

import dataclasses
import enum

from asmjax.utils.ranges import Count, NonNegative, Positive, PositiveInt, check_ranges


class Action(enum.Enum):
  """What a run has to do next."""

  TRAIN = "train the predictor for another propagation"
  KEEP_BEST = "keep the predictor as the best one"
  KEEP_START = "keep the predictor as the one that the cycle starts from"
  BACK_TO_BEST = "end the cycle, whose best is a new peak, and step back to that"
  BACK_TO_START = "end the cycle and step back to where it started"
  RETRAIN = "train the critic on the truth and on the maps of the buffer"
  STOP = "end with the best predictor"


@dataclasses.dataclass(frozen=True)
class Rules:
  """Parameters of Algorithm 3; mIoUs are in [0, 1].

  Attributes:
    cycles: Number of cycles in a row without a new peak after which the run ends [Psi].
    patience: Number of propagations after which a cycle ends [Gamma].
    peak_patience: Number of propagations above the threshold of a peak after which the next one's
      model becomes the cycle's start, from which its patience begins anew [Omega].
    dynamic: Whether the start of a cycle may move in this way; without it this is Algorithm 2.
    max_drop: How far the mIoU may fall below that of the start before the cycle ends [beta_l]; with
      0 every cycle would end at once.
    min_gain: How far the mIoU must rise above that of the start to be a peak [beta_u].

  Raises:
    ValueError: A number is out of its range.
  """

  cycles: PositiveInt = 50
  patience: PositiveInt = 50
  peak_patience: Count = 5
  dynamic: bool = True
  max_drop: Positive = 0.05
  min_gain: NonNegative = 0.001

  def __post_init__(self):
    check_ranges(self)


@dataclasses.dataclass(frozen=True)
class Cycle:
  """State of Algorithm 3.

  Attributes:
    failures: Number of cycles in a row without a new peak [psi].
    num_propagations: Number of propagations since the cycle, or its new start, began [gamma].
    num_above_peak: Number of propagations above the threshold of a peak since then [omega].
    origin: mIoU of the model that the cycle began with [mu_0].
    start: mIoU of the model that drops and gains are measured from [mu_s].
    last: mIoU of the present model [mu].
    best: Best mIoU so far [mu*].
    start_model: Number of the model with the mIoU `start`.
    best_model: Number of the model with the mIoU `best`.
  """

  failures: int
  num_propagations: int
  num_above_peak: int
  origin: float
  start: float
  last: float
  best: float
  start_model: int
  best_model: int


def begin(miou: float, model: int = 0) -> Cycle:
  """Returns the first cycle, from a model with that mIoU; the critic is to be trained first."""
  return Cycle(0, 0, 0, miou, miou, miou, miou, model, model)


def advance(
  cycle: Cycle, miou: float, model: int, rules: Rules
) -> tuple[Cycle, tuple[Action, ...]]:
  """Decides what follows a propagation (lines 9 to 35 of Algorithm 3).

  After stepping back the present mIoU is that of the model stepped back to: otherwise the next
  cycle would end at once.

  Args:
    cycle: State before the propagation.
    miou: mIoU of the decision split after it, in [0, 1].
    model: Number of the present model, different from all before.
    rules: Parameters of the algorithm.

  Returns:
    The state after the propagation, and what to do, in this order: keep models; then either train
    on, or step back and after that retrain the critic or stop.

  Examples:
    >>> rules = Rules(patience=3)
    >>> cycle, actions = advance(begin(0.50), 0.52, 1, rules)
    >>> [action.name for action in actions]
    ['KEEP_BEST', 'TRAIN']
    >>> cycle, actions = advance(cycle, 0.44, 2, rules)
    >>> [action.name for action in actions], cycle.start, cycle.start_model
    (['BACK_TO_BEST', 'RETRAIN'], 0.52, 1)
  """
  cycle, keeps = _find_peak(cycle, miou, model, rules)
  cycle = dataclasses.replace(cycle, last=miou, num_propagations=cycle.num_propagations + 1)
  if miou > cycle.start - rules.max_drop and cycle.num_propagations < rules.patience:
    return cycle, (*keeps, Action.TRAIN)
  peak = cycle.best > cycle.origin
  failures = 0 if peak else cycle.failures + 1
  start, start_model = (cycle.best, cycle.best_model) if peak else (cycle.start, cycle.start_model)
  following = Cycle(failures, 0, 0, start, start, start, cycle.best, start_model, cycle.best_model)
  back = Action.BACK_TO_BEST if peak else Action.BACK_TO_START
  return following, (*keeps, back, Action.STOP if failures == rules.cycles else Action.RETRAIN)


def _find_peak(
  cycle: Cycle, miou: float, model: int, rules: Rules
) -> tuple[Cycle, tuple[Action, ...]]:
  """Finds peaks (lines 10 to 22): returns the state, and which models to keep."""
  keeps = ()
  if not miou > cycle.start + rules.min_gain:
    return cycle, keeps
  if miou > cycle.best:
    cycle = dataclasses.replace(cycle, best=miou, best_model=model)
    keeps = (Action.KEEP_BEST,)
  if rules.dynamic and cycle.num_above_peak > rules.peak_patience:
    cycle = dataclasses.replace(
      cycle, start=miou, start_model=model, num_above_peak=0, num_propagations=0
    )
    keeps = (*keeps, Action.KEEP_START)
  return dataclasses.replace(cycle, num_above_peak=cycle.num_above_peak + 1), keeps
