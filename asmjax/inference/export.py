"""A trained predictor as one file that JAX runs without this library.

| file             | content                                                           |
|------------------|-------------------------------------------------------------------|
| `NAME.stablehlo` | the function with its weights, as `jax.export` serializes it      |
| `NAME.json`      | classes, palette, sizes: what it does not tell; see `Artifact`    |

The function takes images uint8 (n, h, w, 3), RGB, and returns by task, at the images' size,

| key                          | type    | shape        | meaning                               |
|------------------------------|---------|--------------|---------------------------------------|
| `segmentation`               | int32   | (n, h, w)    | class ids                             |
| `depth`                      | float32 | (n, h, w)    | meters along the optical axis         |
| `normals`                    | float32 | (n, h, w, 3) | unit vectors; see `asmjax.batch`      |
| `segmentation_probabilities` | float32 | (n, h, w, c) | of the classes, where asked for       |

It does not resize images: what `asmjax.inference.trained.Trained.resized` does is left to the
caller, and `NAME.json` says to what size.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import PyTree

from asmjax.data.transforms import RGB
from asmjax.inference.multiscale import Inference
from asmjax.inference.outputs import SEGMENTATION
from asmjax.inference.tiling import Size
from asmjax.inference.trained import Trained
from asmjax.ops import use_cpu_kernels
from asmjax.tasks.base import Task
from asmjax.utils.files import atomic_write, write_json

PLATFORMS = ("cpu", "cuda", "tpu")
PROBABILITIES = f"{SEGMENTATION}_probabilities"

# Of images of any size: with shorter sides JAX cannot tell small maps from large ones.
_LEAST = 32
# JAX cannot tell that ways to halve an unknown side agree, unless the side is a multiple.
_MULTIPLES = (1, 16, 32)
# What JAX raises for a size that it cannot tell.
_UNTOLD = (TypeError, ValueError, NotImplementedError, jax.errors.InconclusiveDimensionOperation)


class FixedSizeOnlyError(ValueError):
  """A network that cannot be traced for images of any size."""


class Artifact(NamedTuple):
  """What is exported.

  Attributes:
    exported: the function.
    facts: for JSON.  `inputs` and `outputs` are types and shapes by name, a letter standing for any
      number; `sides`, None for a fixed size, are the `least` that an image may have and the
      `multiple` that, plus `more`, it is padded to, at the bottom and on the right, before the
      network sees it; `evaluated` is the `size` that evaluation brings images to, how it resizes
      them, and the color `fill` that it pads them with.
  """

  exported: jax.export.Exported
  facts: dict[str, Any]


def export(
  trained: Trained,
  *,
  size: Size | None = None,
  batch: int | None = None,
  tasks: Sequence[str] = (),
  platforms: Sequence[str] = PLATFORMS,
  probabilities: bool = False,
) -> Artifact:
  """Traces pre-processing, predictor and post-processing as one function.

  Numbers are those of evaluation for images that are as large as evaluation makes them. The version
  for CPUs is the one that is fast there if this runs on one, and plain convolutions elsewhere.

  Args:
    trained: the predictor; its weights become a part of the function.
    size: (h, w) of the images; None for any with sides of at least 32, or as short as evaluation's.
      They are padded if the network can only be traced for multiples of 16 or 32; the artifact's
      facts tell.
    batch: images at a time; None for any number.
    tasks: that are predicted; empty for all.
    platforms: on which the function runs, of `PLATFORMS` and "rocm".
    probabilities: also return those of the classes.

  Raises:
    ValueError: a task or platform is unknown, or probabilities are asked for without segmentation.
    FixedSizeOnlyError: the network cannot be exported without a `size`.
  """
  chosen = Inference(tasks=tuple(tasks)).chosen(trained.game.tasks)
  if probabilities and SEGMENTATION not in chosen:
    raise ValueError(f"probabilities need the task {SEGMENTATION}; predicted: {', '.join(chosen)}")
  _check_platforms(platforms)

  least = min(_LEAST, *trained.prepare.size)

  def traced(multiple: int) -> jax.export.Exported:
    function = jax.jit(_function(trained, chosen, probabilities, multiple))
    images = jax.ShapeDtypeStruct(_shape(batch, size, least), jnp.uint8)
    return jax.export.export(function, platforms=tuple(platforms))(images)

  if size is not None:
    found, sides = traced(1), None
  else:
    found, multiple = _first(traced, trained.prepare.size)
    sides = {"least": least, "multiple": multiple, "more": int(trained.game.align_corners)}
  return Artifact(found, _facts(trained, chosen, found, sides))


def export_widely(trained: Trained, *, say: Callable[[str], None], **settings: Any) -> Artifact:
  """For images of any size or, if that is impossible, of the one that evaluation makes them.

  Args:
    trained: the predictor.
    say: is told why the size is fixed.
    **settings: see `export`, as for what is raised.
  """
  try:
    return export(trained, **settings)
  except FixedSizeOnlyError as error:
    size = trained.prepare.size
    say(f"for images of {size[0]}x{size[1]} alone: {error}")
    return export(trained, size=size, **settings)


def save(artifact: Artifact, path: str | pathlib.Path) -> None:
  """Writes `path` and beside it its facts, with the suffix `.json`; each whole or not at all.

  Raises:
    ValueError: `path` itself ends in `.json`.
  """
  path = pathlib.Path(path)
  if facts_path(path) == path:
    raise ValueError(f"{path} is where the facts go; expected another suffix, as .stablehlo")
  stored = artifact.exported.serialize()
  write_json(facts_path(path), artifact.facts)
  with atomic_write(path) as temporary:
    temporary.write_bytes(stored)


def facts_path(path: pathlib.Path) -> pathlib.Path:
  """Where the facts of an artifact are."""
  return path.with_suffix(".json")


def _check_platforms(platforms: Sequence[str]) -> None:
  known = (*PLATFORMS, "rocm")
  for name in platforms:
    if name not in known:
      raise ValueError(f"unknown platform {name!r}; known: {', '.join(known)}")
  if not platforms:
    raise ValueError(f"no platforms; known: {', '.join(known)}")


def _shape(batch: int | None, size: Size | None, least: int) -> tuple[Any, ...]:
  """The images' shape, with a symbol for whatever may be any number."""
  n = "n" if batch is None else batch
  if size is not None:
    return jax.export.symbolic_shape(f"{n}, {size[0]}, {size[1]}, 3")
  limits = (f"h >= {least}", f"w >= {least}")
  return jax.export.symbolic_shape(f"{n}, h, w, 3", constraints=limits)


def _first(
  traced: Callable[[int], jax.export.Exported], usual: Size
) -> tuple[jax.export.Exported, int]:
  """The function that pads least, and the multiple of which it makes sides."""
  for multiple in _MULTIPLES:
    try:
      return traced(multiple), multiple
    except _UNTOLD as error:
      reason = str(error).partition("\n")[0]
  raise FixedSizeOnlyError(
    "the network cannot be traced for images of any size, not even padded to multiples of "
    f"{_MULTIPLES[-1]} pixels; give a size, as --size={usual[0]}x{usual[1]}. JAX says: {reason}"
  )


def _function(
  trained: Trained, tasks: Mapping[str, Task], probabilities: bool, multiple: int
) -> Callable[[jax.Array], dict[str, jax.Array]]:
  """From images to conclusions."""

  def run(variables: PyTree, image: jax.Array) -> dict[str, jax.Array]:
    aligned = trained.game.align_corners
    seen = _padded(image, multiple, int(aligned), trained.prepare.fill)
    outputs, size = trained.game.predict(variables, seen), seen.shape[1:3]
    found = {
      name: task.predict_for_export(outputs[name], size, align_corners=aligned)
      for name, task in tasks.items()
    }
    if probabilities:
      found[PROBABILITIES] = tasks[SEGMENTATION].soft_prediction(
        outputs[SEGMENTATION], size, align_corners=aligned
      )
    return {name: each[:, : image.shape[1], : image.shape[2]] for name, each in found.items()}

  def run_xla(variables: PyTree, image: jax.Array) -> dict[str, jax.Array]:
    with use_cpu_kernels(False):
      return run(variables, image)

  def predict(image: jax.Array) -> dict[str, jax.Array]:
    return jax.lax.platform_dependent(trained.variables, image, cpu=run, default=run_xla)

  return predict


def _padded(image: jax.Array, multiple: int, more: int, fill: RGB) -> jax.Array:
  """Extends images at the bottom and on the right, as predictions do: to a multiple and `more`."""
  fit = lambda side: multiple * ((side - more + multiple - 1) // multiple) + more
  pads = ((0, 0), *((0, fit(side) - side) for side in image.shape[1:3]), (0, 0))
  inside = jnp.pad(jnp.ones((1, *image.shape[1:3], 1), bool), pads)
  return jnp.where(inside, jnp.pad(image, pads), jnp.array(fill, jnp.uint8)[None, None, None])


def _facts(
  trained: Trained,
  tasks: Mapping[str, Task],
  exported: jax.export.Exported,
  sides: dict[str, int] | None,
) -> dict[str, Any]:
  (images,), outputs = exported.in_avals, jax.tree.unflatten(exported.out_tree, exported.out_avals)
  facts = {
    "inputs": {"image": _described(images)},
    "outputs": {name: _described(each) for name, each in outputs.items()},
    "sides": sides,
    "evaluated": {
      "size": list(trained.prepare.size),
      "resize": trained.prepare.resize,
      "fill": list(trained.prepare.fill),
    },
    "platforms": list(exported.platforms),
    "jax": jax.__version__,
    "data_set": trained.descriptor.name,
  }
  if SEGMENTATION in tasks:
    facts["classes"] = list(trained.descriptor.classes)
    facts["palette"] = [list(color) for color in trained.descriptor.palette]
  return facts


def _described(aval: jax.core.ShapedArray) -> dict[str, Any]:
  shape = [side if isinstance(side, int) else str(side) for side in aval.shape]
  return {"dtype": str(aval.dtype), "shape": shape}
