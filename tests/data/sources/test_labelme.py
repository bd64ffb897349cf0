"""labelme's files: its shapes, groups and names, and what is wrong with such folders."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from asmjax.data.files import check_files
from asmjax.data.sources.labelme import Labelme
from tests.helpers.tiny_files import assert_whole, save_photo

SIZE = (12, 16)


def png(mask):
  file = io.BytesIO()
  Image.fromarray(mask).save(file, "PNG")
  return base64.b64encode(file.getvalue()).decode()


def shape(label, points, kind="polygon", **fields):
  return {"label": label, "points": points, "shape_type": kind, "group_id": None} | fields


SHAPES = [
  shape("car", [[1, 1], [7, 1], [7, 6], [1, 6]]),
  shape("wheel", [[2, 3], [4, 5]], "rectangle", group_id=4),
  shape("wheel", [[6, 5], [4.9, 3.1]], "rectangle", group_id=4),
  shape("__ignore__", [[0, 8], [3, 8], [3, 9], [0, 9]]),
  shape("wheel", [[12, 6], [12, 7.2]], "circle"),
  shape("car", [[10, 0], [12, 1]], "mask", mask=png(np.array([[0, 1, 1], [1, 0, 0]], bool))),
]


def expected():
  label, instance = np.zeros(SIZE, np.int32), np.zeros(SIZE, np.int32)
  for region, value, number in (
    (np.s_[1:6, 1:7], 1, 1),
    (np.s_[3:5, 2:4], 2, 2),
    (np.s_[3:5, 5:6], 2, 2),
    (np.s_[8:9, 0:3], 255, 0),
    (np.s_[5:7, 11:13], 2, 5),
    (np.s_[0, 11:13], 1, 6),
    (np.s_[1, 10], 1, 6),
  ):
    label[region], instance[region] = value, number
  return label, instance


def write(root, name="train/a", *, size=SIZE, photo=None, **changes):
  (root / "classes.yaml").write_text("classes: [_background_, car, wheel]\n")
  path = root / f"{name}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  content = {"version": "5.5.0", "shapes": SHAPES, "imagePath": f"{path.stem}.png"}
  content |= {"imageData": None, "imageHeight": size[0], "imageWidth": size[1]} | changes
  path.write_text(json.dumps(content))
  save_photo(photo or path.with_suffix(".png"), SIZE, seed=sum(map(ord, name)))
  return root


def test_labelme_draws_every_kind_of_shape(tmp_path):
  source = Labelme(str(write(tmp_path)), "train")
  assert_whole(source)
  label, instance = expected()
  np.testing.assert_array_equal(source[0]["label"], label)
  np.testing.assert_array_equal(source[0]["instance"], instance)
  assert source.descriptor.classes == ("_background_", "car", "wheel")


def test_labelme_without_background_leaves_pixels_unlabeled(tmp_path):
  write(tmp_path)
  (tmp_path / "classes.yaml").write_text("classes: [car, wheel]\n")
  label, _ = expected()
  table = np.full(256, 255)
  table[[1, 2]] = 0, 1
  np.testing.assert_array_equal(Labelme(str(tmp_path), "train")[0]["label"], table[label])


def test_labelme_later_shapes_lie_above_earlier_ones(tmp_path):
  write(tmp_path, shapes=SHAPES[1::-1])
  label = Labelme(str(tmp_path), "train")[0]["label"]
  assert (label[1:6, 1:7] == 1).all() and not (label == 2).any()


def test_labelme_reads_old_files_of_polygons(tmp_path):
  """They lack kinds and groups."""
  write(tmp_path, shapes=[{"label": "car", "points": SHAPES[0]["points"]}])
  assert (Labelme(str(tmp_path), "train")[0]["label"][1:6, 1:7] == 1).all()


def test_labelme_follows_paths_that_windows_wrote(tmp_path):
  write(tmp_path, photo=tmp_path / "photos" / "x.png", imagePath="..\\photos\\x.png")
  assert_whole(Labelme(str(tmp_path), "train"))


def test_labelme_takes_of_several_pictures_the_one_that_the_file_says(tmp_path):
  write(tmp_path, imagePath="elsewhere/a.png")
  for end in ("bmp", "jpg"):
    save_photo(tmp_path / "train" / f"a.{end}", SIZE, seed=9)
  assert Labelme(str(tmp_path), "train").files(0)["image"].name == "a.png"
  write(tmp_path, imagePath="b.png")
  with pytest.raises(FileNotFoundError, match=r"lacks 1 files: .*train/b\.png"):
    check_files(Labelme(str(tmp_path), "train"))


def test_labelme_takes_brackets_of_a_path_as_they_are(tmp_path):
  write(tmp_path, "photos [v1]/train/a")
  source = Labelme(str(tmp_path), "train", annotations="photos [v1]/{split}")
  assert source.names == ("a",)


def test_labelme_splits_one_folder(tmp_path):
  for number in range(5):
    write(tmp_path, f"all/{number}")
  train, val, both = (
    Labelme(str(tmp_path), split, annotations="all").names for split in ("train", "val", "all")
  )
  assert len(val) == 1 and sorted(train + val) == list(both) == list("01234")


def test_labelme_lists_known_splits(tmp_path):
  (write(tmp_path) / "empty").mkdir()
  with pytest.raises(ValueError, match=r"'val'; known, .*: train; for files in one folder"):
    Labelme(str(tmp_path), "val")


def test_labelme_names_missing_photo(tmp_path):
  (write(tmp_path) / "train" / "a.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"lacks 1 files: .*train/a\.png"):
    check_files(Labelme(str(tmp_path), "train"))


def test_labelme_refuses_outlines_on_photo_as_stored(tmp_path):
  write(tmp_path)
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 8
  save_photo(tmp_path / "train" / "a.png", SIZE, exif=exif)
  with pytest.raises(ValueError, match=r"a\.json has .*12x16 .*EXIF orientation turns it"):
    Labelme(str(tmp_path), "train")[0]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"size": (6, 8)}, r"a\.json has .*a\.png as 6x8 .*expected 12x16"),
    ({"shapes": None}, "shapes is None; expected a list"),
    ({"shapes": [shape("weel", SHAPES[0]["points"])]}, "shape 1 is called 'weel'.*mean 'wheel'"),
    ({"shapes": [SHAPES[0] | {"shape_type": ["polygon"]}]}, "shape 1 is a .*, which has no area"),
    ({"shapes": [shape("car", [[1, 2]], "point")]}, "shape 1 is a 'point', which has no area"),
    ({"shapes": [shape("car", [[1, 2], [3, 4]])]}, "shape 1 has the points .*3 or more of .*poly"),
    ({"shapes": [shape("car", [[1, 2], [3, 4], ["a", 1]])]}, "shape 1 has the points"),
    ({"shapes": [shape("car", [[1, 2], [3, 4], [5, 1e300]])]}, "shape 1 has the points"),
    ({"shapes": [shape("car", [[1, 2]] * 3, "circle")]}, "expected 2 of .* for a circle"),
    ({"shapes": [SHAPES[5] | {"mask": "###"}]}, "shape 1: mask is no PNG in base64"),
    ({"shapes": [SHAPES[5] | {"mask": "aaaa"}]}, "shape 1: mask is no PNG in base64"),
    ({"shapes": [SHAPES[5] | {"points": [[10, 0], [13, 1]]}]}, "mask of 2x3 .*expected 2x4"),
    ({"shapes": [SHAPES[5] | {"points": [[14, 0], [16, 1]]}]}, "expected a box inside the photo"),
    ({"shapes": ["car"]}, "points is None"),
  ],
)
def test_labelme_refuses_malformed_files(tmp_path, changes, message):
  write(tmp_path, **changes)
  with pytest.raises(ValueError, match=rf"(?s)^(?!.*\n).*{message}"):
    Labelme(str(tmp_path), "train")[0]
