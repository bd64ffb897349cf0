"""What lies in folders beside files, and files that are not what they declare."""

import json
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from asmjax import pretrained
from asmjax.data import decode, image_files
from asmjax.data.files import check_files
from asmjax.data.inspection import inspect
from asmjax.data.sources.folder import Folder
from asmjax.inference.predict import PredictionJob
from tests.helpers import inference_runs
from tests.helpers.mutations import deadline


def bind_socket(path):
  """Binds a socket by a short path, as systems demand."""
  here = os.open(path.parent, os.O_RDONLY)
  with socket.socket(socket.AF_UNIX) as server:
    server.bind(f"/proc/self/fd/{here}/{path.name}")
  os.close(here)


KINDS = {
  "a link to nothing or to itself": lambda path: path.symlink_to(path),
  "a pipe": os.mkfifo,
  "a socket": bind_socket,
  "a device": lambda path: path.symlink_to("/dev/zero"),
  "a folder": os.mkdir,
}


@pytest.fixture
def root(tmp_path):
  for kind, array in (("images", np.zeros((8, 8, 3))), ("masks", np.zeros((8, 8)))):
    (tmp_path / kind / "train").mkdir(parents=True)
    for name in "ab":
      Image.fromarray(array.astype(np.uint8)).save(tmp_path / kind / "train" / f"{name}.png")
  (tmp_path / "classes.yaml").write_text("classes: [a, b]")
  return tmp_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["images/train/b.png", "masks/train/b.png", "classes.yaml"])
def test_data_folders_name_what_is_no_file(root, kind, place):
  """Nothing waits for a writer of a pipe, and nothing is read from a device."""
  path = root / place
  path.unlink()
  KINDS[kind](path)
  message = f"{path} is {kind}, no file"
  with deadline(20):
    if place == "classes.yaml":
      with pytest.raises(FileNotFoundError, match=message):
        Folder(str(root), "train")
      return
    source = Folder(str(root), "train")
    with pytest.raises(FileNotFoundError, match=rf"lacks 1 files: {path} \({kind}\)"):
      check_files(source)
    with pytest.raises(FileNotFoundError, match=message):
      source[1]
    unreadable = [each for each in inspect({"train": source}).problems if each.kind == "unreadable"]
    assert [each.message for each in unreadable] == [message]


def test_prediction_job_names_what_is_no_file(root, tmp_path):
  photos = root / "images" / "train"
  for number, make in enumerate(KINDS.values()):
    make(photos / f"{number}.png")
  with deadline(60):
    trained = inference_runs.trained(inference_runs.Strided)
    summary = PredictionJob(trained, photos, tmp_path / "out").run()
  expected = [f"{photos / f'{n}.png'} is {kind}; expected an image" for n, kind in enumerate(KINDS)]
  assert list(summary.faults) == expected[:-1]  # A folder is searched, whatever it is called.
  assert summary.num_images == 2


def declare_png(width, height):
  """A PNG of few pixels that declares a size."""
  chunks = {
    b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
    b"IDAT": zlib.compress(bytes(100)),
    b"IEND": b"",
  }
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    for kind, data in chunks.items()
  )


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (65_500, 65_500)])
def test_readers_refuse_sizes_that_would_fill_the_memory(tmp_path, size):
  path = tmp_path / "bomb.png"
  path.write_bytes(declare_png(*size))
  for read in (decode.read_photo, decode.read_ids, decode.is_rotated):
    with pytest.raises(ValueError, match=r"bomb\.png has .* pixels.*ASMJAX_MAX_MEGAPIXELS"):
      read(path)
  assert image_files.count_bytes(path) == 0


def test_readers_refuse_files_larger_than_any_picture(tmp_path):
  for name, read in (("a.png", decode.read_photo), ("a.txt", decode.read_lines)):
    path = tmp_path / name
    path.touch()
    os.truncate(path, 2**36)  # Without a block on the disk.
    with pytest.raises(ValueError, match=rf"{name} has {2**36} bytes; expected "):
      read(path)


def test_readers_take_pictures_of_one_column(tmp_path):
  array = np.arange(65_500, dtype=np.uint32).astype(np.uint8)[:, None]
  Image.fromarray(array).save(tmp_path / "thin.png")
  np.testing.assert_array_equal(decode.read_ids(tmp_path / "thin.png"), array)


LIES = {
  "begins after the file": {"a": {"dtype": "F32", "shape": [4], "data_offsets": [99, 115]}},
  "ends after the file": {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
  "is larger than its bytes": {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 16]}},
  "overflows": {"a": {"dtype": "F64", "shape": [2**33, 2**33], "data_offsets": [0, 16]}},
  "has a negative side": {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
  "has a type of its own": {"a": {"dtype": "os.system", "shape": [4], "data_offsets": [0, 16]}},
  "ends before it begins": {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
}


@pytest.mark.parametrize("lie", LIES)
def test_read_refuses_safetensors_whose_header_lies(tmp_path, lie):
  path, header = tmp_path / "x.safetensors", json.dumps(LIES[lie]).encode()
  path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
  with pytest.raises(ValueError, match=rf"{path}: expected safetensors weights"):
    pretrained.read(path, "safetensors")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 0])
def test_read_refuses_safetensors_whose_header_is_not_there(tmp_path, length):
  path = tmp_path / "x.safetensors"
  path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(16))
  with pytest.raises(ValueError, match=rf"{path}: expected safetensors weights"):
    pretrained.read(path, "safetensors")
