"""Reads what tensorflow-datasets (TFDS) has prepared, or `asmjax.data.packing.pack` has packed.

TensorFlow is neither needed nor imported.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor, check_index
from asmjax.data.packing import PLAN, check_example
from asmjax.data.sources.pascal_voc import color_map
from asmjax.data.transforms import Example

if TYPE_CHECKING:  # So that other sources do not need it.
  import tensorflow_datasets as tfds

# What TFDS writes last.
_INFO = "dataset_info.json"

# What the features may be, and what they are read as.
_TYPES = {
  "image": (np.uint8, np.uint8),
  "label": (np.integer, np.int32),
  "depth": (np.floating, np.float32),
  "normals": (np.floating, np.float32),
  "instance": (np.integer, np.int32),
}


@dataclasses.dataclass(frozen=True)
class Tfds:
  """One split of a data set that was packed, or that TFDS has prepared, in the ArrayRecord format.

  What `asmjax.data.packing.pack` wrote needs no options.  Of other data sets `features` says where
  the arrays are: `image`, uint8 of 1, 3 or 4 channels, and any of `label` and `instance`, of an
  integer type, `depth` in meters (missing where not finite and positive) and `normals`, of a
  floating type.

  Attributes:
    root: folder with `dataset_info.json`, local or in a bucket.
    split: name of a split, or an expression of TFDS such as "train[:80%]".
    features: name of the feature by our key; nested names are joined by "/".
    classes: names in the order of the label ids, where the data set does not know them.
    ignored: label ids that are read as unlabeled.

  Raises:
    ValueError: an unknown split or feature, a data set that is not in the ArrayRecord format,
      missing class names, or options that the data set does not need.
    FileNotFoundError: `root` holds no data set, or one whose packing was not finished.
  """

  root: str
  split: str
  features: Mapping[str, str] = dataclasses.field(default_factory=dict)
  classes: tuple[str, ...] = ()
  ignored: tuple[int, ...] = ()

  def __post_init__(self) -> None:
    """Reads the description; opens no shard."""
    if (self.classes or self.ignored) and not self.features:
      raise ValueError("classes and ignored are of no use without features")
    _ = self.descriptor, self._records

  def __getstate__(self) -> dict[str, Any]:
    """The fields alone: every process opens the shards for itself."""
    return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

  def __len__(self) -> int:
    """Returns the number of examples."""
    return len(self._records)

  def __getitem__(self, index: int) -> Example:
    """Example `index`; see `asmjax.data.descriptor.Source`."""
    check_index(index, len(self))
    where = f"example {index} of split {self.split!r} in {self.root}"
    decoder, records = self._decoder, self._records
    try:
      found = decoder.deserialize_example_np(records[index])
    except Exception as error:  # ArrayRecord, OpenCV and zlib have no error in common.
      raise ValueError(f"{where} cannot be read ({error!r}); expected a whole shard") from error
    example = {
      key: _converted(key, np.asarray(_at(found, name)), where) for key, name in self._names.items()
    }
    check_example(example, self._names, where)
    if self.features and "label" in example:
      example["label"] = decode.lookup(example["label"], self._table, where)
    if self.features and "depth" in example:
      there = np.isfinite(example["depth"]) & (example["depth"] > 0)
      example["depth"] = np.where(there, example["depth"], 0)
    return example

  def files(self, index: int) -> dict[str, pathlib.Path]:
    """None: examples share the files they lie in."""
    return {}

  @functools.cached_property
  def descriptor(self) -> Descriptor:
    """As it was packed, or made from what TFDS and the options say."""
    splits = tuple(self._info.splits)
    if not self.features:
      return dataclasses.replace(_restored(self.root, self._info), splits=splits)
    classes = _classes(self._info, self.features, self.classes)
    return Descriptor(
      name=self._info.name,
      classes=classes,
      palette=color_map(len(classes)),
      splits=splits,
      provides=frozenset(self.features) - {"image"},
      ignored=frozenset(self.ignored),
    )

  @functools.cached_property
  def _builder(self) -> "tfds.core.DatasetBuilder":
    return _open(self.root)

  @property
  def _info(self) -> "tfds.core.DatasetInfo":
    return self._builder.info

  @functools.cached_property
  def _records(self) -> Sequence[bytes]:
    """The serialized examples, by index."""
    import tensorflow_datasets as tfds

    _check_split(self.split, self._info, self.root)
    builder: Any = self._builder  # A decorator hides the arguments from type checkers.
    return builder.as_data_source(
      split=self.split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )

  @property
  def _names(self) -> Mapping[str, str]:
    return self.features or {key: key for key in ("image", *sorted(self.descriptor.provides))}

  @functools.cached_property
  def _decoder(self) -> "tfds.features.FeaturesDict":
    """The wanted features alone: others are not decoded, whatever that would need."""
    import tensorflow_datasets as tfds

    known, wanted = _flat(self._info.features), {}
    for name in self._names.values():
      *parents, last = name.split("/")
      branch = functools.reduce(lambda tree, part: tree.setdefault(part, {}), parents, wanted)
      branch[last] = known[name]
    return tfds.features.FeaturesDict(wanted)

  @functools.cached_property
  def _table(self) -> dict[int, int]:
    known = {label: label for label in range(len(self.descriptor.classes))}
    return known | dict.fromkeys(self.ignored, UNLABELED)


def _open(root: str) -> "tfds.core.DatasetBuilder":
  """Opens a prepared data set with TFDS."""
  import tensorflow_datasets as tfds
  from etils import epath
  from google.protobuf.json_format import ParseError

  expected = "expected the folder of a prepared data set, such as DIR/NAME/1.0.0 of TFDS's"
  if not root:
    raise ValueError(f"data.root is {root!r}; {expected}")
  folder = epath.Path(root).expanduser()
  if not (folder / _INFO).exists():
    if (folder / PLAN).exists():
      raise FileNotFoundError(f"{root} is not packed to the end: run launch/prepare.py again")
    raise FileNotFoundError(f"{folder / _INFO} does not exist; {expected}")
  try:
    builder = tfds.builder_from_directory(folder)
  except ParseError as error:
    raise ValueError(f"{folder / _INFO} cannot be read ({error}); expected a whole file") from error
  found = sorted(each.value for each in builder.info.available_file_formats())
  if "array_record" not in found:
    raise ValueError(
      f"{root} is in the format {', '.join(found)}, which has no random access; "
      f"convert it: tfds convert_format --dataset_version_dir={root} "
      "--out_file_format=array_record --out_dir=..."
    )
  return builder


def _check_split(split: str, info: "tfds.core.DatasetInfo", root: str) -> None:
  try:
    examples = info.splits[split].num_examples
  except ValueError as error:
    raise ValueError(
      f"unknown split {split!r} of {root}; known: {', '.join(info.splits)}, and parts of them "
      "such as train[:80%]"
    ) from error
  if not examples:
    raise ValueError(f"split {split!r} of {root} is empty")


def _restored(root: str, info: "tfds.core.DatasetInfo") -> Descriptor:
  """The descriptor that `pack` left in the folder."""
  from etils import epath

  path = epath.Path(root).expanduser() / PLAN
  if not path.exists():
    raise ValueError(
      f"{root} was not packed by launch/prepare.py: data.options.features must say which feature "
      f"is the image, the label, ...; known features: {', '.join(_flat(info.features))}"
    )
  try:
    facts = json.loads(path.read_text())["descriptor"]
  except (ValueError, KeyError) as error:
    raise ValueError(f"{path} cannot be read ({error!r}); expected a whole file") from error
  return Descriptor.from_dict(facts)


def _classes(
  info: "tfds.core.DatasetInfo", features: Mapping[str, str], given: tuple[str, ...]
) -> tuple[str, ...]:
  """Checks the mapping, and finds the names of the label's classes; none without a label."""
  for key in features:
    if key not in _TYPES:
      raise ValueError(f"unknown key features.{key}; known: {', '.join(_TYPES)}")
  if "image" not in features:
    raise ValueError(f"features has {', '.join(features)}; expected image as well")
  known = _flat(info.features)
  for key, name in features.items():
    if name not in known:
      raise ValueError(f"features.{key}: unknown feature {name!r}; known: {', '.join(known)}")
  if given or "label" not in features:
    return given
  label = known[features["label"]]
  if not getattr(label, "num_classes", None):
    raise ValueError(
      f"{info.name} has no class names for {features['label']}: give them as data.options.classes"
    )
  return tuple(label.names)


def _flat(features: Any, prefix: str = "") -> dict[str, Any]:
  """The features by name, nested names joined by slashes."""
  import tensorflow_datasets as tfds

  flat = {}
  for name, feature in sorted(features.items()):
    nested = isinstance(feature, tfds.features.FeaturesDict)
    flat |= _flat(feature, f"{prefix}{name}/") if nested else {prefix + name: feature}
  return flat


def _at(tree: Any, name: str) -> Any:
  return functools.reduce(lambda branch, part: branch[part], name.split("/"), tree)


def _converted(key: str, value: np.ndarray, where: str) -> np.ndarray:
  """One array of a TFDS example in the types of ours, as a copy of its own."""
  kind, dtype = _TYPES[key]
  if not np.issubdtype(value.dtype, kind):
    raise ValueError(f"{key} of {where} is {value.dtype}; expected {kind.__name__}")
  if value.ndim == 3 and value.shape[2] == 1:
    value = value[..., 0]
  if key == "image" and value.ndim == 2:
    value = np.stack([value] * 3, -1)
  if key == "image" and value.ndim == 3:
    value = value[..., :3]
  return np.array(value, dtype, order="C")
