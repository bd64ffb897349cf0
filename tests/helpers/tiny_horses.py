"""A tiny data set in the layout of the Weizmann horses."""

import numpy as np
from PIL import Image


def write_horses(root, *, train, val, size=(40, 60)):
  """Writes photos of noise whose left halves are horses, and the lists of both splits.

  Args:
    root: Path of the folder to write, which must not exist.
    train: Names of the training photos.
    val: Names of the validation photos.
    size: (height, width) of the photos in pixels, the width even.
  """
  for folder in ("rgb", "figure_ground"):
    (root / folder).mkdir(parents=True)
  height, width = size
  mask = np.where(np.arange(width) < width // 2, 255, 0).astype(np.uint8)
  for seed, name in enumerate((*train, *val)):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(root / "rgb" / f"{name}.jpg")
    Image.fromarray(np.tile(mask, (height, 1))).save(root / "figure_ground" / f"{name}.jpg")
  for split, names in (("train", train), ("val", val)):
    (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
  return root
