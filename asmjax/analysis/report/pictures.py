"""Pictures of validation examples as data URIs."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from asmjax.analysis.predictions import predict_examples
from asmjax.analysis.runs import Group

# Largest number of bytes of a picture, and of all pictures together: pages are sent by mail.
_MAX_BYTES, _MAX_TOTAL_BYTES = 64_000, 3_000_000


class Picture(NamedTuple):
  """A picture of an example.

  Attributes:
    title: Title of its column.
    uri: Data URI.
    size: (width, height) in which it is best seen, in pixels.
  """

  title: str
  uri: str
  size: tuple[int, int]


class Gallery(NamedTuple):
  """Pictures of the same validation examples.

  Attributes:
    predictions: Titles of the columns with predictions, by the group's label.
    names: Name of each example.
    photos: Pictures of each example: the input, then of each task the truth and the predictions.
    colors: Color (r, g, b) of each class, of a run that segments; empty if none does.
    notes: Why pictures are missing.
  """

  predictions: dict[str, tuple[str, ...]]
  names: tuple[str, ...]
  photos: tuple[tuple[Picture, ...], ...]
  colors: dict[str, tuple[int, int, int]]
  notes: tuple[str, ...]


def make_gallery(groups: Sequence[Group], *, count: int, data_root: str | None = None) -> Gallery:
  """Encodes the pictures of `predict_examples`, with a note for each group without any."""
  drawn = predict_examples(groups, count, data_root)
  columns = drawn.columns
  limit = min(_MAX_BYTES, _MAX_TOTAL_BYTES // max(sum(map(len, columns.values())), 1))
  photos = tuple(
    tuple(
      Picture(title, encode(picture, limit), (picture.shape[1], picture.shape[0]))
      for title, picture in zip(columns, row, strict=True)
    )
    for row in zip(*columns.values(), strict=True)
  )
  notes = tuple(f"{label}: no pictures, since {reason}" for label, reason in drawn.missing.items())
  return Gallery(drawn.titles, drawn.names, photos, drawn.colors, notes)


def encode(picture: np.ndarray, limit: int) -> str:
  """Encodes a picture, uint8 (h, w, 3), as a lossless WebP, shrunk to at most `limit` bytes."""
  image, factor = Image.fromarray(picture), 1.0
  while True:
    width, height = (max(round(factor * side), 1) for side in image.size)
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.BOX).save(buffer, "webp", lossless=True)
    data = buffer.getvalue()
    if len(data) <= limit or max(width, height) == 1:
      return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    factor *= min(0.95 * (limit / len(data)) ** 0.5, 0.95)
