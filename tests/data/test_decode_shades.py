"""Ids are the numbers that a file stores, whatever shades Pillow makes of them."""

import struct
import zlib

import numpy as np
import pytest

from asmjax.data import decode


def pack(row, bits):
  """A row of numbers as bytes, the first number in the highest bits."""
  text = "".join(format(value, f"0{bits}b") for value in row.tolist())
  text += "0" * (-len(text) % 8)
  return int(text, 2).to_bytes(len(text) // 8, "big")


def gray_png(ids, bits):
  """A PNG of gray shades with few bits, which Pillow cannot write."""
  chunk = lambda kind, body: (
    struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
  )
  head = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
  rows = zlib.compress(b"".join(b"\0" + pack(row, bits) for row in ids))
  chunks = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
  return b"\x89PNG\r\n\x1a\n" + chunks


def gray_tiff(ids, bits, white_is_zero=False):
  """A TIFF of gray shades with few bits; white may be the number 0."""
  (height, width), rows = ids.shape, b"".join(pack(row, bits) for row in ids)
  entries = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1)]
  entries += [(262, 3, int(not white_is_zero)), (273, 4, 0), (277, 3, 1)]
  entries += [(278, 3, height), (279, 4, len(rows))]
  start = 8 + 2 + 12 * len(entries) + 4
  body = b"".join(
    struct.pack("<HHII", tag, kind, 1, start if tag == 273 else value)
    for tag, kind, value in entries
  )
  return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + rows


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_read_ids_returns_the_numbers_of_the_file_not_its_shades(tmp_path, bits):
  ids = (np.arange(16) % 2**bits).reshape(2, 8)
  files = {
    "a.png": gray_png(ids, bits),
    "b.tif": gray_tiff(ids, bits),
    "c.tif": gray_tiff(ids, bits, white_is_zero=True),
  }
  for name, content in files.items():
    (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(decode.read_ids(tmp_path / name), ids, name)


@pytest.mark.parametrize("greatest", [1, 20, 255, 300, 65535])
def test_read_ids_returns_the_numbers_of_netpbm_whatever_the_greatest(tmp_path, greatest):
  ids = np.array([[0, 1, greatest // 2, greatest]])
  text = f"{ids.shape[1]} {ids.shape[0]}\n{greatest}\n"
  (tmp_path / "plain.ppm").write_text(f"P2\n{text}{' '.join(map(str, ids.ravel()))}\n")
  raw = ids.astype(">u2" if greatest > 255 else np.uint8).tobytes()
  (tmp_path / "raw.ppm").write_bytes(f"P5\n{text}".encode() + raw)
  if greatest == 1:
    (tmp_path / "plain.pbm").write_text("P1\n4 1\n0 1 0 1\n")
    (tmp_path / "raw.pbm").write_bytes(b"P4\n4 1\n\x50")
  for path in tmp_path.iterdir():
    np.testing.assert_array_equal(decode.read_ids(path), ids, path.name)
