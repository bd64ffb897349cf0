"""2D-3D-Semantics: a tiny copy of its layout with what can be wrong in it."""

import json

import numpy as np
import pytest
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.sources.stanford2d3ds import Stanford2d3ds, read_table, unit_normals

AREAS = ("1", "2", "3", "4", "5a", "5b", "6")
SIZE = (4, 6)
ENTRIES = ["<UNK>_0_<UNK>_0_0", *(f"beam_{n}_office_1_1" for n in range(1, 300)), "wall_1_WC_1_5"]


def colors(index):
  """Indices as 24-bit colors, the most significant byte in red."""
  return np.stack([index >> 16, index >> 8 & 255, index & 255], -1).astype(np.uint8)


def name(area, frame=0):
  return f"camera_{area:0>32}_office_{frame + 1}_frame_{frame}"


def write(root, area, frame=0, *, index=None, depth=None, normals=None):
  index = np.zeros(SIZE, int) if index is None else index
  depth = np.full(SIZE, 1024, np.uint16) if depth is None else depth
  normals = np.full((*SIZE, 3), 128, np.uint8) if normals is None else normals
  rgb = np.zeros((*SIZE, 3), np.uint8)
  data = root / f"area_{area}" / "data"
  for folder, end, array in (
    ("rgb", "rgb", rgb),
    ("depth", "depth", depth),
    ("normal", "normals", normals),
    ("semantic", "semantic", colors(index)),
  ):
    (data / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(data / folder / f"{name(area, frame)}_domain_{end}.png")


@pytest.fixture
def root(tmp_path):
  for area in AREAS:
    write(tmp_path, area)
  (tmp_path / "assets").mkdir()
  (tmp_path / "assets" / "semantic_labels.json").write_text(json.dumps(ENTRIES))
  return tmp_path


def only(root, **maps):
  write(root, "5a", **maps)
  return Stanford2d3ds(str(root), "area_5a")[0]


def test_stanford2d3ds_folds_test_each_area_once(root):
  tested = []
  for fold in (1, 2, 3):
    train, test = (
      {name.split("/")[0] for name in Stanford2d3ds(str(root), f"fold{fold}_{part}").names}
      for part in ("train", "test")
    )
    assert not train & test and len(train | test) == 7
    tested.extend(test)
  assert sorted(tested) == [f"area_{area}" for area in AREAS]
  assert set(tested[:2]) == {"area_5a", "area_5b"} and set(tested[2:4]) == {"area_2", "area_4"}


def test_stanford2d3ds_names_are_sorted_within_areas(root):
  for frame in (10, 2, 1):
    write(root, "5b", frame)
  (root / "area_5b" / "data" / "rgb" / "Thumbs.db").touch()
  names = Stanford2d3ds(str(root), "fold1_test").names
  assert names == (
    f"area_5a/{name('5a')}",
    *sorted(f"area_5b/{name('5b', frame)}" for frame in (0, 1, 2, 10)),
  )


def test_stanford2d3ds_reads_classes_and_instances_from_index(root):
  index = np.array([[1, 299, 300, 0, 0x0D0D0D, 2]] * 4)
  example = only(root, index=index)
  beam, wall = map(Stanford2d3ds.descriptor.classes.index, ("beam", "wall"))
  assert example["label"].dtype == example["instance"].dtype == np.int32
  np.testing.assert_array_equal(example["label"], [[beam, beam, wall, 255, 255, beam]] * 4)
  np.testing.assert_array_equal(example["instance"], [[1, 299, 300, 0, 0, 2]] * 4)


def test_stanford2d3ds_descriptor_has_classes_of_paper():
  names = "ceiling floor wall beam column window door table chair sofa bookcase board clutter"
  assert set(Stanford2d3ds.descriptor.classes) == set(names.split())


def test_stanford2d3ds_reads_depth_in_meters(root):
  depth = np.array([[512, 768, 1, 0, 65535, 65534]] * 4, np.uint16)
  example = only(root, depth=depth)
  assert example["depth"].dtype == np.float32
  expected = [[1, 1.5, 1 / 512, 0, 0, 65534 / 512]] * 4
  np.testing.assert_array_equal(example["depth"], np.array(expected, np.float32))


def test_unit_normals_decode_published_colors():
  """Published: a surface that faces the camera is (128, 128, 255)."""
  rgb = np.array([[(128, 128, 255), (255, 128, 128), (127, 255, 127), (128, 128, 128)]], np.uint8)
  normals = unit_normals(rgb)
  assert normals.dtype == np.float32
  np.testing.assert_allclose(normals[0, :3], [(0, 0, 1), (1, 0, 0), (0, 1, 0)], atol=0.006)
  np.testing.assert_allclose(np.linalg.norm(normals[0, :3], axis=-1), 1, atol=1e-6)
  assert not normals[0, 3].any()


def test_stanford2d3ds_normals_survive_encoding(root):
  truth = np.random.default_rng(0).normal(size=(*SIZE, 3))
  truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
  rgb = np.round(127.5 + 127.5 * truth).astype(np.uint8)
  rgb[0, 0] = 128
  normals = only(root, normals=rgb)["normals"]
  truth[0, 0] = 0
  np.testing.assert_allclose(normals, truth, atol=0.008)


def test_stanford2d3ds_finds_list_of_labels_beside_areas(root):
  (root / "assets" / "semantic_labels.json").rename(root / "semantic_labels.json")
  (root / "assets").rmdir()
  assert (only(root, index=np.full(SIZE, 300))["instance"] == 300).all()
  (root / "semantic_labels.json").unlink()
  with pytest.raises(FileNotFoundError, match=r"assets/semantic_labels\.json does not exist, nor"):
    Stanford2d3ds(str(root), "area_1")


@pytest.mark.parametrize("split, missing", [("fold1_train", "area_3"), ("fold1_test", "area_5b")])
def test_stanford2d3ds_names_missing_areas(root, split, missing):
  (root / missing).rename(root / "elsewhere")
  with pytest.raises(FileNotFoundError, match=rf"'{split}'.*lacks data/rgb of {missing} in"):
    Stanford2d3ds(str(root), split)
  assert len(Stanford2d3ds(str(root), "area_1")) == 1


def test_stanford2d3ds_refuses_unknown_split_and_empty_area(root):
  with pytest.raises(ValueError, match="'train'; known: fold1_train"):
    Stanford2d3ds(str(root), "train")
  for path in (root / "area_2" / "data" / "rgb").iterdir():
    path.unlink()
  with pytest.raises(ValueError, match="split 'area_2' of stanford2d3ds.*is empty"):
    Stanford2d3ds(str(root), "area_2")


@pytest.mark.parametrize(
  "text, message",
  [
    ("[", "is no JSON"),
    ('{"a": 1}', "holds something else than text; expected a list"),
    ("[1, 2]", "holds something else than text; expected a list"),
    ("[]", r"starts with \[\]"),
    ('["wall_1_WC_1_5"]', r"starts with \['wall'\]; expected <UNK>"),
    ('["<UNK>_0_<UNK>_0_0", "stairs_1_a_1_1", "lamp_1_a_1_1"]', "holds the classes lamp, stairs"),
  ],
)
def test_read_table_refuses_malformed_lists(root, text, message):
  path = root / "assets" / "semantic_labels.json"
  path.write_text(text)
  for read in (lambda: read_table(path), lambda: Stanford2d3ds(str(root), "area_1")):
    with pytest.raises(ValueError, match=rf"semantic_labels\.json {message}"):
      read()


def test_stanford2d3ds_refuses_index_beyond_list(root):
  with pytest.raises(ValueError, match=r"semantic\.png holds the index 301; expected 0\.\.300"):
    only(root, index=np.full(SIZE, 301))


def test_stanford2d3ds_refuses_depth_of_8_bits(root):
  with pytest.raises(ValueError, match=r"domain_depth\.png .*16 bits"):
    only(root, depth=np.full(SIZE, 200, np.uint8))


@pytest.mark.parametrize("key", ["depth", "normals", "index"])
def test_stanford2d3ds_names_both_files_of_different_sizes(root, key):
  wrong = {
    "depth": np.ones((6, 4), np.uint16),
    "normals": np.zeros((6, 4, 3), np.uint8),
    "index": np.zeros((6, 4), int),
  }[key]
  end = "semantic" if key == "index" else key
  with pytest.raises(ValueError, match=rf"_domain_{end}\.png is 6x4.*expected 4x6.*_domain_rgb"):
    only(root, **{key: wrong})


@pytest.mark.parametrize(
  "path",
  [
    f"{folder}/{name('1')}_domain_{end}.png"
    for folder, end in (("depth", "depth"), ("normal", "normals"), ("semantic", "semantic"))
  ],
)
def test_stanford2d3ds_files_include_all_maps(root, path):
  source = Stanford2d3ds(str(root), "area_1")
  check_files(source)
  (root / "area_1" / "data" / path).unlink()
  with pytest.raises(FileNotFoundError, match=f"lacks 1 files: .*{path}"):
    check_files(source)
