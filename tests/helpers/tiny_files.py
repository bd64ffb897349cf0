"""Small images in a data set's layout, and the check that a source of them is whole."""

import numpy as np
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.inspection import inspect


def save(path, array, **options):
  """Writes an array as an image, with its folders."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path, **options)


def save_photo(path, size, *, seed=0, **options):
  """Writes a photo of noise; returns it as it was before its compression."""
  image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
  save(path, image, **options)
  return image


def assert_whole(source):
  """Checks what `asmjax inspect` does: files, types, shapes and values of all examples."""
  check_files(source)
  report = inspect({source.split: source})
  assert not report.problems, report.problems
