"""Stanford Background: a tiny copy of its layout with what can be wrong in it."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.sources.stanford_background import StanfordBackground, partition, read_matrix

SIZE = (6, 8)
SPLITS = {"luc_train": 573, "luc_test": 142, "load_train": 400, "load_val": 172, "load_test": 143}


def regions(values=None):
  values = np.arange(48).reshape(SIZE) % 8 if values is None else np.asarray(values)
  return "\n".join(" ".join(map(str, row)) for row in values) + "\n"


@pytest.fixture
def root(tmp_path):
  for folder in ("images", "labels"):
    (tmp_path / folder).mkdir()
  for name in ("0000047", "9005273"):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "labels" / f"{name}.regions.txt").write_text(regions())
  (tmp_path / "luc_train.txt").write_text("9005273\n0000047\n")
  return tmp_path


def horizons(root, count):
  (root / "horizons.txt").write_text("".join(f"{n:07d} 320 240 117\n" for n in range(count)))


def test_stanford_background_reads_negative_ids_as_unlabeled(root):
  values = np.arange(48).reshape(SIZE) % 8
  values[2, 3:5] = -1, -7
  (root / "labels" / "9005273.regions.txt").write_text(regions(values))
  example = StanfordBackground(str(root), "luc_train")[0]
  assert example["label"].dtype == np.int32
  np.testing.assert_array_equal(example["label"], np.where(values < 0, 255, values))
  classes = StanfordBackground.descriptor.classes
  assert (classes[0], classes[5], classes[7], len(classes)) == ("sky", "building", "foreground", 8)


def test_stanford_background_accepts_windows_line_ends_and_blanks(root):
  (root / "luc_train.txt").write_bytes(b"\xef\xbb\xbf9005273\r\n\r\n0000047\r\n")
  path = root / "labels" / "9005273.regions.txt"
  path.write_bytes(regions().replace(" ", "\t").replace("\n", " \r\n").encode())
  source = StanfordBackground(str(root), "luc_train")
  assert source.names == ("9005273", "0000047")
  np.testing.assert_array_equal(source[0]["label"], source[1]["label"])


def test_stanford_background_finds_folder_below_root(root, tmp_path_factory):
  above = tmp_path_factory.mktemp("above")
  (above / "iccv09Data").symlink_to(root, target_is_directory=True)
  assert len(StanfordBackground(str(above), "luc_train")) == 2


def test_stanford_background_splits_have_published_sizes(root):
  (root / "luc_train.txt").unlink()
  horizons(root, 715)
  names = {split: StanfordBackground(str(root), split).names for split in SPLITS}
  assert {split: len(split_names) for split, split_names in names.items()} == SPLITS
  for parts in (("luc_train", "luc_test"), ("load_train", "load_val", "load_test")):
    union = set().union(*(names[part] for part in parts))
    assert union == {f"{n:07d}" for n in range(715)}
  # What one paper's model was tested on, the other's was not trained on.
  assert not set(names["luc_test"]) & {*names["load_train"], *names["load_val"]}


def test_stanford_background_prefers_list_to_partition(root):
  horizons(root, 715)
  assert StanfordBackground(str(root), "luc_train").names == ("9005273", "0000047")
  assert len(StanfordBackground(str(root), "luc_test")) == 142


def test_stanford_background_luc_val_is_an_eighth_of_luc_train(root):
  (root / "luc_train.txt").unlink()
  horizons(root, 715)
  names = {split: StanfordBackground(str(root), split).names for split in ("luc_fit", "luc_val")}
  assert {split: len(split_names) for split, split_names in names.items()} == {
    "luc_fit": 501,
    "luc_val": 72,
  }
  train = StanfordBackground(str(root), "luc_train").names
  assert tuple(sorted(names["luc_fit"] + names["luc_val"])) == train
  # Of the photos in a list, if there is one; and a list of its own overrides that.
  (root / "luc_train.txt").write_text("".join(f"{n:07d}\n" for n in range(100, 180)))
  listed = {split: StanfordBackground(str(root), split).names for split in names}
  assert {split: len(split_names) for split, split_names in listed.items()} == {
    "luc_fit": 70,
    "luc_val": 10,
  }
  assert {*listed["luc_fit"], *listed["luc_val"]} == {f"{n:07d}" for n in range(100, 180)}
  (root / "luc_val.txt").write_text("0000047\n")
  assert StanfordBackground(str(root), "luc_val").names == ("0000047",)


@pytest.mark.parametrize("count", [714, 2])
def test_stanford_background_refuses_incomplete_data(root, count):
  horizons(root, count)
  with pytest.raises(ValueError, match=rf"names {count} photos; expected 715.*load_val\.txt"):
    StanfordBackground(str(root), "load_val")


def test_stanford_background_names_layout_without_horizons(root):
  with pytest.raises(FileNotFoundError, match=r"horizons\.txt does not exist.*ROOT/SPLIT\.txt"):
    StanfordBackground(str(root), "luc_test")


def test_stanford_background_refuses_unknown_split_and_empty_list(root):
  with pytest.raises(ValueError, match="'train'; known: luc_fit, luc_val, luc_train, luc_test, "):
    StanfordBackground(str(root), "train")
  (root / "luc_train.txt").write_text("\n")
  with pytest.raises(ValueError, match="'luc_train' of stanford_background.*is empty"):
    StanfordBackground(str(root), "luc_train")


def test_partition_depends_on_names_alone():
  names = [f"{n:04d}" for n in range(30)]
  parts = partition(names, {"a": 20, "b": 10})
  assert parts == partition(names[::-1], {"a": 20, "b": 10})
  assert sorted(parts["a"] + parts["b"]) == names and list(parts["b"]) == sorted(parts["b"])
  digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
  assert max(digests[name] for name in parts["a"]) < min(digests[name] for name in parts["b"])
  # A shuffle, not a run: both parts come from everywhere.
  assert set(parts["a"]) != set(names[:20]) and set(parts["b"]) & set(names[:20])


def test_partition_refuses_other_sum_of_sizes():
  with pytest.raises(ValueError, match=r"3 names cannot be cut into parts of \{'a': 2, 'b': 2\}"):
    partition(["x", "y", "z"], {"a": 2, "b": 2})


@pytest.mark.parametrize(
  "text, message",
  [
    ("", "is empty; expected rows of integers"),
    ("1 2 3\n1 2\n", "has 2 numbers in row 2; expected 3 as in row 1"),
    ("1 2\n3 sky\n", "holds no matrix .*'sky'"),
    ("1 2\n3 4.5\n", r"holds no matrix .*'4\.5'"),
    ("1 2\n3 99999999999\n", "holds no matrix"),
  ],
)
def test_read_matrix_refuses_malformed_text(root, text, message):
  path = root / "labels" / "9005273.regions.txt"
  path.write_text(text)
  with pytest.raises(ValueError, match=rf"9005273\.regions\.txt {message}"):
    read_matrix(path)
  with pytest.raises(ValueError, match=r"9005273\.regions\.txt"):
    StanfordBackground(str(root), "luc_train")[0]


def test_stanford_background_refuses_ids_above_classes(root):
  (root / "labels" / "9005273.regions.txt").write_text(regions(np.full(SIZE, 8)))
  with pytest.raises(ValueError, match=r"9005273\.regions\.txt holds the ids 8; expected 0\.\.7"):
    StanfordBackground(str(root), "luc_train")[0]


def test_stanford_background_names_both_files_of_different_sizes(root):
  (root / "labels" / "9005273.regions.txt").write_text(regions(np.zeros((8, 6), int)))
  with pytest.raises(ValueError, match=r"regions\.txt is 8x6.*expected 6x8.*9005273\.jpg"):
    StanfordBackground(str(root), "luc_train")[0]


@pytest.mark.parametrize("path", ["images/0000047.jpg", "labels/0000047.regions.txt"])
def test_stanford_background_files_include_photo_and_regions(root, path):
  source = StanfordBackground(str(root), "luc_train")
  check_files(source)
  (root / path).unlink()
  with pytest.raises(FileNotFoundError, match=f"lacks 1 files: .*{path}"):
    check_files(source)
