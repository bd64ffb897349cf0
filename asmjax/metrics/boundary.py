"""Base class of the metrics of boundaries, and the distance within which boundaries match."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

import numpy as np

from asmjax.metrics.base import Metric
from asmjax.metrics.label_maps import LabelPair, label_pairs

# What metrics of contours have in common, in the words of their protocols.
CONTOUR_RULE = "boundary: pixels of a class with one of another class among their 4 neighbors"

_UNITS = ("diagonal", "pixels")

# Beartype, which checks types in the tests, knows `Self` in classes that it decorates alone.
_State = TypeVar("_State", bound="BoundaryMetric")


@dataclasses.dataclass(frozen=True)
class Tolerance:
  """Largest distance of two boundary pixels that match, in pixels or relative to the image.

  Attributes:
    amount: Distance in the unit, at least 0.
    unit: "diagonal", the default, for parts of the image's diagonal, or "pixels".

  Raises:
    ValueError: The unit is unknown, or the amount negative.

  Examples:
    >>> Tolerance(0.01).pixels((300, 400)), Tolerance(5, "pixels").pixels((300, 400))
    (5.0, 5.0)
  """

  amount: int | float
  unit: str = "diagonal"

  def __post_init__(self):
    if self.unit not in _UNITS:
      raise ValueError(f"unknown unit {self.unit!r} of a tolerance; known: {', '.join(_UNITS)}")
    if not self.amount >= 0:
      raise ValueError(f"a tolerance is at least 0, not {self.amount}")

  def __str__(self):
    return f"{self.amount:g} {'px' if self.unit == 'pixels' else 'of the image diagonal'}"

  @classmethod
  def at_smallest(cls, pixels: int | float, diagonal: int | float) -> "Tolerance":
    """Creates the part of the diagonal that is `pixels` in the smallest image (Luc et al. 2016).

    Args:
      pixels: Distance in the image with the smallest diagonal.
      diagonal: Smallest diagonal of a set of images in pixels, above 0.

    Examples:
      >>> Tolerance.at_smallest(5, 500), Tolerance.at_smallest(5, 500).pixels((600, 800))
      (Tolerance(amount=0.01, unit='diagonal'), 10.0)
    """
    return cls(pixels / diagonal)

  def pixels(self, shape: tuple[int, int]) -> float:
    """Computes the distance in pixels for an image of this (height, width)."""
    return self.amount * (1.0 if self.unit == "pixels" else float(np.hypot(*shape)))


@dataclasses.dataclass(frozen=True, eq=False)
class BoundaryMetric(Metric):
  """State of a metric of the boundaries between classes; base class.

  The other fields of a subclass are sums over images, which `+` adds.

  Attributes:
    tolerance: Largest distance of a match.
    void_band: Width in pixels up to which unlabeled bands between labeled pixels are filled.
    default_tolerance: Tolerance as published.
  """

  tolerance: Tolerance
  void_band: int = dataclasses.field(default=0, kw_only=True)
  default_tolerance: ClassVar[Tolerance]

  @classmethod
  def empty(
    cls: type[_State], num_classes: int, *, tolerance: Tolerance | None = None, void_band: int = 0
  ) -> _State:
    """Creates the state of no images."""
    state = cls._from_pairs([], num_classes, tolerance or cls.default_tolerance)
    return dataclasses.replace(state, void_band=void_band)

  @classmethod
  def from_batch(
    cls: type[_State],
    predictions: Any,
    targets: Any,
    *,
    num_classes: int,
    tolerance: Tolerance | None = None,
    sizes: Any = None,
    void_band: int = 0,
  ) -> _State:
    """Scores label maps.

    Args:
      predictions: Predicted class ids (h, w) or (n, h, w), in [0, num_classes) where labeled.
      targets: True class ids of the same shape; others than [0, num_classes) mean unlabeled.
      num_classes: Number of classes.
      tolerance: Largest distance of a match, `default_tolerance` by default.
      sizes: Heights and widths (n, 2) of images that are padded at the bottom and on the right;
        None if none is.
      void_band: Width in pixels up to which unlabeled bands between labeled pixels are filled: each
        of their pixels takes the nearest class. The masks of PASCAL VOC need 5, or hardly any
        boundary is known; 0 fills none.

    Raises:
      ValueError: Shapes differ or have another rank, or a labeled pixel's prediction is outside
        [0, num_classes), a size is not inside the maps, or `void_band` is negative.
    """
    pairs = label_pairs(
      predictions, targets, num_classes=num_classes, sizes=sizes, void_band=void_band
    )
    state = cls._from_pairs(pairs, num_classes, tolerance or cls.default_tolerance)
    return dataclasses.replace(state, void_band=void_band)

  @classmethod
  @abc.abstractmethod
  def _from_pairs(
    cls: type[_State], pairs: Iterable[LabelPair], num_classes: int, tolerance: Tolerance
  ) -> _State:
    """Creates the state of some images, or of none."""

  def merge(self: _State, other: _State) -> _State:
    """Adds the images of both; ValueError if tolerances, void bands or classes differ."""
    if self.tolerance != other.tolerance:
      raise ValueError(f"cannot merge tolerances of {self.tolerance} and {other.tolerance}")
    if self.void_band != other.void_band:
      raise ValueError(f"cannot merge void bands of {self.void_band} and {other.void_band} px")
    names = {field.name for field in dataclasses.fields(self)} - {"tolerance", "void_band"}
    shape_of = lambda sums: np.shape(getattr(sums, "count", sums))  # Of moments that of the number.
    for name in names:
      if shape_of(getattr(self, name)) != shape_of(getattr(other, name)):
        raise ValueError(f"cannot merge {name} of other numbers of classes")
    sums = {name: getattr(self, name) + getattr(other, name) for name in names}
    return dataclasses.replace(self, **sums)

  @property
  def unlabeled_rule(self) -> str:
    """Description of what becomes of unlabeled pixels."""
    rule = "unlabeled pixels are left out and steps to them are no boundary"
    if not self.void_band:
      return rule
    return f"unlabeled bands up to {self.void_band} px wide have the nearest class; other {rule}"
