"""Interface of all terms: what a term is given, what it returns, and what others may ask of it."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax.models.layers import with_compute_dtype
from asmjax.ops.masked_mean import MaskedMean
from asmjax.tasks.base import Task
from asmjax.terms.weight import Weight
from asmjax.utils.ranges import NonNegative, check_ranges

# Names under which a predictor may `sow` into "intermediates" the features that its heads are
# applied to, and the maps by task of auxiliary heads, both at the size of its outputs.
FEATURES, AUXILIARY = "features", "auxiliary"

Scalar = Float[Array, ""] | float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TermContext:
  """Everything that a term is evaluated on.

  Attributes:
    tasks: Trained tasks by name.
    outputs: Maps (n, h, w, c) of the predictor by the task's name, and what it has sown under
      `FEATURES` and `AUXILIARY`.
    truth: Batch at the size of the outputs; see `asmjax.batch`.
    rng: Key for dropout and sampling.
    critic: Variables of the term's critic, `{"params": ..., "batch_stats": ...}`; empty if it has
      none.
    progress: Part t/T in [0, 1] of the predictor's steps that is done.
  """

  tasks: Mapping[str, Task]
  outputs: Mapping[str, PyTree]
  truth: Mapping[str, ArrayLike]
  rng: Array
  critic: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)
  progress: Scalar = 0.0


class LossTerm(NamedTuple):
  """Masked mean, and its weight in the objective of either player.

  The predictor descends the sum of `predictor_weight` times the mean over all terms of a game, a
  critic that of `critic_weight` times the mean over its own term; a negative weight ascends. With
  both 0 the mean is only reported.

  Attributes:
    value: Sum and count of what is averaged.
    predictor_weight: Factor of the mean in the predictor's objective.
    critic_weight: Factor of the mean in the critic's objective.
    joint_weight: Factor of the mean in the one scalar that all players differentiate. None, the
      default, for a value of one player: then it is that player's weight. A value shared by both
      enters the scalar once, and `reverse_gradient` inside it gives each player its own weight.
  """

  value: MaskedMean
  predictor_weight: Scalar = 0.0
  critic_weight: Scalar = 0.0
  joint_weight: Scalar | None = None


class TermOutput(NamedTuple):
  """Result of one evaluation of a term.

  Attributes:
    losses: Losses and reported means by name.
    batch_stats: Running statistics of the critic after this batch; empty if it keeps none.
  """

  losses: dict[str, LossTerm]
  batch_stats: PyTree = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(abc.ABC):
  """Loss on the predictor's outputs, with or without a critic.

  A subclass defines `__call__`. One with a critic sets `critic` and defines `init` too.

  Attributes:
    balance: Largest norm of the gradient that the term sends to the predictor's outputs, as a
      multiple of the norm of the pixel loss's gradient there, measured at every step; 0 for no
      limit. See `asmjax.gradients.fan_out`. Within that, the term's weight decides.
    critic: Module that judges, a player of its own; None without one.
    is_reference: Whether other terms are balanced against this one.

  Raises:
    ValueError: A number is out of its field's range.
  """

  balance: NonNegative = 0.0

  critic: ClassVar[nn.Module | None] = None
  is_reference: ClassVar[bool] = False

  def __post_init__(self):
    check_ranges(self)

  @abc.abstractmethod
  def __call__(self, context: TermContext) -> TermOutput:
    """Computes the term's losses on one batch in training mode."""

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """Initializes the critic's variables.

    Args:
      rng: Key of the parameters.
      tasks: Trained tasks by name.
      size: (h, w) of the predictor's outputs.

    Raises:
      NotImplementedError: The term has a critic, but does not initialize it.
    """
    raise NotImplementedError(f"{type(self).__name__} has a critic, but does not initialize it")

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless the term is defined for these trained tasks."""
    del tasks

  def diagnose(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """Reads off the term's metrics what is wrong with its game.

    Args:
      now: Means of the term's losses over the last log interval, by name, and the norm of its
        critic's gradient as "gradient_norm".
      first: The same over the first log interval of the run.

    Returns:
      A sentence for each problem, by a short name of the problem.
    """
    del now, first
    return {}

  @property
  def critic_scale(self) -> Weight:
    """Factor common to all that the critic descends: a number, or a schedule of progress.

    1 where its losses have different weights, whose ratio counts. Adam divides such a factor out
    again: there it is the critic's learning rate that says how fast it moves.
    """
    return 1.0

  @property
  def needs_class_shares(self) -> bool:
    """Whether the field `shares` has yet to be filled with the class frequencies of the data."""
    return False

  def with_compute_dtype(self, dtype: Any) -> "Term":
    """Returns the term with a critic that computes in `dtype`; None is float32."""
    if self.critic is None or "critic" not in {field.name for field in dataclasses.fields(self)}:
      return self
    return dataclasses.replace(self, critic=with_compute_dtype(dtype, self.critic))
