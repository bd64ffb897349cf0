"""Weizmann horses (Borenstein and Ullman 2002): 328 photos with figure-ground masks."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.transforms import Example, resize_image


@dataclasses.dataclass(frozen=True)
class WeizmannHorse(FileSource):
  """Source of Weizmann horses: photos at their original sizes, labels background (0), horse (1).

  The data set is published without splits: `train.txt` and `val.txt` list their names.

  Attributes:
    root: Path of the folder with `rgb`, `figure_ground` and the lists, or of the folder above it.
    split: "train" or "val".
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="weizmann_horse",
    classes=("background", "horse"),
    palette=((0, 0, 0), (224, 160, 64)),
    splits=("train", "val"),
    provides=frozenset({"label"}),
  )
  marker_path: ClassVar[str] = "figure_ground"
  subfolders: ClassVar[tuple[str, ...]] = ("weizmann_horse_db",)
  layout: ClassVar[str] = (
    "ROOT/rgb/NAME.jpg, ROOT/figure_ground/NAME.jpg and ROOT/train.txt, ROOT/val.txt with one NAME "
    "a line"
  )

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos, in the order of its list."""
    return self.read_list(f"{self.split}.txt")

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its mask."""
    name = f"{self.names[index]}.jpg"
    return {"image": self.folder / "rgb" / name, "label": self.folder / "figure_ground" / name}

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo and its mask, resized to the photo's size."""
    image = decode.read_photo(files["image"])
    # The masks' sizes differ from the photos', and most are smaller.  Interpolating gray values
    # before the threshold puts the contour between mask pixels; thresholding first leaves stairs.
    label = resize_image(decode.read_gray(files["label"]), image.shape[:2]) >= 128
    return {"image": image, "label": label.astype(np.int32)}
