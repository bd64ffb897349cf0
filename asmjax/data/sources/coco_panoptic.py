"""COCO's panoptic format (Kirillov et al. 2019): a PNG of segments for each photo, and a JSON."""

import dataclasses
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import SPLIT
from asmjax.data.sources.coco import Category, CocoSource, find_category, get
from asmjax.data.transforms import Example

# Id of pixels in no segment.
_VOID = 0


class Segments(NamedTuple):
  """Annotation of one photo.

  Attributes:
    file: Name of the PNG file.
    labels: Label of each segment by its id.
    instances: Instance of each segment by its id; 0 for stuff and crowds.
  """

  file: str
  labels: Mapping[int, int]
  instances: Mapping[int, int]


@dataclasses.dataclass(frozen=True)
class CocoPanoptic(CocoSource):
  """Source of photos in COCO's panoptic format: labels of things and stuff, instances of things.

  A pixel of the color (r, g, b) belongs to the segment r + 256 g + 65536 b; those of 0 are
  unlabeled.  An instance has the id of its segment; stuff, and groups that are not separated, have
  no instance.

  Attributes:
    root: Path of the data set's folder, to which the paths below are relative.
    split: Name of the split, which replaces `{split}` in the paths below.
    annotations: Path of the JSON file; the PNG files lie in the folder of the same name.
    images: Path of the folder of the photos.

  Raises:
    ValueError: The split is unknown or empty, or the file is malformed.
    FileNotFoundError: The folder does not exist.
  """

  annotations: str = f"annotations/panoptic_{SPLIT}.json"

  # The instance's descriptor adds classes and splits, which are read from the folder.
  descriptor: ClassVar[Descriptor] = Descriptor(
    name="coco_panoptic",
    classes=(),
    palette=(),
    splits=(),
    provides=frozenset({"label", "instance"}),
    ignored=frozenset({_VOID}),
  )

  @property
  def layout(self) -> str:
    """Description of the folder that the options define, for error messages."""
    masks = self.annotations.removesuffix(".json")
    return f"ROOT/{self.annotations}, ROOT/{masks}/NAME.png and photos ROOT/{self.images}/NAME.jpg"

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of a photo and its map of segments."""
    (segments,) = self._segments(self.names[index])
    mask = self.json_path.with_suffix("") / segments.file
    return {"image": self.photo_path(index), "label": mask, "instance": mask}

  def _segments(self, name: str) -> tuple[Segments, ...]:
    records = self.records.get(self.photos[name].id, ())
    if len(records) != 1:
      raise ValueError(f"{self.json_path} has {len(records)} annotations of {name}; expected one")
    return records

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads a photo, its labels and its instances."""
    photo = self.find_photo(files)
    (segments,) = self.records[photo.id]
    colors = decode.read_colors(files["label"]).astype(np.int32)
    ids, position = np.unique(
      colors @ np.array([1, 1 << 8, 1 << 16], np.int32), return_inverse=True
    )
    unknown = [id for id in ids.tolist() if id not in segments.labels]
    if unknown:
      raise ValueError(
        f"{files['label']} holds the segment {unknown[0]}; expected {_VOID} or one of the "
        f"segments_info of {self.json_path}: {reprlib.repr(sorted(segments.labels)[1:])}"
      )
    position = position.reshape(colors.shape[:2])
    label, instance = (
      np.array([table[id] for id in ids.tolist()], np.int32)[position]
      for table in (segments.labels, segments.instances)
    )
    return {"image": decode.read_photo(files["image"]), "label": label, "instance": instance}

  def parse_annotation(
    self, entry: Any, categories: Mapping[int, Category], size: tuple[int, int], where: str
  ) -> Segments:
    """Returns the segments of a photo."""
    del size
    label_by_id, instance_by_id = {_VOID: UNLABELED}, {_VOID: 0}
    for number, info in enumerate(get(entry, "segments_info", list, where), 1):
      place = f"{where}, segment {number}"
      id, category = get(info, "id", int, place), find_category(info, categories, place)
      if not 0 < id < 1 << 24 or id in label_by_id:
        raise ValueError(f"{place} has the id {id}; expected 1..{(1 << 24) - 1}, and every id once")
      is_instance = category.is_thing and info.get("iscrowd", 0) != 1
      label_by_id[id], instance_by_id[id] = category.label, id if is_instance else 0
    return Segments(get(entry, "file_name", str, where), label_by_id, instance_by_id)
