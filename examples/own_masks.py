"""Training on your own photos and masks, from a folder to a picture of predictions.

    python examples/own_masks.py                                    # Draws a small folder first.
    python examples/own_masks.py --root=YOUR_FOLDER --out=runs/mine --size=128 --steps=2000

YOUR_FOLDER holds `classes.yaml`, photos `images/train/*` and `images/val/*`, and in `masks/train`
and `masks/val` a PNG of the same name for each: docs/data.md has other layouts, colors and more.
"""

# %% What you may change. In a notebook write `parse_args([])`.
import argparse
import pathlib
import sys
import tempfile

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Unless it is installed.

import asmjax
from asmjax.analysis.predictions import predict_examples
from asmjax.analysis.runs import Group

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--root", type=pathlib.Path, help="your folder; one is drawn if there is none")
parser.add_argument("--out", type=pathlib.Path, help="folder of the run; a temporary one if none")
parser.add_argument("--method", default="aaf_released", help="see README.md; iid: pixel loss alone")
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--size", type=int, default=64, help="side of the network's input in pixels")
parser.add_argument("--levels", type=int, default=3, help="resolutions of the network")
parser.add_argument("--width", type=int, default=8, help="channels of the network's first layer")
flags = parser.parse_args()

root = flags.root or pathlib.Path(tempfile.mkdtemp(prefix="own_masks_"))
out = flags.out or pathlib.Path(tempfile.mkdtemp(prefix="own_masks_run_"))


# %% A folder to try things on: reddish discs and bluish boxes before gray noise.
#
# A mask is a gray PNG that holds the id of every pixel's class; 255 means unlabeled.
def draw_folder(split: str, length: int, seed: int) -> None:
  """Writes `length` photos and masks."""
  rng = np.random.default_rng(seed)
  for index in range(length):
    gray = np.repeat(rng.integers(60, 196, (60, 80, 1), np.uint8), 3, axis=-1)
    pictures = {"images": Image.fromarray(gray), "masks": Image.new("L", (80, 60), 0)}
    for _ in range(3):
      (x, y), radius = rng.integers((10, 10), (70, 50)), rng.integers(6, 16)
      shape, color = int(rng.integers(2)), rng.integers(0, 128, 3)
      color[2 * shape] += 128
      for kind, fill in (("images", tuple(color.tolist())), ("masks", shape + 1)):
        pencil = ImageDraw.Draw(pictures[kind])
        draw = pencil.rectangle if shape else pencil.ellipse
        draw((x - radius, y - radius, x + radius, y + radius), fill)
    for kind, picture in pictures.items():
      path = root / kind / split / f"{index:03}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      picture.save(path)


if flags.root is None:
  draw_folder("train", 96, seed=0)
  draw_folder("val", 16, seed=1)
  (root / "classes.yaml").write_text("""classes:
  - {name: background, id: 0, color: [150, 150, 150]}
  - {name: disc, id: 1, color: [200, 60, 0]}
  - {name: box, id: 2, color: [0, 90, 180]}
""")

# %% Train: `configs/any.py` for any folder, made small. See docs/data.md for the settings.
#
# With "letterbox" a photo keeps its aspect and is padded to the input's size; padding is unlabeled.
# What is wrong with the folder or a setting is said before anything is compiled.
#
# A line that is printed holds means over the steps since the last one: `pixel/segmentation` is the
# cross-entropy in nats, `loss` the weighted sum of all that the network descends, and
# `affinity/...` what pairs of neighbors cost. `gradient_norm/...` is the norm of a player's
# gradient, `gradient_norm_from/...` that of what a term sends the network.
#
# The run's folder keeps config, metrics and checkpoints: the same command goes on from there, and
# `launch/evaluate.py` and `launch/analyze.py` read it.
run = asmjax.train(
  f"any:folder,{flags.method}",
  out,
  **{
    "data.root": root,
    "data.size": (flags.size, flags.size),
    "data.resize": "letterbox",
    "data.cache": True,
    "predictor.levels": flags.levels,
    "predictor.width": flags.width,
    "optimizer.predictor.learning_rate": 3e-3,
    "train.steps": flags.steps,
    "train.batch_size": 8,
    "train.log_every": max(flags.steps // 4, 1),
    "eval.batch_size": 8,
    "checkpoint.every": 0,  # One follows each evaluation, of which there is one at the end.
  },
)

# %% What came out, on the held-out photos.
#
# IoU is, for a class, the pixels that truth and prediction share by those that either has. It is
# nan for a class in neither, and the mean is over the others.
metrics = run.metrics
for name in run.predictor.descriptor.classes:
  print(f"IoU {name:20} {metrics[f'segmentation/iou/{name}']:.3f}")
print(f"mean IoU {metrics['segmentation/mean_iou']:19.3f}")
print(f"pixel accuracy {metrics['segmentation/pixel_accuracy']:13.3f}  (part of labeled pixels)")

# %% A picture: photo, truth, prediction and, in red, what is wrong, for four held-out photos.
#
# `run.predict(photo)` predicts any photo at its own size, and `run.report()` writes a page.
drawn = predict_examples([Group("prediction", (out,))], count=4)
columns = (*drawn.columns.values(), drawn.errors["prediction"])
sheet = np.concatenate([np.concatenate(column) for column in columns], axis=1)
Image.fromarray(sheet).save(out / "predictions.png")
print(f"written: {out / 'predictions.png'}")
