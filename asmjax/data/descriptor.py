"""Descriptors of data sets (classes, splits, truth), and the protocol that every source follows."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from asmjax.batch import UNLABELED


@dataclasses.dataclass(frozen=True)
class Descriptor:
  """Properties of a data set that hold for all of its examples.

  Attributes:
    name: Name of the data set, as a config gives it.
    classes: Names of the classes, in the order of their label ids; empty without labels.
    palette: Colors of the classes, (r, g, b) in 0..255.
    splits: Names of the splits.
    provides: Keys of an example besides `image`.
    ignored: Ids in the published files that are read as unlabeled.

  Raises:
    ValueError: `palette` and `classes` differ in length, there are more classes than labels, or two
      classes have the same name.
  """

  name: str
  classes: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  splits: tuple[str, ...]
  provides: frozenset[str]
  ignored: frozenset[int] = frozenset()

  def __post_init__(self) -> None:
    if len(self.palette) != len(self.classes):
      raise ValueError(
        f"{self.name} has {len(self.palette)} colors for {len(self.classes)} classes"
      )
    if len(self.classes) > UNLABELED:
      raise ValueError(
        f"{self.name} has {len(self.classes)} classes; expected at most {UNLABELED}, since "
        f"{UNLABELED} is unlabeled"
      )
    repeated = sorted({name for name in self.classes if self.classes.count(name) > 1})
    if repeated:
      raise ValueError(f"{self.name} has two classes called {repeated[0]!r}")

  @property
  def palette_array(self) -> np.ndarray:
    """Colors of the classes, uint8 (classes, 3), also where there are none."""
    return np.array(self.palette, np.uint8).reshape(-1, 3)

  @property
  def class_colors(self) -> dict[str, tuple[int, int, int]]:
    """Color of each class, (r, g, b) in 0..255, by its name."""
    return dict(zip(self.classes, self.palette, strict=True))

  def describe_single_class(self, pixels: Sequence[int]) -> str:
    """Describes labels from which nothing is learned: all of one class, out of several.

    Args:
      pixels: Number of labeled pixels of each class.

    Returns:
      Description with what may be the reason; empty if another number of classes occurs.
    """
    (seen,) = np.nonzero(np.asarray(pixels))
    if len(seen) != 1 or len(self.classes) == 1:
      return ""
    text = (
      f"all labeled pixels are of the class {self.classes[seen[0]]!r}; expected several classes"
    )
    if UNLABELED in self.ignored:
      text += (
        f". Ids of {UNLABELED} are read as unlabeled: masks of 0 and {UNLABELED} need a class with "
        f"`id: {UNLABELED}`, and `ignored: []`"
      )
    return text

  def describe_other_classes(self, other: "Descriptor") -> str:
    """Describes the first label that is of another class in `other`; empty if there is none."""
    pairs = itertools.zip_longest(self.classes, other.classes)
    for label, names in enumerate(pairs):
      if names[0] != names[1]:
        here, there = ("no class" if name is None else repr(name) for name in names)
        return f"label {label} is {here} in one and {there} in the other"
    return ""

  def to_dict(self) -> dict[str, Any]:
    """Returns the fields as values that JSON can represent."""
    fields = dataclasses.asdict(self)
    return fields | {key: sorted(fields[key]) for key in ("provides", "ignored")}

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> "Descriptor":
    """Creates a descriptor from the result of `to_dict`, also after a round trip through JSON."""
    return cls(
      name=fields["name"],
      classes=tuple(fields["classes"]),
      palette=tuple(map(tuple, fields["palette"])),
      splits=tuple(fields["splits"]),
      provides=frozenset(fields["provides"]),
      ignored=frozenset(fields["ignored"]),
    )


class Source(Protocol):
  """Random access to the examples of one split: deterministic and safe to read from many threads.

  An example is a dict with `image`, uint8 (h, w, 3) RGB at its original size, and the keys that
  `descriptor.provides` lists: `label`, int32 (h, w), 255 = unlabeled; `depth`, float32 (h, w),
  meters along the optical axis, 0 = missing; `normals`, float32 (h, w, 3), unit vectors with x to
  the right, y down and z towards the camera, 0 = missing; `instance`, int32 (h, w), 0 = none.

  Attributes:
    descriptor: Descriptor of the data set.
    split: Name of the split.
  """

  descriptor: Descriptor
  split: str

  def __len__(self) -> int:
    """Returns the number of examples."""
    ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns example `index` as a dict of arrays.

    Raises:
      IndexError: `index` is not in 0..len-1.
      ValueError: The content of a file is not as expected; the message names the file.
      OSError: A file is missing or unreadable.
    """
    ...

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of the files that hold example `index`, by key; empty without files."""
    ...


def name_example(source: Source, index: int) -> str:
  """Names an example of a source: by the path of its image, or by its number without files."""
  files = source.files(index)
  return str(files.get("image", next(iter(files.values()), f"{source.split}[{index}]")))


def check_split(split: str, known: Iterable[str]) -> None:
  """Raises ValueError unless `split` is one of `known`."""
  if split not in known:
    raise ValueError(f"unknown split {split!r}; known: {', '.join(known)}")


def check_index(index: int, length: int) -> None:
  """Raises IndexError unless `index` is in 0..length-1."""
  if not 0 <= index < length:
    raise IndexError(f"example {index} of a source with {length} examples")
