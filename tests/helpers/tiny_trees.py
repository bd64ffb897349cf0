"""Tiny data sets in the layouts of their sources, of noise and of what can be learned from it."""

import pathlib

import numpy as np
from PIL import Image

from asmjax.data.sources.pascal_voc import color_map
from tests.helpers.tiny_horses import write_horses

SIZE = (20, 30)
CLASSES = ("background", "wheel")


def write_photo(path, rng, size=SIZE):
  """Writes a photo of noise."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)


def write_folder(root, *, train=8, val=3):
  """Writes photos and masks of two classes, paired by name, as the source `folder` reads them."""
  rng = np.random.default_rng(0)
  for split, length in (("train", train), ("val", val)):
    for index in range(length):
      write_photo(root / "images" / split / f"{split}{index}.png", rng)
      path = root / "masks" / split / f"{split}{index}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(rng.integers(0, 2, SIZE, np.uint8)).save(path)
  (root / "classes.yaml").write_text(f"classes: [{', '.join(CLASSES)}]\n")
  return root


def write_voc(root, *, train=8, val=3):
  """Writes photos and palette masks of 21 classes, each with an object, and the lists of VOC."""
  rng, names = np.random.default_rng(0), [f"2007_{index:06d}" for index in range(train + val)]
  palette = [channel for color in color_map(256) for channel in color]
  for name in names:
    write_photo(root / "JPEGImages" / f"{name}.jpg", rng)
    ids = rng.integers(0, 21, (2, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    masks = {"SegmentationClass": ids, "SegmentationClassAug": ids}
    for folder, values in (masks | {"SegmentationObject": np.minimum(ids, 1)}).items():
      image = Image.fromarray(values)
      image.putpalette(palette)
      (root / folder).mkdir(exist_ok=True)
      image.save(root / folder / f"{name}.png")
  lists = root / "ImageSets" / "Segmentation"
  lists.mkdir(parents=True)
  for split, part in (
    ("train", names[:train]),
    ("train_aug", names[:train]),
    ("val", names[train:]),
  ):
    (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in part))
  return root


def write_ade20k(root, *, train=8, val=3):
  """Writes photos and masks of 0, unlabeled, and the first classes of ADE20K."""
  rng = np.random.default_rng(0)
  for folder, length in (("training", train), ("validation", val)):
    for index in range(length):
      write_photo(root / "images" / folder / f"{folder}{index}.jpg", rng)
      path = root / "annotations" / folder / f"{folder}{index}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(rng.integers(0, 4, SIZE, np.uint8)).save(path)
  return root


def write_sweep(root, *, frames=16):
  """Writes an RGB-D sweep along a wall that is 2 m away and faces right."""
  root.mkdir(parents=True)
  (root / "camera-intrinsics.txt").write_text("60 0 32\n0 60 24\n0 0 1\n")
  rng, columns = np.random.default_rng(0), np.indices((48, 64))[1]
  depth = np.round(2000 / (1 - 0.75 * (columns - 32) / 60)).astype(np.uint16)
  for number in range(frames):
    write_photo(root / f"frame-{number:06d}.color.jpg", rng, (48, 64))
    Image.fromarray(depth).save(root / f"frame-{number:06d}.depth.png")
  return root


def write_source(name, root: pathlib.Path):
  """Writes a data set for a source by its name."""
  if name == "weizmann_horse":
    names = [f"{index:02d}" for index in range(11)]
    return write_horses(root, train=names[:8], val=names[8:], size=SIZE)
  writers = {
    "ade20k": write_ade20k,
    "folder": write_folder,
    "pascal_voc": write_voc,
    "rgbd_sweep": write_sweep,
  }
  return writers[name](root)
