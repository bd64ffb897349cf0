"""Files of images: what lies at a path, and opening it within limits.

Whatever the file holds, the only errors are a ValueError and a FileNotFoundError that name it.
"""

import io
import os
import pathlib
import stat
import threading
import warnings
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

# Pillow's names of the formats that it may try, whatever a file's suffix: of the others one runs
# a program on the file.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Environment variable with the largest number of pixels of an image, in millions. Beyond Pillow's
# own limit a few bytes could declare more than memory holds.
MAX_MEGAPIXELS = "ASMJAX_MAX_MEGAPIXELS"
# Largest number of bytes that an uncompressed file has for a pixel: 4 channels of 64 bits.
_MAX_BYTES_PER_PIXEL = 32
# First bytes of TIFF and BigTIFF, in both byte orders.
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_KINDS = {1: "whole numbers", 2: "signed numbers", 3: "floats"}  # By its tag SampleFormat.
_OPENING = threading.Lock()


def check_exists(path: pathlib.Path, why: str = "") -> None:
  """Raises FileNotFoundError unless `path` is a file; `why` ends the message."""
  kind = describe_kind(path)
  if kind != "a file":
    fault = f"is {kind}, no file" if kind else "does not exist"
    raise FileNotFoundError(f"{path} {fault}" + (f"; {why}" if why else ""))


def describe_kind(path: pathlib.Path) -> str:
  """Describes what lies at a path, such as "a file", "a folder" or "a link to nothing".

  Nothing is opened: reading from a pipe would wait for a writer. The description is empty if there
  is nothing.
  """
  try:
    mode = os.stat(path).st_mode
  except OSError:  # Nothing, too many links, a part of the path that is no folder ...
    try:
      is_link = stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):
      return ""
    return "a link to nothing or to itself" if is_link else ""
  except ValueError:  # The path has a null byte.
    return ""
  kinds = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
  }
  return kinds.get(stat.S_IFMT(mode), "a device")


def count_bytes(path: pathlib.Path) -> int:
  """Returns the size of an image as uint8 (h, w, 3) by its header; 0 if that cannot be read."""
  try:
    with open_header(path, path) as image:
      return 3 * image.width * image.height
  except (OSError, ValueError):
    return 0


def _max_pixels() -> float:
  """Returns the largest number of pixels of an image: Pillow's limit, or that of the user."""
  text = os.environ.get(MAX_MEGAPIXELS, "")
  try:
    return 1e6 * float(text) if text else Image.MAX_IMAGE_PIXELS or np.inf
  except ValueError as error:
    raise ValueError(f"{MAX_MEGAPIXELS} is {text!r}; expected a number of pixels / 1e6") from error


def open_header(source: pathlib.Path | io.BytesIO, path: pathlib.Path) -> Image.Image:
  """Opens an image without decoding its pixels; ValueError if it is too large or none.

  Args:
    source: File, or its content.
    path: Path of the file, for error messages.
  """
  check_exists(path)
  limit, before = _max_pixels(), Image.MAX_IMAGE_PIXELS
  try:
    # Pillow's limit and Python's filters are global.
    with _OPENING, warnings.catch_warnings():
      warnings.simplefilter("ignore", Image.DecompressionBombWarning)
      Image.MAX_IMAGE_PIXELS = None if limit == np.inf else int(limit)
      try:
        image = Image.open(source, formats=_FORMATS)
      finally:
        Image.MAX_IMAGE_PIXELS = before
  except Image.DecompressionBombError as error:
    raise ValueError(f"{path} has too many pixels ({error}); {_advise(limit)}") from error
  except Exception as error:  # What a parser raises on arbitrary bytes is arbitrary.
    raise ValueError(_describe_undecodable(path, error)) from error
  if image.width * image.height > limit:
    raise ValueError(f"{path} has {image.width} x {image.height} pixels; {_advise(limit)}")
  return image


def _advise(limit: float) -> str:
  return (
    f"expected at most {limit / 1e6:.1f} million, for a small file could fill the memory (set "
    f"{MAX_MEGAPIXELS} if you trust the file)"
  )


def open_image(path: pathlib.Path) -> Image.Image:
  """Reads and decodes an image completely, so that truncated or corrupt files raise."""
  check_exists(path)
  size, most = path.stat().st_size, _MAX_BYTES_PER_PIXEL * _max_pixels()
  if size > most:
    raise ValueError(f"{path} has {size} bytes; expected at most {most:.0f} of an image")
  return decode_image(path.read_bytes(), path)


def decode_image(content: bytes, path: pathlib.Path) -> Image.Image:
  """Decodes an image completely.

  Args:
    content: Content of an image file.
    path: Path of the file that has it, for error messages.
  """
  image = open_header(io.BytesIO(content), path)
  try:
    if image.format == "PNG":
      image.verify()  # Decoding alone does not check the pixels' checksums.
      image = open_header(io.BytesIO(content), path)
    image.load()
    pages = getattr(image, "n_frames", 1)
  except MemoryError as error:
    raise ValueError(f"{path} is too large for memory ({len(content)} bytes)") from error
  except Exception as error:  # As above.
    raise ValueError(_describe_undecodable(path, error)) from error
  if pages > 1 and image.format != "MPO":  # A phone's photo; behind it are previews and depths.
    raise ValueError(f"{path} holds {pages} pages; expected one")
  return image


def _describe_undecodable(path: pathlib.Path, error: Exception) -> str:
  """Describes an image that Pillow cannot decode."""
  if kind := _describe_tiff(path):
    return f"{path} {kind}"
  # Pillow's message would name the buffer in memory instead of the file.
  fault = "unknown format" if isinstance(error, UnidentifiedImageError) else error
  size = path.stat().st_size
  return f"{path} cannot be decoded ({fault}; {size} bytes); expected a whole image"


def _describe_tiff(path: pathlib.Path) -> str:
  """Describes the pixels of a TIFF that Pillow does not know; empty if it is none, or damaged."""
  with path.open("rb") as file:
    header = file.read(16)
    if not header.startswith(_TIFF_MAGIC):
      return ""
    try:
      is_big = 43 in header[2:4]
      tags: Any = TiffImagePlugin.ImageFileDirectory_v2(header if is_big else header[:8])
      file.seek(tags.next)
      tags.load(file)
      bands = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
      bits = int(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0])
      kind = _TIFF_KINDS.get(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0], "numbers")
    except Exception:  # As above.
      return ""
  if (bands in (1, 3, 4) and bits in (1, 8)) or (bands == 1 and bits == 16):
    return ""  # Of these it is damaged.
  return (
    f"is a TIFF of {bands} bands of {bits} bits, {kind}; expected a photo of 1, 3 or 4 bands of 8 "
    "bits, or ids in one band of at most 16: convert the bands that you need"
  )
