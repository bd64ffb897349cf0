"""Source of data sets prepared by tensorflow-datasets (TFDS) or packed by `asmjax.data.packing`.

TensorFlow is neither needed nor imported.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from flax.traverse_util import unflatten_dict

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor, check_index
from asmjax.data.packing import PLAN, check_example
from asmjax.data.sources.pascal_voc import color_map
from asmjax.data.transforms import Example

if TYPE_CHECKING:  # Imported where it is used, so that other sources do not need it.
  import tensorflow_datasets as tfds

# Metadata, which TFDS writes last: without it, a data set is incomplete.
_INFO = "dataset_info.json"
# Features that the data set has. TFDS imports whatever module a class named in it lies in.
_FEATURES = "features.json"
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")

# Type that a feature must have, and type that it is read as, by key.
_TYPES = {
  "image": (np.uint8, np.uint8),
  "label": (np.integer, np.int32),
  "depth": (np.floating, np.float32),
  "normals": (np.floating, np.float32),
  "instance": (np.integer, np.int32),
}


@dataclasses.dataclass(frozen=True)
class Tfds:
  """Source of one split of a data set that was packed, or that TFDS prepared, as ArrayRecord.

  Data sets that `asmjax.data.packing.pack` wrote need no options.  For other data sets, `features`
  maps keys to features: `image`, uint8 with 1, 3 or 4 channels, and any of `label` and `instance`,
  of an integer type, `depth` in meters (missing where not finite and positive) and `normals`, of a
  floating type.

  Attributes:
    root: Path of the folder with `dataset_info.json`, local or in a bucket.
    split: Name of a split, or an expression of TFDS such as "train[:80%]".
    features: Name of the feature of each key, with nested names joined by "/"; empty, the default,
      for a packed data set.
    classes: Names of the classes in the order of their label ids; empty, the default, takes them
      from the data set.
    ignored: Label ids that are read as unlabeled; none by default.

  Raises:
    ValueError: The split or a feature is unknown, the data set is not in the ArrayRecord format,
      class names are missing, or `classes` or `ignored` come without `features`.
    FileNotFoundError: `root` is not the folder of a data set, or its packing is incomplete.
  """

  root: str
  split: str
  features: Mapping[str, str] = dataclasses.field(default_factory=dict)
  classes: tuple[str, ...] = ()
  ignored: tuple[int, ...] = ()

  def __post_init__(self) -> None:
    """Reads the metadata and checks the options; reads no example."""
    if (self.classes or self.ignored) and not self.features:
      raise ValueError("classes and ignored are of no use without features")
    _ = self.descriptor, self._records

  def __getstate__(self) -> dict[str, Any]:
    """Returns the fields alone, since every process opens the shards for itself."""
    return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Example:
    """Returns example `index` as a dict of arrays; see `asmjax.data.descriptor.Source`."""
    check_index(index, len(self))
    where = f"example {index} of split {self.split!r} in {self.root}"
    decoder, records = self._decoder, self._records
    try:
      features: Any = decoder.deserialize_example_np(records[index])
    except Exception as error:  # ArrayRecord, OpenCV and zlib have no error in common.
      raise ValueError(f"{where} cannot be read ({error!r}); expected a whole shard") from error
    example = {}
    for key, name in self._names.items():
      value = functools.reduce(lambda tree, part: tree[part], name.split("/"), features)
      example[key] = _convert(key, np.asarray(value), where)
    check_example(example, self._names, where)
    if self.features and "label" in example:
      example["label"] = decode.look_up_ids(example["label"], self._table, where)
    if self.features and "depth" in example:
      valid = np.isfinite(example["depth"]) & (example["depth"] > 0)
      example["depth"] = np.where(valid, example["depth"], 0)
    return example

  def files(self, index: int) -> dict[str, pathlib.Path]:
    """Returns no paths, since examples share the files of the shards."""
    return {}

  @functools.cached_property
  def descriptor(self) -> Descriptor:
    """Descriptor that was packed, or that TFDS's metadata and the options define."""
    splits = tuple(self._info.splits)
    if not self.features:
      return dataclasses.replace(_read_descriptor(self.root, self._info), splits=splits)
    _check_features(self._info, self.features)
    classes = self.classes
    if "label" in self.features and not classes:
      classes = _read_class_names(self._info, self.features["label"])
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
    """Serialized examples, by index."""
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
    """Decoder of the mapped features alone, so that no other feature's library is needed."""
    import tensorflow_datasets as tfds

    known = _flatten(self._info.features)
    features = {name: known[name] for name in self._names.values()}
    return tfds.features.FeaturesDict(unflatten_dict(features, sep="/"))

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
      raise FileNotFoundError(f"{root} is not packed to the end: run `asmjax prepare` again")
    raise FileNotFoundError(f"{folder / _INFO} does not exist; {expected}")
  _check_feature_classes(folder / _FEATURES)
  try:
    builder = tfds.builder_from_directory(folder)
  except ParseError as error:
    reason = str(error).partition("\n")[0]
    raise ValueError(
      f"{folder / _INFO} cannot be read ({reason}); expected a whole file"
    ) from error
  except Exception as error:  # What TFDS raises on arbitrary metadata is arbitrary.
    raise ValueError(f"the metadata in {folder} cannot be read ({error!r})") from error
  formats = sorted(format.value for format in builder.info.available_file_formats())
  if "array_record" not in formats:
    raise ValueError(
      f"{root} is in the format {', '.join(formats)}, which has no random access; "
      f"convert it: tfds convert_format --dataset_version_dir={root} "
      "--out_file_format=array_record --out_dir=..."
    )
  return builder


def _check_feature_classes(path: Any) -> None:
  """Raises ValueError if a data set's features are of other classes than those of TFDS itself."""
  import tensorflow_datasets as tfds

  kinds = [kind for kind in vars(tfds.features).values() if isinstance(kind, type)]
  connectors = [kind for kind in kinds if issubclass(kind, tfds.features.FeatureConnector)]
  known = {f"{kind.__module__}.{kind.__name__}" for kind in connectors}
  try:
    classes = set(_find_classes(json.loads(path.read_text()))) if path.exists() else set()
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} cannot be read ({error}); expected a whole file") from error
  if unknown := sorted(map(str, classes - known)):
    raise ValueError(
      f"{path} names the class {unknown[0]!r}, whose module would be run; expected features of "
      "TFDS itself"
    )


def _find_classes(tree: Any) -> Iterator[Any]:
  """Yields the names of classes in features, also in those that are stored as text in JSON."""
  if isinstance(tree, dict):
    for key, value in tree.items():
      if key in _CLASS_KEYS and not isinstance(value, dict):
        yield value if isinstance(value, str) else repr(value)
      elif key in ("json", "content") and isinstance(value, str):
        yield from _find_classes(json.loads(value))
      else:
        yield from _find_classes(value)
  elif isinstance(tree, list):
    for value in tree:
      yield from _find_classes(value)


def _check_split(split: str, info: "tfds.core.DatasetInfo", root: str) -> None:
  try:
    examples = info.splits[split].num_examples
  except ValueError as error:
    raise ValueError(
      f"split {split!r} of {root} is unknown, or a part reaches beyond its split; known: "
      f"{', '.join(info.splits)}, and parts of them such as train[:80%]"
    ) from error
  if examples <= 0:
    raise ValueError(f"split {split!r} of {root} is empty")


def _read_descriptor(root: str, info: "tfds.core.DatasetInfo") -> Descriptor:
  """Reads the descriptor that `asmjax.data.packing.pack` wrote into the folder."""
  from etils import epath

  path = epath.Path(root).expanduser() / PLAN
  if not path.exists():
    raise ValueError(
      f"{root} was not packed by `asmjax prepare`: data.options.features must say which feature "
      f"is the image, the label, ...; known features: {', '.join(_flatten(info.features))}"
    )
  try:
    return Descriptor.from_dict(json.loads(path.read_text())["descriptor"])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} cannot be read ({error!r}); expected a whole file") from error


def _check_features(info: "tfds.core.DatasetInfo", features: Mapping[str, str]) -> None:
  """Raises ValueError unless `features` maps known keys, among them `image`, to known features."""
  for key in features:
    if key not in _TYPES:
      raise ValueError(f"unknown key features.{key}; known: {', '.join(_TYPES)}")
  if "image" not in features:
    raise ValueError(f"features has {', '.join(features)}; expected image as well")
  known = _flatten(info.features)
  for key, name in features.items():
    if name not in known:
      raise ValueError(f"features.{key}: unknown feature {name!r}; known: {', '.join(known)}")


def _read_class_names(info: "tfds.core.DatasetInfo", feature: str) -> tuple[str, ...]:
  label = _flatten(info.features)[feature]
  if not getattr(label, "num_classes", None):
    raise ValueError(
      f"{info.name} has no class names for {feature}: give them as data.options.classes"
    )
  return tuple(label.names)


def _flatten(features: Any, prefix: str = "") -> dict[str, Any]:
  """Flattens nested features to a dict by name, with nested names joined by slashes."""
  import tensorflow_datasets as tfds

  flat = {}
  for name, feature in sorted(features.items()):
    nested = isinstance(feature, tfds.features.FeaturesDict)
    flat |= _flatten(feature, f"{prefix}{name}/") if nested else {prefix + name: feature}
  return flat


def _convert(key: str, value: np.ndarray, where: str) -> np.ndarray:
  """Copies an array of a TFDS example, in the type and shape of its key in an `Example`."""
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
