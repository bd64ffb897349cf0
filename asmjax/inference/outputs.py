"""Predictions as files.

| file                             | content                                                      |
|----------------------------------|--------------------------------------------------------------|
| `segmentation/NAME.png`          | class ids, with the data set's palette                       |
| `depth/NAME.png`                 | 16 bits, millimeters, 65535 and beyond are one               |
| `normals/NAME.png`               | RGB of 8 bits, (n + 1) / 2; x right, y down, z to the camera |
| `segmentation_probabilities/NAME.npz` | `probabilities`, float16 (h, w, classes)                |
| `segmentation_overlay/NAME.png`  | the classes' colors over the image                          |
| `depth_overlay/NAME.png`         | from blue, the image's nearest, to red                       |
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from asmjax.tasks.base import Task
from asmjax.utils.colors import depth_colors, normal_colors, overlay
from asmjax.utils.files import atomic_write, write_npz

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]

SEGMENTATION = "segmentation"
# What a 16-bit number of a depth map means, in meters.
DEPTH_UNIT = 1e-3


@dataclasses.dataclass(frozen=True)
class Products:
  """Which files there are besides the predictions, and whether they are refined.

  Attributes:
    probabilities: write the classes' probabilities.
    overlay: draw classes over the image, and depths in colors; normals are colors anyway.
    crf: refine the classes' probabilities with a dense CRF on the image.
  """

  probabilities: bool = False
  overlay: bool = False
  crf: bool = False


class Writer:
  """Writes the predictions for one image after the other; may be called from many threads."""

  def __init__(
    self,
    out: str | pathlib.Path,
    tasks: Mapping[str, Task],
    palette: Sequence[tuple[int, int, int]],
    products: Products,
  ):
    """Checks the settings; writes nothing.

    Args:
      out: folder of the files.
      tasks: that are predicted, by name.
      palette: one (r, g, b) in 0..255 for each class.
      products: what is written.

    Raises:
      ValueError: something is asked for that only a segmentation has.
    """
    self._out, self._tasks, self._palette = pathlib.Path(out), tasks, palette
    self._products = products
    for wanted in ("probabilities", "crf"):
      if getattr(products, wanted) and SEGMENTATION not in tasks:
        raise ValueError(f"{wanted} needs the task {SEGMENTATION}; predicted: {', '.join(tasks)}")
    self._refine = dense_crf() if products.crf else None

  def paths(self, name: str) -> list[pathlib.Path]:
    """The files that `write` makes for `name`."""
    kinds = list(self._tasks)
    if self._products.overlay:
      kinds += [f"{task}_overlay" for task in self._tasks if task != "normals"]
    files = [self._path(kind, name) for kind in kinds]
    if self._products.probabilities:
      files.append(self._path(f"{SEGMENTATION}_probabilities", name, "npz"))
    return files

  def write(self, name: str, image: np.ndarray, estimates: Mapping[str, np.ndarray]) -> None:
    """Writes all files for one image, each of which appears whole or not at all.

    Args:
      name: relative path without a suffix.
      image: uint8 (h, w, 3).
      estimates: float32 (h, w, c) by task; see `asmjax.inference.multiscale.make_predict`.
    """
    for task, estimate in estimates.items():
      if task == SEGMENTATION:
        estimate = self._refine(estimate, image) if self._refine else estimate
        if self._products.probabilities:
          arrays = {"probabilities": np.asarray(estimate, np.float16)}
          write_npz(self._path(f"{task}_probabilities", name, "npz"), arrays)
      found = self._tasks[task].postprocess(estimate)
      _save(self._encoded(task, found), self._path(task, name))
      if self._products.overlay and task != "normals":
        drawn = self._drawn(task, image, found)
        _save(Image.fromarray(drawn), self._path(f"{task}_overlay", name))

  def _path(self, kind: str, name: str, suffix: str = "png") -> pathlib.Path:
    return self._out / kind / f"{name}.{suffix}"

  def _encoded(self, task: str, found: np.ndarray) -> Image.Image:
    if task == SEGMENTATION:
      return mask(found, self._palette)
    return Image.fromarray(millimeters(found) if task == "depth" else normal_colors(found))

  def _drawn(self, task: str, image: np.ndarray, found: np.ndarray) -> np.ndarray:
    if task == SEGMENTATION:
      return overlay(image, found, self._palette)
    return depth_colors(found, *np.percentile(found, (2, 98)))


def mask(label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> Image.Image:
  """Class ids (h, w) as a picture with a palette."""
  picture = Image.fromarray(label.astype(np.uint8))
  picture.putpalette(np.array(palette, np.uint8).tobytes())
  return picture


def millimeters(meters: np.ndarray) -> np.ndarray:
  """Depths (h, w) in meters as uint16 multiples of `DEPTH_UNIT`, clipped to what fits."""
  return np.clip(np.rint(meters / DEPTH_UNIT), 0, 65535).astype(np.uint16)


def dense_crf() -> Refine:
  """Refinement of probabilities (h, w, c) by an image uint8 (h, w, 3)."""
  from asmjax.inference.crf import DenseCRF

  return functools.partial(_refined, DenseCRF())


def _refined(crf: Callable, probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
  log_probabilities = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
  return np.asarray(crf(log_probabilities, image))


def _save(picture: Image.Image, path: pathlib.Path) -> None:
  with atomic_write(path) as temporary:
    picture.save(temporary, format="PNG")
