"""COCO's JSON of outlines: polygons, run lengths, crowds, overlaps, and what tools get wrong."""

import json
import pickle

import numpy as np
import pytest
from PIL import ExifTags, Image

from asmjax.data.files import check_files
from asmjax.data.sources.coco import Coco
from tests.helpers.tiny_files import assert_whole, save_photo

SIZE = (12, 16)
CATEGORIES = [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}]


def box(left, top, right, bottom):
  return [left, top, right, top, right, bottom, left, bottom]


# A crowd over the left half, a car, a cat before the car, and a cat in two parts.
RUNS = {"counts": [0, 96, 96], "size": list(SIZE)}
ANNOTATIONS = [
  {"image_id": 7, "category_id": 17, "segmentation": [box(4, 3, 6, 5)]},
  {"image_id": 7, "category_id": 3, "segmentation": [box(2, 2, 10, 9)]},
  {"image_id": 7, "category_id": 3, "segmentation": RUNS, "iscrowd": 1},
  {"image_id": 7, "category_id": 17, "segmentation": [box(12, 1, 13, 2), box(14, 1, 15, 2)]},
]


def expected():
  label, instance = np.zeros(SIZE, np.int32), np.zeros(SIZE, np.int32)
  label[:, :8] = 1
  label[2:9, 2:10], instance[2:9, 2:10] = 1, 2
  label[3:5, 4:6], instance[3:5, 4:6] = 2, 1
  label[1, [12, 14]], instance[1, [12, 14]] = 2, 4
  return label, instance


def write(root, *, path="annotations/instances_train.json", **changes):
  images = [
    {"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]},
    {"id": 8, "file_name": "sub/b.png", "height": SIZE[0], "width": SIZE[1]},
  ]
  content = {"categories": CATEGORIES, "images": images, "annotations": ANNOTATIONS} | changes
  (root / path).parent.mkdir(parents=True, exist_ok=True)
  (root / path).write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
  write(tmp_path)
  for seed, name in enumerate(("a.png", "sub/b.png")):
    save_photo(tmp_path / "train" / name, SIZE, seed=seed)
  return tmp_path


def test_coco_draws_outlines_in_order_of_their_sizes(root):
  source = Coco(str(root), "train")
  assert_whole(source)
  label, instance = expected()
  np.testing.assert_array_equal(source[0]["label"], label)
  np.testing.assert_array_equal(source[0]["instance"], instance)


def test_coco_order_of_annotations_only_numbers_instances(root):
  write(root, annotations=ANNOTATIONS[::-1])
  example, (label, instance) = Coco(str(root), "train")[0], expected()
  np.testing.assert_array_equal(example["label"], label)
  np.testing.assert_array_equal(example["instance"], np.where(instance, 5 - instance, 0))


def test_coco_photo_without_annotations_is_background(root):
  example = Coco(str(root), "train")[1]
  assert not example["label"].any() and not example["instance"].any()


def test_coco_descriptor_has_classes_in_order_of_ids(root):
  descriptor = Coco(str(root), "train").descriptor
  assert descriptor.classes == ("background", "car", "cat") and descriptor.splits == ("train",)
  assert descriptor.provides == {"label", "instance"} and len(set(descriptor.palette)) == 3


def test_coco_without_background_leaves_pixels_unlabeled(root):
  source = Coco(str(root), "train", background="")
  assert source.descriptor.classes == ("car", "cat")
  label, _ = expected()
  np.testing.assert_array_equal(source[0]["label"], np.where(label, label - 1, 255))


def test_coco_adds_no_background_that_the_file_has(root):
  write(root, categories=[*CATEGORIES, {"id": 20, "name": "background"}])
  source = Coco(str(root), "train")
  assert source.descriptor.classes == ("car", "cat", "background")
  label, _ = expected()
  np.testing.assert_array_equal(source[0]["label"], np.array([2, 0, 1])[label])


def test_coco_reads_compressed_run_lengths_alike(root):
  """ "0P3P3" are the lengths 0, 96, 96 by pycocotools."""
  annotations = [dict(ANNOTATIONS[2], segmentation={"counts": "0P3P3", "size": list(SIZE)})]
  write(root, annotations=annotations)
  np.testing.assert_array_equal(Coco(str(root), "train")[0]["label"][3], [1] * 8 + [0] * 8)


@pytest.mark.parametrize(
  ("path", "options"),
  [
    ("train/_annotations.coco.json", {"annotations": "{split}/_annotations.coco.json"}),
    ("result_train.json", {"annotations": "result_{split}.json", "images": "train"}),
  ],
)
def test_coco_paths_are_options(root, path, options):
  write(root, path=path)
  (root / "annotations" / "instances_train.json").unlink()
  check_files(Coco(str(root), "train", **options))


def test_coco_survives_pickling(root):
  source = pickle.loads(pickle.dumps(Coco(str(root), "train")))
  np.testing.assert_array_equal(source[0]["label"], expected()[0])


def test_coco_lists_known_splits(root):
  with pytest.raises(
    ValueError, match=r"'train2017'; known, by .*instances_\{split\}.*: train; exp"
  ):
    Coco(str(root), "train2017")


def test_coco_names_missing_photo(root):
  (root / "train" / "sub" / "b.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"lacks 1 files: .*train/sub/b\.png"):
    check_files(Coco(str(root), "train"))


def test_coco_refuses_outlines_on_photo_as_stored(root):
  """A phone's photo that is turned when it is shown, but was annotated as it is stored."""
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 6
  save_photo(root / "train" / "a.png", SIZE, exif=exif)
  with pytest.raises(ValueError, match="12x16 .*EXIF orientation turns it; expected .* 16x12"):
    Coco(str(root), "train")[0]


def test_coco_refuses_photo_of_another_size(root):
  save_photo(root / "train" / "a.png", (24, 32))
  with pytest.raises(ValueError, match=r"train\.json has .*a\.png as 12x16 .*expected 24x32"):
    Coco(str(root), "train")[0]


def changed(**fields):
  return {"annotations": [ANNOTATIONS[0] | fields]}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"annotations": None}, "annotations is None; expected a list"),
    ({"categories": [*CATEGORIES, {"id": 3, "name": "dog"}]}, "category 3 has the id 3 of 'car'"),
    ({"categories": [*CATEGORIES, {"id": 4, "name": "car"}]}, "category 3 is a second 'car'"),
    ({"categories": []}, "has 0 categories"),
    (
      {"images": [{"id": 7, "file_name": "/photos/a.png", "height": 12, "width": 16}]},
      "image 1: file_name is '/photos/a.png'; expected a path below",
    ),
    ({"images": [{"id": 7, "file_name": "a.png"}]}, "image 1: height is None; expected a whole"),
    ({"images": [], "annotations": []}, "split 'train' of coco .*is empty"),
    (changed(image_id=9), "annotation 1 is of image_id 9; expected an id under `images`"),
    (changed(category_id=1), "annotation 1 is of category_id 1; expected one of 3, 17"),
    (changed(segmentation=[]), r"annotation 1 has no outline; .*\(a box is none\)"),
    (changed(segmentation=[[1, 2, 3, 4]]), r"annotation 1: a polygon is \[1, 2, 3, 4\]; .*corners"),
    (changed(segmentation=[[1, 2, 3, 4, 5, None]]), "annotation 1: a polygon is .*corners|numbers"),
    (changed(segmentation=[[1, 2, 3, 4, 5, 1e300]]), "annotation 1: a polygon is .*corners"),
    (changed(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "annotation 1: a polygon is .*corners"),
    (changed(segmentation={"counts": [10**30], "size": [12, 16]}), "annotation 1: run lengths"),
    (changed(segmentation=[[1, 2, 3, 4, 5, "6x"]]), "annotation 1: a polygon is .*numbers"),
    (changed(segmentation={"counts": [3], "size": [12, 16]}), "add up to 3.* add up to 12 x 16"),
    (changed(segmentation={"counts": "?", "size": [12, 16]}), "annotation 1: run lengths"),
    (changed(segmentation={"counts": [192], "size": [16, 12]}), r"\[16, 12\]; expected \[12, 16\]"),
    (changed(segmentation={"counts": [3]}), "size of the run lengths is None; expected"),
    (changed(segmentation=None), "segmentation is None; expected a list or an object"),
  ],
)
def test_coco_refuses_malformed_files(root, change, message):
  write(root, **change)
  with pytest.raises(ValueError, match=rf"(?s)^(?!.*\n).*{message}"):
    Coco(str(root), "train")
