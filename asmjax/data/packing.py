"""Packing of any source into ArrayRecord shards, in the layout of tensorflow-datasets (TFDS).

`asmjax.data.tfds.Tfds` reads the result.  TensorFlow is neither needed nor imported.
"""

import functools
import hashlib
import json
import os
import pathlib
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from asmjax import batch
from asmjax.batch import UNLABELED
from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.transforms import Example
from asmjax.utils.files import PARTIAL, atomic_write, hash_file, read_json_object, write_json

# File that describes the intended content of a folder.  It is written first, TFDS's metadata last:
# a folder with the one but not the other is incomplete.
PLAN = "asmjax.json"

# End of the name of the file beside a complete shard by which a later call knows it as whole, and
# which `sha256sum --check` reads.
DIGEST = ".sha256"

# Number of threads that read and compress, and of examples that these prepare ahead of writing.
_THREADS = min(16, os.cpu_count() or 1)

_ONE = {"weight": np.array(1, np.float32)}


def pack(
  sources: Mapping[str, Source],
  folder: str | pathlib.Path,
  *,
  examples_per_shard: int = 256,
  progress: Callable[[str, int], None] = lambda split, examples: None,
) -> None:
  """Packs sources into one folder of ArrayRecord shards, in order and without loss.

  JPEG files of images are stored as they are if TFDS decodes them to the same pixels; other images
  and labels become PNGs, all else zlib-compressed bytes.  A shard gets its name when it is
  complete: called again after an interruption, `pack` keeps complete shards and writes the others,
  and the result is, byte for byte, that of an uninterrupted call.  Shards that have been damaged
  since are written again.

  Args:
    sources: Source of each split, by name, all of one data set.
    folder: Path of a local folder: new, empty, or begun by a call with the same arguments.
    examples_per_shard: Number of examples in every shard of a split except its last; 256 by
      default.
    progress: Function called with (split, n) whenever n more examples of a split are packed.

  Raises:
    ValueError: There are no sources, a source is empty, sources are of different data sets, an
      example violates its descriptor, or the folder was begun with other arguments; the message
      says what differs.
  """
  import tensorflow_datasets as tfds

  plan = _make_plan(sources, examples_per_shard)
  folder = _begin_folder(folder, plan)
  descriptor = next(iter(sources.values())).descriptor
  features = _make_features(descriptor)
  infos = []
  for split, source in sources.items():
    encode = functools.partial(_encode_example, source, features)
    indices = range(len(source))
    shards = [indices[k : k + examples_per_shard] for k in indices[::examples_per_shard]]
    template = tfds.core.ShardedFileTemplate(
      folder,  # pyright: ignore[reportArgumentType]  # Any path will do.
      dataset_name=descriptor.name,
      split=split,
      filetype_suffix="array_record",
    )
    paths = [pathlib.Path(path) for path in template.sharded_filepaths(len(shards))]
    for path, shard in zip(paths, shards, strict=True):
      _pack_shard(path, encode, shard, functools.partial(progress, split))
    size = sum(path.stat().st_size for path in paths)
    infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[*map(len, shards)], num_bytes=size))
  tfds.folder_dataset.write_metadata(
    data_dir=folder,  # pyright: ignore[reportArgumentType]  # Any path will do.
    features=features,
    split_infos=infos,
    version="1.0.0",
    disable_shuffling=True,
    check_data=False,  # The check would read with TensorFlow.
  )


def check_example(example: Example, keys: Iterable[str], where: str) -> None:
  """Raises ValueError unless an example has exactly `keys`, as the batch contract wants them.

  The error message begins with `where`, a phrase for the place of the example.
  """
  if set(example) != set(keys):
    raise ValueError(f"{where} has {sorted(example)}; expected {sorted(keys)}")
  try:
    batch.check({key: value[None] for key, value in (example | _ONE).items()})
  except ValueError as error:
    raise ValueError(f"{where}, as a batch of one: {error}") from error


def check_labels(label: np.ndarray, num_classes: int, where: str) -> None:
  """Raises ValueError for labels that are neither of the classes nor `UNLABELED`.

  The error message begins with `where`, a phrase for the place of the labels.
  """
  known = label[label != UNLABELED]
  low, high = known.min(initial=0), known.max(initial=0)
  if low < 0 or high >= num_classes:
    raise ValueError(
      f"{where} holds {low if low < 0 else high}; expected 0..{num_classes - 1}, or {UNLABELED}"
    )


def _make_plan(sources: Mapping[str, Source], examples_per_shard: int) -> dict[str, Any]:
  """Describes the intended content of a folder in JSON's types, with digests of the sources."""
  if not sources:
    raise ValueError("nothing to pack: expected at least one split")
  descriptor = next(iter(sources.values())).descriptor
  for split, source in sources.items():
    differences = _find_differences(descriptor.to_dict(), source.descriptor.to_dict())
    if differences:
      raise ValueError(
        f"split {split!r} is not of the kind of split {next(iter(sources))!r} "
        f"({'; '.join(differences)}); pack it into a folder of its own"
      )
    if not len(source):
      raise ValueError(f"split {split!r} of {source.descriptor.name} has no examples")
  for name in (descriptor.name, *sources):
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
      raise ValueError(f"{name!r} cannot name files: expected lower-case letters, digits and _")
  if examples_per_shard < 1:
    raise ValueError(f"examples_per_shard {examples_per_shard}: expected 1 or more")
  plan = {
    "descriptor": descriptor.to_dict(),
    "examples_per_shard": examples_per_shard,
    "splits": {
      split: {
        "examples": len(source),
        "first": _hash_example(source[0]),
        "files": _hash_files(source),
      }
      for split, source in sources.items()
    },
  }
  return json.loads(json.dumps(plan))


def _hash_example(example: Example) -> str:
  digest = hashlib.sha256()
  for key, value in sorted(example.items()):
    digest.update(f"{key} {value.dtype} {value.shape} ".encode() + value.tobytes())
  return digest.hexdigest()


def _hash_files(source: Source) -> str:
  """Returns a digest of the names and sizes of a source's files, whose contents are not read."""
  digest = hashlib.sha256()
  for index in range(len(source)):
    for key, path in source.files(index).items():
      digest.update(os.fsencode(f"{key} {path.name} {path.stat().st_size} "))
  return digest.hexdigest()


def _begin_folder(folder: str | pathlib.Path, plan: dict[str, Any]) -> pathlib.Path:
  """Creates the folder with its plan, or checks that it was begun with the same plan."""
  if "://" in str(folder):
    raise ValueError(f"cannot pack into {folder}: pack into a local folder and copy that")
  folder = pathlib.Path(folder)
  path = folder / PLAN
  if path.exists():
    differences = _find_differences(read_json_object(path), plan)
    if differences:
      raise ValueError(
        f"{folder} was begun with something else, before and now: {'; '.join(differences)}. Pack "
        "into a new folder"
      )
  else:
    names = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    foreign = [name for name in names if not name.startswith(f".{PLAN}.")]
    if foreign:
      raise ValueError(f"{folder} holds {foreign[0]} but no {PLAN}; expected a new folder")
    write_json(path, plan)
  for partial in folder.glob(f".*{PARTIAL}"):  # Left behind by a call that was killed.
    partial.unlink()
  return folder


def _find_differences(begun: Any, now: Any, path: str = "") -> list[str]:
  """Describes the differences between two trees of dicts, by dotted name."""
  if isinstance(begun, dict) and isinstance(now, dict):
    return [
      difference
      for key in sorted(begun.keys() | now.keys())
      for difference in _find_differences(begun.get(key), now.get(key), f"{path}.{key}".lstrip("."))
    ]
  return [] if begun == now else [f"{path} is {reprlib.repr(begun)} and {reprlib.repr(now)}"]


def _pack_shard(
  path: pathlib.Path,
  encode: Callable[[int], bytes],
  indices: range,
  progress: Callable[[int], None],
) -> None:
  """Writes one shard and its digest, unless it exists and agrees with its digest."""
  import grain
  from tensorflow_datasets.core.file_adapters import ArrayRecordFileAdapter

  digest = path.with_name(f"{path.name}{DIGEST}")
  if path.exists() and digest.exists() and digest.read_bytes() == _describe_content(path):
    return progress(len(indices))
  options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_THREADS)
  encoded = grain.MapDataset.range(indices.start, indices.stop).map(encode)

  def records() -> Iterator[tuple[None, bytes]]:
    for record in encoded.to_iter_dataset(options):
      yield None, record
      progress(1)

  with atomic_write(path) as partial:
    # Records need no key: they are not shuffled.
    ArrayRecordFileAdapter.write_examples(
      partial,
      records(),  # pyright: ignore[reportArgumentType]
    )
  with atomic_write(digest) as partial:
    partial.write_bytes(_describe_content(path))


def _describe_content(path: pathlib.Path) -> bytes:
  """Returns the line of `sha256sum` for a file."""
  return f"{hash_file(path)}  {path.name}\n".encode()


def _make_features(descriptor: Descriptor) -> Any:
  """Returns the TFDS features of a data set, with the encoding of each key."""
  from tensorflow_datasets import features as tfds_features

  zlib = functools.partial(tfds_features.Tensor, encoding="zlib")
  features = {
    "image": tfds_features.Image(shape=(None, None, 3)),
    "label": tfds_features.LabeledImage(labels=list(descriptor.classes), encoding_format="png"),
    "depth": zlib(shape=(None, None), dtype=np.float32),
    "normals": zlib(shape=(None, None, 3), dtype=np.float32),
    "instance": zlib(shape=(None, None), dtype=np.int32),
  }
  keys = ("image", *sorted(descriptor.provides))
  return tfds_features.FeaturesDict({key: features[key] for key in keys})


def _encode_example(source: Source, features: Any, index: int) -> bytes:
  """Serializes example `index` as a `tf.train.Example`."""
  from tensorflow_datasets.core.example_serializer import ExampleSerializer

  example = source[index]
  where = f"example {index} of split {source.split!r} of {source.descriptor.name}"
  check_example(example, features, where)
  encoded = example | {"image": _encode_image(source, features["image"], index, example["image"])}
  if "label" in example:
    check_labels(example["label"], len(source.descriptor.classes), f"label of {where}")
    encoded["label"] = _encode_png(example["label"].astype(np.uint8))
  serializer = ExampleSerializer(features.get_serialized_info())
  proto = serializer.get_tf_example(features.encode_example(encoded))
  # By default the order of a proto's map entries changes from process to process.
  return proto.SerializeToString(deterministic=True)


def _encode_image(source: Source, feature: Any, index: int, image: np.ndarray) -> bytes:
  """Returns the image's own file if it is a JPEG that TFDS decodes to `image`, else a PNG.

  A PNG of a photo is several times as large as its JPEG and takes longer to decode.
  """
  path = source.files(index).get("image")
  if path is not None and path.suffix.lower() in (".jpg", ".jpeg"):
    published = path.read_bytes()
    if np.array_equal(feature.decode_example_np(published), image):
      return published
  return _encode_png(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def _encode_png(image: np.ndarray) -> bytes:
  return cv2.imencode(".png", image)[1].tobytes()
