"""ADE20K as the Scene Parsing challenge has it (Zhou et al. 2017): scenes of 150 classes."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.sources.pascal_voc import color_map
from asmjax.data.transforms import Example

# First names of the lines of the challenge's objectInfo150.csv, whose ids count from 1.
_CLASSES = tuple(
  """
  wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk,
  person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf,
  house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub,
  railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, sink,
  skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
  screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill,
  bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine,
  hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth,
  television receiver, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman,
  bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
  swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food,
  step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket,
  sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor,
  bulletin board, shower, radiator, glass, clock, flag
  """.replace("\n  ", " ")
  .strip()
  .split(", ")
)
_LABEL_BY_ID = {0: UNLABELED} | {label + 1: label for label in range(len(_CLASSES))}
_FOLDERS = {"train": "training", "val": "validation"}


@dataclasses.dataclass(frozen=True)
class Ade20k(FileSource):
  """Source of ADE20K: scenes indoors and outdoors, labels of the challenge's 150 classes.

  A mask's id 0 is unlabeled, and id k is label k - 1.  The official colors give two classes one
  color; pictures use those of PASCAL VOC.

  Attributes:
    root: Path of the folder `ADEChallengeData2016`, or of the folder above it.
    split: "train" (20210 photos) or "val" (2000).
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="ade20k",
    classes=_CLASSES,
    palette=color_map(len(_CLASSES) + 1)[1:],
    splits=tuple(_FOLDERS),
    provides=frozenset({"label"}),
    ignored=frozenset({0}),
  )
  marker_path: ClassVar[str] = "annotations"
  subfolders: ClassVar[tuple[str, ...]] = ("ADEChallengeData2016",)
  layout: ClassVar[str] = (
    "ROOT/images/training/NAME.jpg, ROOT/annotations/training/NAME.png and the same in validation"
  )

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos, sorted."""
    return self.find_names(f"images/{_FOLDERS[self.split]}/*.jpg")

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its mask."""
    name = f"{_FOLDERS[self.split]}/{self.names[index]}"
    return {
      "image": self.folder / "images" / f"{name}.jpg",
      "label": self.folder / "annotations" / f"{name}.png",
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo and its labels."""
    label = decode.read_labels(files["label"], _LABEL_BY_ID)
    return {"image": decode.read_photo(files["image"]), "label": label}
