"""COCO-Stuff (Caesar et al. 2018): the photos of COCO with 171 classes of things and stuff."""

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

# Lines 1 to 182 of the owners' labels.txt; in the maps of pixels a class has its number less one.
# Those with a star have no pixels in COCO.
_LABELS = (
  """
  person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
  *street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
  zebra, giraffe, *hat, backpack, umbrella, *shoe, *eye glasses, handbag, tie, suitcase, frisbee,
  skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
  tennis racket, bottle, *plate, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich,
  orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, *mirror,
  dining table, *window, *desk, toilet, *door, tv, laptop, mouse, remote, keyboard, cell phone,
  microwave, oven, toaster, sink, refrigerator, *blender, book, clock, vase, scissors, teddy bear,
  hair drier, toothbrush, *hair brush, banner, blanket, branch, bridge, building-other, bush,
  cabinet, cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth, clothes, clouds, counter,
  cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other, floor-stone,
  floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel,
  ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin,
  net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad,
  river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other,
  stairs, stone, straw, structural-other, table, tent, textile-other, towel, tree, vegetable,
  wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other,
  waterdrops, window-blind, window-other, wood
  """.replace("\n  ", " ")
  .strip()
  .split(", ")
)
_CLASSES = tuple(name for name in _LABELS if not name.startswith("*"))
_IDS = [id for id, name in enumerate(_LABELS) if not name.startswith("*")]
_LABEL_BY_ID = {UNLABELED: UNLABELED} | {id: label for label, id in enumerate(_IDS)}


@dataclasses.dataclass(frozen=True)
class CocoStuff(FileSource):
  """Source of COCO-Stuff: photos of COCO 2017, labels of 80 classes of things and 91 of stuff.

  Reads the maps of pixels, whose ids are 0..181, with gaps for the 11 things that COCO names but
  does not outline.

  Attributes:
    root: Path of the folder with `images` and `annotations`, or of the folder above it.
    split: "train2017" (118287 photos) or "val2017" (5000).
  """

  descriptor: ClassVar[Descriptor] = Descriptor(
    name="coco_stuff",
    classes=_CLASSES,
    palette=color_map(len(_CLASSES) + 1)[1:],
    splits=("train2017", "val2017"),
    provides=frozenset({"label"}),
    ignored=frozenset({UNLABELED}),
  )
  marker_path: ClassVar[str] = "annotations"
  subfolders: ClassVar[tuple[str, ...]] = ("dataset",)
  layout: ClassVar[str] = (
    "ROOT/images/SPLIT/NUMBER.jpg and ROOT/annotations/SPLIT/NUMBER.png, of the archive "
    "stuffthingmaps_trainval2017"
  )

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names of the split's photos, sorted."""
    return self.find_names(f"images/{self.split}/*.jpg")

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its mask."""
    name = f"{self.split}/{self.names[index]}"
    return {
      "image": self.folder / "images" / f"{name}.jpg",
      "label": self.folder / "annotations" / f"{name}.png",
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo and its labels."""
    label = decode.read_labels(files["label"], _LABEL_BY_ID)
    return {"image": decode.read_photo(files["image"]), "label": label}
