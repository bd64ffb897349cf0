"""Data sets that tensorflow-datasets has prepared by itself, read through a mapping of features."""

import json
import shutil

import cv2
import numpy as np
import pytest

from asmjax.data.tfds import Tfds
from tests.helpers.examples import assert_all_equal


def foreign(index):
  """Image, ids 0..2 and 9, and meters of a foreign example."""
  rng = np.random.default_rng(index)
  size = (8 + index, 11)
  ids = rng.choice(np.array([0, 1, 2, 9], np.uint8), size)
  return rng.integers(0, 256, (*size, 3), np.uint8), ids, rng.random(size).astype(np.float16)


def png(array):
  return cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()


def stored(index):
  image, ids, meters = foreign(index)
  truth = {"named": png(np.minimum(ids, 2)), "meters": meters}
  return {
    "image": png(image),
    "gray": png(image[..., 0]),
    "mask": png(ids),
    "truth": truth,
    "species": 1,
  }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """A data set of TFDS's own making: nested features, a gray image, names for one mask only."""
  import tensorflow_datasets as tfds

  kinds = tfds.features

  class Foreign(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    __module__ = "__main__"  # TFDS asks importlib_resources, not installed, where others are.
    VERSION = tfds.core.Version("2.0.0")

    def _info(self):
      features = kinds.FeaturesDict(
        {
          "image": kinds.Image(),
          "gray": kinds.Image(shape=(None, None, 1)),
          "mask": kinds.Image(shape=(None, None, 1)),
          "truth": {
            "named": kinds.LabeledImage(labels=["cat", "dog", "rest"]),
            "meters": kinds.Tensor(shape=(None, None), dtype=np.float16, encoding="zlib"),
          },
          "species": kinds.ClassLabel(names=["a", "b"]),
        }
      )
      return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, _):
      return {"train": self._generate_examples(range(6)), "test": self._generate_examples([6])}

    def _generate_examples(self, indices):
      return ((index, stored(index)) for index in indices)

  builder = Foreign(data_dir=tmp_path_factory.mktemp("foreign"), file_format="array_record")
  builder.download_and_prepare()
  return str(builder.data_path)


def test_tfds_reads_features_of_other_data_sets(prepared):
  features = {"image": "image", "label": "truth/named", "depth": "truth/meters"}
  source = Tfds(prepared, "train", features)
  assert source.descriptor.classes == ("cat", "dog", "rest")
  assert source.descriptor.provides == {"label", "depth"}
  assert source.descriptor.name == "foreign" and source.descriptor.splits == ("train", "test")
  expected = [
    {"image": image, "label": np.int32(np.minimum(ids, 2)), "depth": np.float32(meters)}
    for image, ids, meters in map(foreign, range(6))
  ]
  assert_all_equal(source, expected)
  np.testing.assert_array_equal(Tfds(prepared, "train[-1:]", features)[0]["image"], foreign(5)[0])


def test_tfds_repeats_gray_in_three_channels(prepared):
  image = Tfds(prepared, "test", {"image": "gray"})[0]["image"]
  np.testing.assert_array_equal(image, foreign(6)[0][..., :1].repeat(3, -1))


def test_tfds_refuses_unknown_ids_and_ignores_some(prepared):
  features, classes = {"image": "image", "label": "mask"}, ("cat", "dog", "rest")
  with pytest.raises(ValueError, match=r"example 0 of split 'test' in .*holds the ids 9.*0\.\.2"):
    Tfds(prepared, "test", features, classes)[0]
  ids = foreign(6)[1]
  label = Tfds(prepared, "test", features, classes, ignored=(9, 1))[0]["label"]
  np.testing.assert_array_equal(label, np.where((ids == 9) | (ids == 1), 255, ids))


@pytest.mark.parametrize(
  "options, message",
  [
    ({}, r"features must say which .*: gray, image, mask, species, truth/meters, truth/named"),
    ({"classes": ("a",)}, "classes and ignored are of no use without features"),
    ({"features": {"label": "mask"}}, "features has label; expected image as well"),
    ({"features": {"image": "photo"}}, r"features\.image: unknown feature 'photo'; known: gray"),
    ({"features": {"image": "image", "mask": "mask"}}, r"unknown key features\.mask; known: image"),
    (
      {"features": {"image": "image", "label": "mask"}},
      r"no class names for mask.*options\.classes",
    ),
  ],
)
def test_tfds_refuses_bad_options(prepared, options, message):
  with pytest.raises(ValueError, match=message):
    Tfds(prepared, "train", **options)


@pytest.mark.parametrize(
  "features, message",
  [
    ({"image": "image", "depth": "mask"}, "depth of example 0 .* is uint8; expected floating"),
    ({"image": "image", "label": "truth/meters"}, "label of example 0 .* is float16; expected int"),
    ({"image": "image", "normals": "truth/meters"}, "example 0 .*'normals' is float32"),
    ({"image": "image", "label": "species"}, r"example 0 .*'label' is int32\(1,\)"),
  ],
)
def test_tfds_refuses_features_of_wrong_kind(prepared, features, message):
  with pytest.raises(ValueError, match=message):
    Tfds(prepared, "train", features, classes=("a", "b", "c"))[0]


def test_tfds_names_conversion_of_other_formats(prepared, tmp_path):
  shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
  path = tmp_path / "dataset_info.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))
  with pytest.raises(ValueError, match="is in the format tfrecord.*tfds convert_format"):
    Tfds(str(tmp_path), "train", {"image": "image"})


@pytest.mark.parametrize("place", ["class", "legacy", "text"])
def test_tfds_runs_no_code_that_the_data_set_names(prepared, tmp_path, monkeypatch, place):
  """Three spellings that TFDS understands; the module would leave a file behind."""
  root, code = tmp_path / "data", tmp_path / "code"
  shutil.copytree(prepared, root)
  code.mkdir()
  (code / "from_elsewhere.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Kind: ...")
  monkeypatch.syspath_prepend(code)
  path = root / "features.json"
  tree, name = json.loads(path.read_text()), "from_elsewhere.Kind"
  features = tree["featuresDict"]["features"]
  legacy = {"type": name, "content": {}}
  sequence = "tensorflow_datasets.core.features.sequence_feature.Sequence"
  features["mask"] = {
    "class": features["mask"] | {"pythonClassName": name},
    "legacy": legacy,
    "text": {
      "pythonClassName": sequence,
      "jsonFeature": {"json": json.dumps({"feature": legacy, "length": 3})},
    },
  }[place]
  path.write_text(json.dumps(tree))
  with pytest.raises(ValueError, match=r"features.json names the class 'from_elsewhere.Kind', who"):
    Tfds(str(root), "train", {"image": "image"})
  assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["", "[" * 100_000, '{"featuresDict": 3}', "[]", "\0"])
def test_tfds_names_features_that_cannot_be_read(prepared, tmp_path, content):
  shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
  (tmp_path / "features.json").write_text(content)
  with pytest.raises(ValueError, match=rf"{tmp_path}.* cannot be read \("):
    Tfds(str(tmp_path), "train", {"image": "image"})
