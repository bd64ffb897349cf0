"""What a data set is: its classes and splits, and the protocol that every source follows."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Descriptor:
  """The fixed facts about a data set.

  Attributes:
    name: the name a config uses.
    classes: names of the classes, in the order of their label ids.
    palette: one (r, g, b) color in 0..255 per class.
    splits: names of the splits.
    provides: keys of an example besides `image`.
    ignored: ids in the published files that are read as unlabeled.

  Raises:
    ValueError: not one color per class, or a class twice.
  """

  name: str
  classes: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  splits: tuple[str, ...]
  provides: frozenset[str]
  ignored: frozenset[int] = frozenset()

  def __post_init__(self) -> None:
    """Holds classes and palette against each other."""
    if len(self.palette) != len(self.classes):
      raise ValueError(
        f"{self.name} has {len(self.palette)} colors for {len(self.classes)} classes"
      )
    twice = sorted({each for each in self.classes if self.classes.count(each) > 1})
    if twice:
      raise ValueError(f"{self.name} has two classes called {twice[0]!r}")

  def to_dict(self) -> dict[str, Any]:
    """Its fields as JSON can hold them."""
    unordered = lambda value: sorted(value) if isinstance(value, frozenset) else value
    return {key: unordered(value) for key, value in dataclasses.asdict(self).items()}

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> "Descriptor":
    """From `facts`, as JSON gives them back."""
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

  An example is a dict with `image` uint8 (h, w, 3) RGB at its original size and, as `provides`
  says, `label` int32 (h, w) with 255 = unlabeled, `depth` float32 (h, w) meters along the optical
  axis with 0 = missing, `normals` float32 (h, w, 3) unit vectors with 0 = missing (x to the right,
  y down, z towards the camera), `instance` int32 (h, w) with 0 = no instance.
  """

  descriptor: Descriptor
  split: str

  def __len__(self) -> int:
    """Number of examples."""
    ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Example `index`.

    Raises:
      IndexError: outside 0..len-1.
      ValueError: a file cannot be read as what it should be; the message names it.
      OSError: a file is missing or unreadable.
    """
    ...

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """The files that example `index` is read from, by key; empty where there are none."""
    ...


def check_split(split: str, known: Iterable[str]) -> None:
  """Raises ValueError unless `split` is one of `known`."""
  if split not in known:
    raise ValueError(f"unknown split {split!r}; known: {', '.join(known)}")


def check_index(index: int, length: int) -> None:
  """Raises IndexError unless `index` is in 0..length-1."""
  if not 0 <= index < length:
    raise IndexError(f"example {index} of a source with {length} examples")
