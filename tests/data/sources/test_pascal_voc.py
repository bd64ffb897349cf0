"""PASCAL VOC: its colors and classes, a tiny copy with the variants in use, then the real one."""

import numpy as np
import pytest
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.sources.pascal_voc import PascalVoc, color_map
from tests.helpers.published_weights import real

# Ids that meet all kinds of pixels: background, first and last class, outline.
IDS = np.array([[0, 1, 15], [20, 255, 0]], np.uint8).repeat(8, 0).repeat(8, 1)
OBJECTS = np.array([[0, 1, 2], [3, 255, 0]], np.uint8).repeat(8, 0).repeat(8, 1)


def save_mask(path, ids, *, palette=True):
  image = Image.fromarray(ids)
  if palette:
    image.putpalette([channel for color in color_map(256) for channel in color])
  path.parent.mkdir(parents=True, exist_ok=True)
  image.save(path)


def write(root, name, *, masks=("SegmentationClass", "SegmentationObject", "SegmentationClassAug")):
  (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full(IDS.shape, 99, np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
  for folder in masks:
    ids = OBJECTS if folder == "SegmentationObject" else IDS
    save_mask(root / folder / f"{name}.png", ids, palette=folder != "SegmentationClassAug")


def write_list(root, file, text):
  (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
  (root / "ImageSets" / "Segmentation" / file).write_text(text)


@pytest.fixture
def root(tmp_path):
  for name in ("2007_000032", "2007_000039"):
    write(tmp_path, name)
  write(tmp_path, "2008_000002", masks=("SegmentationClassAug",))
  write_list(tmp_path, "train.txt", "2007_000039\n2007_000032\n")
  write_list(tmp_path, "val.txt", "2007_000032\n")
  write_list(tmp_path, "trainval.txt", "2007_000032\n2007_000039\n")
  write_list(tmp_path, "train_aug.txt", "2007_000032\n2008_000002\n")
  return tmp_path


def test_pascal_voc_descriptor_has_official_classes_and_colors():
  descriptor = PascalVoc.descriptor
  colors = dict(zip(descriptor.classes, descriptor.palette, strict=True))
  assert len(colors) == 21 and descriptor.classes[0] == "background"
  assert list(descriptor.classes[1:]) == sorted(descriptor.classes[1:])
  published = {
    "background": (0, 0, 0),
    "aeroplane": (128, 0, 0),
    "bicycle": (0, 128, 0),
    "boat": (0, 0, 128),
    "cat": (64, 0, 0),
    "person": (192, 128, 128),
    "pottedplant": (0, 64, 0),
    "tvmonitor": (0, 64, 128),
  }
  assert {name: colors[name] for name in published} == published
  assert len(set(color_map(256))) == 256 and color_map(256)[255] == (224, 224, 192)


@pytest.mark.parametrize("split", ["train", "val", "trainval", "train_aug"])
def test_pascal_voc_reads_palette_and_gray_masks_alike(root, split):
  source = PascalVoc(str(root), split)
  check_files(source)
  for example in source:
    assert example["label"].dtype == np.int32 and np.array_equal(example["label"], IDS)


def test_pascal_voc_names_keep_order_of_list(root):
  assert PascalVoc(str(root), "train").names == ("2007_000039", "2007_000032")


@pytest.mark.parametrize("split", ["train", "val", "trainval"])
def test_pascal_voc_instances_lack_outlines(root, split):
  source = PascalVoc(str(root), split)
  assert source.descriptor.provides == {"label", "instance"}
  instance = source[0]["instance"]
  assert instance.dtype == np.int32
  assert np.array_equal(instance, np.where(OBJECTS == 255, 0, OBJECTS))


def test_pascal_voc_provides_instances_only_with_their_folder(root):
  added = PascalVoc(str(root), "train_aug")
  assert added.descriptor.provides == {"label"} and set(added[0]) == {"image", "label"}
  (root / "SegmentationObject").rename(root / "gone")
  source = PascalVoc(str(root), "train")
  assert source.descriptor.provides == {"label"} and set(source[0]) == {"image", "label"}
  assert PascalVoc.descriptor.provides == {"label"}


def test_pascal_voc_chooses_folder_of_masks_by_split(root):
  save_mask(root / "SegmentationClassAug" / "2007_000032.png", IDS * 0 + 7)
  assert np.array_equal(PascalVoc(str(root), "val")[0]["label"], IDS)
  assert (PascalVoc(str(root), "train_aug")[0]["label"] == 7).all()
  (root / "SegmentationClass").rename(root / "gone")
  assert (PascalVoc(str(root), "val")[0]["label"] == 7).all()


def test_pascal_voc_does_not_mix_folders_of_masks(root):
  (root / "SegmentationClass" / "2007_000032.png").unlink()
  message = r"lacks 1 files: .*SegmentationClass/2007_000032\.png"
  with pytest.raises(FileNotFoundError, match=message):
    check_files(PascalVoc(str(root), "train"))


@pytest.mark.parametrize(
  "form", ["{}", "/JPEGImages/{}.jpg /SegmentationClassAug/{}.png", "JPEGImages/{}.jpg"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_pascal_voc_reads_all_forms_of_lists_of_additional_masks(root, form, end):
  names = ("2008_000002", "2007_000039")
  (root / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()
  write_list(root, "trainaug.txt", end.join(form.replace("{}", name) for name in names))
  source = PascalVoc(str(root), "train_aug")
  assert source.names == names
  check_files(source)


def test_pascal_voc_refuses_line_of_two_names(root):
  write_list(root, "train_aug.txt", "/JPEGImages/a.jpg /SegmentationClassAug/b.png")
  with pytest.raises(ValueError, match=r"train_aug\.txt has the line '.*a\.jpg .*b\.png'; exp"):
    PascalVoc(str(root), "train_aug")


def test_pascal_voc_names_missing_list(root):
  (root / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()
  with pytest.raises(FileNotFoundError, match=r"Segmentation/train_aug\.txt does not exist; exp"):
    PascalVoc(str(root), "train_aug")


@pytest.mark.parametrize("below", ["VOC2012", "VOCdevkit/VOC2012"])
def test_pascal_voc_finds_folder_below_root(root, tmp_path_factory, below):
  above = tmp_path_factory.mktemp("above")
  (above / below).parent.mkdir(exist_ok=True)
  (above / below).symlink_to(root, target_is_directory=True)
  assert len(PascalVoc(str(above), "train")) == 2
  assert len(PascalVoc(str((above / below).parent), "train")) == 2


@pytest.mark.parametrize("bad", [21, 254])
def test_pascal_voc_names_unknown_id(root, bad):
  save_mask(root / "SegmentationClass" / "2007_000032.png", np.full(IDS.shape, bad, np.uint8))
  message = rf"2007_000032\.png holds the ids {bad}; expected 0\.\.20 or, unlabeled, 255"
  with pytest.raises(ValueError, match=message):
    PascalVoc(str(root), "val")[0]


def test_pascal_voc_refuses_mask_of_colors(root):
  colors = np.array(color_map(256), np.uint8)[IDS]
  Image.fromarray(colors).save(root / "SegmentationClass" / "2007_000032.png")
  with pytest.raises(ValueError, match=r"SegmentationClass/2007_000032\.png has colors"):
    PascalVoc(str(root), "val")[0]


@pytest.mark.parametrize(
  ("split", "published", "animals"),
  [("train", 1464, 437), ("val", 1449, 445), ("train_aug", 10582, 669)],
)
def test_pascal_voc_reads_published_photos(split, published, animals):
  """The whole data set, or its photos that are also in a collection of animals."""
  source = PascalVoc(str(real("VOC2012", "ASMJAX_DATA").parent), split)
  assert len(source) in (published, animals)
  check_files(source)
  labels = [source[index]["label"] for index in range(0, len(source), 10)]
  ids = np.unique(np.concatenate([label.ravel() for label in labels]))
  assert set(ids) <= {*range(21), 255} and {0, 255} <= set(ids)
  unlabeled = np.mean([(label == 255).mean() for label in labels])
  assert 0.02 < unlabeled < 0.1
