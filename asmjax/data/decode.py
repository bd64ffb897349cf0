"""Decoders of files: photos, maps of ids, color maps, 16-bit maps and lists of names.

A file whose content is not as expected raises a ValueError that names the file, its content and
what was expected; a missing file raises FileNotFoundError.
"""

import functools
import pathlib
import re
from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from asmjax.batch import UNLABELED
from asmjax.data.image_files import check_exists, open_header, open_image

Color = tuple[int, int, int]

# Suffixes, in lower case, of the files that count as images in a folder.
IMAGES = (
  ".bmp",
  ".jfif",
  ".jpeg",
  ".jpg",
  ".pbm",
  ".pgm",
  ".png",
  ".pnm",
  ".ppm",
  ".tif",
  ".tiff",
  ".webp",
)
# Suffixes of other pictures, which are not read.
OTHER_IMAGES = (
  ".arw",
  ".avif",
  ".cr2",
  ".cr3",
  ".dcm",
  ".dng",
  ".exr",
  ".gif",
  ".hdr",
  ".heic",
  ".heif",
  ".j2k",
  ".jp2",
  ".jxl",
  ".mpo",
  ".nef",
  ".npy",
  ".psd",
  ".raw",
  ".svg",
  ".tga",
)
# Pillow's names of formats that can be lossy, and so are refused for ids and colors.
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
# How Pillow turns a photo upright, by its EXIF orientation.
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
# Largest number of bytes of a list of names or classes.
_MAX_TEXT = 2**28
_UNKNOWN = 65535  # Marks values that a table lacks; no label, since labels end at 255.


def read_photo(path: pathlib.Path) -> np.ndarray:
  """Reads a photo as uint8 (h, w, 3) RGB, turned upright by its EXIF orientation if that is whole.

  Gray photos get three equal channels; transparency is dropped.
  """
  image = open_image(path)
  turn = _TURNS.get(_read_orientation(image))
  return _to_rgb(image if turn is None else image.transpose(turn), path)


def is_rotated(path: pathlib.Path) -> bool:
  """Returns whether the EXIF orientation that `read_photo` applies swaps height and width."""
  with open_header(path, path) as image:
    # Of the eight orientations of EXIF, 5 to 8 include a quarter turn.
    return _read_orientation(image) >= 5


def _read_orientation(image: Image.Image) -> int:
  """Reads the EXIF orientation; 1, upright, if there is none or it is damaged."""
  try:
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))
  except Exception:  # What a parser raises on arbitrary bytes is arbitrary; viewers ignore it too.
    return 1


def check_annotated_size(
  image: np.ndarray, size: tuple[int, int], photo: pathlib.Path, annotations: pathlib.Path
) -> None:
  """Raises ValueError unless outlines in another file were drawn on the photo as it was read.

  Args:
    image: Photo, (h, w, 3), upright.
    size: (height, width) of the photo by the file of the outlines.
    photo: Path of the photo.
    annotations: Path of the file of the outlines.
  """
  (height, width), found = image.shape[:2], f"{size[0]}x{size[1]} (height x width)"
  if size == (height, width):
    return
  if size == (width, height) and is_rotated(photo):
    raise ValueError(
      f"{annotations} has {photo} as {found}, as it is stored, but the photo's EXIF orientation "
      f"turns it; expected outlines on the upright photo, {height}x{width}"
    )
  raise ValueError(f"{annotations} has {photo} as {found}; expected {height}x{width}, its size")


def read_gray(path: pathlib.Path) -> np.ndarray:
  """Reads an image as gray values, uint8 (h, w)."""
  return np.array(_as_8_bit(open_image(path), path).convert("L"))


def read_ids(path: pathlib.Path) -> np.ndarray:
  """Reads a map of ids as int32 (h, w).

  The file is gray or has a palette, with up to 16 bits, or has equal RGB channels.  Ids are the
  numbers that the file stores, whatever their colors or shades.
  """
  return _to_ids(_open_lossless(path), path).astype(np.int32)


def read_labels(
  path: pathlib.Path,
  by_id: Mapping[int, int],
  by_color: Mapping[Color, int] = MappingProxyType({}),
  *,
  palette_agrees: bool = False,
) -> np.ndarray:
  """Reads a mask as labels, int32 (h, w), by its ids or its colors.

  Args:
    path: Path of a mask of ids or, unless `by_color` is empty, of colors in three channels.
    by_id: Label of each id, for files of one channel or with a palette.
    by_color: Label of each color, for files of three channels. If it is empty, the channels must be
      equal and are ids.
    palette_agrees: Whether to refuse a palette whose colors have labels, most of them, but not
      those of their ids: tools that shrink PNGs turn colors into palettes in an order of their own.

  Raises:
    ValueError: The tables lack an id or a color, or the palette does not agree.
  """
  image = _open_lossless(path)
  if by_color and not _has_one_channel(image):
    return _look_up_colors(_to_rgb(image, path), by_color, path)
  if palette_agrees and image.mode == "P":
    _check_palette(image, by_id, by_color, path)
  return look_up_ids(_to_ids(image, path), by_id, path)


def read_color_labels(path: pathlib.Path, by_color: Mapping[Color, int]) -> np.ndarray:
  """Reads a mask of colors, of three channels or a palette, as labels, int32 (h, w).

  Raises:
    ValueError: The table lacks a color.
  """
  return _look_up_colors(read_colors(path), by_color, path)


def read_colors(path: pathlib.Path) -> np.ndarray:
  """Reads a map of colors as uint8 (h, w, 3); transparency is dropped."""
  return _to_rgb(_open_lossless(path), path)


def read_raw16(path: pathlib.Path) -> np.ndarray:
  """Reads a map of 16-bit numbers as uint16 (h, w)."""
  image = _open_lossless(path)
  if not image.mode.startswith("I"):
    raise ValueError(f"{path} has {image.mode!r} pixels; expected one channel of 16 bits")
  values = np.array(image)
  if values.min() < 0 or values.max() > 65535:
    raise ValueError(f"{path} holds {values.min()}..{values.max()}; expected 0..65535")
  return values.astype(np.uint16)


def read_text(path: pathlib.Path) -> str:
  """Reads a text file in UTF-8, with or without a byte order mark; line ends become line feeds."""
  check_exists(path)
  if (size := path.stat().st_size) > _MAX_TEXT:
    raise ValueError(f"{path} has {size} bytes; expected a text of at most {_MAX_TEXT}")
  try:
    return path.read_text("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is no text ({error}); expected UTF-8") from error


def read_lines(path: pathlib.Path) -> tuple[str, ...]:
  """Reads the lines of a text file in UTF-8, stripped, without blank ones."""
  return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())


def look_up_ids(raw: np.ndarray, table: Mapping[int, int], path: pathlib.Path | str) -> np.ndarray:
  """Converts the ids of a file to labels.

  Args:
    raw: Ids, integers (h, w).
    table: Label of each id; `UNLABELED` for ids to ignore.
    path: Path of the file, or a phrase for the origin of `raw`, for the error message.

  Returns:
    Labels, int32 (h, w).

  Raises:
    ValueError: The table lacks an id.
  """
  low, high = min(0, *table), max(table)
  # The last entry is for ids out of low..high, which are clipped to it (-1 wraps around).  With 256
  # entries at least, 8-bit ids need no clipping.
  dense = np.full(max(high - low + 2, 256), _UNKNOWN, np.int32)
  dense[np.array(list(table)) - low] = list(table.values())
  indices = raw
  if raw.dtype != np.uint8 or low:
    indices = np.clip(raw.astype(np.int64) - low, -1, high - low + 1)
  label = np.take(dense, indices)
  if label.max(initial=0) == _UNKNOWN:
    unknown = np.unique(raw[label == _UNKNOWN]).tolist()
    raise ValueError(f"{path} holds the ids {_abbreviate(unknown)}; expected {_format_ids(table)}")
  return label


def _look_up_colors(rgb: np.ndarray, table: Mapping[Color, int], path: pathlib.Path) -> np.ndarray:
  """Converts colors, uint8 (h, w, 3), to labels, int32 (h, w); ValueError for one without label."""
  packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
  label = _color_table(tuple(table.items()))[packed]
  if (label == _UNKNOWN).any():
    unknown = [tuple(color) for color in np.unique(rgb[label == _UNKNOWN], axis=0).tolist()]
    known = _abbreviate(list(table))
    raise ValueError(f"{path} holds the colors {_abbreviate(unknown)}; expected {known}")
  return label.astype(np.int32)


def _open_lossless(path: pathlib.Path) -> Image.Image:
  """Reads an image whose format preserves ids and colors, without its alpha channel if gray."""
  image = open_image(path)
  if image.format in _LOSSY:
    raise ValueError(f"{path} is a {image.format}, which blurs ids and colors; expected a PNG")
  with open_header(path, path) as header:
    tiles = getattr(header, "tile", ())  # Of files alone, which the annotation does not say.
    layout = tiles[0] if tiles else None
  if _has_one_channel(image):
    return image if image.mode == "P" or layout is None else _undo_shades(image, layout)
  # Pillow keeps only the upper byte of 16-bit channels, which is 0 for small ids.
  if ";16" in str(layout):
    raise ValueError(f"{path} has {image.mode!r} channels of 16 bits; expected 8")
  return image.getchannel("L") if image.mode == "LA" else image


def _undo_shades(image: Image.Image, layout: Any) -> Image.Image:
  """Returns a gray image with the numbers that its file stores, instead of Pillow's shades.

  Pillow scales 2 and 4 bits, and a netpbm file's greatest value, to white, and turns what is white
  at 0 around.

  Args:
    image: Image of one channel.
    layout: How Pillow decodes it, as `Image.tile` has it.
  """
  codec, arguments = layout.codec_name, layout.args
  shades = arguments if isinstance(arguments, str) else arguments[0]
  if not isinstance(shades, str):  # A format that has no shades to undo.
    return image
  white = {"1": 1, "L": 255}.get(image.mode, 65535)
  by_bits = {"2": 3, "4": 15}.get(shades[2:3], white)
  # A plain bitmap has no greatest value.
  has_greatest = codec.startswith("ppm") and not isinstance(arguments, str)
  greatest = int(arguments[1]) if has_greatest else by_bits
  inverted = re.fullmatch(r"[1L];\d*I", shades)
  if greatest == white and not inverted:
    return image
  values = np.array(image, np.int64)
  if inverted:
    values = white - values
  ids: np.ndarray = (values * greatest + white // 2) // white
  return Image.fromarray(ids.astype(np.uint8 if white < 65535 else np.int32))


def _to_ids(image: Image.Image, path: pathlib.Path) -> np.ndarray:
  """Returns an image's ids as integers (h, w), of 8 bits where the file has no more."""
  if _has_one_channel(image):
    values = np.array(image)
    return values.astype(np.uint8) if values.dtype == bool else values
  channels = _to_rgb(image, path)
  if (channels != channels[..., :1]).any():
    raise ValueError(f"{path} has colors ({image.mode}); expected one id a pixel")
  return channels[..., 0]


def _check_palette(
  image: Image.Image, by_id: Mapping[int, int], by_color: Mapping[Color, int], path: pathlib.Path
) -> None:
  """Raises ValueError if most used colors have labels, and one differs from that of its id.

  Palettes of other colors are common, and one or two of theirs may have labels by chance.
  """
  palette = np.reshape(image.getpalette() or [], (-1, 3)).tolist()
  ids = np.unique(np.asarray(image)).tolist()
  used = {id: tuple(palette[id]) for id in ids if id < len(palette)}
  listed = {id: color for id, color in used.items() if color in by_color}
  if len(listed) <= len(used) / 2:
    return
  for id, color in listed.items():
    if by_id.get(id) != by_color[color]:
      raise ValueError(
        f"{path} has a palette in which {id} is {color}, by id label {by_id.get(id)}, by color "
        f"label {by_color[color]}; expected them to agree, or a mask of three channels"
      )


def _has_one_channel(image: Image.Image) -> bool:
  """Returns whether an image has one channel of integers, or palette indices."""
  return image.mode in ("1", "L", "P") or image.mode.startswith("I")


def _to_rgb(image: Image.Image, path: pathlib.Path) -> np.ndarray:
  image = _as_8_bit(image, path)
  return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _as_8_bit(image: Image.Image, path: pathlib.Path) -> Image.Image:
  """Returns the image ready for `convert`; ValueError unless it has 8 bits per channel."""
  if image.mode.startswith(("I", "F")):
    raise ValueError(f"{path} has {image.mode!r} pixels; expected 8 bits a channel")
  # Dropping a palette's transparency in one step makes Pillow warn.
  return image.convert("RGBA") if "transparency" in image.info else image


@functools.lru_cache(maxsize=4)
def _color_table(items: tuple[tuple[Color, int], ...]) -> np.ndarray:
  """Builds the dense table of labels by 24-bit color, uint16 (2^24,): 32 MiB, hence the cache."""
  table = np.full(1 << 24, _UNKNOWN, np.uint16)
  for (red, green, blue), label in items:
    table[(red << 16) + (green << 8) + blue] = label
  return table


def _abbreviate(values: list) -> str:
  more = f" and {len(values) - 8} more" if len(values) > 8 else ""
  return ", ".join(map(str, values[:8])) + more


def _format_ids(table: Mapping[int, int]) -> str:
  """Formats a table's ids as ranges, as in "0..20 or, unlabeled, 255"."""
  ignored = {key for key, label in table.items() if label == UNLABELED}
  known = _format_ranges(table.keys() - ignored)
  return f"{known} or, unlabeled, {_format_ranges(ignored)}" if ignored else known


def _format_ranges(values: Set[int]) -> str:
  starts = sorted(value for value in values if value - 1 not in values)
  ends = sorted(value for value in values if value + 1 not in values)
  return ", ".join(
    str(start) if start == end else f"{start}..{end}"
    for start, end in zip(starts, ends, strict=True)
  )
