"""Section `data` of a config: a data set, and its transforms to the network's size."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from asmjax.config.schema import arguments, choose, fields_of
from asmjax.data import SOURCES
from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.distortions import Distortions
from asmjax.data.loader import LoaderOptions
from asmjax.data.tfds import Tfds
from asmjax.data.transforms import RGB, Augment
from asmjax.data.user_transform import UserTransform
from asmjax.data.wrappers import RemapClasses, open_split, remap_descriptor
from asmjax.utils.ranges import Fraction


@dataclasses.dataclass(frozen=True)
class Data:
  """Section `data`: the examples, and the transforms that bring them to the network's size.

  Attributes:
    source: Format of the data set, a key of `asmjax.data.SOURCES`.
    size: Size (h, w) of the network's input in pixels; a source that draws its examples draws them
      at this size.
    root: Folder of the data set; empty for a source that draws its examples.
    split: Split to train on, or a part of one as "train[:80%]"; see
      `asmjax.data.wrappers.open_split`.
    options: Further arguments of the source.
    classes: New id by name of class, all others unlabeled; empty keeps the published classes.
    cache: Whether each reading process keeps decoded examples in memory.
    loader: How examples are read; see `asmjax.data.loader.LoaderOptions`.
    eval_size: Size (h, w) in evaluation; empty for `size`.
    resize: How examples are brought to `size`; see `asmjax.data.transforms.Augment`.
    eval_resize: The same in evaluation; empty for `resize`.
    flip: Whether a training example is flipped left to right with probability 1/2.
    scale: Range of the random scale of training examples.
    scale_depth: Whether depths are divided by that scale.
    random_crop: Whether training examples larger than `size` are cropped at random.
    max_class_share: Largest part of such a crop that one class should have.
    copy_paste: Probability with which instances of another training example are pasted onto one.
    distortions: Distortions of training examples; see `asmjax.data.distortions.Distortions`.
    transform: Function of the user's own, "MODULE:FUNCTION" or "FILE.py:FUNCTION", that training
      examples go through first; see `asmjax.data.user_transform.UserTransform`.
  """

  source: str
  size: tuple[int, int]
  root: str = ""
  split: str = "train"
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  classes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  cache: bool = False
  loader: LoaderOptions = LoaderOptions()
  eval_size: tuple[int, ...] = ()
  resize: str = "none"
  eval_resize: str = ""
  flip: bool = True
  scale: tuple[float, float] = (1.0, 1.0)
  scale_depth: bool = True
  random_crop: bool = False
  max_class_share: Fraction = 1.0
  copy_paste: Fraction = 0.0
  distortions: Distortions = Distortions()
  transform: str = ""

  def train_transform(self, fill: RGB, num_classes: int = 0) -> Augment:
    """Returns the transform of training, which pads images with the color `fill`.

    A user's function is held to `num_classes` classes, unless that is 0.
    """
    return Augment(
      size=self.size,
      resize=self.resize,
      flip=self.flip,
      scale=self.scale,
      scale_depth=self.scale_depth,
      random_crop=self.random_crop,
      fill=fill,
      distortions=self.distortions,
      max_class_share=self.max_class_share,
      transform=UserTransform(self.transform, num_classes) if self.transform else None,
    )

  def eval_transform(self, fill: RGB) -> Augment:
    """Returns the transform of evaluation, which pads images with the color `fill`."""
    height, width = self.eval_size or self.size
    return Augment((height, width), self.eval_resize or self.resize, fill=fill)


def open_source(data: Data, split: str) -> Source:
  """Opens a split of the data set that a config describes, without transforms.

  Args:
    data: The config's section `data`.
    split: Name of a split, or a part of one such as "train[:80%]".

  Raises:
    ValueError: The source, one of its options or the split is unknown, or the part of the split
      is malformed, empty or outside of it.
    FileNotFoundError: The data set is not where `data.root` says.
  """
  kind = choose(SOURCES, data.source, "data.source")
  names = {field.name for field in fields_of(kind)}
  given = {key: getattr(data, key) for key in ("root", "size") if key in names}
  options = arguments(kind, data.options, "data.options", {"split", *given})
  # What a source refuses may be an option, the root or the split: its message says which.
  open_full = lambda name: kind(**options, **given, split=name)
  # TFDS reads slices, and sums of them, itself.
  source = open_full(split) if kind is Tfds else open_split(open_full, split)
  return RemapClasses(source, data.classes) if data.classes else source


def find_descriptor(data: Data) -> Descriptor:
  """Returns the descriptor of a config's data set, if possible without opening the data set.

  Raises:
    ValueError: The data set alone knows it, and the config does not say where that is.
    FileNotFoundError: The data set alone knows it, and is not where the config says.
  """
  try:
    return open_source(data, data.split).descriptor
  except (FileNotFoundError, ValueError):
    # Of a format whose files describe the data set, the class only has a property.
    descriptor = getattr(choose(SOURCES, data.source, "data.source"), "descriptor", None)
    if not isinstance(descriptor, Descriptor) or not descriptor.splits:
      raise
  return remap_descriptor(descriptor, data.classes) if data.classes else descriptor
