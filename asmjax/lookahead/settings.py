"""What LoAd can be told."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from asmjax.lookahead.buffer import check_room
from asmjax.lookahead.cycle import Rules


@dataclasses.dataclass(frozen=True)
class Retraining:
  """How the critic is trained on the buffer, once a cycle, until it no longer improves.

  Attributes:
    batch_size: pairs of an example and a map in a global batch.
    every: steps between evaluations on the hold-out examples.
    patience: evaluations without improvement after which it ends, with the best critic.
    epochs: passes over the buffer, every map once with its truth, after which it ends in any case;
      may be a fraction.

  Raises:
    ValueError: a number out of range.
  """

  batch_size: int = 16
  every: int = 50
  patience: int = 3
  epochs: float = 10.0

  def __post_init__(self):
    for name in ("batch_size", "every", "patience"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)}; expected at least 1")
    if not 0 < self.epochs < math.inf:
      raise ValueError(f"epochs={self.epochs}; expected a number above 0")

  def most_steps(self, pairs: int) -> int:
    """Steps in which it ends in any case, of a buffer of so many maps; at least one."""
    return max(1, round(self.epochs * pairs / self.batch_size))


@dataclasses.dataclass(frozen=True)
class Lookahead:
  """Lookahead adversarial learning (Jamali-Rad and Szabo 2022, Algorithms 1 and 3).

  Attributes:
    rules: when cycles end and what is a peak.
    every: steps of the predictor in a propagation, which its evaluation ends.
    most: [B_max] sets of maps in the buffer, that of the start or peak among them.
    retain: earlier peaks whose sets stay when there is a new one.
    seen: only aggregate maps of the images that the predictor has been shown since it began, as
      the paper suggests (Sec. 6); the start's are of all.
    images: training images that a set has maps of, drawn anew for each model; 0: all of them.
    part: of the evaluation's examples, held out for everything that is decided on the way.
    part_seed: determines which these are; not the run's seed, so that runs can be compared.
    memory: MiB of compressed maps that are kept in memory; more are memory-mapped.
    photos: evaluation examples whose predictions are kept of every start, peak and ending.
    retraining: of the critic.

  Raises:
    ValueError: a number out of range.
  """

  rules: Rules = Rules()
  every: int = 1
  most: int = 3
  retain: int = 0
  seen: bool = False
  images: int = 0
  part: float = 0.3
  part_seed: int = 0
  memory: int = 1024
  photos: int = 4
  retraining: Retraining = Retraining()

  def __post_init__(self):
    check_room(self.most, self.retain)
    for name, least in (("every", 1), ("images", 0), ("memory", 0), ("photos", 1)):
      if getattr(self, name) < least:
        raise ValueError(f"{name}={getattr(self, name)}; expected at least {least}")
    if not 0 < self.part <= 1:
      raise ValueError(f"part={self.part}; expected a part of the examples, above 0 and at most 1")


def hold_out(count: int, part: float, seed: int) -> tuple[Sequence[int], Sequence[int]]:
  """Which of `count` examples are held out and which are not, both in their order.

  Args:
    count: of examples.
    part: of them that is held out; at least one is.
    seed: determines which.
  """
  order = np.random.default_rng(seed).permutation(count)
  held = max(1, round(part * count))
  return sorted(order[:held].tolist()), sorted(order[held:].tolist())
