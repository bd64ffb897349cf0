"""Pictures of held-out examples as data URIs."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from asmjax.analysis.runs import Group
from asmjax.config.run_dir import read_state, reopen
from asmjax.train.loop import make_draw

# Bytes of one picture, and of all pictures together, at most.
_LARGEST, _ALL = 64_000, 3_000_000


class Picture(NamedTuple):
  """A picture of an example.

  Attributes:
    title: the column that it belongs to.
    uri: of its data.
    size: (width, height) in which it is best seen.
  """

  title: str
  uri: str
  size: tuple[int, int]


class Gallery(NamedTuple):
  """Pictures of the same held-out examples.

  Attributes:
    titles: of the columns: the input, then of each task the truth and every group's prediction.
    predictions: the titles of predictions, by the group's label.
    photos: of each example its pictures, in the order of the titles.
    colors: (r, g, b) by class, of a run that segments.
    notes: why pictures are missing.
  """

  titles: tuple[str, ...]
  predictions: dict[str, tuple[str, ...]]
  photos: tuple[tuple[Picture, ...], ...]
  colors: dict[str, tuple[int, int, int]]
  notes: tuple[str, ...]


def gallery(groups: Sequence[Group], *, count: int, data_root: str | None = None) -> Gallery:
  """What the first run of each group predicts of the first held-out examples.

  Args:
    groups: of runs.
    count: of examples, at most.
    data_root: folder of the data set; the run's own by default.
  """
  drawn, notes, colors = {}, [], {}
  for group in groups if count else ():
    try:
      run = reopen(group.workdirs[0], data_root=data_root)
      drawn[group.label] = make_draw(run, count=count)(read_state(run, group.workdirs[0]))
    except FileNotFoundError as error:
      notes.append(f"{group.label}: no pictures, since {error}")
      continue
    if "segmentation" in run.game.tasks:
      colors = dict(zip(run.descriptor.classes, run.descriptor.palette, strict=True))
  columns, predictions = _columns(drawn)
  limit = min(_LARGEST, _ALL // max(sum(map(len, columns.values())), 1))
  rows = zip(*columns.values(), strict=True)
  photos = tuple(
    tuple(
      Picture(title, encode(each, limit), (each.shape[1], each.shape[0]))
      for title, each in zip(columns, row, strict=True)
    )
    for row in rows
  )
  return Gallery(tuple(columns), predictions, photos, colors, tuple(notes))


def encode(picture: np.ndarray, limit: int) -> str:
  """A picture as the URI of a lossless WebP, shrunk if it would be too large.

  Args:
    picture: uint8 (h, w, 3).
    limit: of the bytes.
  """
  image, share = Image.fromarray(picture), 1.0
  while True:
    size = [max(round(share * side), 1) for side in image.size]
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BOX).save(buffer, "webp", lossless=True)
    data = buffer.getvalue()
    if len(data) <= limit or max(size) == 1:
      return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    share *= min(0.95 * (limit / len(data)) ** 0.5, 0.95)


def _columns(
  drawn: Mapping[str, Mapping[str, np.ndarray]],
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
  """Pictures (n, h, w, 3) by title, and the titles of predictions by label."""
  names = dict.fromkeys(name for own in drawn.values() for name in own)
  tasks = [name.rpartition("/")[0] for name in names if name.endswith("/truth")]
  titled = lambda task, title: f"{task}: {title}" if len(tasks) > 1 else title
  columns, predictions = {}, {label: () for label in drawn}
  for own in drawn.values():
    columns.setdefault("input", own["input"])
  for task in tasks:
    for label, own in drawn.items():
      if f"{task}/prediction" in own:  # Groups may have trained different tasks.
        columns.setdefault(titled(task, "truth"), own[f"{task}/truth"])
        predictions[label] += (titled(task, label),)
        columns[titled(task, label)] = own[f"{task}/prediction"]
  return columns, predictions
