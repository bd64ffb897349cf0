"""What a data set is: its classes and splits, and the protocol that every source follows."""

import dataclasses
from collections.abc import Iterable
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Descriptor:
  """The fixed facts about a data set.

  Attributes:
    name: the name a config uses.
    classes: names of the classes, in the order of their label ids.
    palette: one (r, g, b) colour in 0..255 per class.
    splits: names of the splits.
    provides: keys of an example besides `image`.
  """

  name: str
  classes: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  splits: tuple[str, ...]
  provides: frozenset[str]


class Source(Protocol):
  """Random access to the examples of one split: deterministic and safe to read from many threads.

  An example is a dict with `image` uint8 (h, w, 3) RGB at its original size and, as `provides`
  says, `label` int32 (h, w) with 255 = unlabelled, `depth` float32 (h, w) metres with 0 = missing,
  `normals` float32 (h, w, 3) with 0 = missing, `instance` int32 (h, w).
  """

  descriptor: Descriptor
  split: str

  def __len__(self) -> int:
    """Number of examples."""
    ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Example `index`; IndexError outside 0..len-1."""
    ...


def check_split(split: str, known: Iterable[str]) -> None:
  """Raises ValueError unless `split` is one of `known`."""
  if split not in known:
    raise ValueError(f"unknown split {split!r}; known: {', '.join(known)}")


def check_index(index: int, length: int) -> None:
  """Raises IndexError unless `index` is in 0..length-1."""
  if not 0 <= index < length:
    raise IndexError(f"example {index} of a source with {length} examples")
