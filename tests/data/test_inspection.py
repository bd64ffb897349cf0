"""Inspecting a data set: planted problems are found, and nothing else."""

import dataclasses
import pathlib

import numpy as np
import pytest

from asmjax.data.descriptor import Descriptor
from asmjax.data.inspection import inspect, open_splits
from asmjax.data.wrappers import spread_indices
from tests.helpers.list_source import ListSource

CLASSES = ("floor", "wall", "lamp", "door")
SIZE = (6, 8)


def listed(examples, *, split="train", provides=("label",), files=""):
  """Source of the examples; `files` has a letter for the name of each example's files."""
  descriptor = Descriptor(
    "listed", CLASSES, ((0, 0, 0),) * 4, ("train", "val"), frozenset(provides)
  )
  paths = [
    {key: pathlib.Path(f"/{key}/{name}.png") for key in ("image", "label")} for name in files
  ]
  return ListSource(examples, descriptor, split, paths)


def example(seed, size=SIZE, **changes):
  """All keys filled within the contract."""
  rng = np.random.default_rng(seed)
  normals = rng.standard_normal((*size, 3))
  arrays = {
    "image": rng.integers(0, 256, (*size, 3), np.uint8),
    "label": rng.choice(np.array([0, 1, 255], np.int32), size),
    "depth": rng.choice([0, 1, 2, 5], size) * rng.uniform(0.5, 2, size).astype(np.float32),
    "normals": normals / np.linalg.norm(normals, axis=-1, keepdims=True),
    "instance": rng.integers(0, 4, size).astype(np.int32),
  }
  arrays["normals"][rng.random(size) < 0.3] = 0
  types = {"depth": np.float32, "normals": np.float32}
  return {key: value.astype(types.get(key, value.dtype)) for key, value in arrays.items()} | changes


def spoiled(key, value, seed=1):
  """An example with one pixel, at row 2 and column 3, that is not what it may be."""
  spoiled_example = example(seed)
  spoiled_example[key][2, 3] = value
  return spoiled_example


ALL = ("label", "depth", "normals", "instance")


def test_inspect_counts_clean_set_without_problems():
  examples = [example(seed, size) for seed, size in enumerate([(6, 8), (9, 4), (6, 8), (20, 30)])]
  examples[2]["label"][0, 0] = CLASSES.index("lamp")
  report = inspect({"train": listed(examples, provides=ALL)})
  assert report.problems == ()
  statistics = report.splits["train"].to_dict()
  assert statistics["examples"] == statistics["whole"] == 4
  assert statistics["size"] == {"min": (9, 4), "median": (6, 8), "max": (20, 30), "distinct": 3}
  flat = {key: [array[key].reshape(-1, *array[key].shape[2:]) for array in examples] for key in ALL}
  label, depth = np.concatenate(flat["label"]), np.concatenate(flat["depth"])
  assert statistics["label"]["unlabeled"] == pytest.approx((label == 255).mean())
  for index, name in enumerate(CLASSES):
    assert statistics["label"]["classes"][name] == {
      "pixels": (label == index).sum(),
      "share": pytest.approx((label == index).sum() / (label != 255).sum()),
      "images": sum((array == index).any() for array in flat["label"]),
    }
  assert statistics["label"]["absent"] == ["door"]
  medians = [np.median(array[array > 0]) for array in flat["depth"]]
  assert statistics["depth"] == pytest.approx(
    {
      "min": depth[depth > 0].min(),
      "max": depth.max(),
      "median": np.median(medians),
      "missing": (depth == 0).mean(),
    }
  )
  without = ~np.concatenate(flat["normals"]).any(-1)
  assert statistics["normals"] == {"missing": pytest.approx(without.mean())}
  number = sum(len(set(array) - {0}) for array in flat["instance"])
  assert statistics["instance"] == {"number": number, "per_image": number / 4}


ALTERED = {
  "unknown label": (spoiled("label", 4), "contract", "label is 4 .*row 2, column 3.*0..3"),
  "negative label": (spoiled("label", -1), "contract", "label is -1 "),
  "negative depth": (spoiled("depth", -0.5), "contract", "depth is -0.5 .1 of 48 pix.*meters"),
  "depth without end": (spoiled("depth", np.inf), "contract", "depth is inf"),
  "depth that is no number": (spoiled("depth", np.nan), "contract", "depth is nan"),
  "long normal": (spoiled("normals", (0, 0, 1.1)), "contract", r"normals is \[0.0, 0.0, 1.1.*th 1"),
  "normal that is no number": (spoiled("normals", np.nan), "contract", "normals is .nan"),
  "negative instance": (spoiled("instance", -2), "contract", "instance is -2"),
  "wide label": (
    example(1, label=np.zeros(SIZE, np.int64)),
    "contract",
    "'label' is int64.*expected int32",
  ),
  "small depth": (
    example(1, depth=np.ones((3, 4), np.float32)),
    "contract",
    r"\(1, 3, 4\).*\(1, 6, 8\)",
  ),
  "gray image": (example(1, image=np.zeros(SIZE, np.uint8)), "contract", "'image' is uint8"),
  "no pixels": (example(1, (0, 8)), "contract", "no pixels"),
  "no normals": (
    {key: value for key, value in example(1).items() if key != "normals"},
    "contract",
    r"lacks \['normals'\]",
  ),
  "no label": (
    example(1, label=np.full(SIZE, 255, np.int32)),
    "no truth",
    "label is missing at every",
  ),
  "no depth": (example(1, depth=np.zeros(SIZE, np.float32)), "no truth", "depth is missing"),
  "one color": (
    example(1, image=np.full((*SIZE, 3), (1, 2, 3), np.uint8)),
    "blank",
    r"every pixel is \(1, 2, 3",
  ),
  "cut file": (ValueError("/label/b.png cannot be decoded"), "unreadable", "^/label/b.png cannot"),
  "lost file": (FileNotFoundError("/image/b.png does not exist"), "unreadable", "does not exist"),
  "reader's mistake": (KeyError("depth"), "unreadable", "/image/b.png: KeyError: 'depth'"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_inspect_reports_exactly_the_planted_problem(what):
  broken, kind, message = ALTERED[what]
  source = listed([example(0), broken, example(2)], provides=ALL, files="abc")
  (problem,) = inspect({"train": source}).problems
  assert (problem.kind, problem.split) == (kind, "train")
  assert problem.file in problem.message and problem.file.endswith("/b.png")
  with pytest.raises(ValueError, match=message):
    raise ValueError(problem.message)


def test_inspect_names_file_of_faulty_key():
  no_label = example(1, label=np.full(SIZE, 255, np.int32))
  blank = example(2, image=np.zeros((*SIZE, 3), np.uint8))
  cut = ValueError("/label/d.png cannot be decoded")
  source = listed([spoiled("label", 9, seed=0), no_label, blank, cut], files="abcd")
  files = [problem.file for problem in inspect({"train": source}).problems]
  assert files == ["/label/a.png", "/label/b.png", "/image/c.png", "/label/d.png"]


def test_inspect_does_not_count_unreadable_examples():
  source = listed([example(0), OSError("no disk"), example(2)])
  report = inspect({"train": source})
  assert [problem.file for problem in report.problems] == ["train[1]"]
  sizes = {index: counts.size for index, counts in report.splits["train"].counts.items()}
  assert sizes == {0: (6, 8), 2: (6, 8)}


def test_inspect_accepts_images_without_instances():
  source = listed([example(0, instance=np.zeros(SIZE, np.int32))], provides=ALL)
  assert not inspect({"train": source}).problems


def test_inspect_finds_equal_images_in_and_across_splits():
  train = listed(
    [example(0), example(1), example(2), example(1, label=example(3)["label"])], files="abcd"
  )
  val = listed([example(4), example(2), example(5)], split="val")
  overlap, duplicate = sorted(
    inspect({"train": train, "val": val}).problems, key=lambda problem: problem.kind, reverse=True
  )
  assert (duplicate.kind, duplicate.split) == ("duplicate", "train")
  assert "/image/b.png (train), /image/d.png (train)" in duplicate.message
  assert (overlap.kind, overlap.split) == ("overlap", "train,val")
  assert "/image/c.png (train), val[1] (val)" in overlap.message


def test_inspect_tells_images_of_equal_bytes_by_shape():
  image = example(0)["image"]
  turned = example(1, (8, 6), image=image.reshape(8, 6, 3))
  assert not inspect({"train": listed([example(0), turned])}).problems


def test_inspect_finds_overlap_of_broken_files():
  broken = ValueError("/image/a.png cannot be decoded")
  splits = {name: listed([broken], split=name, files="a") for name in ("train", "val")}
  kinds = [problem.kind for problem in inspect(splits).problems]
  assert kinds == ["unreadable", "unreadable", "overlap"]


def test_inspect_reads_limit_examples_from_first_to_last():
  progress = []
  source = listed([example(0), OSError("skipped"), example(2), OSError("skipped"), example(4)])
  report = inspect({"train": source}, limit=3, advance=progress.append)
  assert not report.problems and list(report.splits["train"].counts) == [0, 2, 4]
  assert progress == ["train"] * 3


@pytest.mark.parametrize(("length", "limit"), [(10, 3), (7, 7), (4, 9), (5, 1), (3, None)])
def test_spread_indices_are_distinct_and_reach_both_ends(length, limit):
  indices = spread_indices(length, limit)
  assert len(set(indices)) == len(indices) == min(length, limit or length)
  assert indices[0] == 0 and (limit == 1 or indices[-1] == length - 1)


def test_open_splits_turns_errors_into_problems():
  def open_split(split):
    if split == "val":
      raise FileNotFoundError("val.txt does not exist")
    if split != "train":
      raise ValueError("classes.yaml is no YAML")
    return listed([example(0)])

  sources, problems = open_splits(open_split, ["all", "val", "train", "test"])
  assert list(sources) == ["train"]
  assert [(problem.kind, problem.split, problem.message) for problem in problems] == [
    ("split", "all,test", "classes.yaml is no YAML"),
    ("split", "val", "val.txt does not exist"),
  ]


def test_inspect_of_no_split_finds_nothing():
  assert inspect({}).problems == ()


def test_inspect_reports_splits_of_other_classes():
  first, second = (listed([example(seed)]) for seed in range(2))
  fewer = dataclasses.replace(second.descriptor, classes=CLASSES[1:], palette=((0, 0, 0),) * 3)
  second = dataclasses.replace(second, descriptor=fewer)
  (problem,) = inspect({"train": first, "val": second}).problems
  assert (problem.kind, problem.split) == ("classes", "val")
  assert problem.message == (
    f"splits train and val: label 0 is {CLASSES[0]!r} in one and {CLASSES[1]!r} in the other"
  )


def test_inspect_reports_masks_in_which_all_is_of_one_class():
  square = example(0)
  square["label"] = np.zeros_like(square["label"])
  square["label"][2:5, 2:5] = 255  # As in masks of 0 and 255 that are read as ids.
  (problem,) = inspect({"train": listed([square])}).problems
  assert problem.kind == "one class" and problem.split == "train"
  assert problem.message.startswith(f"all labeled pixels are of the class {CLASSES[0]!r}; expected")
