"""Files of predictions.

| file                             | content                                                      |
|----------------------------------|--------------------------------------------------------------|
| `segmentation/NAME.png`          | class ids, with the data set's palette                       |
| `depth/NAME.png`                 | 16 bits, millimeters, 65535 and beyond are one               |
| `normals/NAME.png`               | RGB of 8 bits, (n + 1) / 2; x right, y down, z to the camera |
| `segmentation_probabilities/NAME.npz` | `probabilities`, float16 (h, w, classes)                |
| `segmentation_overlay/NAME.png`  | the classes' colors over the image                          |
| `depth_overlay/NAME.png`         | from blue, the image's nearest, to red                       |
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from asmjax.tasks.base import Task
from asmjax.utils.exhaustion import WriteError
from asmjax.utils.files import atomic_write, write_npz, writing

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class OutputOptions:
  """Options of the files to write besides the predictions, and of their refinement.

  Attributes:
    probabilities: Whether to write class probabilities.
    overlay: Whether to write pictures of the classes over the image, and of depths in colors.
    crf: Whether to refine class probabilities with a dense CRF on the image.
  """

  probabilities: bool = False
  overlay: bool = False
  crf: bool = False


class Writer:
  """Writer of the predictions for images; threads may share it."""

  def __init__(
    self,
    out: str | pathlib.Path,
    tasks: Mapping[str, Task],
    palette: Sequence[tuple[int, int, int]],
    options: OutputOptions,
  ):
    """Checks the options, without writing anything.

    Args:
      out: Folder of the files to write.
      tasks: Tasks to predict, by name.
      palette: Color (r, g, b) of each class, in 0..255.
      options: Options of the files to write.

    Raises:
      ValueError: An option needs class probabilities, which no task has.
    """
    self._out, self._tasks, self._options = pathlib.Path(out), tasks, options
    self._descriptor: int | None = None  # Of the folder.
    self._palette = np.array(palette, np.uint8).reshape(-1, 3)
    for option in ("probabilities", "crf"):
      if getattr(options, option):
        tasks_with_probabilities(tasks, option)
    self._refine = make_crf_refinement() if options.crf else None

  def paths(self, name: str) -> list[pathlib.Path]:
    """Lists the files that `write` makes for an image."""
    kinds = list(self._tasks)
    if self._options.overlay:
      kinds += [f"{key}_overlay" for key, task in self._tasks.items() if task.has_overlay]
    files = [self._path(kind, name) for kind in kinds]
    if self._options.probabilities:
      files += [
        self._path(f"{key}_probabilities", name, "npz")
        for key, task in self._tasks.items()
        if task.has_probabilities
      ]
    return files

  @contextlib.contextmanager
  def opened(self) -> Iterator[None]:
    """Makes the folder, if need be, and notices if it vanishes before the end of the block.

    Raises:
      WriteError: The folder cannot be made; or, with ESTALE, it has vanished.
    """
    with writing(self._out):
      self._out.mkdir(parents=True, exist_ok=True)
      self._descriptor = os.open(self._out, os.O_RDONLY)
    try:
      yield
      self._check_folder()
    finally:
      os.close(self._descriptor)
      self._descriptor = None

  def write(self, name: str, image: np.ndarray, soft_predictions: Mapping[str, np.ndarray]) -> None:
    """Writes all files for one image, each of which appears complete or not at all.

    Args:
      name: Relative path without a suffix.
      image: Pixels, uint8 (h, w, 3).
      soft_predictions: Soft prediction float32 (h, w, c) by task; see
        `asmjax.inference.multiscale.make_predict`.

    Raises:
      WriteError: A file cannot be written; or, with ESTALE, the folder has vanished.
    """
    for key, soft_prediction in soft_predictions.items():
      if self._tasks[key].has_probabilities:
        soft_prediction = self._write_probabilities(key, name, image, soft_prediction)
      self._write_prediction(key, name, image, self._tasks[key].postprocess(soft_prediction))

  @property
  def needs_probabilities(self) -> bool:
    """Whether files are made of an image's soft predictions, rather than of predictions alone."""
    return self._options.probabilities or self._options.crf

  def postprocess(self, soft_predictions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts soft predictions of an image, or of some of its rows, to predictions, by task."""
    return {key: self._tasks[key].postprocess(values) for key, values in soft_predictions.items()}

  def write_rows(
    self, name: str, image: np.ndarray, rows: Sequence[Mapping[str, np.ndarray]]
  ) -> None:
    """Writes the files for an image like `write`, of predictions in parts from top to bottom."""
    for key in rows[0]:
      self._write_prediction(key, name, image, np.concatenate([part[key] for part in rows]))

  def _write_prediction(
    self, key: str, name: str, image: np.ndarray, prediction: np.ndarray
  ) -> None:
    task = self._tasks[key]
    self._save(task.encode(prediction, self._palette), self._path(key, name))
    if self._options.overlay and task.has_overlay:
      overlay = task.draw_overlay(image, prediction, self._palette)
      self._save(Image.fromarray(overlay), self._path(f"{key}_overlay", name))

  def _write_probabilities(
    self, key: str, name: str, image: np.ndarray, probabilities: np.ndarray
  ) -> np.ndarray:
    """Refines and writes class probabilities as the options say, and returns them."""
    if self._refine:
      probabilities = self._refine(probabilities, image)
    if self._options.probabilities:
      self._check_folder()
      arrays = {"probabilities": np.asarray(probabilities, np.float16)}
      write_npz(self._path(f"{key}_probabilities", name, "npz"), arrays, durable=False)
    return probabilities

  def _save(self, picture: Image.Image, path: pathlib.Path) -> None:
    self._check_folder()
    with atomic_write(path, durable=False) as temporary:
      picture.save(temporary, format="PNG")

  def _check_folder(self) -> None:
    """Raises WriteError if the folder has vanished, even if another is there by now."""
    if self._descriptor is None:
      return
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(self._descriptor), self._out.stat()):
        return
    raise WriteError(errno.ESTALE, "has vanished, with all that was written there", str(self._out))

  def _path(self, kind: str, name: str, suffix: str = "png") -> pathlib.Path:
    return self._out / kind / f"{name}.{suffix}"


def tasks_with_probabilities(tasks: Mapping[str, Task], option: str) -> tuple[str, ...]:
  """Lists the tasks whose soft predictions are class probabilities.

  Raises:
    ValueError: There is no such task; the message names the option that needs one.
  """
  names = tuple(name for name, task in tasks.items() if task.has_probabilities)
  if not names:
    raise ValueError(
      f"{option} needs a task with class probabilities; predicted: {', '.join(tasks)}"
    )
  return names


def make_crf_refinement() -> Refine:
  """Makes a function that refines probabilities (h, w, c) by an image uint8 (h, w, 3)."""
  from asmjax.inference.crf import DenseCRF

  crf = DenseCRF()

  def refine(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
    log_probabilities = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return np.asarray(crf(log_probabilities, image))

  return refine
