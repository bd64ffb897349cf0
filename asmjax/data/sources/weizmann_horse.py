"""Weizmann horses (Borenstein and Ullman 2002): 328 photos with figure-ground masks."""

import dataclasses
import functools
import pathlib
from typing import ClassVar

import numpy as np
from PIL import Image

from asmjax.data.descriptor import Descriptor, check_index, check_split
from asmjax.data.transforms import interpolate

_FOLDER = "weizmann_horse_db"
_LAYOUT = (
  "expected ROOT/rgb/NAME.jpg, ROOT/figure_ground/NAME.jpg and ROOT/train.txt, ROOT/val.txt "
  f"with one NAME a line, where ROOT is data.root or its folder {_FOLDER}"
)


@dataclasses.dataclass(frozen=True)
class WeizmannHorse:
  """Photos of horses at their original sizes, labelled background (0) or horse (1).

  The data set comes without a split: `train.txt` and `val.txt` say which names belong to which.

  Attributes:
    root: the folder with `rgb` and `figure_ground`, or the one that holds `weizmann_horse_db`.
    split: "train" or "val".

  Raises:
    ValueError: no root, an unknown split, or an empty list of names.
    FileNotFoundError: no list, or a listed photo or mask is missing.
  """

  root: str
  split: str

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="weizmann_horse",
    classes=("background", "horse"),
    palette=((0, 0, 0), (224, 160, 64)),
    splits=("train", "val"),
    provides=frozenset({"label"}),
  )

  def __post_init__(self) -> None:
    """Reads the list and looks for every file, but decodes none."""
    check_split(self.split, self.descriptor.splits)
    if not self.root:
      raise ValueError(f"data.root is {self.root!r}: set it to the Weizmann horses; {_LAYOUT}")
    for name in self.names:
      _check_exists(self._photo(name), f"listed in {self._list}")
      _check_exists(self._mask(name), f"listed in {self._list}")

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos in the order of its list."""
    _check_exists(self._list, _LAYOUT)
    names = tuple(line.strip() for line in self._list.read_text().splitlines() if line.strip())
    if not names:
      raise ValueError(f"{self._list} is empty; expected one photo's name a line")
    return names

  def __len__(self) -> int:
    """Number of photos."""
    return len(self.names)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """`image` uint8 (h, w, 3) and `label` int32 (h, w); ValueError for an undecodable file."""
    check_index(index, len(self))
    name = self.names[index]
    image = _decode(self._photo(name), "RGB")
    mask = _decode(self._mask(name), "L")
    # The masks' sizes differ from the photos', and most are smaller: interpolating grey values
    # before the threshold puts the contour between mask pixels; thresholding first leaves stairs.
    label = interpolate(mask, image.shape[:2]) >= 128
    return {"image": image, "label": label.astype(np.int32)}

  @functools.cached_property
  def _folder(self) -> pathlib.Path:
    root = pathlib.Path(self.root)
    return root / _FOLDER if (root / _FOLDER).is_dir() else root

  @property
  def _list(self) -> pathlib.Path:
    return self._folder / f"{self.split}.txt"

  def _photo(self, name: str) -> pathlib.Path:
    return self._folder / "rgb" / f"{name}.jpg"

  def _mask(self, name: str) -> pathlib.Path:
    return self._folder / "figure_ground" / f"{name}.jpg"


def _check_exists(path: pathlib.Path, why: str) -> None:
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist; {why}")


def _decode(path: pathlib.Path, mode: str) -> np.ndarray:
  try:
    with Image.open(path) as image:
      return np.array(image.convert(mode))
  except OSError as error:
    raise ValueError(f"{path} cannot be decoded ({error}); expected a JPEG") from error
