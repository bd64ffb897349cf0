"""Export of a trained predictor to a file that JAX runs without this library.

| file             | content                                                              |
|------------------|----------------------------------------------------------------------|
| `NAME.stablehlo` | the function with its weights, as `jax.export` serializes it         |
| `NAME.json`      | classes, palette, sizes and the SHA-256 of the first; see `Artifact` |

The function takes images uint8 (n, h, w, 3), RGB, and returns by task, at the images' size,

| key                          | type    | shape        | meaning                               |
|------------------------------|---------|--------------|---------------------------------------|
| `segmentation`               | int32   | (n, h, w)    | class ids                             |
| `depth`                      | float32 | (n, h, w)    | meters along the optical axis         |
| `normals`                    | float32 | (n, h, w, 3) | unit vectors; see `asmjax.batch`      |
| `segmentation_probabilities` | float32 | (n, h, w, c) | class probabilities, if asked for     |

It does not resize images: the caller does, as `asmjax.inference.trained.TrainedPredictor.resize`
does, to the size in `NAME.json`.
"""

import hashlib
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import PyTree

from asmjax.data.transforms import RGB
from asmjax.inference.outputs import tasks_with_probabilities
from asmjax.inference.tiling import Size
from asmjax.inference.trained import TrainedPredictor
from asmjax.inference.views import Inference
from asmjax.ops import use_cpu_kernels
from asmjax.tasks.base import Task
from asmjax.utils.files import atomic_write, read_json_object, write_json

PLATFORMS = ("cpu", "cuda", "tpu")
SUFFIX = ".stablehlo"
# Key of the metadata's file with the digest of the function's.
_DIGEST = "sha256"

# Smallest side of images of any size, unless evaluation's are shorter.
_MIN_SIDE = 32
# Sides are padded to multiples, as predictions do: a network that halves maps and enlarges them
# again shifts what it sees at other sizes. JAX cannot trace most networks otherwise, either. The
# multiple is smaller if evaluation's size is none of 32, so that its images get its numbers.
_MULTIPLES = (16, 32)
# Errors that JAX raises for a size that it cannot determine.
_INCONCLUSIVE = (
  TypeError,
  ValueError,
  NotImplementedError,
  jax.errors.InconclusiveDimensionOperation,
)


class FixedSizeOnlyError(ValueError):
  """Error of a network that cannot be traced for images of any size."""


class Artifact(NamedTuple):
  """Exported function and its description.

  Attributes:
    exported: Function with its weights.
    metadata: Content of the JSON file. `inputs` and `outputs` are types and shapes by name, with
      letters for any numbers; `sides`, None for a fixed size, are the `min` that an image may have
      and the `multiple` that, plus `extra`, it is padded to, at the bottom and on the right, before
      it enters the network; `evaluation` is the `size` that evaluation brings images to, how it
      resizes them, and the color `fill` that it pads them with.
  """

  exported: jax.export.Exported
  metadata: dict[str, Any]


def export(
  trained: TrainedPredictor,
  *,
  size: Size | None = None,
  batch: int | None = None,
  tasks: Sequence[str] = (),
  platforms: Sequence[str] = PLATFORMS,
  probabilities: bool = False,
) -> Artifact:
  """Traces pre-processing, predictor and post-processing as one function.

  For images of evaluation's size the numbers are those of evaluation. The function for CPUs has
  kernels that are fast there only if the export itself runs on a CPU.

  Args:
    trained: Predictor of a run; its weights become a part of the function.
    size: Height and width of the images; None, the default, for any with sides of at least 32, or
      as short as evaluation's. They are padded to multiples that leave images of evaluation's size
      as they are, if the network can be traced so, and else to multiples of 16 or 32; see the
      artifact's metadata.
    batch: Number of images in a batch; None, the default, for any.
    tasks: Names of the tasks to predict; empty, the default, for all.
    platforms: Platforms on which the function runs, of `PLATFORMS` and "rocm".
    probabilities: Whether the function returns class probabilities, too.

  Raises:
    ValueError: A task or platform is unknown, `size` or `batch` is not above 0, or `probabilities`
      is set and no task has any.
    FixedSizeOnlyError: The network cannot be exported without a `size`.
  """
  selected = Inference(tasks=tuple(tasks)).select_tasks(trained.game.tasks)
  soft = tasks_with_probabilities(selected, "probabilities") if probabilities else ()
  _check_platforms(platforms)
  if size is not None and (len(size) != 2 or min(size) < 1):
    raise ValueError(f"size={size}; expected (height, width), above 0")
  if batch is not None and batch < 1:
    raise ValueError(f"batch={batch}; expected a number of images, above 0")
  n = "n" if batch is None else str(batch)
  predict = _make_function(trained, selected, soft)

  def trace(function: Callable, shape: str, *limits: str) -> jax.export.Exported:
    symbols = jax.export.symbolic_shape(f"{n}, {shape}, 3", constraints=limits)
    images = jax.ShapeDtypeStruct(symbols, jnp.uint8)
    return jax.export.export(jax.jit(function), platforms=tuple(platforms))(images)

  if size is not None:
    exported, sides = trace(predict, f"{size[0]}, {size[1]}"), None
    return Artifact(exported, _make_metadata(trained, selected, exported, sides))
  extra, min_side = int(trained.game.align_corners), min(_MIN_SIDE, *trained.prepare.size)
  # The network is traced for any number of whole multiples. With the sides of images that become
  # some after padding, JAX takes minutes to compare the sizes of maps.
  of_multiples = lambda multiple: trace(
    predict, f"{multiple} * a + {extra}, {multiple} * b + {extra}", "a >= 1", "b >= 1"
  )
  padded, multiple = _trace_any_size(of_multiples, trained.prepare.size, extra)

  def predict_padded(image: jax.Array) -> dict[str, jax.Array]:
    predictions: Any = padded.call(_pad(image, multiple, extra, trained.prepare.fill))
    height, width = image.shape[1:3]
    return {name: values[:, :height, :width] for name, values in predictions.items()}

  exported = trace(predict_padded, "h, w", f"h >= {min_side}", f"w >= {min_side}")
  sides = {"min": min_side, "multiple": multiple, "extra": extra}
  return Artifact(exported, _make_metadata(trained, selected, exported, sides))


def export_for_any_size(
  trained: TrainedPredictor, *, warn: Callable[[str], None], **settings: Any
) -> Artifact:
  """Exports for images of any size or, if that is impossible, of evaluation's size.

  Args:
    trained: Predictor of a run.
    warn: Function that is called with the reason why the size is fixed, or with what other sizes
      than evaluation's may cost.
    **settings: Further arguments of `export`.

  Raises:
    ValueError: A setting is invalid; see `export`.
  """
  height, width = trained.prepare.size
  try:
    artifact = export(trained, **settings)
  except FixedSizeOnlyError as error:
    warn(f"for images of {height}x{width} alone: {error}")
    return export(trained, size=(height, width), **settings)
  multiple = artifact.metadata["sides"]["multiple"]
  if multiple < _MULTIPLES[-1] and not trained.game.align_corners:
    warn(
      f"images are padded to multiples of {multiple}, which leaves those of {height}x{width} as "
      "evaluation has them; a network of a larger stride shifts what it sees in images of other "
      "sizes: bring them to that size"
    )
  return artifact


def save(artifact: Artifact, path: str | pathlib.Path) -> None:
  """Writes an artifact and, beside it, its metadata with the suffix `.json`, each atomically.

  The metadata are written last and name the content of the function's file, so that the one is
  never taken for that of another; see `load`.

  Args:
    artifact: Exported function and its description.
    path: Path of the file to write, NAME.stablehlo.

  Raises:
    ValueError: The path has another suffix.
    WriteError: A file cannot be written.
  """
  path = pathlib.Path(path)
  check_path(path)
  stored = artifact.exported.serialize()
  with atomic_write(path) as temporary:
    temporary.write_bytes(stored)
  digest = hashlib.sha256(stored).hexdigest()
  write_json(metadata_path(path), artifact.metadata | {_DIGEST: digest})


def load(path: str | pathlib.Path) -> Artifact:
  """Reads what `save` wrote.

  Args:
    path: Path of the file NAME.stablehlo, which has NAME.json beside it.

  Raises:
    FileNotFoundError: One of the files is missing, as after a write that was cut short.
    ValueError: The metadata are damaged, or belong to a function with another content.
  """
  path = pathlib.Path(path)
  check_path(path)
  metadata = read_json_object(metadata_path(path))
  stored = path.read_bytes()
  if metadata.pop(_DIGEST, None) != hashlib.sha256(stored).hexdigest():
    raise ValueError(
      f"{path} is not the file that {metadata_path(path)} describes: damaged, or from another "
      "export; export again"
    )
  return Artifact(jax.export.deserialize(bytearray(stored)), metadata)


def check_path(path: str | pathlib.Path) -> None:
  """Raises ValueError unless a path has the suffix of what is written there."""
  suffix = pathlib.Path(path).suffix
  if suffix != SUFFIX:
    raise ValueError(
      f"{path} has the suffix {suffix!r}; expected {SUFFIX}, the only format there is"
    )


def metadata_path(path: pathlib.Path) -> pathlib.Path:
  """Returns the path of an artifact's metadata."""
  return path.with_suffix(".json")


def _check_platforms(platforms: Sequence[str]) -> None:
  known = (*PLATFORMS, "rocm")
  for name in platforms:
    if name not in known:
      raise ValueError(f"unknown platform {name!r}; known: {', '.join(known)}")
  if not platforms:
    raise ValueError(f"no platforms; known: {', '.join(known)}")


def _trace_any_size(
  trace: Callable[[int], jax.export.Exported], usual: Size, extra: int
) -> tuple[jax.export.Exported, int]:
  """Traces the function for sides of a multiple plus `extra`, and returns the multiple."""
  reason, fitting = "", math.gcd(_MULTIPLES[-1], *(side - extra for side in usual))
  for multiple in (fitting, *(multiple for multiple in _MULTIPLES if multiple > fitting)):
    try:
      return trace(multiple), multiple
    except _INCONCLUSIVE as error:
      reason = str(error).partition("\n")[0]
  raise FixedSizeOnlyError(
    "the network cannot be traced for images of any size, not even padded to multiples of "
    f"{_MULTIPLES[-1]} pixels; give a size, as --size={usual[0]}x{usual[1]}. JAX says: {reason}"
  )


def _make_function(
  trained: TrainedPredictor, tasks: Mapping[str, Task], soft: Sequence[str]
) -> Callable[[jax.Array], dict[str, jax.Array]]:
  """Makes the function from images to predictions, and soft predictions of tasks in `soft`."""

  def run(variables: PyTree, image: jax.Array) -> dict[str, jax.Array]:
    aligned = trained.game.align_corners
    outputs = trained.game.predict(variables, image)
    size = image.shape[1], image.shape[2]
    predictions = {
      name: task.predict_for_export(outputs[name], size, align_corners=aligned)
      for name, task in tasks.items()
    }
    for name in soft:
      predictions[f"{name}_probabilities"] = tasks[name].soft_prediction(
        outputs[name], size, align_corners=aligned
      )
    return predictions

  def run_xla(variables: PyTree, image: jax.Array) -> dict[str, jax.Array]:
    with use_cpu_kernels(False):
      return run(variables, image)

  def predict(image: jax.Array) -> dict[str, jax.Array]:
    return jax.lax.platform_dependent(trained.variables, image, cpu=run, default=run_xla)

  return predict


def _pad(image: jax.Array, multiple: int, extra: int, fill: RGB) -> jax.Array:
  """Pads images at the bottom and on the right, as predictions do: to a multiple plus `extra`."""
  round_up = lambda side: multiple * ((side - extra + multiple - 1) // multiple) + extra
  pads = ((0, 0), *((0, round_up(side) - side) for side in image.shape[1:3]), (0, 0))
  inside = jnp.pad(jnp.ones((1, *image.shape[1:3], 1), bool), pads)
  return jnp.where(inside, jnp.pad(image, pads), jnp.array(fill, jnp.uint8)[None, None, None])


def _make_metadata(
  trained: TrainedPredictor,
  tasks: Mapping[str, Task],
  exported: jax.export.Exported,
  sides: dict[str, int] | None,
) -> dict[str, Any]:
  (images,), outputs = exported.in_avals, jax.tree.unflatten(exported.out_tree, exported.out_avals)
  metadata = {
    "inputs": {"image": _describe(images)},
    "outputs": {name: _describe(aval) for name, aval in outputs.items()},
    "sides": sides,
    "evaluation": {
      "size": list(trained.prepare.size),
      "resize": trained.prepare.resize,
      "fill": list(trained.prepare.fill),
    },
    "platforms": list(exported.platforms),
    "jax": jax.__version__,
    "data_set": trained.descriptor.name,
  }
  if any(task.has_probabilities for task in tasks.values()):
    metadata["classes"] = list(trained.descriptor.classes)
    metadata["palette"] = [list(color) for color in trained.descriptor.palette]
  return metadata


def _describe(aval: Any) -> dict[str, Any]:
  shape = [side if isinstance(side, int) else str(side) for side in aval.shape]
  return {"dtype": str(aval.dtype), "shape": shape}
