"""Optimizers: from settings to one optax transformation for each player."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax.utils.ranges import (
  BelowOne,
  Count,
  Fraction,
  NonNegative,
  PositiveFraction,
  check_ranges,
)
from asmjax.utils.trees import join_path, leaves_by_path

_RULES: dict[str, Callable[["Optimizer"], optax.GradientTransformation]] = {
  "sgd": lambda o: optax.trace(decay=o.momentum) if o.momentum else optax.identity(),
  "adam": lambda o: optax.scale_by_adam(b1=o.momentum, b2=o.b2),
  "adamw": lambda o: optax.chain(optax.scale_by_adam(b1=o.momentum, b2=o.b2), o.decay_weights()),
  # TensorFlow's default: from 0, the first step would be of full size whatever the gradient.
  "adagrad": lambda o: optax.scale_by_rss(initial_accumulator_value=0.1),
}
# Functions of the settings, the progress, and `np` or `jnp`.
_SCHEDULES: dict[str, Callable[["Optimizer", Any, Any], Any]] = {
  "constant": lambda o, progress, xp: xp.ones_like(progress),
  "poly": lambda o, progress, xp: (1 - progress) ** o.power,
  "cosine": lambda o, progress, xp: (1 + xp.cos(xp.pi * progress)) / 2,
  "step": lambda o, progress, xp: o.step_factor ** _count_passed(o.milestones, progress, xp),
}


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """Settings of an optimizer and of its learning rate.

  Attributes:
    name: Name of the update rule: "sgd", "adam", "adamw" or "adagrad".
    learning_rate: Learning rate that the schedule and the multipliers scale.
    momentum: Momentum of SGD, or beta1 of Adam.
    b2: Decay of Adam's second moment, beta2.
    schedule: Name of the schedule over the predictor's T steps: "poly", (1 - t/T)^power; "cosine",
      (1 + cos(pi t/T)) / 2 (Loshchilov and Hutter 2017, Eq. 5, without restarts); "step"; or
      "constant".
    power: Exponent of the "poly" schedule; 0.9 is DeepLab's.
    milestones: Rising shares of the T steps, after each of which the "step" schedule multiplies
      the rate by `step_factor`; 8/12 and 11/12 are Detectron's.
    step_factor: Factor of the "step" schedule.
    warmup_steps: Number of the predictor's steps in which the rate first grows linearly from 0;
      the schedule is multiplied by it.
    weight_decay: Factor of the kernels that is added to their gradient, an L2 penalty, before the
      update rule; of "adamw" to what that rule makes of the gradient, so that each step takes away
      this share of a kernel times the rate (Loshchilov and Hutter 2019, Alg. 2).
    decay_all: Whether weight decay also takes biases, normalizations, tokens and position
      embeddings, not kernels alone.
    clip_norm: Largest global norm of the gradient; 0 leaves the gradient as it is.
    lr_multipliers: Multipliers of the learning rate by regular expressions that are searched in a
      parameter's path, as {"^head": 10.0}; the first that matches counts. With 0.0 the parameter
      never moves and has no gradient; `asmjax.models.layers.Norm.frozen` keeps running statistics.
    layer_decay: Factor of the learning rate for each layer of the predictor's backbone below the
      heads (Clark et al. 2020; Bao et al. 2022): with G groups of layers, those of group g, counted
      from 0 at the input, have layer_decay^(G - g) of it; see `Backbone.layer_groups`.
    ema_decay: Decay of an exponential moving average of the parameters, by which the predictor is
      evaluated; 0 keeps none.

  Raises:
    ValueError: The name or the schedule is unknown, a number is out of its range, or milestones
      fall.
  """

  name: str = "adam"
  learning_rate: NonNegative = 1e-3
  momentum: BelowOne = 0.9
  b2: BelowOne = 0.999
  schedule: str = "poly"
  power: NonNegative = 0.9
  milestones: tuple[Fraction, ...] = (8 / 12, 11 / 12)
  step_factor: NonNegative = 0.1
  warmup_steps: Count = 0
  weight_decay: NonNegative = 0.0
  decay_all: bool = False
  clip_norm: NonNegative = 0.0
  lr_multipliers: Mapping[str, NonNegative] = dataclasses.field(default_factory=dict)
  layer_decay: PositiveFraction = 1.0
  ema_decay: BelowOne = 0.0

  def __post_init__(self):
    check_ranges(self)
    for field, known in (("name", _RULES), ("schedule", _SCHEDULES)):
      if getattr(self, field) not in known:
        raise ValueError(f"unknown {field} {getattr(self, field)!r}; known: {sorted(known)}")
    if list(self.milestones) != sorted(self.milestones):
      raise ValueError(f"milestones={self.milestones}; expected rising shares of the run")

  def learning_rate_at(self, step: ArrayLike, steps: int) -> Array | np.ndarray:
    """Computes the rate at one or many of the predictor's `steps` steps, before multipliers.

    NumPy computes it unless `step` is an array of JAX's, for which a program would be compiled.
    """
    xp = jnp if isinstance(step, jax.Array) else np
    step = xp.asarray(step, jnp.result_type(float))
    warmup = xp.minimum(1.0, (step + 1) / (self.warmup_steps + 1))
    decay = _SCHEDULES[self.schedule](self, step / max(steps, 1), xp)
    return self.learning_rate * warmup * decay

  def rate_multiplier(self, path: str, groups: Sequence[str] = ()) -> float:
    """Computes the multiplier of a parameter's learning rate.

    Args:
      path: Path of the parameter.
      groups: Beginnings of the paths of each group of layers, from the input on.
    """
    patterns = (x for pattern, x in self.lr_multipliers.items() if re.search(pattern, path))
    deepest = max((group for group in groups if path.startswith(group)), key=len, default=None)
    depth = len(groups) if deepest is None else groups.index(deepest)
    return next(patterns, 1.0) * self.layer_decay ** (len(groups) - depth)

  def make_transformation(
    self, steps: int, groups: Sequence[str] = ()
  ) -> optax.GradientTransformationExtraArgs:
    """Builds the optax transformation, whose `update` takes the predictor's `step` as a keyword.

    Schedules of all players follow the predictor's steps rather than counts of their own updates,
    so that alternating players share one schedule, and the predictor's is always the same.

    Args:
      steps: Number of the predictor's steps in the run, over which the rate decays.
      groups: Beginnings of the paths of each group of layers, for `layer_decay`.
    """
    is_uniform = not self.lr_multipliers and self.layer_decay == 1
    return optax.chain(
      optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity(),
      optax.identity() if self.name == "adamw" else self.decay_weights(),
      _RULES[self.name](self),
      optax.identity()
      if is_uniform
      else _scale_by_multiplier(lambda path: self.rate_multiplier(path, groups)),
      _scale_by_rate(lambda step: self.learning_rate_at(step, steps)),
      _track_ema(self.ema_decay) if self.ema_decay else optax.identity(),
    )

  def decay_weights(self) -> optax.GradientTransformation:
    """Builds the transformation that adds the decayed weights to the updates."""
    if not self.weight_decay:
      return optax.identity()
    kernels = lambda params: jax.tree_util.tree_map_with_path(_is_kernel, params)
    return optax.add_decayed_weights(self.weight_decay, mask=None if self.decay_all else kernels)

  def check_multipliers(self, params: Mapping[str, PyTree], name: str) -> None:
    """Checks that each pattern of `lr_multipliers` matches a parameter, as a typo does not.

    Args:
      params: Parameters of the players that have these settings, by player.
      name: Name of the settings, for the message.

    Raises:
      ValueError: A pattern matches no parameter; the message lists the modules that there are.
    """
    paths = [path for of_player in params.values() for path in leaves_by_path(of_player)]
    for pattern in self.lr_multipliers:
      if not any(re.search(pattern, path) for path in paths):
        modules = ", ".join(dict.fromkeys(path.partition("/")[0] for path in paths))
        raise ValueError(f"{name}.lr_multipliers: {pattern!r} matches no parameter of {modules}")

  def stop_frozen(self, params: PyTree) -> PyTree:
    """Returns the parameters, under `stop_gradient` where their multiplier is 0."""
    moves = lambda path: self.rate_multiplier(join_path(path)) > 0
    stop = lambda path, x: x if moves(path) else jax.lax.stop_gradient(x)
    return jax.tree_util.tree_map_with_path(stop, params)


def check_critic_lr(
  predictor: Optimizer, critics: Mapping[str, Optimizer], steps: int, num_groups: int = 0
) -> None:
  """Checks that no critic learns faster than the predictor (Hwang et al. 2019, Alg. 1).

  It compares the largest rate of any of a critic's parameters with the smallest of those of the
  predictor's parameters that are not frozen: `lr_multipliers` may raise the one and lower the
  other, as `layer_decay` does at the predictor's input. The rates are computed at 101 steps, evenly
  spaced over the run.

  Args:
    predictor: Settings of the predictor's optimizer.
    critics: Settings of the critics' optimizers, by the names of their terms.
    steps: Number of the predictor's steps in the run.
    num_groups: Number of groups of the predictor's layers.

  Raises:
    ValueError: A critic's rate is larger at one of these steps.
  """
  times = np.unique(np.linspace(0, max(steps - 1, 0), 101).astype(int))
  smallest = min((1.0, *filter(None, predictor.lr_multipliers.values())))
  smallest *= predictor.layer_decay**num_groups
  limit = smallest * predictor.learning_rate_at(times, steps)
  for name, critic in critics.items():
    largest = max((1.0, *critic.lr_multipliers.values()))
    rate = largest * critic.learning_rate_at(times, steps)
    is_faster = rate > limit * (1 + 1e-6)
    if np.any(is_faster):
      first = times[np.argmax(is_faster)]
      raise ValueError(
        f"the critic of term {name!r} would outpace the predictor: learning rate "
        f"{rate.max():g} against {limit.max():g}, multipliers included (first at step {first}); "
        "lower optimizer.critic.learning_rate or set train.allow_fast_critic=True"
      )


def ema_params(params: PyTree, opt_state: PyTree) -> PyTree:
  """Returns the moving average of the parameters if the optimizer keeps one, else `params`."""
  averages = optax.tree_utils.tree_get_all_with_path(opt_state, "ema")
  return averages[0][1] if averages else params


def _is_kernel(path: tuple, _: Any) -> bool:
  return path[-1].key == "kernel"


def _count_passed(milestones: tuple[float, ...], progress: Any, xp: Any) -> Any:
  return sum((progress >= milestone for milestone in milestones), xp.zeros_like(progress))


def _scale_by_multiplier(multiplier: Callable[[str], float]) -> optax.GradientTransformation:
  def update(updates: PyTree, params: PyTree = None) -> PyTree:
    del params
    return jax.tree_util.tree_map_with_path(
      lambda path, u: multiplier(join_path(path)) * u, updates
    )

  return optax.stateless(update)


def _scale_by_rate(rate: Callable[[Array], Any]) -> optax.GradientTransformationExtraArgs:
  def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Array):
    del params
    return jax.tree.map(lambda u: -rate(extra["step"]).astype(u.dtype) * u, updates), state

  return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


class ParamsEmaState(NamedTuple):
  """State of `_track_ema`: the exponential moving average of the parameters."""

  ema: PyTree


def _track_ema(decay: float) -> optax.GradientTransformationExtraArgs:
  """Averages the parameters after the update, as TensorFlow's `ExponentialMovingAverage` does.

  The decay grows as (1 + step) / (10 + step), TensorFlow's constants, so that the average soon
  forgets the random parameters of the start.
  """

  def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Array):
    step = extra["step"]
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    mix = lambda old, p, u: keep.astype(p.dtype) * old + (1 - keep).astype(p.dtype) * (p + u)
    return updates, ParamsEmaState(jax.tree.map(mix, state.ema, params, updates))

  # A copy: the state is donated to the step, which may not get one buffer twice.
  init = lambda params: ParamsEmaState(jax.tree.map(jnp.copy, params))
  return optax.GradientTransformationExtraArgs(init, update)
