"""Losses on the class maps of segmentation as a whole: overlaps, boundaries, skeletons, regions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

from asmjax.losses.boundary import boundary_loss
from asmjax.losses.lovasz import lovasz_softmax
from asmjax.losses.maps import CLASSES
from asmjax.losses.mutual_information import region_mutual_information_loss
from asmjax.losses.overlap import dice_loss, generalized_dice_loss, tversky_loss
from asmjax.losses.skeleton import cl_dice_loss
from asmjax.ops.masked_mean import MaskedMean
from asmjax.tasks.base import Task
from asmjax.terms.base import LossTerm, Term, TermContext, TermOutput
from asmjax.terms.weight import Weight, evaluate_weight
from asmjax.utils.ranges import NonNegative, Positive, PositiveInt

TASK = "segmentation"


@dataclasses.dataclass(frozen=True)
class RegionLoss(Term):
  """Base of terms that are a loss on class probabilities and labels.

  A subclass sets `loss`; its fields are the loss's options.

  Attributes:
    weight: Factor of the loss.

  Raises:
    ValueError: A number is out of its range, or `classes` is unknown.
  """

  loss: ClassVar[Callable[..., MaskedMean]]

  weight: Weight = 1.0

  def __post_init__(self):
    super().__post_init__()
    classes = getattr(self, "classes", CLASSES[0])
    if classes not in CLASSES:
      raise ValueError(f"unknown classes {classes!r}; known: {', '.join(CLASSES)}")

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless segmentation is trained."""
    if TASK not in tasks:
      raise ValueError(f"{type(self).__name__} needs the task {TASK}; trained: {', '.join(tasks)}")

  def __call__(self, context: TermContext) -> TermOutput:
    """Computes the loss of the class probabilities."""
    probabilities = context.tasks[TASK].structure(context.outputs[TASK])
    common = {field.name for field in dataclasses.fields(RegionLoss)}
    options = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in common
    }
    value = type(self).loss(probabilities, context.truth["label"], **options)
    weight = evaluate_weight(self.weight, context.progress)
    return TermOutput({TASK: LossTerm(value, predictor_weight=weight)})


@dataclasses.dataclass(frozen=True)
class Dice(RegionLoss):
  """Soft Dice loss; see `asmjax.losses.dice_loss`.

  Attributes:
    weight: Factor of the loss.
    squared: Whether the denominator has squares.
    smooth: Pixels added to numerator and denominator.
    classes: "present" for the classes in an image's truth, or "all".
  """

  loss = staticmethod(dice_loss)

  squared: bool = False
  smooth: NonNegative = 1.0
  classes: str = "present"


@dataclasses.dataclass(frozen=True)
class GeneralizedDice(RegionLoss):
  """Generalized Dice loss; see `asmjax.losses.generalized_dice_loss`.

  Attributes:
    weight: Factor of the loss.
    smooth: Number added to numerator and denominator.
  """

  loss = staticmethod(generalized_dice_loss)

  smooth: NonNegative = 1e-5


@dataclasses.dataclass(frozen=True)
class Tversky(RegionLoss):
  """Tversky or focal Tversky loss; see `asmjax.losses.tversky_loss`.

  Attributes:
    weight: Factor of the loss.
    alpha: Weight of false positives.
    beta: Weight of false negatives.
    gamma: Power of the loss; 0.75 is the focal one of Abraham & Khan 2019.
    smooth: Pixels added to numerator and denominator.
    classes: "present" for the classes in an image's truth, or "all".
  """

  loss = staticmethod(tversky_loss)

  alpha: NonNegative = 0.3
  beta: NonNegative = 0.7
  gamma: Positive = 1.0
  smooth: NonNegative = 1.0
  classes: str = "present"


@dataclasses.dataclass(frozen=True)
class Lovasz(RegionLoss):
  """Lovász-softmax loss; see `asmjax.losses.lovasz_softmax`.

  Attributes:
    weight: Factor of the loss.
    classes: "present" for the classes in an image's truth, or "all".
  """

  loss = staticmethod(lovasz_softmax)

  classes: str = "present"


@dataclasses.dataclass(frozen=True)
class Boundary(RegionLoss):
  """Boundary loss; see `asmjax.losses.boundary_loss`.

  Attributes:
    weight: Factor of the loss, whose unit is a pixel of distance.
  """

  loss = staticmethod(boundary_loss)


@dataclasses.dataclass(frozen=True)
class ClDice(RegionLoss):
  """Dice loss of centerlines; see `asmjax.losses.cl_dice_loss`.

  Attributes:
    weight: Factor of the loss.
    iterations: Number of erosions, at least half the width in pixels of the widest structure.
    smooth: Pixels added to numerators and denominators.
    classes: "present" for the classes in an image's truth, or "all".
  """

  loss = staticmethod(cl_dice_loss)

  iterations: PositiveInt = 3
  smooth: NonNegative = 1.0
  classes: str = "present"


@dataclasses.dataclass(frozen=True)
class RegionMutualInformation(RegionLoss):
  """Region mutual information; see `asmjax.losses.region_mutual_information_loss`.

  Attributes:
    weight: Factor of the loss.
    radius: Side of the regions, in cells.
    stride: Side of the cells, in pixels of the predictor's output.
    epsilon: Variance that is added to every component.
    classes: "present" for the classes in an image's truth, or "all".
  """

  loss = staticmethod(region_mutual_information_loss)

  radius: PositiveInt = 3
  stride: PositiveInt = 4
  epsilon: Positive = 5e-4
  classes: str = "all"
