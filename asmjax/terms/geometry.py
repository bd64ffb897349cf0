"""Losses on the shape of depth and normal maps: scale, slopes, structure and smoothness."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from asmjax.losses.geometry import (
  edge_aware_smoothness,
  gradient_matching_loss,
  scale_invariant_log_loss,
  ssim_loss,
)
from asmjax.ops.masked_mean import MaskedMean
from asmjax.tasks.base import Task
from asmjax.terms.base import LossTerm, Term, TermContext, TermOutput
from asmjax.terms.weight import Weight, evaluate_weight
from asmjax.utils.ranges import Fraction, NonNegative, Positive, PositiveInt

DEPTH, NORMALS = "depth", "normals"


@dataclasses.dataclass(frozen=True)
class GeometryLoss(Term):
  """Base of terms that are a loss on the structures of depth and normals.

  A subclass defines `compare`, and says by `defined_for` which tasks it has a loss for.

  Attributes:
    weight: Factor of the loss; it is multiplied by a task's own weight too.
    tasks: Names of the tasks; empty, the default, for all trained ones that it is defined for.

  Raises:
    ValueError: A number is out of its range, or a task is none that the loss is defined for.
  """

  defined_for: ClassVar[tuple[str, ...]] = (DEPTH, NORMALS)

  weight: Weight = 1.0
  tasks: tuple[str, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    if unknown := set(self.tasks) - set(self.defined_for):
      raise ValueError(
        f"{type(self).__name__} is not defined for {', '.join(sorted(unknown))}; "
        f"known: {', '.join(self.defined_for)}"
      )

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless its tasks, or any that it is defined for, are trained."""
    wanted = self.tasks or tuple(name for name in self.defined_for if name in tasks)
    if not wanted or set(wanted) - set(tasks):
      raise ValueError(
        f"{type(self).__name__} needs the task {' or '.join(self.tasks or self.defined_for)}; "
        f"trained: {', '.join(tasks)}"
      )

  def __call__(self, context: TermContext) -> TermOutput:
    """Computes one loss for each task."""
    weight, losses = evaluate_weight(self.weight, context.progress), {}
    for name in self.tasks or self.defined_for:
      if name in context.tasks:
        task = context.tasks[name]
        maps = (task.structure(context.outputs[name]), task.true_structure(context.truth))
        value = self.compare(name, *maps, context)
        losses[name] = LossTerm(value, predictor_weight=weight * task.weight)
    return TermOutput(losses)

  @abc.abstractmethod
  def compare(
    self,
    name: str,
    prediction: Float[Array, "n h w c"],
    truth: Float[Array, "n h w c"],
    context: TermContext,
  ) -> MaskedMean:
    """Computes the loss of a task's structure: log depths, or unit normals."""


def _mask(name: str, context: TermContext) -> Float[Array, "n h w 1"]:
  return context.tasks[name].mask(context.truth)


@dataclasses.dataclass(frozen=True)
class ScaleInvariantLog(GeometryLoss):
  """Scale-invariant error of log depths; see `asmjax.losses.scale_invariant_log_loss`.

  Attributes:
    weight: Factor of the loss.
    tasks: Names of the tasks: depth alone.
    scale_invariance: Part of the squared mean error that is forgiven, lambda.
  """

  defined_for: ClassVar[tuple[str, ...]] = (DEPTH,)

  scale_invariance: Fraction = 0.5

  def compare(self, name, prediction, truth, context):
    """Computes the loss of depths in meters."""
    return scale_invariant_log_loss(
      jnp.exp(prediction),
      jnp.exp(truth),
      mask=_mask(name, context),
      scale_invariance=self.scale_invariance,
    )


@dataclasses.dataclass(frozen=True)
class GradientMatching(GeometryLoss):
  """Difference of slopes of log depths or normals; see `asmjax.losses.gradient_matching_loss`.

  Attributes:
    weight: Factor of the loss.
    tasks: Names of the tasks; empty, the default, for depth and normals as far as they are trained.
    scales: Number of scales.
  """

  scales: PositiveInt = 4

  def compare(self, name, prediction, truth, context):
    """Computes the loss of the structure."""
    mask = _mask(name, context)
    return gradient_matching_loss(prediction, truth, mask=mask, scales=self.scales)


@dataclasses.dataclass(frozen=True)
class SSIM(GeometryLoss):
  """Structural dissimilarity of depths in meters or of normals; see `asmjax.losses.ssim_loss`.

  Attributes:
    weight: Factor of the loss.
    tasks: Names of the tasks; empty, the default, for depth and normals as far as they are trained.
    value_range: Range of depths in meters; that of normals is 2.
    window: Side of the Gaussian window, in pixels of the predictor's output.
  """

  value_range: Positive = 10.0
  window: PositiveInt = 11

  def compare(self, name, prediction, truth, context):
    """Computes the loss of depths in meters, or of normals."""
    if name == DEPTH:
      prediction, truth = jnp.exp(prediction), jnp.exp(truth)
    value_range = self.value_range if name == DEPTH else 2.0
    mask = _mask(name, context)
    return ssim_loss(prediction, truth, mask=mask, value_range=value_range, window=self.window)


@dataclasses.dataclass(frozen=True)
class Smoothness(GeometryLoss):
  """Edge-aware smoothness of log depths or normals; see `asmjax.losses.edge_aware_smoothness`.

  Attributes:
    weight: Factor of the loss.
    tasks: Names of the tasks; empty, the default, for depth and normals as far as they are trained.
    sharpness: Factor of the image's slopes, whose values go from 0 to 1.
  """

  sharpness: NonNegative = 10.0

  def compare(self, name, prediction, truth, context):
    """Computes the loss of the structure, which needs no truth."""
    del truth
    image = jnp.asarray(context.truth["image"], jnp.float32) / 255
    shape = (*prediction.shape[:3], image.shape[-1])
    image = jax.image.resize(image, shape, "bilinear", antialias=True)
    return edge_aware_smoothness(prediction, image, sharpness=self.sharpness)
