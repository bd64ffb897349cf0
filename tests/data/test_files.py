"""The base of data sets in folders: where the folder is, what it lacks, sizes that differ."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource, check_files


@dataclasses.dataclass(frozen=True)
class Tiny(FileSource):
  """The smallest data set that uses all of the base."""

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="tiny",
    classes=("a", "b"),
    palette=((0, 0, 0), (1, 1, 1)),
    splits=("train", "val"),
    provides=frozenset({"label", "instance"}),
  )
  marker_path: ClassVar[str] = "marks/here"
  subfolders: ClassVar[tuple[str, ...]] = ("tiny", "above/tiny")
  layout: ClassVar[str] = "ROOT/marks/here and more"

  @functools.cached_property
  def names(self):
    return self.read_list(f"{self.split}.txt")

  def files(self, index):
    return {
      key: self.folder / key / f"{self.names[index]}.png" for key in ("image", "label", "instance")
    }

  def read(self, files):
    example = {key: decode.read_ids(files[key]) for key in ("label", "instance")}
    return {"image": decode.read_photo(files["image"]), **example}


def write(folder, names=("x", "y"), size=(4, 6)):
  for key in ("marks/here", "image", "label", "instance"):
    (folder / key).mkdir(parents=True, exist_ok=True)
  for name in names:
    for key in ("image", "label", "instance"):
      Image.fromarray(np.zeros(size, np.uint8)).save(folder / key / f"{name}.png")
  (folder / "train.txt").write_text("\n".join(names))
  return folder


@pytest.mark.parametrize("below", [".", "tiny", "above/tiny"])
def test_file_source_finds_folder_at_or_below_root(tmp_path, below):
  folder = write(tmp_path / below)
  source = Tiny(str(tmp_path), "train")
  assert source.folder.resolve() == folder.resolve()
  assert len(source) == 2 and source[1]["image"].shape == (4, 6, 3)


def test_file_source_prefers_root_to_subfolders(tmp_path):
  write(tmp_path / "tiny", names=("below",))
  assert Tiny(str(tmp_path), "train").names == ("below",)
  write(tmp_path, names=("root",))
  assert Tiny(str(tmp_path), "train").names == ("root",)


@pytest.mark.parametrize("root", ["", None])
def test_file_source_refuses_empty_root(root):
  with pytest.raises(
    ValueError, match="of a sweep --set=data.root=FOLDER, the folder of the data set 'tiny'; exp"
  ):
    Tiny(root, "train")


def test_file_source_refuses_root_that_is_no_folder(tmp_path):
  (tmp_path / "file").write_text("")
  for root in (tmp_path / "file", tmp_path / "nothing"):
    with pytest.raises(FileNotFoundError, match=rf"data\.root {root} is no folder; expected ROOT"):
      Tiny(str(root), "train")


def test_file_source_refuses_folder_without_marker_path(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"marks/here does not exist; expected ROOT/marks"):
    Tiny(str(tmp_path), "train")


def test_file_source_refuses_unknown_missing_and_empty_splits(tmp_path):
  write(tmp_path)
  with pytest.raises(ValueError, match="unknown split 'test'; known: train, val"):
    Tiny(str(tmp_path), "test")
  with pytest.raises(FileNotFoundError, match=r"val\.txt does not exist; expected ROOT/marks"):
    Tiny(str(tmp_path), "val")
  (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbf\r\n \r\n")
  with pytest.raises(ValueError, match="split 'val' of tiny in .* is empty; expected ROOT/marks"):
    Tiny(str(tmp_path), "val")


def test_file_source_read_list_accepts_windows_line_ends(tmp_path):
  write(tmp_path)
  (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfy\r\nx\r\n")
  source = Tiny(str(tmp_path), "train")
  assert source.names == ("y", "x")
  check_files(source)


@pytest.mark.parametrize("index", [2, -1, 100])
def test_file_source_raises_index_error(tmp_path, index):
  with pytest.raises(IndexError, match=f"example {index} of a source with 2"):
    Tiny(str(write(tmp_path)), "train")[index]


def test_file_source_iteration_ends(tmp_path):
  assert len(list(Tiny(str(write(tmp_path)), "train"))) == 2


@pytest.mark.parametrize("key", ["label", "instance"])
@pytest.mark.parametrize("size", [(6, 4), (4, 7), (3, 6), (8, 12)])
def test_file_source_names_both_files_of_different_sizes(tmp_path, key, size):
  write(tmp_path)
  Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / key / "y.png")
  source = Tiny(str(tmp_path), "train")
  message = rf"{key}/y\.png is {size[0]}x{size[1]} .*; expected 4x6 as .*image/y\.png"
  with pytest.raises(ValueError, match=message):
    source[1]
  assert source[0][key].shape == (4, 6)


def test_check_files_counts_all_and_names_five_missing_files(tmp_path):
  names = [f"n{index}" for index in range(7)]
  write(tmp_path, names)
  source = Tiny(str(tmp_path), "train")
  check_files(source)
  (tmp_path / "label" / "n3.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"split 'train' of tiny lacks 1 files: .*n3\.png$"):
    check_files(source)
  for name in names:
    (tmp_path / "instance" / f"{name}.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"lacks 8 files: .*n0.*n1.*n2.*n3.*n3.*, \.\.\.$"):
    check_files(source)


def test_check_files_counts_files_of_missing_folder(tmp_path):
  write(tmp_path)
  (tmp_path / "instance").rename(tmp_path / "gone")
  with pytest.raises(FileNotFoundError, match="lacks 2 files"):
    check_files(Tiny(str(tmp_path), "train"))


def test_check_files_opens_no_file(tmp_path):
  write(tmp_path)
  (tmp_path / "image" / "x.png").write_bytes(b"")
  source = Tiny(str(tmp_path), "train")
  check_files(source)
  with pytest.raises(ValueError, match=r"image/x\.png cannot be decoded"):
    source[0]


def test_check_files_is_case_sensitive(tmp_path):
  """Data sets are copied between machines of which only some tell `X.png` from `x.png`."""
  write(tmp_path)
  (tmp_path / "label" / "x.png").rename(tmp_path / "label" / "X.png")
  with pytest.raises(FileNotFoundError, match=r"lacks 1 files: .*label/x\.png"):
    check_files(Tiny(str(tmp_path), "train"))


def test_descriptor_refuses_more_classes_than_labels():
  names = tuple(f"class {number}" for number in range(256))
  with pytest.raises(ValueError, match="tiny has 256 classes; expected at most 255"):
    Descriptor("tiny", names, ((0, 0, 0),) * 256, (), frozenset())
