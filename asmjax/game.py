"""The minimax core: who climbs, who descends, who moves, and the one scalar they share.

A game is a predictor and a set of weighted terms; a term may bring a critic of its own. One
evaluation of the game yields summands whose weighted sum is differentiated once, with respect to
every player that moves. A player that climbs sees the shared value through
`asmjax.gradients.reverse_gradient`.
"""

import abc
import dataclasses
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax import batch as batches
from asmjax.gradients import Branch, Probe, fan_out
from asmjax.models.input_transform import IMAGENET, InputTransform
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.ops.resize import downsample
from asmjax.tasks.base import Task

PREDICTOR = "predictor"

# Under these names a predictor may `sow` into "intermediates" what its heads see, and the maps by
# task of auxiliary heads, at the size of its outputs.
FEATURES, AUXILIARY = "features", "auxiliary"


class Summand(NamedTuple):
  """One summand of the scalar: `weight` times the mean of `moments`; with 0 it is only reported."""

  weight: Float[Array, ""] | float
  moments: MaskedMean


class Critique(NamedTuple):
  """What a term returns: its summands, and its critic's new statistics if it keeps any."""

  summands: dict[str, Summand]
  batch_stats: PyTree = {}


class Played(NamedTuple):
  """One evaluation of a game."""

  summands: dict[str, Summand]
  batch_stats: dict[str, PyTree]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(abc.ABC):
  """A loss on the predictor's outputs, with or without a critic.

  Attributes:
    balance: Largest norm of the gradient that the term sends to the predictor's outputs, as a
      multiple of the norm of the pixel loss's gradient there, measured at every step; 0 for no
      limit. See `fan_out`. Within that, the term's weight decides.
    critic: Module that judges, a player of its own; None without one.
    is_reference: Whether other terms are balanced against this one.
  """

  balance: float = 0.0

  critic: ClassVar[nn.Module | None] = None
  is_reference: ClassVar[bool] = False

  @property
  def critic_scale(self) -> Any:
    """What all that the critic descends is multiplied by: a number, or a schedule of progress.

    1 also where its objectives have weights of their own, whose ratio counts. Adam divides such a
    factor out again: there it is the critic's learning rate that says how fast it moves.
    """
    return 1.0

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless it can judge what is predicted."""
    del tasks

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """The critic's variables for outputs of `size` (h, w); only asked of terms with a critic."""
    raise NotImplementedError(f"{type(self).__name__} has a critic, but does not initialize it")

  def symptoms(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """What is wrong with the game by the look of this term's metrics, in words, by a short name.

    Args:
      now: means of the term's summands over the last log interval, by name, and the norm of its
        critic's gradient as "gradient".
      first: those of the run's first log interval.
    """
    del now, first
    return {}

  def critic_loss(
    self, means: Mapping[str, Array | float], tasks: Mapping[str, Task]
  ) -> Array | float:
    """What the critic descends at the start of a training; only asked of terms with a critic.

    Args:
      means: of the term's summands, by name.
      tasks: by name.
    """
    raise NotImplementedError(f"{type(self).__name__} does not say what its critic descends")

  @abc.abstractmethod
  def __call__(
    self,
    critic: PyTree,
    tasks: Mapping[str, Task],
    outputs: Mapping[str, PyTree],
    truth: Mapping[str, ArrayLike],
    *,
    progress: Array | float,
    rng: Array,
  ) -> Critique:
    """Summands for the predictor's outputs and the truth at the same size.

    Args:
      critic: its variables, `{"params": ..., "batch_stats": ...}`.
      tasks: by name.
      outputs: the predictor's map by task, and what it has sown under `FEATURES` and `AUXILIARY`.
      truth: a batch, shrunk to the size of the outputs.
      progress: t/T in [0, 1], the part of the training that is done.
      rng: key for dropout and the like.
    """


@dataclasses.dataclass(frozen=True)
class Game:
  """What is optimized: a predictor and the terms it is judged by.

  Attributes:
    predictor: module from a transformed image to `{task: map}`.
    tasks: what the maps mean.
    terms: by name; a term with a critic lends its name to that player.
    input_transform: Transform of uint8 images to what the predictor sees.

  Raises:
    ValueError: a term cannot judge the tasks, or is to be balanced where no pixel loss is.
  """

  predictor: nn.Module
  tasks: Mapping[str, Task]
  terms: Mapping[str, Term]
  input_transform: InputTransform = IMAGENET

  def __post_init__(self):
    references = [name for name, term in self.terms.items() if term.is_reference]
    for name, term in self.terms.items():
      if term.balance < 0 or term.balance and (term.is_reference or not references):
        raise ValueError(
          f"terms.{name}: balance={term.balance}; expected 0, or in a term beside a pixel loss a "
          "positive multiple of its gradient's norm"
        )
      try:
        term.check(self.tasks)
      except ValueError as error:
        raise ValueError(f"terms.{name}: {error}") from error

  @property
  def align_corners(self) -> bool:
    """Whether outputs lie on the pixels S i of the image; what the predictor says of itself.

    A predictor without the attribute `align_corners` has half-pixel centers; see
    `asmjax.ops.resize`.
    """
    return getattr(self.predictor, "align_corners", False)

  @property
  def critics(self) -> tuple[str, ...]:
    """The names of the terms with a critic, which are players beside the predictor."""
    return tuple(name for name, term in self.terms.items() if term.critic is not None)

  def init(self, rng: Array, image_size: tuple[int, int]) -> dict[str, PyTree]:
    """Every player's variables, `{"params": ..., "batch_stats": ...}`, for (h, w) images."""
    keys = dict(
      zip((PREDICTOR, *self.terms), jax.random.split(rng, 1 + len(self.terms)), strict=True)
    )
    image = jnp.zeros((1, *image_size, 3))
    outputs, variables = self.predictor.init_with_output(keys[PREDICTOR], image, train=False)
    size = self._size(outputs)
    critics = {name: self.terms[name].init(keys[name], self.tasks, size) for name in self.critics}
    return {PREDICTOR: variables, **critics}

  def predict(self, variables: PyTree, image: ArrayLike) -> dict[str, Float[Array, "n h w c"]]:
    """The predictor's outputs by task in evaluation mode, for uint8 images (n, h, w, 3)."""
    return _single(self.predictor.apply(variables, self.input_transform(image), train=False))

  def _predict(
    self, predictor: PyTree, batch: Mapping[str, ArrayLike], rng: Array
  ) -> tuple[dict[str, PyTree], PyTree]:
    """What the predictor says in training mode, and its new statistics."""
    outputs, updated = self.predictor.apply(
      predictor,
      self.input_transform(batch["image"]),
      train=True,
      mutable=["batch_stats", "intermediates"],
      rngs={"dropout": rng},
    )
    sown = updated.get("intermediates", {})
    seen = {name: sown[name][0] for name in (FEATURES, AUXILIARY) if name in sown}
    return _single({**outputs, **seen}), updated.get("batch_stats", {})

  def _recall(
    self, predictor: PyTree, batch: Mapping[str, ArrayLike], rng: Array
  ) -> tuple[dict[str, PyTree], PyTree]:
    """The same for the batch's earlier predictions, at the size of the predictor's outputs."""
    outputs, _ = jax.eval_shape(self._predict, predictor, batch, rng)
    size = self._size(outputs)
    recalled = {
      name: task.from_prediction(
        downsample(batch[batches.SHOWN + task.truth_key], size, align_corners=self.align_corners)
      )
      for name, task in self.tasks.items()
    }
    return recalled, predictor["batch_stats"]

  def _size(self, outputs: Mapping[str, PyTree]) -> tuple[int, int]:
    """(h, w) of the maps."""
    return outputs[next(iter(self.tasks))].shape[1:3]

  def play(
    self,
    params: Mapping[str, PyTree],
    batch_stats: Mapping[str, PyTree],
    batch: Mapping[str, ArrayLike],
    *,
    progress: Array | float = 0.0,
    rng: Array,
    probes: Mapping[str, Probe] = MappingProxyType({}),
    total: Callable[[Array], Array] = lambda square: square,
  ) -> Played:
    """Evaluates every term on one batch in training mode.

    Args:
      params: parameters by player.
      batch_stats: running statistics by player.
      batch: see `asmjax.batch`. If it holds earlier predictions, they take the place of the
        predictor's, and only terms with a critic are evaluated.
      progress: the part of the training that is done, t/T.
      rng: key for dropout and the like.
      probes: by term, to measure and balance what the terms send to the predictor's outputs; none
        if the predictor does not move.
      total: see `fan_out`.
    """
    rngs = dict(
      zip((PREDICTOR, *self.terms), jax.random.split(rng, 1 + len(self.terms)), strict=True)
    )
    predictor = {"params": params[PREDICTOR], "batch_stats": batch_stats[PREDICTOR]}
    recalled = any(key.startswith(batches.SHOWN) for key in batch)
    run = self._recall if recalled else self._predict
    outputs, stats = run(predictor, batch, rngs[PREDICTOR])
    truth = batches.shrink(batch, self._size(outputs), align_corners=self.align_corners)
    played = Played({}, {PREDICTOR: stats})
    copies = dict.fromkeys(self.terms, outputs)
    if probes:
      branches = {
        name: Branch(term.balance, term.is_reference) for name, term in self.terms.items()
      }
      copies = fan_out(outputs, dict(probes), branches, total)
    for name, term in self.terms.items():
      if recalled and term.critic is None:
        continue
      critic = {"params": params.get(name, {}), "batch_stats": batch_stats.get(name, {})}
      critique = term(critic, self.tasks, copies[name], truth, progress=progress, rng=rngs[name])
      played.summands.update({f"{name}/{key}": part for key, part in critique.summands.items()})
      if term.critic is not None:
        played.batch_stats[name] = critique.batch_stats
    return played


def _single(outputs: PyTree) -> PyTree:
  """At least single precision: losses and metrics are not computed in bfloat16."""
  return jax.tree.map(promote_to_float32, outputs)


def joint_value(
  summands: Mapping[str, Summand], counts: Mapping[str, Array] | None = None
) -> Float[Array, ""]:
  """The one scalar of a step: the weighted means of all summands, added.

  Args:
    summands: from `Game.play`.
    counts: divide by these instead of the summands' own counts. With the counts of the global
      batch, averaged over devices, the mean over devices of the value and of its gradient is that
      of the global batch, however unevenly the valid pixels lie.
  """
  means = {
    name: (moments if counts is None else moments._replace(count=counts[name])).mean()
    for name, (_, moments) in summands.items()
  }
  return sum(
    (jnp.sum(summand.weight * means[name]) for name, summand in summands.items()),
    start=jnp.zeros(()),
  )


@dataclasses.dataclass(frozen=True)
class Turns:
  """Who moves when.

  `joint` (0, 0): everybody, every step, from the same pass. `alternate(c, p)`: the critics for c
  steps, then the predictor for p steps, each step on a fresh minibatch: (1, 1) is Algorithm 1 of
  Hwang et al. 2019 and the fast scheme of Luc et al. 2016, (500, 500) their slow one. Before that
  the critics move alone for `pretraining` steps.

  A training of T steps is one in which the predictor takes T, whoever else moves and when: so
  schemes can be compared. How many it has taken is a function of the steps of all.

  Example:
    >>> slow = Turns.parse("alternate(500, 500)", pretraining=100)
    >>> slow.total(600), slow.taken(1100), slow.taken(slow.total(600))
    (1700, 500, 600)
  """

  critics: int = 0
  predictor: int = 0
  pretraining: int = 0

  @classmethod
  def parse(cls, text: str, pretraining: int = 0) -> "Turns":
    """Reads "joint", "alternate" (meaning 1, 1) or "alternate(c, p)".

    Raises:
      ValueError: anything else.
    """
    if pretraining < 0:
      raise ValueError(f"{pretraining} steps of pretraining; expected none or more")
    if text == "joint":
      return cls(pretraining=pretraining)
    match = re.fullmatch(r"alternate(?:\(\s*(\d+)\s*,\s*(\d+)\s*\))?", text)
    turns = [int(group or 1) for group in match.groups()] if match else [0]
    if 0 in turns:
      raise ValueError(f"unknown turns {text!r}; known: 'joint', 'alternate', 'alternate(c, p)'")
    return cls(*turns, pretraining)

  def taken(self, step: ArrayLike) -> ArrayLike:
    """The predictor's steps among the first `step` of all, a number or an array of integers."""
    late = _above_zero(step - self.pretraining)
    if not self.critics:
      return late
    rounds, rest = divmod(late, self.critics + self.predictor)
    return rounds * self.predictor + _above_zero(rest - self.critics)

  def total(self, steps: int) -> int:
    """The steps of all players in which the predictor takes `steps`; the last one is its own."""
    if not steps:
      return 0
    rounds = -(-steps // self.predictor) if self.critics else 0
    return self.pretraining + rounds * self.critics + steps

  def movers(self, step: int, players: tuple[str, ...]) -> tuple[str, ...]:
    """The players that move at `step` (counted from 0) of a game with critics."""
    critics = tuple(name for name in players if name != PREDICTOR)
    if step < self.pretraining:
      return critics
    if not self.critics:
      return players
    turn = (step - self.pretraining) % (self.critics + self.predictor)
    return critics if turn < self.critics else (PREDICTOR,)


JOINT = Turns()


def _above_zero(number: ArrayLike) -> ArrayLike:
  """max(number, 0), of a Python number a Python number."""
  return number * (number > 0)
