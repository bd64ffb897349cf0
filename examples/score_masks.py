"""Scores masks that any tool has made: two folders of PNGs, one of the truth, one of predictions.

    python examples/score_masks.py                              # Draws small folders first.
    python examples/score_masks.py --truth=DIR --predicted=DIR --classes=wall,floor,furniture

A mask is a PNG of ids: the first class is 0, and in the truth 255 is unlabeled. `--instances=DIR`
holds PNGs of instance ids, 0 for none. Files of all folders belong together by name.
"""

# %% What you may change. In a notebook write `parse_args([])`.
import argparse
import functools
import pathlib
import sys
import tempfile

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Unless it is installed.

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.scenes import Scenes
from asmjax.metrics import BoundaryIoU, ConfusionMatrix, ContourBenchmark, InstanceIoU

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--truth", type=pathlib.Path, help="folder; without it, one is drawn")
parser.add_argument("--predicted", type=pathlib.Path, help="folder of the predictions")
parser.add_argument("--instances", type=pathlib.Path, help="folder of true instances")
parser.add_argument("--classes", default="wall,floor,furniture", help="names in order of their ids")
flags = parser.parse_args()
if (flags.truth is None) != (flags.predicted is None):
  parser.error("--truth and --predicted go together")
classes = flags.classes.split(",")


# %% Folders to try things on: rendered rooms, and as "predictions" the truth moved two pixels down.
def draw_folders(root: pathlib.Path, length: int = 12) -> None:
  """Writes truths, predictions and instances."""
  scenes = Scenes("val", size=(64, 64), length=length)
  for index in range(length):
    label, instance = np.minimum(scenes[index]["label"], 2), scenes[index]["instance"]
    drawn = {"truth": label, "predicted": np.roll(label, 2, axis=0), "instances": instance}
    for kind, ids in drawn.items():
      (root / kind).mkdir(exist_ok=True)
      Image.fromarray(ids.astype(np.uint8)).save(root / kind / f"room{index:03}.png")


if flags.truth is None:
  root = pathlib.Path(tempfile.mkdtemp(prefix="score_masks_"))
  draw_folders(root)
  truths, predictions, instances = (root / kind for kind in ("truth", "predicted", "instances"))
else:
  truths, predictions, instances = flags.truth, flags.predicted, flags.instances


# %% One image: read its files, refuse what does not fit, and make a state of each metric.
def check_size(path: pathlib.Path, mask: np.ndarray, label: np.ndarray) -> None:
  """Raises ValueError unless a mask is as large as the truth."""
  if mask.shape != label.shape:
    found, expected = (f"{height}x{width}" for height, width in (mask.shape, label.shape))
    raise ValueError(
      f"{path} is {found} (height x width); expected {expected}, as {truths / path.name} is"
    )


def score(name: str) -> dict:
  """The states of the image with this name."""
  ids = {index: index for index in range(len(classes))}
  label = decode.read_labels(truths / name, ids | {UNLABELED: UNLABELED})
  guess = decode.read_labels(predictions / name, ids)
  check_size(predictions / name, guess, label)
  kinds = {"pixels": ConfusionMatrix, "boundary": ContourBenchmark, "band": BoundaryIoU}
  states = {
    key: kind.from_batch(guess, label, num_classes=len(classes)) for key, kind in kinds.items()
  }
  if instances:
    instance = decode.read_ids(instances / name)
    check_size(instances / name, instance, label)
    states["instance"] = InstanceIoU.from_batch(
      guess, label, instance=instance, num_classes=len(classes)
    )
  return states


# %% All images, one after the other. States add up, so no mask is kept; those of other threads or
# machines would be merged likewise.
def merge(some: dict, others: dict) -> dict:
  """The states of both sets of images together."""
  return {key: state.merge(others[key]) for key, state in some.items()}


names = sorted(path.name for path in truths.glob("*.png"))
if not names:
  raise FileNotFoundError(f"no *.png in {truths}; expected the masks of the truth")
total = functools.reduce(merge, map(score, names))

# %% The scores, each with what it means. All lie between 0 and 1, and 1 is best.
pixels = total.pop("pixels")
scores = {f"IoU of {name}": float(iou) for name, iou in zip(classes, pixels.iou(), strict=True)}
scores |= {"mean_iou": pixels.mean_iou(), "pixel_accuracy": pixels.pixel_accuracy()}
print(f"{len(names)} images, {pixels.counts.sum()} labeled pixels")
print(
  "\nIoU: pixels of a class in both truth and prediction by those in either, of all images "
  "together; nan for a class in neither, which the mean leaves out\n"
  "accuracy: part of the labeled pixels whose prediction is right"
)
for name, value in scores.items():
  print(f"  {name:22} {value:.4f}")
for state in total.values():
  print(f"\n{state.protocol}")
  scores |= state.compute()
  for name, value in state.compute().items():
    print(f"  {name:22} {value:.4f}")
