"""Pairs of label maps, image by image, and the classes that they hold."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy  # Imports its modules at their first use.
from jaxtyping import Bool, Int

from asmjax.utils.shapes import check_shapes


class LabelPair(NamedTuple):
  """True and predicted labels of one image.

  Attributes:
    prediction: Predicted class ids.
    label: True class ids.
    labeled: Whether a pixel has a true class.
  """

  prediction: Int[np.ndarray, "h w"]
  label: Int[np.ndarray, "h w"]
  labeled: Bool[np.ndarray, "h w"]

  def classes(self) -> Int[np.ndarray, " c"]:
    """Lists the classes of the labeled pixels, in truth or prediction."""
    ids = np.concatenate([self.label[self.labeled], self.prediction[self.labeled]])
    return np.flatnonzero(np.bincount(ids))


def as_ids(ids: Any, name: str) -> np.ndarray:
  """Returns ids as an array, of int64 if they are uint64, which has no type in common with others.

  Raises:
    ValueError: They are no whole numbers; the message calls them `name`.
  """
  ids = np.asarray(ids)
  if ids.size:
    check_whole(ids, name)
  return ids.astype(np.int64) if ids.dtype == np.uint64 or not ids.size else ids


def check_whole(ids: Any, name: str) -> None:
  """Raises ValueError unless an array, of NumPy or JAX, has whole numbers."""
  if ids.dtype.kind not in "iub":
    raise ValueError(f"{name} are {ids.dtype}; expected whole numbers, ids")


def check_ids(predictions: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns whether pixels are labeled, after a check that they have predictions.

  Args:
    predictions: Predicted class ids, of any shape; see `as_ids`.
    label: True class ids of the same shape; others than [0, num_classes) mean unlabeled.
    num_classes: Number of classes.

  Raises:
    ValueError: A labeled pixel's prediction is outside [0, num_classes).
  """
  labeled = (label >= 0) & (label < num_classes)
  wrong = labeled & ((predictions < 0) | (predictions >= num_classes))
  if wrong.any():
    raise ValueError(f"predicted id {predictions[wrong][0]}; expected ids in [0, {num_classes})")
  return labeled


def fill_void_bands(
  label: Int[np.ndarray, "h w"], labeled: Bool[np.ndarray, "h w"], width: int
) -> Int[np.ndarray, "h w"]:
  """Gives pixels of narrow unlabeled bands the nearest class, as of "void" outlines of objects.

  A pixel is of such a band if no square of `width` + 1 pixels that holds it is unlabeled as a
  whole; the image goes on beyond its border as it ends.

  Args:
    label: Class ids.
    labeled: Whether a pixel has a class.
    width: Width of the widest band along rows or columns, in pixels, at least 0.
  """
  if not width or labeled.all() or not labeled.any():
    return label
  padded = np.pad(labeled, width, mode="edge")
  closed = scipy.ndimage.binary_closing(padded, np.ones((width + 1, width + 1)))
  band = closed[width:-width, width:-width] & ~labeled
  nearest = scipy.ndimage.distance_transform_edt(
    ~labeled, return_distances=False, return_indices=True
  )
  return np.where(band, label[tuple(nearest)], label)


def label_pairs(
  predictions: Any, targets: Any, *, num_classes: int, sizes: Any = None, void_band: int = 0
) -> Iterator[LabelPair]:
  """Yields the images of a stack without their padding; see `BoundaryMetric.from_batch`."""
  predictions, label = as_ids(predictions, "predictions"), as_ids(targets, "targets")
  axes = "h w" if label.ndim == 2 else "n h w"
  check_shapes(predictions=(predictions, axes), targets=(label, axes))
  labeled = check_ids(predictions, label, num_classes)
  maps = [x.reshape(-1, *x.shape[-2:]) for x in (predictions, label, labeled)]
  count, *sides = maps[0].shape
  sizes = np.broadcast_to(sides, (count, 2)) if sizes is None else np.asarray(sizes)
  if sizes.shape != (count, 2) or np.any(sizes < 1) or np.any(sizes > sides):
    raise ValueError(
      f"sizes {sizes.tolist()} of {count} maps of {sides[0]}x{sides[1]}; expected a height and a "
      "width for each, inside the maps"
    )
  if void_band < 0:
    raise ValueError(f"void_band={void_band}; expected a width in pixels, at least 0")
  for (height, width), *image in zip(sizes, *maps, strict=True):
    prediction, label, labeled = (x[:height, :width] for x in image)
    if void_band:
      label = fill_void_bands(label, labeled, void_band)
      labeled = check_ids(prediction, label, num_classes)
    yield LabelPair(prediction, label, labeled)
