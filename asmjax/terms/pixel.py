"""The pixel-wise (IID) loss of every task."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from asmjax.losses.pixel import (
  class_balance_weights,
  inverse_frequency_weights,
  mark_hard_pixels,
  weigh_classes,
)
from asmjax.tasks.base import Task
from asmjax.terms.base import AUXILIARY, LossTerm, Scalar, Term, TermContext, TermOutput
from asmjax.terms.weight import Weight, evaluate_weight
from asmjax.utils.ranges import BelowOne, Fraction, NonNegative

# How far from 1 the sum of shares may be: somebody may have rounded them.
_TOLERANCE = 0.01
# Options of classes that are off where they are false, all but `hard_threshold`.
CLASS_OPTIONS = ("balanced", "inverse_frequency", "class_weights", "label_smoothing", "focal_gamma")


@dataclasses.dataclass(frozen=True)
class Pixel(Term):
  """Pixel loss of every task.

  Attributes:
    weight: Factor of the term; each task's loss is multiplied by the task's weight too.
    auxiliary: Factor of the losses of the predictor's auxiliary heads (Zhao et al. 2017, Sec. 3.3);
      0 leaves them out.
    balanced: Part of the training, from its start, in which the loss of segmentation is
      class-weighted; see `asmjax.losses.class_balance_weights`. 1/3 for 4 of 12 epochs
      (Jamali-Rad & Szabo 2022, Sec. 4).
    shares: Share of each class in the labeled pixels of a training image, on average; only needed
      if `balanced` or `inverse_frequency`. Empty in a config: a run counts them.
    inverse_frequency: Whether classes of segmentation weigh as in
      `asmjax.losses.inverse_frequency_weights`.
    class_weights: Weight of each class of segmentation, such as
      `asmjax.losses.effective_number_weights`; empty for 1.
    label_smoothing: Probability that is spread over all classes of segmentation.
    focal_gamma: Power of the focal loss of segmentation; 0 for the cross-entropy.
    hard_threshold: Probability of the true class from which a pixel of segmentation is left out;
      1 leaves out none. See `asmjax.losses.mark_hard_pixels`.
    hard_part: Part of an image's labeled pixels that is never left out: its hardest.

  Raises:
    ValueError: Two options exclude each other.
  """

  is_reference: ClassVar[bool] = True

  weight: Weight = 1.0
  auxiliary: NonNegative = 0.0
  balanced: Fraction = 0.0
  shares: tuple[float, ...] = ()
  inverse_frequency: bool = False
  class_weights: tuple[float, ...] = ()
  label_smoothing: BelowOne = 0.0
  focal_gamma: NonNegative = 0.0
  hard_threshold: Fraction = 1.0
  hard_part: Fraction = 0.0625

  def __post_init__(self):
    super().__post_init__()
    if self.focal_gamma and self.label_smoothing:
      raise ValueError("focal_gamma and label_smoothing exclude each other; expected one of them")
    if bool(self.balanced) + self.inverse_frequency + bool(self.class_weights) > 1:
      raise ValueError(
        "balanced, inverse_frequency and class_weights exclude each other; expected one of them"
      )

  @property
  def needs_class_shares(self) -> bool:
    """Whether the loss is to be class-weighted, but `shares` are not known yet."""
    return bool((self.balanced or self.inverse_frequency) and not self.shares)

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError if options of segmentation do not fit it, or it is not trained."""
    if "segmentation" not in tasks:
      if of_classes := self._options_of_classes():
        raise ValueError(f"{of_classes} needs the task segmentation; trained: {', '.join(tasks)}")
      return
    classes = tasks["segmentation"].channels
    if (self.balanced or self.inverse_frequency) and self.shares:
      self._check_shares(classes)
    if self.class_weights and len(self.class_weights) != classes:
      raise ValueError(
        f"{len(self.class_weights)} class_weights; expected one for each of {classes} classes"
      )

  def _options_of_classes(self) -> str:
    """Describes the first option that is not its default and has a meaning for classes alone."""
    changed = [f"{name}={getattr(self, name)}" for name in CLASS_OPTIONS if getattr(self, name)]
    if self.hard_threshold < 1:
      changed.append(f"hard_threshold={self.hard_threshold}")
    return next(iter(changed), "")

  def _check_shares(self, classes: int) -> None:
    if len(self.shares) != classes:
      raise ValueError(f"{len(self.shares)} shares; expected one for each of {classes} classes")
    if not (min(self.shares) >= 0 and abs(sum(self.shares) - 1) <= _TOLERANCE):
      raise ValueError(f"shares={self.shares}; expected none below 0 and a sum of 1")

  def diagnose(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """Finds tasks whose loss is exactly 0, as that of an empty mask."""
    del first
    return {
      f"no {task}": (
        f"the loss of {task} was exactly 0 in a whole log interval; expected pixels that are "
        "labeled, with more than one class to choose from"
      )
      for task, loss in now.items()
      if loss == 0 and task != "gradient_norm"
    }

  def __call__(self, context: TermContext) -> TermOutput:
    """Computes one loss for each task, and one for its auxiliary map."""
    if self.auxiliary and AUXILIARY not in context.outputs:
      raise ValueError(f"auxiliary={self.auxiliary}, but the predictor has no auxiliary heads")
    weight = evaluate_weight(self.weight, context.progress)

    def pixel_losses(maps: Mapping[str, PyTree], weight: Scalar) -> dict[str, LossTerm]:
      losses = {}
      for name, task in context.tasks.items():
        options = self._segmentation_options(maps, context) if name == "segmentation" else {}
        loss = task.pixel_loss(maps[name], context.truth, **options)
        losses[name] = LossTerm(loss, predictor_weight=weight * task.weight)
      return losses

    losses = pixel_losses(context.outputs, weight)
    if self.auxiliary:
      auxiliary = pixel_losses(context.outputs[AUXILIARY], self.auxiliary * weight)
      losses |= {f"{name}_auxiliary": loss for name, loss in auxiliary.items()}
    return TermOutput(losses)

  def _segmentation_options(
    self, maps: Mapping[str, PyTree], context: TermContext
  ) -> dict[str, Any]:
    """Computes what the loss of segmentation needs beside a map and the truth."""
    options: dict[str, Any] = {
      "label_smoothing": self.label_smoothing,
      "focal_gamma": self.focal_gamma,
      "weights": self._pixel_weights(context),
    }
    if self.hard_threshold < 1:
      options["mask"] = mark_hard_pixels(
        maps["segmentation"],
        context.truth["label"],
        threshold=self.hard_threshold,
        min_part=self.hard_part,
      )
    return options

  def _pixel_weights(self, context: TermContext) -> Float[Array, "n h w"] | None:
    """Computes weights of pixels by their class; None for 1."""
    label = context.truth["label"]
    if self.class_weights:
      return weigh_classes(label, jnp.array(self.class_weights))
    if not (self.balanced or self.inverse_frequency):
      return None
    if not self.shares:
      raise ValueError(
        f"{self._options_of_classes()}, but no shares of the classes; expected those that "
        "asmjax.data.frequencies.class_shares counts"
      )
    shares = jnp.array(self.shares)
    if self.inverse_frequency:
      return weigh_classes(label, inverse_frequency_weights(shares))
    return jnp.where(context.progress < self.balanced, class_balance_weights(label, shares), 1.0)
