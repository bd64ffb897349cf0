"""Inspection of a data set before a run: statistics of its splits, and problems with its files."""

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from asmjax import batch
from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.transforms import Example

# Tolerance of a normal's length: normals that were stored with 16 bits or normalized in float32
# pass, those decoded from 8 bits without normalization do not.
_UNIT_TOLERANCE = 1e-3

_ONE = np.ones(1, np.float32)


@dataclasses.dataclass(frozen=True)
class Problem:
  """Problem with one file, example or split.

  Attributes:
    kind: Kind of the problem: "split" (cannot be opened), "unreadable" (an example cannot be read),
      "contract" (an array of another type or shape, or values that its key may not have), "no
      truth" (nothing but missing values), "blank" (an image of one color), "duplicate" (the same
      image twice in a split) or "overlap" (the same image in two splits).
    split: Name of the split; for an overlap, all splits joined by commas.
    file: Path of the file, or "split[index]" for an example without files; empty if the problem is
      the split's.
    message: Message with the file, its content and what was expected.
  """

  kind: str
  split: str
  file: str
  message: str


@dataclasses.dataclass
class Statistics:
  """Statistics of the examples of a split.

  Examples that cannot be read, or have an array of a wrong type or shape, are left out.

  Attributes:
    descriptor: Descriptor of the data set.
    examples: Number of examples in the split.
    sizes: Number of images by (height, width).
    whole: Indices of the examples that are counted here.
    label_pixels: Number of pixels of each of c classes and, last, of no class, int64 (c + 1,).
    label_images: Number of images with at least one such pixel, int64 (c + 1,).
    depth: (Smallest, median, largest) depth in meters of each image that has any depth.
    depth_missing: Number of pixels without depth.
    normals_missing: Number of pixels without a normal.
    instances: Number of instances, summed over all images.
  """

  descriptor: Descriptor
  examples: int
  sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  whole: list[int] = dataclasses.field(default_factory=list)
  label_pixels: np.ndarray = dataclasses.field(init=False)
  label_images: np.ndarray = dataclasses.field(init=False)
  depth: list[tuple[float, float, float]] = dataclasses.field(default_factory=list)
  depth_missing: int = 0
  normals_missing: int = 0
  instances: int = 0

  def __post_init__(self) -> None:
    """Starts the classes' counts at zero."""
    self.label_pixels = np.zeros(len(self.descriptor.classes) + 1, np.int64)
    self.label_images = np.zeros_like(self.label_pixels)

  def _add(self, index: int, counts: "_Counts") -> None:
    """Adds the counts of example `index`."""
    self.whole.append(index)
    self.sizes[counts.size] += 1
    if counts.label is not None:
      self.label_pixels += counts.label
      self.label_images += counts.label > 0
    if counts.depth is not None:
      self.depth.append(counts.depth)
    self.depth_missing += counts.depth_missing
    self.normals_missing += counts.normals_missing
    self.instances += counts.instances

  @property
  def pixels(self) -> int:
    """Number of pixels of all images together."""
    return sum(height * width * count for (height, width), count in self.sizes.items())

  def summary(self) -> dict[str, Any]:
    """Returns the statistics of the data set's keys as the JSON-compatible section of a report."""
    by_area = sorted(self.sizes.elements(), key=lambda size: (size[0] * size[1], size))
    found: dict[str, Any] = {"examples": self.examples, "whole": len(self.whole)}
    if not by_area:
      return found
    found["size"] = {
      "min": by_area[0],
      "median": by_area[len(by_area) // 2],
      "max": by_area[-1],
      "distinct": len(self.sizes),
    }
    sections = {
      "label": self._label_summary,
      "depth": self._depth_summary,
      "normals": lambda: {"missing": self.normals_missing / self.pixels},
      "instance": lambda: {"number": self.instances, "per_image": self.instances / len(self.whole)},
    }
    provided = {key: make() for key, make in sections.items() if key in self.descriptor.provides}
    return found | provided

  def _label_summary(self) -> dict[str, Any]:
    *pixels, unlabeled = self.label_pixels.tolist()
    rows = list(zip(self.descriptor.classes, pixels, self.label_images.tolist()[:-1], strict=True))
    return {
      "ignored_ids": sorted(self.descriptor.ignored),
      "unlabeled": unlabeled / self.pixels,
      "classes": {
        name: {"pixels": count, "share": count / max(sum(pixels), 1), "images": images}
        for name, count, images in rows
      },
      "absent": [name for name, count, _ in rows if not count],
    }

  def _depth_summary(self) -> dict[str, float]:
    missing = {"missing": self.depth_missing / self.pixels}
    if not self.depth:
      return missing
    least, median, greatest = np.array(self.depth).T
    return {
      "min": float(least.min()),
      "median": float(np.median(median)),
      "max": float(greatest.max()),
      **missing,
    }


@dataclasses.dataclass(frozen=True)
class Report:
  """Result of an inspection.

  Attributes:
    splits: Statistics by name of the split.
    problems: Problems in the order of the splits and their examples; images that appear more than
      once come last.
  """

  splits: Mapping[str, Statistics]
  problems: tuple[Problem, ...]

  def to_dict(self) -> dict[str, Any]:
    """Returns the report as values that JSON can represent."""
    return {
      "splits": {name: split.summary() for name, split in self.splits.items()},
      "problems": [dataclasses.asdict(problem) for problem in self.problems],
    }


def open_splits(
  make: Callable[[str], Source], splits: Iterable[str]
) -> tuple[dict[str, Source], tuple[Problem, ...]]:
  """Opens splits, and turns the errors of those that cannot be opened into problems.

  Args:
    make: Function that opens a split by its name.
    splits: Names of the splits.

  Returns:
    The sources by name of the split, and one problem for each split that cannot be opened.
  """
  sources, problems = {}, []
  for split in splits:
    try:
      sources[split] = make(split)
    except (ValueError, OSError) as error:
      problems.append(Problem("split", split, "", str(error)))
  return sources, tuple(problems)


def inspect(
  sources: Mapping[str, Source],
  *,
  limit: int | None = None,
  advance: Callable[[str], None] = lambda split: None,
) -> Report:
  """Inspects a data set: reads every example once, in threads, and keeps only counts and hashes.

  Images are compared by their decoded pixels, so that names and encodings do not matter.  Equal
  images count as duplicates, similar ones do not.

  Args:
    sources: Source of each split, by name. They should not cache.
    limit: Number of examples to read of every split, evenly spread; None, the default, reads all.
    advance: Function called with the name of the split after each example, to report progress.

  Returns:
    The statistics of every split, and the problems.
  """
  statistics, problems = {}, []
  seen: dict[Any, list[tuple[str, str]]] = {}
  with ThreadPoolExecutor() as pool:
    for split, source in sources.items():
      statistics[split] = Statistics(source.descriptor, len(source))
      examine = functools.partial(_examine, split, source)
      for found in pool.map(examine, evenly(len(source), limit)):
        problems += found.problems
        seen.setdefault(found.key, []).append((split, found.file))
        if found.counts is not None:
          statistics[split]._add(found.index, found.counts)
        advance(split)
  return Report(statistics, (*problems, *_repeated(seen.values())))


def evenly(length: int, limit: int | None) -> list[int]:
  """Returns at most `limit` indices of 0..length-1, evenly spread from first to last."""
  if limit is None or limit >= length:
    return list(range(length))
  return np.linspace(0, length - 1, limit).round().astype(int).tolist()


class _Counts(NamedTuple):
  """Counts of one example, with the names of the `Statistics` that they add to."""

  size: tuple[int, int]
  label: np.ndarray | None = None
  depth: tuple[float, float, float] | None = None
  depth_missing: int = 0
  normals_missing: int = 0
  instances: int = 0


class _Finding(NamedTuple):
  """Result for one example; equal images have equal keys, malformed examples no counts."""

  index: int
  file: str
  key: Any
  problems: list[Problem]
  counts: _Counts | None = None


def _examine(split: str, source: Source, index: int) -> _Finding:
  """Reads and checks one example."""
  files = {key: str(path) for key, path in source.files(index).items()}
  name = files.get("image", f"{split}[{index}]")
  try:
    example = source[index]
  except Exception as error:  # A library may raise anything; other examples are still checked.
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    file = next((each for each in files.values() if each in str(error)), name)
    return _Finding(index, name, name, [_problem("unreadable", split, file, f"{kind}{error}")])
  faults = _shape_faults(example, source.descriptor)
  whole = not faults
  if whole:
    faults = _value_faults(example, source.descriptor)
  problems = [_problem(kind, split, files.get(key, name), message) for kind, key, message in faults]
  if not whole:
    return _Finding(index, name, name, problems)
  counts = _counts(example, source.descriptor)
  return _Finding(index, name, _digest(example["image"]), problems, counts)


def _problem(kind: str, split: str, file: str, message: str) -> Problem:
  return Problem(kind, split, file, message if file in message else f"{file}: {message}")


# A fault is (kind, key of the example, message).
_Fault = tuple[str, str, str]


def _shape_faults(example: Example, descriptor: Descriptor) -> list[_Fault]:
  """Returns violations of the batch contract's types and shapes, checked key by key."""
  faults = []
  for key in ("image", *sorted(descriptor.provides)):
    alone = {each: np.asarray(example[each])[None] for each in ("image", key) if each in example}
    try:
      batch.check({**alone, "weight": _ONE}, required=(key,))
    except ValueError as error:
      faults.append(("contract", key, str(error)))
      if key == "image":  # The other keys would be compared with a wrong size.
        break
  if not faults and not example["image"].size:
    faults.append(("contract", "image", f"the image has no pixels: {example['image'].shape}"))
  return faults


def _value_faults(example: Example, descriptor: Descriptor) -> list[_Fault]:
  """Returns faults of an example's values, whose types and shapes are as they should be."""
  image = example["image"]
  faults = []
  if (image == image[0, 0]).all():
    faults.append(("blank", "image", f"every pixel is {tuple(image[0, 0].tolist())}"))
  for key in sorted(descriptor.provides):
    bad, missing, expected = _CHECKS[key](example[key], descriptor)
    if bad.any():
      row, column = np.argwhere(bad)[0].tolist()
      found = f"{bad.sum()} of {bad.size} pixels, the first at row {row}, column {column}"
      value = example[key][row, column].tolist()
      faults.append(("contract", key, f"{key} is {value} ({found}); expected {expected}"))
    if key != "instance" and missing.all():
      faults.append(("no truth", key, f"{key} is missing at every pixel"))
  return faults


# Result of a check: pixels with impossible values, pixels without truth, and what is expected.
_Verdict = tuple[np.ndarray, np.ndarray, str]


def _check_label(label: np.ndarray, descriptor: Descriptor) -> _Verdict:
  classes = len(descriptor.classes)
  missing = label == batch.UNLABELED
  expected = f"0..{classes - 1}, or {batch.UNLABELED} where unlabeled"
  return ((label < 0) | (label >= classes)) & ~missing, missing, expected


def _check_depth(depth: np.ndarray, _: Descriptor) -> _Verdict:
  return ~(np.isfinite(depth) & (depth >= 0)), depth == 0, "meters, or 0 where missing"


def _check_normals(normals: np.ndarray, _: Descriptor) -> _Verdict:
  length = np.linalg.norm(normals, axis=-1)
  missing = length == 0
  # Comparisons with NaN are false, so that negating this one counts NaN as bad.
  bad = ~(np.abs(length - 1) <= _UNIT_TOLERANCE) & ~missing
  return bad, missing, "a vector of length 1, or 0 where missing"


def _check_instance(instance: np.ndarray, _: Descriptor) -> _Verdict:
  return instance < 0, instance == 0, "an id from 1, or 0 for none"


_CHECKS = {
  "label": _check_label,
  "depth": _check_depth,
  "normals": _check_normals,
  "instance": _check_instance,
}


def _counts(example: Example, descriptor: Descriptor) -> _Counts:
  """Counts what one example adds to `Statistics`."""
  counts: dict[str, Any] = {"size": example["image"].shape[:2]}
  if "label" in descriptor.provides:
    classes, label = len(descriptor.classes), example["label"]
    known = (label >= 0) & (label < classes)
    counts["label"] = np.bincount(np.where(known, label, classes).ravel(), minlength=classes + 1)
  if "depth" in descriptor.provides:
    depth = example["depth"]
    there = depth[np.isfinite(depth) & (depth > 0)]
    counts["depth_missing"] = depth.size - there.size
    if there.size:
      counts["depth"] = (float(there.min()), float(np.median(there)), float(there.max()))
  if "normals" in descriptor.provides:
    counts["normals_missing"] = int((example["normals"] == 0).all(-1).sum())
  if "instance" in descriptor.provides:
    counts["instances"] = int((np.unique(example["instance"]) > 0).sum())
  return _Counts(**counts)


def _digest(image: np.ndarray) -> bytes:
  """Returns a digest of an image's shape and pixels; 128 bits make chance collisions negligible."""
  digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
  digest.update(np.ascontiguousarray(image).data)
  return digest.digest()


def _repeated(groups: Iterable[Sequence[tuple[str, str]]]) -> list[Problem]:
  """Returns a problem for every image that appears more than once."""
  problems = []
  for places in groups:
    if len(places) > 1:
      splits = list(dict.fromkeys(split for split, _ in places))
      kind = "overlap" if len(splits) > 1 else "duplicate"
      written = ", ".join(f"{file} ({split})" for split, file in places)
      message = f"one image {len(places)} times: {written}"
      problems.append(Problem(kind, ",".join(splits), places[0][1], message))
  return problems
