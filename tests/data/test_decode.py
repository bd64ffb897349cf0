"""Decoders: every kind of file that photos and masks come as, and every kind that they must not."""

import struct

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from asmjax.data import decode

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (6, 9), np.uint8)
COLOR = RNG.integers(0, 256, (6, 9, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (6, 9, 1), np.uint8)
IDS = RNG.integers(0, 4, (6, 9), np.uint8)
WIDE = RNG.integers(256, 65536, (6, 9), np.uint16)
# Two ids of one color: only the indices tell them apart.
PALETTE = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 142], [0, 0, 142]], np.uint8)
SMOOTH = np.kron(RNG.integers(0, 256, (3, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)


def save(path, array, mode=None, **options):
  Image.fromarray(array).convert(mode).save(path, **options)
  return path


def save_wide(path, array):
  """16 bits a channel; red first, which Pillow cannot write."""
  cv2.imwrite(str(path), array if array.ndim == 2 else array[..., ::-1])
  return path


def save_palette(path, **options):
  image = Image.fromarray(IDS)
  image.putpalette(PALETTE.ravel().tolist())
  image.save(path, **options)
  return path


# Photos


@pytest.mark.parametrize("extension", ["png", "bmp", "ppm", "tif"])
def test_read_photo_returns_saved_pixels(tmp_path, extension):
  photo = decode.read_photo(save(tmp_path / f"a.{extension}", COLOR))
  assert photo.dtype == np.uint8 and np.array_equal(photo, COLOR)


def test_read_photo_drops_transparency(tmp_path):
  path = save(tmp_path / "a.png", np.concatenate([COLOR, ALPHA], -1))
  assert np.array_equal(decode.read_photo(path), COLOR)
  assert np.array_equal(decode.read_colors(path), COLOR)


def test_read_photo_repeats_gray_in_three_channels(tmp_path):
  for name, array in (("l.png", GRAY), ("la.png", np.stack([GRAY, ALPHA[..., 0]], -1))):
    assert np.array_equal(decode.read_photo(save(tmp_path / name, array)), np.dstack([GRAY] * 3))
  bits = decode.read_photo(save(tmp_path / "1.png", GRAY > 128))
  assert np.array_equal(bits, np.dstack([(GRAY > 128) * 255] * 3))


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128, 255])])
def test_read_photo_applies_palette(tmp_path, transparency):
  """A palette with several transparencies makes Pillow warn, which is an error here."""
  options = {} if transparency is None else {"transparency": transparency}
  path = save_palette(tmp_path / "a.png", **options)
  assert np.array_equal(decode.read_photo(path), PALETTE[IDS])
  assert np.array_equal(decode.read_colors(path), PALETTE[IDS])
  assert np.array_equal(decode.read_ids(path), IDS)
  assert decode.read_gray(path).shape == IDS.shape


def test_read_photo_converts_cmyk(tmp_path):
  path = save(tmp_path / "a.jpg", SMOOTH, "CMYK", quality=95)
  with Image.open(path) as stored:
    assert stored.mode == "CMYK"
  assert np.abs(decode.read_photo(path).astype(int) - SMOOTH).mean() < 8


# Where the top left corner of the upright picture lies in the stored one, by orientation.
@pytest.mark.parametrize(
  ("orientation", "stored"),
  [
    (1, lambda upright: upright),
    (2, lambda upright: upright[:, ::-1]),
    (3, lambda upright: upright[::-1, ::-1]),
    (4, lambda upright: upright[::-1]),
    (5, lambda upright: upright.transpose(1, 0, 2)),
    (6, lambda upright: np.rot90(upright, 1)),
    (7, lambda upright: upright[::-1, ::-1].transpose(1, 0, 2)),
    (8, lambda upright: np.rot90(upright, -1)),
  ],
)
def test_read_photo_applies_exif_orientation(tmp_path, orientation, stored):
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  path = save(tmp_path / "a.png", np.ascontiguousarray(stored(COLOR)), exif=exif)
  assert np.array_equal(decode.read_photo(path), COLOR)
  assert decode.is_rotated(path) == (orientation >= 5)


def test_is_rotated_is_false_without_orientation(tmp_path):
  assert not decode.is_rotated(save(tmp_path / "a.jpg", COLOR))


def test_read_photo_keeps_upper_bits_of_16(tmp_path):
  wide = COLOR.astype(np.uint16) * 256 + 255
  assert np.array_equal(decode.read_photo(save_wide(tmp_path / "a.png", wide)), COLOR)


@pytest.mark.parametrize("read", [decode.read_photo, decode.read_colors, decode.read_gray])
def test_readers_of_pictures_refuse_one_channel_of_16_bits(tmp_path, read):
  """Pillow would cut the values at 255, which makes a white picture."""
  path = save_wide(tmp_path / "a.png", WIDE)
  with pytest.raises(ValueError, match=r"a\.png has 'I;16' pixels; expected 8 bits a channel"):
    read(path)


# Masks


def test_read_ids_agrees_for_all_kinds_of_files(tmp_path):
  equal = np.dstack([IDS] * 3)
  files = [
    save(tmp_path / "gray.png", IDS),
    save_palette(tmp_path / "palette.png"),
    save(tmp_path / "equal.png", equal),
    save(tmp_path / "transparent.png", np.concatenate([equal, ALPHA], -1)),
    save(tmp_path / "gray_transparent.png", np.stack([IDS, ALPHA[..., 0]], -1)),
    save_wide(tmp_path / "wide.png", IDS.astype(np.uint16)),
    save(tmp_path / "gray.tif", IDS),
  ]
  for path in files:
    ids = decode.read_ids(path)
    assert ids.dtype == np.int32 and np.array_equal(ids, IDS), path.name


def test_read_ids_reads_1_and_16_bits(tmp_path):
  assert np.array_equal(decode.read_ids(save(tmp_path / "1.png", IDS > 1)), IDS > 1)
  path = save_wide(tmp_path / "16.png", WIDE)
  assert np.array_equal(decode.read_ids(path), WIDE)
  raw = decode.read_raw16(path)
  assert raw.dtype == np.uint16 and np.array_equal(raw, WIDE)


def test_read_ids_refuses_colors(tmp_path):
  path = save(tmp_path / "a.png", COLOR)
  with pytest.raises(ValueError, match=r"a\.png has colors \(RGB\); expected one id a pixel"):
    decode.read_ids(path)


def test_read_ids_refuses_fractions(tmp_path):
  path = save(tmp_path / "a.tif", IDS + np.float32(0.5))
  with pytest.raises(ValueError, match=r"a\.tif has 'F' pixels"):
    decode.read_ids(path)


@pytest.mark.parametrize("read", [decode.read_ids, decode.read_colors])
@pytest.mark.parametrize("channels", [3, 4])
def test_readers_of_masks_refuse_channels_of_16_bits(tmp_path, read, channels):
  """Pillow keeps the upper bytes, which are all 0 here."""
  path = save_wide(tmp_path / "a.png", np.dstack([IDS.astype(np.uint16)] * channels))
  with Image.open(path) as stored:
    assert not np.array(stored).any()
  with pytest.raises(ValueError, match=r"a\.png has 'RGBA?' channels of 16 bits; expected 8"):
    read(path)


@pytest.mark.parametrize("read", [decode.read_ids, decode.read_colors, decode.read_raw16])
@pytest.mark.parametrize(("name", "format"), [("a.jpg", "JPEG"), ("a.webp", "WEBP")])
def test_readers_of_masks_refuse_lossy_formats(tmp_path, read, name, format):
  path = save(tmp_path / name, IDS)
  with pytest.raises(ValueError, match=rf"{name} is a {format}, which blurs.*expected a PNG"):
    read(path)


def test_read_ids_refuses_jpeg_with_suffix_of_png(tmp_path):
  path = save(tmp_path / "a.png", IDS, format="JPEG")
  with pytest.raises(ValueError, match=r"a\.png is a JPEG"):
    decode.read_ids(path)


@pytest.mark.parametrize("array", [GRAY, COLOR, GRAY > 128])
def test_read_raw16_refuses_other_depths(tmp_path, array):
  path = save(tmp_path / "a.png", array)
  with pytest.raises(ValueError, match="expected one channel of 16 bits"):
    decode.read_raw16(path)


def test_read_raw16_refuses_values_above_16_bits(tmp_path):
  path = save(tmp_path / "a.tif", WIDE.astype(np.int32) + 65536)
  with pytest.raises(ValueError, match=r"a\.tif holds \d+\.\.\d+; expected 0\.\.65535"):
    decode.read_raw16(path)


# Broken files


@pytest.mark.parametrize(
  "read", [decode.read_photo, decode.read_gray, decode.read_ids, decode.read_colors]
)
@pytest.mark.parametrize("extension", ["png", "ppm", "jpg"])
@pytest.mark.parametrize("keep", [0, 1, 6, 30, -40])
def test_readers_name_broken_file(tmp_path, read, extension, keep):
  path = save(tmp_path / f"a.{extension}", COLOR)
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match=rf"a\.{extension} cannot be decoded \(.*bytes\); expected"):
    read(path)


def test_read_photo_refuses_text(tmp_path):
  (tmp_path / "a.png").write_text("<html>not found</html>")
  with pytest.raises(ValueError, match=r"a\.png cannot be decoded \(unknown format; 22 bytes"):
    decode.read_photo(tmp_path / "a.png")


@pytest.mark.parametrize(
  "read", [decode.read_photo, decode.read_ids, decode.read_lines, decode.is_rotated]
)
def test_readers_name_missing_file(tmp_path, read):
  with pytest.raises(FileNotFoundError, match=r"nothing\.png does not exist"):
    read(tmp_path / "nothing.png")
  (tmp_path / "folder").mkdir()
  with pytest.raises(FileNotFoundError, match="folder is a folder, no file"):
    read(tmp_path / "folder")


# Ids and colors to labels


def test_look_up_ids_agrees_with_a_loop():
  table = {0: 255, 7: 0, 8: 1, 300: 2, 65535: 255}
  raw = RNG.choice(list(table), (20, 30)).astype(np.int32)
  label = decode.look_up_ids(raw, table, "a.png")
  assert label.dtype == np.int32
  assert label.tolist() == [[table[value] for value in row] for row in raw.tolist()]


@pytest.mark.parametrize("bad", [-1, 2, 9, 255, 2**31 - 1, -(2**31)])
def test_look_up_ids_names_unknown_and_known_ids(bad):
  table = {0: 0, 1: 1, 4: 2, 8: 255}
  raw = np.array([[0, 1], [bad, bad]], np.int32)
  expected = rf"a\.png holds the ids {bad}; expected 0\.\.1, 4 or, unlabeled, 8"
  with pytest.raises(ValueError, match=expected):
    decode.look_up_ids(raw, table, "a.png")


def test_look_up_ids_abbreviates_many_unknown_ids():
  with pytest.raises(ValueError, match=r"ids 1, 2, 3, 4, 5, 6, 7, 8 and 12 more; expected 0$"):
    decode.look_up_ids(np.arange(21)[None], {0: 0}, "a.png")


def test_read_labels_of_colors_agrees_with_a_loop(tmp_path):
  table = {(0, 0, 1): 0, (0, 1, 0): 1, (1, 0, 0): 2, (255, 255, 255): 255}
  rgb = RNG.choice(np.array(list(table), np.uint8), (20, 30))
  label = decode.read_labels(save(tmp_path / "a.png", rgb), {}, table)
  assert label.dtype == np.int32
  assert label.tolist() == [[table[tuple(pixel)] for pixel in row] for row in rgb.tolist()]


def test_read_labels_names_unknown_colors(tmp_path):
  path = save(tmp_path / "a.png", np.array([[[0, 0, 1], [0, 0, 2]]], np.uint8))
  expected = r"a\.png holds the colors \(0, 0, 2\); expected \(0, 0, 1\)"
  with pytest.raises(ValueError, match=expected):
    decode.read_labels(path, {}, {(0, 0, 1): 0})


def test_read_labels_does_not_mix_two_tables_of_colors(tmp_path):
  path = save(tmp_path / "a.png", np.zeros((1, 1, 3), np.uint8))
  assert decode.read_labels(path, {}, {(0, 0, 0): 3}).item() == 3
  assert decode.read_labels(path, {}, {(0, 0, 0): 4}).item() == 4


def test_read_labels_chooses_ids_or_colors_by_channels(tmp_path):
  by_id = {index: index + 10 for index in range(4)}
  by_color = {(0, 0, 0): 20, (128, 64, 128): 21, (0, 0, 142): 22}
  alpha = np.full((*IDS.shape, 1), 9, np.uint8)
  for path in (
    save(tmp_path / "gray.png", IDS),
    save_palette(tmp_path / "palette.png"),
    save(tmp_path / "transparent.png", np.dstack([IDS, alpha])),
  ):
    assert np.array_equal(decode.read_labels(path, by_id, by_color), IDS + 10), path.name
  expected = np.array([20, 21, 22, 22])[IDS]
  for name, array in (("rgb", PALETTE[IDS]), ("rgba", np.dstack([PALETTE[IDS], alpha]))):
    path = save(tmp_path / f"{name}.png", array)
    assert np.array_equal(decode.read_labels(path, by_id, by_color), expected), name


def test_read_labels_takes_gray_colors_for_colors(tmp_path):
  """A mask of black and gray classes only must not turn into ids."""
  path = save(tmp_path / "a.png", np.full((2, 2, 3), 70, np.uint8))
  assert (decode.read_labels(path, {70: 1}, {(70, 70, 70): 2}) == 2).all()


# Lists


@pytest.mark.parametrize(
  "written",
  [
    b"one\ntwo words\nthree",
    b"one\r\ntwo words\r\nthree\r\n",
    b"\xef\xbb\xbfone\r\ntwo words\r\nthree\r\n",
    b"one\rtwo words\rthree",
    b"\n  one \n\n\ttwo words\nthree\n\n \n",
  ],
)
def test_read_lines_accepts_all_line_ends(tmp_path, written):
  (tmp_path / "a.txt").write_bytes(written)
  assert decode.read_lines(tmp_path / "a.txt") == ("one", "two words", "three")


@pytest.mark.parametrize("written", ["fünf".encode("latin-1"), "five".encode("utf-16")])
def test_read_lines_names_file_in_another_encoding(tmp_path, written):
  (tmp_path / "a.txt").write_bytes(written)
  with pytest.raises(ValueError, match=r"a\.txt is no text.*expected UTF-8"):
    decode.read_lines(tmp_path / "a.txt")


def test_read_lines_of_empty_file_is_empty(tmp_path):
  (tmp_path / "a.txt").write_bytes(b"")
  assert decode.read_lines(tmp_path / "a.txt") == ()


def test_read_labels_refuses_palette_that_contradicts_ids(tmp_path):
  """Tools that shrink PNGs renumber colors as they like."""
  by_id, by_color = {0: 0, 1: 1}, {(0, 0, 0): 0, (128, 64, 128): 1}
  ids = np.array([[0, 1], [1, 1]], np.uint8)
  for name, colors in (
    ("agrees", (0, 0, 0, 128, 64, 128)),
    ("swapped", (128, 64, 128, 0, 0, 0)),
    ("painted", (9, 9, 9, 8, 8, 8)),
    ("half", (9, 9, 9, 0, 0, 0)),
  ):
    picture = Image.fromarray(ids)
    picture.putpalette(colors)
    picture.save(tmp_path / f"{name}.png")
  for name in ("agrees", "painted", "half"):  # Unknown colors are decoration.
    label = decode.read_labels(tmp_path / f"{name}.png", by_id, by_color, palette_agrees=True)
    np.testing.assert_array_equal(label, ids)
  with pytest.raises(ValueError, match=r"swapped\.png .* in which 0 is \(128, 64, 128\)"):
    decode.read_labels(tmp_path / "swapped.png", by_id, by_color, palette_agrees=True)
  np.testing.assert_array_equal(decode.read_labels(tmp_path / "swapped.png", by_id, by_color), ids)
  picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
  picture.putpalette((128, 64, 128, 0, 0, 0, 1, 2, 3))  # The last has no label.
  picture.save(tmp_path / "more.png")
  with pytest.raises(ValueError, match=r"more\.png .* in which 0 is \(128, 64, 128\)"):
    decode.read_labels(tmp_path / "more.png", by_id | {2: 255}, by_color, palette_agrees=True)


def test_read_ids_detects_any_flipped_bit(tmp_path):
  path = tmp_path / "mask.png"
  ids = np.random.default_rng(0).integers(0, 5, (40, 60)).astype(np.uint8)
  Image.fromarray(ids).save(path)
  intact = path.read_bytes()
  for position in range(60, len(intact) - 20, 97):
    path.write_bytes(intact[:position] + bytes([intact[position] ^ 1]) + intact[position + 1 :])
    with pytest.raises(ValueError, match=r"mask\.png cannot be decoded"):
      decode.read_ids(path)


@pytest.mark.parametrize(
  "name, exif", [("a.png", b"Exif\0\0garbage!"), ("b.webp", b"Exif\0\0II*\0")]
)
def test_read_photo_takes_damaged_exif_for_upright(tmp_path, name, exif):
  Image.fromarray(COLOR).save(tmp_path / name, exif=exif, lossless=True)
  np.testing.assert_array_equal(decode.read_photo(tmp_path / name), COLOR)
  assert not decode.is_rotated(tmp_path / name)


@pytest.mark.parametrize("read", [decode.read_photo, decode.read_ids])
def test_readers_refuse_files_of_several_pages(tmp_path, read):
  first, second = (Image.fromarray(array) for array in (GRAY, 255 - GRAY))
  first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
  with pytest.raises(ValueError, match=r"a\.tif holds 2 pages; expected one"):
    read(tmp_path / "a.tif")


def save_tiff(path, bands, dtype, sample_format):
  """A whole TIFF, uncompressed, with any number of bands of any type; Pillow writes few."""
  pixels = np.random.default_rng(0).integers(0, 200, (4, 6, bands)).astype(dtype).tobytes()
  shorts = lambda *values: (3, len(values), struct.pack(f"<{len(values)}H", *values))
  start = 8 + 2 + 12 * 10 + 4
  bits, formats = ([value] * bands for value in (8 * np.dtype(dtype).itemsize, sample_format))
  entries = {256: shorts(6), 257: shorts(4), 258: shorts(*bits), 259: shorts(1), 262: shorts(1)}
  entries |= {277: shorts(bands), 278: shorts(4), 339: shorts(*formats)}
  outside = b"".join(value for _, _, value in entries.values() if len(value) > 4)
  entries |= {273: (4, 1, struct.pack("<I", start + len(outside)))}
  entries |= {279: (4, 1, struct.pack("<I", len(pixels)))}
  table, place = b"", start
  for tag, (kind, count, value) in sorted(entries.items()):
    if len(value) > 4:
      place, value = place + len(value), struct.pack("<I", place)
    table += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
  path.write_bytes(b"II*\0\10\0\0\0\12\0" + table + bytes(4) + outside + pixels)
  return path


@pytest.mark.parametrize(
  "bands, dtype, sample_format, words",
  [
    (5, np.uint8, 1, "5 bands of 8 bits, whole numbers"),
    (12, np.uint16, 1, "12 bands of 16 bits, whole numbers"),
    (3, np.float32, 3, "3 bands of 32 bits, floats"),
    (1, np.float64, 3, "1 bands of 64 bits, floats"),
  ],
)
@pytest.mark.parametrize("read", [decode.read_photo, decode.read_ids])
def test_readers_name_bands_that_are_not_read(tmp_path, read, bands, dtype, sample_format, words):
  path = save_tiff(tmp_path / "a.tif", bands, dtype, sample_format)
  with pytest.raises(ValueError, match=rf"a\.tif is a TIFF of {words}; expected a photo of 1, 3"):
    read(path)


def test_readers_call_other_tiffs_damaged(tmp_path):
  path = save_tiff(tmp_path / "a.tif", 3, np.uint8, 1)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match=r"a\.tif cannot be decoded"):
    decode.read_photo(path)


def test_read_ids_reads_gray_gifs_by_any_name(tmp_path):
  Image.fromarray(IDS).save(tmp_path / "a.png", format="GIF")
  np.testing.assert_array_equal(decode.read_ids(tmp_path / "a.png"), IDS)
