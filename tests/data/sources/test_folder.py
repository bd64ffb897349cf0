"""A user's own folder: its layouts, and what is wrong with such folders."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from asmjax.data.files import check_files
from asmjax.data.sources.folder import Folder
from tests.helpers.class_lists import CSV, YAML

IDS = np.array([[0, 3], [7, 255]], np.uint8).repeat(6, 0).repeat(10, 1)
EXPECTED = np.array([[0, 1], [2, 255]]).repeat(6, 0).repeat(10, 1)
COLORS = {0: (0, 0, 0), 3: (128, 64, 128), 7: (70, 70, 70), 255: (255, 255, 255)}


def colored(ids):
  table = np.zeros((256, 3), np.uint8)
  for value, color in COLORS.items():
    table[value] = color
  return table[ids]


def save(path, array, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path, **options)


def photo(path, value=99, size=IDS.shape, **options):
  save(path, np.full((*size, 3), value, np.uint8), **options)


@pytest.fixture
def root(tmp_path):
  (tmp_path / "classes.yaml").write_text(YAML)
  for split, names in (("train", ("b.JPG", "a.png", "c.tif")), ("val", ("d.jpeg",))):
    for value, name in enumerate(names):
      photo(tmp_path / "images" / split / name, 10 * value)
      save(tmp_path / "masks" / split / f"{name[0]}.png", IDS)
  return tmp_path


# Layouts


def test_folder_reads_one_folder_per_split(root):
  source = Folder(str(root), "train")
  check_files(source)
  assert source.names == ("a", "b", "c")
  assert [int(example["image"].mean().round()) for example in source] == [10, 0, 20]
  assert all(np.array_equal(example["label"], EXPECTED) for example in source)
  descriptor = source.descriptor
  assert (
    descriptor.name == "folder" and descriptor.provides == {"label"} and descriptor.ignored == {255}
  )
  assert descriptor.classes == ("ground", "road", "wall") and descriptor.splits == ("train", "val")
  assert descriptor.palette == ((0, 0, 0), (128, 64, 128), (70, 70, 70))


def test_folder_class_has_a_descriptor():
  assert Folder.descriptor.name == "folder" and Folder.descriptor.provides == {"label"}


@pytest.mark.parametrize("text", ["b\na", "b.jpg\r\na.png\r\n\r\n", "\ufeffb.JPG\r\n\r\na"])
def test_folder_follows_lists_of_names(tmp_path, text):
  (tmp_path / "classes.csv").write_text(CSV)
  (tmp_path / "train.txt").write_bytes(text.encode())
  for value, name in enumerate(("a", "b", "not_listed")):
    photo(tmp_path / "images" / f"{name}.jpg", 50 * value)
    save(tmp_path / "masks" / f"{name}.png", IDS)
  options = {"images": "images", "masks": "masks", "lists": "{split}.txt"}
  source = Folder(str(tmp_path), "train", classes="classes.csv", **options)
  assert source.names == ("b", "a") and source.descriptor.splits == ("train",)
  assert [int(example["image"].mean().round()) for example in source] == [50, 0]


def test_folder_accepts_names_with_folders_in_lists(tmp_path):
  (tmp_path / "classes.yaml").write_text(YAML)
  (tmp_path / "train.txt").write_text("one/a\ntwo/a.png\n")
  for value, folder in enumerate(("one", "two")):
    photo(tmp_path / "images" / folder / "a.png", value)
    save(tmp_path / "masks" / folder / "a.png", IDS)
  source = Folder(str(tmp_path), "train", images="images", masks="masks", lists="{split}.txt")
  assert source.names == ("one/a", "two/a")
  assert [example["image"].max() for example in source] == [0, 1]


def test_folder_reads_camvid_as_segnet_has_it(tmp_path):
  """`train` and `trainannot`; the second must not be taken for a split."""
  (tmp_path / "classes.yaml").write_text(YAML)
  for split in ("train", "val"):
    photo(tmp_path / split / "0001TP_1.png")
    save(tmp_path / f"{split}annot" / "0001TP_1.png", IDS)
  source = Folder(str(tmp_path), "val", images="{split}", masks="{split}annot")
  assert source.descriptor.splits == ("train", "val")
  assert np.array_equal(source[0]["label"], EXPECTED)


def test_folder_reads_camvid_as_published(tmp_path):
  """All photos in one folder, all masks, in colors and with a suffix, in another."""
  (tmp_path / "colors.csv").write_text(
    "name,r,g,b\nground,0,0,0\nroad,128,64,128\nwall,70,70,70\n,255,255,255\n"
  )
  (tmp_path / "train.txt").write_text("0001TP_1.png\n")
  for name in ("0001TP_1", "0001TP_2"):
    photo(tmp_path / "701_StillsRaw_full" / f"{name}.png")
    save(tmp_path / "LabeledApproved_full" / f"{name}_L.png", colored(IDS))
  options = {
    "images": "701_StillsRaw_full",
    "masks": "LabeledApproved_full",
    "mask_suffix": "_L",
    "lists": "{split}.txt",
    "classes": "colors.csv",
  }
  source = Folder(str(tmp_path), "train", **options)
  assert len(source) == 1 and source.files(0)["label"].name == "0001TP_1_L.png"
  assert np.array_equal(source[0]["label"], EXPECTED)


# Masks


def palette_of_other_colors(ids):
  image = Image.fromarray(ids)
  image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
  return image


@pytest.mark.parametrize(
  "mask",
  [
    Image.fromarray(IDS),
    palette_of_other_colors(IDS),
    Image.fromarray(colored(IDS)),
    Image.fromarray(np.dstack([colored(IDS), IDS])),
    Image.fromarray(IDS.astype(np.uint16)),
  ],
  ids=["gray", "palette", "colors", "transparent", "16 bits"],
)
def test_folder_reads_ids_and_colors_by_one_list(root, mask):
  mask.save(root / "masks" / "val" / "d.png")
  assert np.array_equal(Folder(str(root), "val")[0]["label"], EXPECTED)


def test_folder_reads_equal_channels_as_ids_without_colors(root):
  (root / "classes.yaml").write_text("classes: [{name: ground}, {name: road}]")
  save(root / "masks" / "val" / "d.png", np.dstack([IDS % 2] * 3))
  assert np.array_equal(Folder(str(root), "val")[0]["label"], IDS % 2)


def test_folder_reads_black_and_white_masks_if_255_is_not_ignored(root):
  save(root / "masks" / "val" / "d.png", (IDS > 3).astype(np.uint8) * 255)
  classes = "classes: [{name: ground, id: 0}, {name: figure, id: 255}]\n"
  (root / "classes.yaml").write_text(classes)
  with pytest.raises(ValueError, match="ignored by default, entry 1: id 255 is taken by .*class 2"):
    Folder(str(root), "val")
  (root / "classes.yaml").write_text(classes + "ignored: []")
  assert np.array_equal(Folder(str(root), "val")[0]["label"], IDS > 3)


def test_folder_names_unknown_id_and_color(root):
  save(root / "masks" / "val" / "d.png", np.where(IDS == 255, 255, IDS + 1).astype(np.uint8))
  expected = r"val/d\.png holds the ids 1, 4, 8; expected 0, 3, 7 or, unlabeled, 255"
  with pytest.raises(ValueError, match=expected):
    Folder(str(root), "val")[0]
  save(root / "masks" / "val" / "d.png", colored(IDS) // 2)
  with pytest.raises(ValueError, match=r"val/d\.png holds the colors \(35, 35, 35\)"):
    Folder(str(root), "val")[0]


def test_folder_refuses_jpeg_mask(root):
  save(root / "masks" / "val" / "d.jpg", IDS)
  (root / "masks" / "val" / "d.png").unlink()
  with pytest.raises(ValueError, match=r"masks/val/d\.jpg is a JPEG"):
    Folder(str(root), "val")[0]


def test_folder_names_exif_orientation_of_rotated_photo(root):
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 6
  photo(root / "images" / "val" / "d.jpeg", exif=exif)
  message = (
    r"masks/val/d\.png is 12x20 .*as .*images/val/d\.jpeg is stored.*EXIF.*expected.*upright, 20x12"
  )
  with pytest.raises(ValueError, match=message):
    Folder(str(root), "val")[0]
  save(root / "masks" / "val" / "d.png", np.rot90(IDS))
  example = Folder(str(root), "val")[0]
  assert example["image"].shape[:2] == example["label"].shape == (20, 12)


def test_folder_names_sizes_alone_without_orientation(root):
  save(root / "masks" / "val" / "d.png", IDS.T)
  with pytest.raises(ValueError, match=r"masks/val/d\.png is 20x12 .*12x20 as .*d\.jpeg$"):
    Folder(str(root), "val")[0]


# Names


def test_folder_names_photo_without_mask(root):
  (root / "masks" / "train" / "b.png").unlink()
  message = r"1 of 3 names .*images/train/b\.JPG and .*masks/train/b\.\*"
  with pytest.raises(FileNotFoundError, match=message):
    Folder(str(root), "train")


def test_folder_names_missing_listed_photo(root):
  (root / "train.txt").write_text("a\nnothing\n")
  message = r"1 of 2 names .*images/train/nothing\.\* and .*masks/train/nothing\.\*"
  with pytest.raises(FileNotFoundError, match=message):
    Folder(str(root), "train", lists="{split}.txt")


def test_folder_refuses_name_twice_in_a_list(root):
  (root / "train.txt").write_text("a\nb\na.png\n")
  with pytest.raises(ValueError, match=r"split 'train' of folder .* has 'a' twice"):
    Folder(str(root), "train", lists="{split}.txt")


def test_folder_names_mask_without_photo(root):
  save(root / "masks" / "val" / "e.png", IDS)
  with pytest.raises(FileNotFoundError, match=r"1 masks have no photo; the first: .*val/e\.png"):
    Folder(str(root), "val")


def test_folder_names_the_suffix_that_all_masks_have(root):
  (root / "masks/val/d.png").rename(root / "masks/val/d_mask.png")
  with pytest.raises(FileNotFoundError, match="set data.options.mask_suffix=_mask, with which all"):
    Folder(str(root), "val")
  assert Folder(str(root), "val", mask_suffix="_mask").names == ("d",)
  save(root / "masks" / "val" / "e.png", IDS)
  with pytest.raises(FileNotFoundError, match="masks have no photo") as raised:
    Folder(str(root), "val")
  assert "mask_suffix" not in str(raised.value)


def test_folder_reads_masks_beside_their_photos(tmp_path):
  for name in "abcde":
    photo(tmp_path / "all" / f"{name}.png")
    save(tmp_path / "all" / f"{name}_mask.png", IDS)
  (tmp_path / "classes.yaml").write_text(YAML)
  beside = {"images": "all", "masks": "all", "mask_suffix": "_mask"}
  names = Folder(str(tmp_path), "all", **beside).names
  assert names == tuple("abcde")


def test_folder_reads_masks_of_all_splits_from_one_folder(root):
  for path in (root / "masks").glob("*/*.png"):
    path.rename(root / "masks" / path.name)
  (root / "masks" / "train").rmdir()
  (root / "masks" / "val").rmdir()
  source = Folder(str(root), "val", masks="masks")
  assert source.names == ("d",) and source.descriptor.splits == ("train", "val")


@pytest.mark.parametrize("twin", ["images/val/d.png", "masks/val/d.tif"])
def test_folder_refuses_two_pictures_of_one_name(root, twin):
  photo(root / twin)
  with pytest.raises(ValueError, match=r"val/d\.\w+ and .*val/d\.\w+ have one name"):
    Folder(str(root), "val")


def test_folder_skips_files_that_are_no_pictures(root):
  for name in ("Thumbs.db", ".DS_Store", "._d.jpeg", "d.json"):
    (root / "images" / "val" / name).write_text("")
  assert Folder(str(root), "val").names == ("d",)


def test_folder_reads_gray_and_transparent_photos(root):
  Image.fromarray(IDS).save(root / "images" / "val" / "gray.png")
  Image.fromarray(np.dstack([colored(IDS), IDS])).save(root / "images" / "val" / "alpha.png")
  save(root / "images" / "val" / "wide.png", IDS.astype(np.uint16))
  for name in ("gray", "alpha", "wide"):
    save(root / "masks" / "val" / f"{name}.png", IDS)
  source = Folder(str(root), "val")
  images = dict(zip(source.names, (source.files(index) for index in range(4)), strict=True))
  assert np.array_equal(source.read(images["gray"])["image"], np.dstack([IDS] * 3))
  assert np.array_equal(source.read(images["alpha"])["image"], colored(IDS))
  with pytest.raises(ValueError, match=r"val/wide\.png has 'I;16' pixels; expected 8 bits"):
    source.read(images["wide"])


# Splits


def test_folder_names_origin_of_splits(root):
  (root / "images" / "test").mkdir()
  message = r"'test'; known, by ROOT/images/\{split\} and ROOT/masks/\{split\} in .*: train, val"
  with pytest.raises(ValueError, match=message):
    Folder(str(root), "test")
  with pytest.raises(ValueError, match=r"'train'; known, by ROOT/\{split\}\.txt in .*: none"):
    Folder(str(root), "train", lists="{split}.txt")


def test_folder_refuses_empty_split(root):
  for kind in ("images", "masks"):
    (root / kind / "test").mkdir()
  with pytest.raises(ValueError, match="split 'test' of folder .* is empty; expected ROOT/classes"):
    Folder(str(root), "test")
  (root / "test.txt").write_bytes(b"\r\n")
  with pytest.raises(ValueError, match="split 'test' of folder .* is empty"):
    Folder(str(root), "test", lists="{split}.txt")


@pytest.mark.parametrize("options", [{"images": "all"}, {"lists": "all"}])
def test_folder_refuses_options_without_split(root, options):
  ((option, _),) = options.items()  # The folders of the masks are one a split.
  with pytest.raises(ValueError, match=rf"{option} is 'all'; expected \{{split\}} in it"):
    Folder(str(root), "train", **options)


def test_folder_splits_photos_of_one_folder_into_folds(tmp_path):
  (tmp_path / "classes.yaml").write_text(YAML)
  everything = [f"{index:02d}" for index in range(11)]
  for name in everything:
    photo(tmp_path / "photos" / f"{name}.png")
    save(tmp_path / "masks" / f"{name}.png", IDS)
  options = {"images": "photos", "masks": "masks", "folds": 4}
  names = lambda split, fold: list(Folder(str(tmp_path), split, fold=fold, **options).names)
  assert names("all", 0) == everything
  parts = [names("val", fold) for fold in range(4)]
  assert sorted(sum(parts, [])) == everything and {len(part) for part in parts} == {2, 3}
  for fold, part in enumerate(parts):
    assert names("train", fold) == sorted(set(everything) - set(part))
  assert Folder(str(tmp_path), "val", **options).descriptor.splits == ("all", "train", "val")
  with pytest.raises(ValueError, match="fold=4, folds=4; expected at least 2 folds"):
    names("val", 4)
  with pytest.raises(ValueError, match="known, .*: none; for photos in one folder, name it"):
    Folder(str(tmp_path), "train")


def test_folder_names_layout_without_list_of_classes(root):
  with pytest.raises(FileNotFoundError, match=r"classes\.csv does not exist; expected ROOT/cl"):
    Folder(str(root), "train", classes="classes.csv")


# Masks that are there, in a way


@pytest.mark.parametrize(
  "photo_name, mask_name, words",
  [
    ("x", "x.gif", r"x\.gif is there, but not read: expected one of \.bmp"),
    ("caf\u00e9", "cafe\u0301.png", "is there, but its name is written in another form of Unicode"),
    ("Street", "street.png", r"street\.png is there, but its name has other capitals"),
    ("x", "x.png/", r"x\.png is a folder"),
    ("x", "x.tif@", r"x\.tif is a link to nothing or to itself"),
  ],
)
def test_folder_names_masks_that_are_meant(root, photo_name, mask_name, words):
  mask = root / "masks/train" / mask_name.rstrip("/@")
  if mask_name.endswith("@"):
    mask.symlink_to(mask)
  elif mask_name.endswith("/"):
    mask.mkdir()
  else:
    save(mask, IDS)
  photo(root / "images/train" / f"{photo_name}.png")
  (root / "train.txt").write_text(photo_name)
  with pytest.raises((FileNotFoundError, ValueError), match=words):
    Folder(str(root), "train", lists="{split}.txt", images="images/train", masks="masks/train")[0]
  if "Unicode" in words:
    with pytest.raises(FileNotFoundError, match=f"1 masks have no photo.*{words}"):
      Folder(str(root), "train")
