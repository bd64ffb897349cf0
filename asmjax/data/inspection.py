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
from asmjax.data.wrappers import spread_indices

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
      image twice in a split), "overlap" (the same image in two splits) or "one class" (all labeled
      pixels are of one class).
    split: Name of the split, or of all splits with the problem, joined by commas.
    file: Path of the file, or "split[index]" for an example without files; empty if the problem is
      that of splits.
    message: Message with the file, its content and what was expected.
  """

  kind: str
  split: str
  file: str
  message: str


class ExampleCounts(NamedTuple):
  """Counts of one well-formed example.

  Attributes:
    size: (height, width) in pixels.
    label: Number of pixels of each of c classes and, last, of no class, int64 (c + 1,).
    depth: (Smallest, median, largest) depth in meters; None if all depth is missing.
    depth_missing: Number of pixels without depth.
    normals_missing: Number of pixels without a normal.
    instances: Number of instances.
  """

  size: tuple[int, int]
  label: np.ndarray | None = None
  depth: tuple[float, float, float] | None = None
  depth_missing: int = 0
  normals_missing: int = 0
  instances: int = 0


@dataclasses.dataclass(frozen=True)
class Statistics:
  """Statistics of the examples of a split.

  Attributes:
    descriptor: Descriptor of the data set.
    num_examples: Number of examples in the split.
    counts: Counts of the well-formed examples, by index. An example that cannot be read, or has an
      array of a wrong type or shape, has none.
  """

  descriptor: Descriptor
  num_examples: int
  counts: dict[int, ExampleCounts] = dataclasses.field(default_factory=dict)

  def to_dict(self) -> dict[str, Any]:
    """Returns the statistics of the data set's keys as values that JSON can represent."""
    statistics: dict[str, Any] = {"examples": self.num_examples, "whole": len(self.counts)}
    if not self.counts:
      return statistics
    counts = list(self.counts.values())
    sizes = sorted((count.size for count in counts), key=lambda size: (size[0] * size[1], size))
    statistics["size"] = {
      "min": sizes[0],
      "median": sizes[len(sizes) // 2],
      "max": sizes[-1],
      "distinct": len(set(sizes)),
    }
    pixels = sum(height * width for height, width in sizes)
    instances = sum(count.instances for count in counts)
    normals_missing = sum(count.normals_missing for count in counts)
    sections = {
      "label": lambda: self._summarize_labels(pixels),
      "depth": lambda: _summarize_depths(counts, pixels),
      "normals": lambda: {"missing": normals_missing / pixels},
      "instance": lambda: {"number": instances, "per_image": instances / len(counts)},
    }
    provided = self.descriptor.provides
    return statistics | {key: section() for key, section in sections.items() if key in provided}

  def _summarize_labels(self, all_pixels: int) -> dict[str, Any]:
    labels = np.stack([count.label for count in self.counts.values() if count.label is not None])
    *pixels, unlabeled = labels.sum(0).tolist()
    *images, _ = (labels > 0).sum(0).tolist()
    names = self.descriptor.classes
    return {
      "ignored_ids": sorted(self.descriptor.ignored),
      "unlabeled": unlabeled / all_pixels,
      "classes": {
        name: {"pixels": count, "share": count / max(sum(pixels), 1), "images": num_images}
        for name, count, num_images in zip(names, pixels, images, strict=True)
      },
      "absent": [name for name, count in zip(names, pixels, strict=True) if not count],
    }


def _summarize_depths(counts: Sequence[ExampleCounts], all_pixels: int) -> dict[str, float]:
  missing = {"missing": sum(count.depth_missing for count in counts) / all_pixels}
  depths = [count.depth for count in counts if count.depth is not None]
  if not depths:
    return missing
  least, median, greatest = np.array(depths).T
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
      "splits": {name: split.to_dict() for name, split in self.splits.items()},
      "problems": [dataclasses.asdict(problem) for problem in self.problems],
    }


def open_splits(
  open_split: Callable[[str], Source], splits: Iterable[str]
) -> tuple[dict[str, Source], tuple[Problem, ...]]:
  """Opens splits; returns their sources by name, and the problems of those that cannot be opened.

  Splits that cannot be opened for one reason, such as a faulty list of classes, share a problem.
  """
  sources: dict[str, Source] = {}
  broken: dict[str, list[str]] = {}
  for split in splits:
    try:
      sources[split] = open_split(split)
    except (ValueError, OSError) as error:
      broken.setdefault(str(error), []).append(split)
  problems = [Problem("split", ",".join(names), "", text) for text, names in broken.items()]
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
  occurrences: dict[Any, list[tuple[str, str]]] = collections.defaultdict(list)
  with ThreadPoolExecutor() as pool:
    for split, source in sources.items():
      statistics[split] = Statistics(source.descriptor, len(source))
      indices = spread_indices(len(source), limit)
      results = pool.map(functools.partial(_inspect_example, split, source), indices)
      for index, result in zip(indices, results, strict=True):
        problems += result.problems
        occurrences[result.identity].append((split, result.file))
        if result.counts is not None:
          statistics[split].counts[index] = result.counts
        advance(split)
  problems += _find_repeats(occurrences.values())
  problems += _find_other_classes(statistics) or _find_single_class(statistics)
  return Report(statistics, tuple(problems))


def _find_other_classes(statistics: Mapping[str, Statistics]) -> list[Problem]:
  """Finds splits whose labels stand for other classes than those of the first split."""
  problems, first = [], next(iter(statistics), "")
  for split, each in statistics.items():
    difference = statistics[first].descriptor.describe_other_classes(each.descriptor)
    if difference:
      problems.append(Problem("classes", split, "", f"splits {first} and {split}: {difference}"))
  return problems


def _find_single_class(statistics: Mapping[str, Statistics]) -> list[Problem]:
  """Finds out whether all pixels of several classes are of one, from which nothing is learned."""
  labels = [split.to_dict().get("label") for split in statistics.values()]
  labels = [[each["pixels"] for each in label["classes"].values()] for label in labels if label]
  if not labels:
    return []
  descriptor = next(iter(statistics.values())).descriptor
  message = descriptor.describe_single_class(np.sum(labels, axis=0).tolist())
  return [Problem("one class", ",".join(statistics), "", message)] if message else []


class _Inspected(NamedTuple):
  """Result for one example; equal images have equal identities, malformed examples no counts."""

  file: str
  identity: Any
  problems: list[Problem]
  counts: ExampleCounts | None = None


def _inspect_example(split: str, source: Source, index: int) -> _Inspected:
  """Reads, checks and counts one example."""
  files, name = {}, f"{split}[{index}]"
  try:
    files = {key: str(path) for key, path in source.files(index).items()}
    name = files.get("image", name)
    example = source[index]
  except Exception as error:  # A library may raise anything; the next examples are still checked.
    kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    file = next((path for path in files.values() if path in str(error)), name)
    return _Inspected(name, name, [_problem("unreadable", split, file, f"{kind}{error}")])
  malformed = _find_shape_faults(example, source.descriptor)
  faults = malformed or _find_value_faults(example, source.descriptor)
  problems = [_problem(kind, split, files.get(key, name), message) for kind, key, message in faults]
  if malformed:
    return _Inspected(name, name, problems)
  counts = _count(example, source.descriptor)
  return _Inspected(name, _digest(example["image"]), problems, counts)


def _problem(kind: str, split: str, file: str, message: str) -> Problem:
  return Problem(kind, split, file, message if file in message else f"{file}: {message}")


# A fault is (kind, key of the example, message).
_Fault = tuple[str, str, str]


def _find_shape_faults(example: Example, descriptor: Descriptor) -> list[_Fault]:
  """Returns violations of the batch contract's types and shapes, checked key by key."""
  faults = []
  arrays = {key: np.asarray(value)[None] for key, value in example.items()} | {"weight": _ONE}
  for key in ("image", *sorted(descriptor.provides)):
    checked = {name: arrays[name] for name in ("image", key, "weight") if name in arrays}
    try:
      batch.check(checked, required=(key,))
    except ValueError as error:
      faults.append(("contract", key, str(error)))
      if key == "image":  # The truth would be compared with a wrong size.
        break
  if not faults and not example["image"].size:
    faults.append(("contract", "image", f"the image has no pixels: {example['image'].shape}"))
  return faults


def _find_value_faults(example: Example, descriptor: Descriptor) -> list[_Fault]:
  """Returns faults of an example's values, whose types and shapes are as they should be."""
  image = example["image"]
  faults = []
  if (image == image[0, 0]).all():
    faults.append(("blank", "image", f"every pixel is {tuple(image[0, 0].tolist())}"))
  for key in sorted(descriptor.provides):
    invalid, missing, expected = _CHECKS[key](example[key], descriptor)
    if invalid.any():
      row, column = np.argwhere(invalid)[0].tolist()
      value = example[key][row, column].tolist()
      pixels = f"{invalid.sum()} of {invalid.size} pixels, the first at row {row}, column {column}"
      faults.append(("contract", key, f"{key} is {value} ({pixels}); expected {expected}"))
    if key != "instance" and missing.all():
      faults.append(("no truth", key, f"{key} is missing at every pixel"))
  return faults


# Pixels with impossible values, pixels without truth, and the values that are expected.
_Checked = tuple[np.ndarray, np.ndarray, str]


def _check_label(label: np.ndarray, descriptor: Descriptor) -> _Checked:
  classes = len(descriptor.classes)
  missing = label == batch.UNLABELED
  expected = f"0..{classes - 1}, or {batch.UNLABELED} where unlabeled"
  return ((label < 0) | (label >= classes)) & ~missing, missing, expected


def _check_depth(depth: np.ndarray, _: Descriptor) -> _Checked:
  return ~(np.isfinite(depth) & (depth >= 0)), depth == 0, "meters, or 0 where missing"


def _check_normals(normals: np.ndarray, _: Descriptor) -> _Checked:
  length = np.linalg.norm(normals, axis=-1)
  missing = length == 0
  # Comparisons with NaN are false, so that negating this one counts NaN as invalid.
  invalid = ~(np.abs(length - 1) <= _UNIT_TOLERANCE) & ~missing
  return invalid, missing, "a vector of length 1, or 0 where missing"


def _check_instance(instance: np.ndarray, _: Descriptor) -> _Checked:
  return instance < 0, instance == 0, "an id from 1, or 0 for none"


_CHECKS = {
  "label": _check_label,
  "depth": _check_depth,
  "normals": _check_normals,
  "instance": _check_instance,
}


def _count(example: Example, descriptor: Descriptor) -> ExampleCounts:
  """Counts the pixels and instances of one example."""
  counts = ExampleCounts(example["image"].shape[:2])
  if "label" in descriptor.provides:
    classes, label = len(descriptor.classes), example["label"]
    known = (label >= 0) & (label < classes)
    label = np.bincount(np.where(known, label, classes).ravel(), minlength=classes + 1)
    counts = counts._replace(label=label)
  if "depth" in descriptor.provides:
    depth = example["depth"]
    valid = depth[np.isfinite(depth) & (depth > 0)]
    extent = (
      (float(valid.min()), float(np.median(valid)), float(valid.max())) if valid.size else None
    )
    counts = counts._replace(depth=extent, depth_missing=depth.size - valid.size)
  if "normals" in descriptor.provides:
    missing = int((example["normals"] == 0).all(-1).sum())
    counts = counts._replace(normals_missing=missing)
  if "instance" in descriptor.provides:
    counts = counts._replace(instances=int((np.unique(example["instance"]) > 0).sum()))
  return counts


def _digest(image: np.ndarray) -> bytes:
  """Returns a digest of an image's shape and pixels; 128 bits make chance collisions negligible."""
  digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
  digest.update(np.ascontiguousarray(image).data)
  return digest.digest()


def _find_repeats(occurrences: Iterable[Sequence[tuple[str, str]]]) -> list[Problem]:
  """Returns a problem for every image that occurs, as (split, file), more than once."""
  problems = []
  for places in occurrences:
    if len(places) > 1:
      splits = list(dict.fromkeys(split for split, _ in places))
      kind = "overlap" if len(splits) > 1 else "duplicate"
      listed = ", ".join(f"{file} ({split})" for split, file in places)
      message = f"one image {len(places)} times: {listed}"
      problems.append(Problem(kind, ",".join(splits), places[0][1], message))
  return problems
