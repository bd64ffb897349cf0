"""Files to arrays: photos, maps of ids, colour maps, 16-bit maps and lists of names.

Whatever cannot be read as what it should be raises a ValueError that names the file, what was
found and what was expected; a missing file raises FileNotFoundError.
"""

import functools
import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageOps

from asmjax.batch import UNLABELLED

Colour = tuple[int, int, int]

# Single-channel modes of Pillow whose values are numbers: ids or measurements.
_NUMBERS = ("1", "L", "P", "I", "I;16", "I;16B")


def photo(path: pathlib.Path) -> np.ndarray:
  """A photo as uint8 (h, w, 3) RGB, upright as its EXIF orientation says.

  Grey photos get three equal channels, transparency is dropped.
  """
  image = ImageOps.exif_transpose(_open(path))
  if image.mode.startswith(("I", "F")):
    raise ValueError(f"{path} has {image.mode!r} pixels; expected a photo of 8 bits a channel")
  return np.array(image.convert("RGB"))


def grey(path: pathlib.Path) -> np.ndarray:
  """A picture as uint8 (h, w) grey values."""
  return np.array(_open(path).convert("L"))


def ids(path: pathlib.Path) -> np.ndarray:
  """A map of ids as int32 (h, w): grey or palette, of 1, 8 or 16 bits, or of equal RGB channels.

  Palette indices are the ids, whatever their colours.
  """
  image = _lossless(path)
  if image.mode in _NUMBERS:
    return np.array(image, np.int32)
  channels = np.array(image.convert("RGB"))
  if (channels != channels[..., :1]).any():
    raise ValueError(f"{path} has colours ({image.mode}); expected one id a pixel")
  return channels[..., 0].astype(np.int32)


def colours(path: pathlib.Path) -> np.ndarray:
  """A map of colours as uint8 (h, w, 3); transparency is dropped."""
  image = _lossless(path)
  if image.mode.startswith(("I", "F")):
    raise ValueError(f"{path} has {image.mode!r} pixels; expected colours of 8 bits a channel")
  return np.array(image.convert("RGB"))


def raw16(path: pathlib.Path) -> np.ndarray:
  """A map of 16-bit numbers as uint16 (h, w)."""
  image = _lossless(path)
  if not image.mode.startswith("I"):
    raise ValueError(f"{path} has {image.mode!r} pixels; expected one channel of 16 bits")
  return np.array(image).astype(np.uint16)


def lines(path: pathlib.Path) -> tuple[str, ...]:
  """The lines of a text file that are not blank, stripped; any line ends, with or without a BOM."""
  check_exists(path)
  try:
    text = path.read_text("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is no text ({error}); expected UTF-8") from error
  return tuple(line.strip() for line in text.splitlines() if line.strip())


def lookup(raw: np.ndarray, table: Mapping[int, int], path: pathlib.Path) -> np.ndarray:
  """Ids in a file to labels.

  Args:
    raw: int32 (h, w).
    table: label of each id; `UNLABELLED` where the id is to be ignored.
    path: where `raw` comes from, for the message.

  Returns:
    int32 (h, w).

  Raises:
    ValueError: an id that the table does not have.
  """
  values, places = np.unique(raw, return_inverse=True)
  unknown = [int(value) for value in values if int(value) not in table]
  if unknown:
    raise ValueError(f"{path} holds the ids {_few(unknown)}; expected {_ranges(table)}")
  found = np.array([table[int(value)] for value in values], np.int32)
  return found[places.reshape(raw.shape)]


def lookup_colours(
  rgb: np.ndarray, table: Mapping[Colour, int], path: pathlib.Path
) -> np.ndarray:
  """Colours in a file to labels; as `lookup`, with `rgb` uint8 (h, w, 3)."""
  packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
  label = _colour_table(tuple(table.items()))[packed]
  if (label == _UNKNOWN).any():
    unknown = [tuple(map(int, each)) for each in np.unique(rgb[label == _UNKNOWN], axis=0)]
    raise ValueError(f"{path} holds the colours {_few(unknown)}; expected {_few(list(table))}")
  return label.astype(np.int32)


def check_exists(path: pathlib.Path, why: str = "") -> None:
  """Raises FileNotFoundError, with `why` the file is needed, unless `path` is a file."""
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist" + (f"; {why}" if why else ""))


def _open(path: pathlib.Path) -> Image.Image:
  check_exists(path)
  try:
    with Image.open(path) as image:
      image.load()
      return image
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise ValueError(
      f"{path} cannot be decoded ({error}; {path.stat().st_size} bytes); expected a whole image"
    ) from error


def _lossless(path: pathlib.Path) -> Image.Image:
  image = _open(path)
  if image.format == "JPEG":
    raise ValueError(f"{path} is a JPEG, which blurs ids and colours; expected a PNG")
  return image


_UNKNOWN = 65535


@functools.lru_cache(maxsize=4)
def _colour_table(items: tuple[tuple[Colour, int], ...]) -> np.ndarray:
  table = np.full(1 << 24, _UNKNOWN, np.uint16)
  for (red, green, blue), label in items:
    table[(red << 16) + (green << 8) + blue] = label
  return table


def _few(values: list, most: int = 8) -> str:
  more = f" and {len(values) - most} more" if len(values) > most else ""
  return ", ".join(map(str, values[:most])) + more


def _ranges(table: Mapping[int, int]) -> str:
  """Keys as ranges: `0..20, 255`, with what is ignored marked."""
  known, ignored = (
    sorted(key for key, label in table.items() if (label == UNLABELLED) == unlabelled)
    for unlabelled in (False, True)
  )
  written = _runs(known)
  return f"{written} or, unlabelled, {_runs(ignored)}" if ignored else written


def _runs(values: list[int]) -> str:
  starts = [value for value in values if value - 1 not in values]
  ends = [value for value in values if value + 1 not in values]
  return ", ".join(
    str(start) if start == end else f"{start}..{end}"
    for start, end in zip(starts, ends, strict=True)
  )
