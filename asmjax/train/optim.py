"""Optimizers: settings to one optax transformation a player."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

_RULES = {
  "sgd": lambda o: optax.trace(decay=o.momentum) if o.momentum else optax.identity(),
  "adam": lambda o: optax.scale_by_adam(b1=o.momentum, b2=o.momentum2),
  "adagrad": lambda o: optax.scale_by_rss(initial_accumulator_value=0.1),
}
_SCHEDULES = {
  "constant": lambda progress, power: jnp.ones_like(progress),
  "poly": lambda progress, power: (1 - progress) ** power,
}


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """An update rule and its schedule.

  Attributes:
    rule: "sgd", "adam" or "adagrad".
    learning_rate: base rate.
    momentum: of SGD, beta1 of Adam.
    momentum2: beta2 of Adam.
    schedule: "poly", (1 - t/T)^power, or "constant".
    power: of the poly schedule.
    warmup: steps of the predictor over which the rate first grows linearly from 0.
    weight_decay: added to the gradient of the kernels (an L2 penalty), before the rule.
    clip: largest global norm of the gradient; 0 leaves it as it is.
    groups: rate multipliers by a regular expression that is searched in a parameter's path; the
      first that matches counts: {"^head": 10.0}. With 0.0 the parameter never moves, and nothing
      is computed for its sake; running statistics are held by `asmjax.models.layers.Norm.frozen`.
    average: decay of an exponential moving average of the parameters, which evaluation then
      uses; 0 keeps none.

  Raises:
    ValueError: an unknown rule or schedule.
  """

  rule: str = "adam"
  learning_rate: float = 1e-3
  momentum: float = 0.9
  momentum2: float = 0.999
  schedule: str = "poly"
  power: float = 0.9
  warmup: int = 0
  weight_decay: float = 0.0
  clip: float = 0.0
  groups: Mapping[str, float] = dataclasses.field(default_factory=dict)
  average: float = 0.0

  def __post_init__(self):
    for field, known in (("rule", _RULES), ("schedule", _SCHEDULES)):
      if getattr(self, field) not in known:
        raise ValueError(f"unknown {field} {getattr(self, field)!r}; known: {sorted(known)}")

  def rate(self, step: ArrayLike, steps: int) -> Array:
    """The learning rate after `step` of the predictor's `steps`."""
    at = jnp.asarray(step, jnp.result_type(float))
    warm = jnp.minimum(1.0, (at + 1) / (self.warmup + 1))
    return self.learning_rate * warm * _SCHEDULES[self.schedule](at / max(steps, 1), self.power)

  @property
  def fastest(self) -> float:
    """The largest factor that a parameter's rate may have."""
    return max((1.0, *self.groups.values()))

  @property
  def slowest(self) -> float:
    """The smallest factor that the rate of a parameter that moves may have."""
    return min((1.0, *filter(None, self.groups.values())))

  def transformation(self, steps: int) -> optax.GradientTransformationExtraArgs:
    """The optax transformation; its `update` takes the predictor's `step` as an extra argument.

    Schedules of all players follow the predictor's steps rather than counts of their own updates,
    so that players that take turns share one schedule, and any turns give the predictor the same.
    """
    kernels = lambda params: jax.tree_util.tree_map_with_path(_is_kernel, params)
    return optax.chain(
      optax.clip_by_global_norm(self.clip) if self.clip else optax.identity(),
      optax.add_decayed_weights(self.weight_decay, mask=kernels)
      if self.weight_decay
      else optax.identity(),
      _RULES[self.rule](self),
      _scale_by_group(self.groups),
      _scale_by_rate(lambda step: self.rate(step, steps)),
      _track_average(self.average) if self.average else optax.identity(),
    )

  def hold(self, params: PyTree) -> PyTree:
    """The parameters, under `stop_gradient` where their rate is always 0."""
    stop = lambda path, x: x if _factor(self.groups, path) else jax.lax.stop_gradient(x)
    return jax.tree_util.tree_map_with_path(stop, params)


class AverageState(NamedTuple):
  """The moving average of the parameters."""

  average: PyTree


def check_critic_lr(predictor: Optimizer, critics: Mapping[str, Optimizer], steps: int) -> None:
  """A critic's learning rate is never larger than the predictor's (Hwang et al. 2019, Alg. 1).

  That is the largest rate of any of the critic's parameters and the smallest of any of the
  predictor's that move: `groups` may raise the one and lower the other.

  Raises:
    ValueError: it is, at some step of the run.
  """
  times = np.unique(np.linspace(0, max(steps - 1, 0), 101).astype(int))
  limit = predictor.slowest * np.asarray(predictor.rate(times, steps))
  for name, critic in critics.items():
    rate = critic.fastest * np.asarray(critic.rate(times, steps))
    if np.any(rate > limit * (1 + 1e-6)):
      at = int(times[np.argmax(rate > limit * (1 + 1e-6))])
      raise ValueError(
        f"the critic of term {name!r} would outpace the predictor: learning rate "
        f"{rate.max():g} against {limit.max():g}, groups included (first at step {at}); lower "
        "optimizer.critic.learning_rate or set train.fast_critic=True"
      )


def averaged(params: PyTree, opt_state: PyTree) -> PyTree:
  """The moving average of the parameters where the optimizer keeps one, else `params`."""
  found = optax.tree_utils.tree_get_all_with_path(opt_state, "average")
  return found[0][1] if found else params


def _is_kernel(path: tuple, _: Any) -> bool:
  return path[-1].key == "kernel"


def _factor(groups: Mapping[str, float], path: tuple) -> float:
  name = "/".join(str(entry.key) for entry in path)
  return next((groups[pattern] for pattern in groups if re.search(pattern, name)), 1.0)


def _scale_by_group(groups: Mapping[str, float]) -> optax.GradientTransformation:
  def update(updates: PyTree, params: PyTree = None) -> PyTree:
    del params
    return jax.tree_util.tree_map_with_path(lambda path, u: _factor(groups, path) * u, updates)

  return optax.stateless(update) if groups else optax.identity()


def _scale_by_rate(rate: Callable[[Array], Array]) -> optax.GradientTransformationExtraArgs:
  def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Array):
    del params
    return jax.tree.map(lambda u: -rate(extra["step"]).astype(u.dtype) * u, updates), state

  return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _track_average(decay: float) -> optax.GradientTransformationExtraArgs:
  """Averages the parameters after the update; the early average forgets faster."""

  def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Array):
    step = extra["step"]
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    mix = lambda old, p, u: keep.astype(p.dtype) * old + (1 - keep).astype(p.dtype) * (p + u)
    return updates, AverageState(jax.tree.map(mix, state.average, params, updates))

  # A copy: the state is donated to the step, where one buffer may not come in twice.
  init = lambda params: AverageState(jax.tree.map(jnp.copy, params))
  return optax.GradientTransformationExtraArgs(init, update)
