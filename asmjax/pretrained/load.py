"""Loading: the one way from a file of weights to a network's variables."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import PyTree

from asmjax.pretrained.maps import name_map
from asmjax.pretrained.names import NameMap, WeightSource, leaves_by_path, nest
from asmjax.pretrained.readers import Weights, read
from asmjax.pretrained.transfer import Coverage, is_within, transfer

# How files of each format name their arrays; "asmjax" stands for the paths of our variables.
NAMINGS = {
  "orbax": "asmjax",
  "safetensors": "torchvision",
  "tensorflow": "slim",
  "torch": "torchvision",
}


def load(
  path: str | pathlib.Path,
  format: str,
  network: nn.Module,
  variables: PyTree,
  *,
  part: str = "",
  strict: bool = True,
  reinitialize: Sequence[str] = (),
  ignore: Sequence[str] = (),
) -> tuple[PyTree, Coverage]:
  """Loads published weights, or those of a run, into a network's variables.

  Heads whose number of classes differs stay fresh. The weights expect images as
  `asmjax.pretrained.input_transform` says.

  Args:
    path: Path of the weights; see `asmjax.pretrained.read`.
    format: Format of the weights: "safetensors" or "torch" with torchvision's names, "tensorflow"
      with those of TF-Slim and the DeepLab model zoo, or "orbax", a run of this package.
    network: Network that takes the weights.
    variables: Freshly initialized variables of the network, collections first; they are left as
      they are.
    part: Module among the network's fields, such as "backbone", to load that alone: published
      weights from a file of that module alone, a run from its part of that name.
    strict: Whether every variable must get a value and every array must be used.
    reinitialize: Patterns of variables that stay fresh; see `transfer`.
    ignore: Patterns of arrays that have no place in the network; see `transfer`.

  Returns:
    The network's variables with the weights in them, and a report of what went where.

  Raises:
    ValueError: The file is damaged or does not fit, there is no map of its names to the
      network's, or the network has no such part.
    FileNotFoundError: There is no such file.
    ImportError: The format needs a package of an extra that is not installed.
  """
  parts = _parts(network)
  if part and part not in parts:
    raise ValueError(
      f"{type(network).__name__} has no module {part!r} among its fields; known: {sorted(parts)}"
    )
  weights = read(path, format)
  if NAMINGS[format] == "asmjax":
    # Of another network, so what is outside of the part may be anything.
    weights = {name: array for name, array in weights.items() if is_within(name, part)}
  try:
    entries = _entries(network, variables, NAMINGS[format], part)
    return transfer(
      variables,
      weights,
      entries,
      part=part,
      strict=strict,
      reinitialize=reinitialize,
      ignore=ignore,
    )
  except ValueError as error:
    hints = [
      f'\nThe file has all of the {name}: part="{name}" loads that alone.'
      for name in parts
      if not part and _has(weights, network, variables, NAMINGS[format], name)
    ]
    raise ValueError(f"{path}: {error}{''.join(hints)}") from error


def _entries(network: nn.Module, variables: PyTree, naming: str, part: str) -> NameMap:
  if naming == "asmjax":
    return {
      path: WeightSource((path,)) for path in leaves_by_path(variables) if is_within(path, part)
    }
  if part:
    return nest(part, name_map(getattr(network, part), naming))
  return name_map(network, naming)


def _has(weights: Weights, network: nn.Module, variables: PyTree, naming: str, part: str) -> bool:
  """Tells whether a file has all arrays of a part."""
  with contextlib.suppress(ValueError):
    entries = _entries(network, variables, naming, part)
    return weights.keys() >= {name for source in entries.values() for name in source.names}
  return False


def _parts(network: nn.Module) -> list[str]:
  names = [field.name for field in dataclasses.fields(network) if field.name != "parent"]
  return [name for name in names if isinstance(getattr(network, name), nn.Module)]
