"""Files to arrays: photos, maps of ids, color maps, 16-bit maps and lists of names.

Whatever cannot be read as what it should be raises a ValueError that names the file, what was
found and what was expected; a missing file raises FileNotFoundError.
"""

import functools
import io
import pathlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from asmjax.batch import UNLABELED

Color = tuple[int, int, int]

# Suffixes of the images that are looked for in folders.
IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")
_UNKNOWN = 65535  # No label: those end at 255.


def photo(path: pathlib.Path) -> np.ndarray:
  """A photo as uint8 (h, w, 3) RGB, upright as its EXIF orientation says.

  Gray photos get three equal channels, transparency is dropped.
  """
  image = _open(path)
  ImageOps.exif_transpose(image, in_place=True)
  return _rgb(image, path)


def is_turned(path: pathlib.Path) -> bool:
  """Whether a photo's EXIF orientation swaps its height and width, which `photo` obeys."""
  check_exists(path)
  with Image.open(path) as image:
    return image.getexif().get(ExifTags.Base.Orientation, 1) >= 5


def gray(path: pathlib.Path) -> np.ndarray:
  """A picture as uint8 (h, w) gray values."""
  return np.array(_opaque(_open(path), path).convert("L"))


def ids(path: pathlib.Path) -> np.ndarray:
  """A map of ids as int32 (h, w): gray or palette, of 1, 8 or 16 bits, or of equal RGB channels.

  Palette indices are the ids, whatever their colors.
  """
  return _ids(_lossless(path), path).astype(np.int32)


def labels(
  path: pathlib.Path,
  by_id: Mapping[int, int],
  by_color: Mapping[Color, int] = MappingProxyType({}),
  *,
  palette_agrees: bool = False,
) -> np.ndarray:
  """Labels int32 (h, w): by id, but by color where there are colors and the file has no ids.

  Args:
    path: of a map of ids or, if there are colors to look up, of three channels.
    by_id: see `lookup`; for files of one channel or with a palette.
    by_color: see `lookup_colors`; if empty, three channels must be equal and hold ids.
    palette_agrees: refuse a palette whose colors are all known, but as others than the ids: tools
      that shrink PNGs turn colors into palettes and number them as they like.

  Raises:
    ValueError: an id or a color that the tables do not have, or a palette that does not agree.
  """
  image = _lossless(path)
  if by_color and not _is_single(image):
    return lookup_colors(_rgb(image, path), by_color, path)
  if palette_agrees and image.mode == "P":
    _check_palette(image, by_id, by_color, path)
  return lookup(_ids(image, path), by_id, path)


def colors(path: pathlib.Path) -> np.ndarray:
  """A map of colors as uint8 (h, w, 3); transparency is dropped."""
  return _rgb(_lossless(path), path)


def raw16(path: pathlib.Path) -> np.ndarray:
  """A map of 16-bit numbers as uint16 (h, w)."""
  image = _lossless(path)
  if not image.mode.startswith("I"):
    raise ValueError(f"{path} has {image.mode!r} pixels; expected one channel of 16 bits")
  values = np.array(image)
  if values.min() < 0 or values.max() > 65535:
    raise ValueError(f"{path} holds {values.min()}..{values.max()}; expected 0..65535")
  return values.astype(np.uint16)


def text(path: pathlib.Path) -> str:
  """A text file in UTF-8, with or without a byte order mark; every line ends in a line feed."""
  check_exists(path)
  try:
    return path.read_text("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is no text ({error}); expected UTF-8") from error


def lines(path: pathlib.Path) -> tuple[str, ...]:
  """The lines of a text file that are not blank, stripped; see `text`."""
  return tuple(line.strip() for line in text(path).splitlines() if line.strip())


def lookup(raw: np.ndarray, table: Mapping[int, int], path: pathlib.Path | str) -> np.ndarray:
  """Ids in a file to labels.

  Args:
    raw: whole numbers (h, w).
    table: label of each id; `UNLABELED` where the id is to be ignored.
    path: of the file, or whatever says where `raw` comes from, for the message.

  Returns:
    int32 (h, w).

  Raises:
    ValueError: an id that the table does not have.
  """
  low, high = min(0, *table), max(table)
  # The last place is for ids not in between; what 8 bits can hold has a place and needs no clip.
  dense = np.full(max(high - low + 2, 256), _UNKNOWN, np.int32)
  dense[np.array(list(table)) - low] = list(table.values())
  places = raw
  if raw.dtype != np.uint8 or low:
    places = np.clip(raw.astype(np.int64) - low, -1, high - low + 1)
  label = np.take(dense, places)
  if label.max(initial=0) == _UNKNOWN:
    unknown = np.unique(raw[label == _UNKNOWN]).tolist()
    raise ValueError(f"{path} holds the ids {_few(unknown)}; expected {_ranges(table)}")
  return label


def lookup_colors(rgb: np.ndarray, table: Mapping[Color, int], path: pathlib.Path) -> np.ndarray:
  """Colors in a file to labels; as `lookup`, with `rgb` uint8 (h, w, 3)."""
  packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
  label = _color_table(tuple(table.items()))[packed]
  if (label == _UNKNOWN).any():
    unknown = [tuple(map(int, each)) for each in np.unique(rgb[label == _UNKNOWN], axis=0)]
    raise ValueError(f"{path} holds the colors {_few(unknown)}; expected {_few(list(table))}")
  return label.astype(np.int32)


def check_exists(path: pathlib.Path, why: str = "") -> None:
  """Raises FileNotFoundError, with `why` the file is needed, unless `path` is a file."""
  if not path.is_file():
    found = "is no file" if path.exists() else "does not exist"
    raise FileNotFoundError(f"{path} {found}" + (f"; {why}" if why else ""))


def _open(path: pathlib.Path) -> Image.Image:
  check_exists(path)
  content = path.read_bytes()
  try:
    image = Image.open(io.BytesIO(content))
    if image.format == "PNG":
      image.verify()  # Decoding leaves the checksums of the pixels unread.
      image = Image.open(io.BytesIO(content))
    image.load()
    return image
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    # Pillow names the buffer that it was given.
    fault = "unknown format" if isinstance(error, UnidentifiedImageError) else error
    raise ValueError(
      f"{path} cannot be decoded ({fault}; {len(content)} bytes); expected a whole image"
    ) from error


def _lossless(path: pathlib.Path) -> Image.Image:
  image = _open(path)
  if image.format in _LOSSY:
    raise ValueError(f"{path} is a {image.format}, which blurs ids and colors; expected a PNG")
  if not _is_single(image):
    with Image.open(path) as header:
      # Of channels of 16 bits Pillow keeps the upper byte, which is 0 for small ids.
      if ";16" in str(header.tile):
        raise ValueError(f"{path} has {image.mode!r} channels of 16 bits; expected 8")
  return image.getchannel("L") if image.mode == "LA" else image


def _ids(image: Image.Image, path: pathlib.Path) -> np.ndarray:
  """Whole numbers (h, w), in 8 bits where the file has no more."""
  if _is_single(image):
    values = np.array(image)
    return values.astype(np.uint8) if values.dtype == bool else values
  channels = _rgb(image, path)
  if (channels != channels[..., :1]).any():
    raise ValueError(f"{path} has colors ({image.mode}); expected one id a pixel")
  return channels[..., 0]


def _check_palette(
  image: Image.Image, by_id: Mapping[int, int], by_color: Mapping[Color, int], path: pathlib.Path
) -> None:
  palette = np.reshape(image.getpalette() or [], (-1, 3)).tolist()
  ids = np.unique(np.asarray(image)).tolist()
  used = {id: tuple(palette[id]) for id in ids if id < len(palette)}
  if not all(color in by_color for color in used.values()):
    return
  for id, color in used.items():
    if by_id.get(id) != by_color[color]:
      raise ValueError(
        f"{path} has a palette in which {id} is {color}, by id label {by_id.get(id)}, by color "
        f"label {by_color[color]}; expected them to agree, or a mask of three channels"
      )


def _is_single(image: Image.Image) -> bool:
  """Whether pixels are whole numbers of one channel, or indices of a palette."""
  return image.mode in ("1", "L", "P") or image.mode.startswith("I")


def _rgb(image: Image.Image, path: pathlib.Path) -> np.ndarray:
  image = _opaque(image, path)
  return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _opaque(image: Image.Image, path: pathlib.Path) -> Image.Image:
  """The picture if it has 8 bits a channel, ready for `convert`."""
  if image.mode.startswith(("I", "F")):
    raise ValueError(f"{path} has {image.mode!r} pixels; expected 8 bits a channel")
  # Dropping a palette's transparency in one step makes Pillow warn.
  return image.convert("RGBA") if "transparency" in image.info else image


@functools.lru_cache(maxsize=4)
def _color_table(items: tuple[tuple[Color, int], ...]) -> np.ndarray:
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
    sorted(key for key, label in table.items() if (label == UNLABELED) == unlabeled)
    for unlabeled in (False, True)
  )
  written = _runs(known)
  return f"{written} or, unlabeled, {_runs(ignored)}" if ignored else written


def _runs(values: list[int]) -> str:
  starts = [value for value in values if value - 1 not in values]
  ends = [value for value in values if value + 1 not in values]
  return ", ".join(
    str(start) if start == end else f"{start}..{end}"
    for start, end in zip(starts, ends, strict=True)
  )
