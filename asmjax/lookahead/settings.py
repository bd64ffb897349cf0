"""Settings of LoAd, as a config has them."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from asmjax.lookahead.buffer import check_room
from asmjax.lookahead.cycle import Rules
from asmjax.utils.ranges import Count, Positive, PositiveInt, Range, check_ranges


@dataclasses.dataclass(frozen=True)
class Retraining:
  """Settings of the critic's training on the buffer, once a cycle, until it no longer improves.

  Attributes:
    batch_size: Number of pairs of an example and a map in a global batch.
    eval_every: Number of steps between evaluations on the decision split.
    patience: Number of evaluations without gain after which the training ends; the best critic is
      kept.
    epochs: Number of passes over the buffer, each map once with its truth, after which the training
      ends in any case; may be a fraction.

  Raises:
    ValueError: A number is out of its range.
  """

  batch_size: PositiveInt = 16
  eval_every: PositiveInt = 50
  patience: PositiveInt = 3
  epochs: Positive = 10.0

  def __post_init__(self):
    check_ranges(self)

  def max_steps(self, pairs: int) -> int:
    """Returns the steps after which the training on so many maps ends, at least one."""
    return max(1, round(self.epochs * pairs / self.batch_size))


@dataclasses.dataclass(frozen=True)
class Lookahead:
  """Settings of lookahead adversarial learning (Jamali-Rad and Szabo 2022, Algorithms 1 and 3).

  Attributes:
    rules: Parameters that say when cycles end and what is a peak.
    steps_per_propagation: Number of the predictor's steps in a propagation, which an evaluation on
      the decision split ends.
    buffer_size: Largest number of sets of maps in the buffer, that of the peak included [B_max].
    retain: Number of earlier peaks whose sets stay in the buffer when there is a new peak.
    only_seen: Whether maps are only of images that the predictor has been trained on since the run
      began, as the paper suggests (Sec. 6); the maps of the start are of all.
    maps_per_model: Number of training images that a model's set has maps of, drawn anew for each
      model; 0 takes all of them.
    decision_fraction: Fraction of the validation examples by which everything is decided, in
      (0, 1]; the paper's is 0.3. The others only measure the result.
    decision_seed: Seed that chooses these examples; not the run's seed, so that runs of different
      seeds are decided by the same examples.
    cache_mib: MiB of compressed maps that are kept in memory; further maps are memory-mapped.
    num_previews: Number of validation examples whose predictions by every start, peak and ending
      are kept as pictures.
    retraining: Settings of the critic's training.

  Raises:
    ValueError: A number is out of its range.
  """

  rules: Rules = Rules()
  steps_per_propagation: PositiveInt = 1
  buffer_size: int = 3
  retain: int = 0
  only_seen: bool = False
  maps_per_model: Count = 0
  decision_fraction: Annotated[float, Range(0, 1, above=True)] = 0.3
  decision_seed: int = 0
  cache_mib: Count = 1024
  num_previews: PositiveInt = 4
  retraining: Retraining = Retraining()

  def __post_init__(self):
    check_ranges(self)
    check_room(self.buffer_size, self.retain)


def decision_split(count: int, fraction: float, seed: int) -> tuple[Sequence[int], Sequence[int]]:
  """Splits indices 0 to `count` - 1 into a random fraction, at least one, and the others.

  Both are in their order.
  """
  order = np.random.default_rng(seed).permutation(count)
  size = max(1, round(fraction * count))
  return sorted(order[:size].tolist()), sorted(order[size:].tolist())
