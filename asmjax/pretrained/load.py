"""Loading: the one way from a file of weights to a network's variables."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import flax.linen as nn
from jaxtyping import PyTree

from asmjax.models.adapters import PREFIX
from asmjax.pretrained.maps import find_name_map
from asmjax.pretrained.names import NameMap, identity_map, nest
from asmjax.pretrained.readers import Weights, read
from asmjax.pretrained.transfer import Coverage, is_within, transfer
from asmjax.utils.trees import leaves_by_path

# Whose names those of PyTorch's networks may be; a file's own tell which.
PYTORCH = ("torchvision", "timm", "transformers", "dinov2", "hrnet")

# How files of each format name their arrays: as one of those does, as TF-Slim and the DeepLab model
# zoo do, or "asmjax", by the paths of our variables.
NAMINGS = {"orbax": ("asmjax",), "safetensors": PYTORCH, "tensorflow": ("slim",), "torch": PYTORCH}


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

  Heads whose number of classes differs stay fresh, and so do adapters that the file has none of.
  The weights expect images as `asmjax.pretrained.input_transform` says.

  Args:
    path: Path of the weights; see `asmjax.pretrained.read`.
    format: Format of the weights, a key of `NAMINGS`; see `asmjax.pretrained.read`.
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
  parts = _list_modules(network)
  if part and part not in parts:
    raise ValueError(
      f"{type(network).__name__} has no module {part!r} among its fields; known: {sorted(parts)}"
    )
  weights = read(path, format)
  if "asmjax" in NAMINGS[format]:
    # Of another network, so what is outside of the part may be anything.
    weights = {name: array for name, array in weights.items() if is_within(name, part)}
  # By part: the map of that module alone, "" for the network.
  make_map = functools.partial(_make_map, network, variables, weights, NAMINGS[format])
  if not any(PREFIX in name for name in weights) and _has_adapters(variables):
    reinitialize = (*reinitialize, f"*/{PREFIX}*")
  options = {"strict": strict, "reinitialize": reinitialize, "ignore": ignore}
  try:
    return transfer(variables, weights, make_map(part), part=part, **options)
  except ValueError as error:
    hints = [
      f'\nThe file has all of the {name}: part="{name}" loads that alone.'
      for name in parts
      if not part and _has_arrays(weights, make_map, name)
    ]
    raise ValueError(f"{path}: {error}{''.join(hints)}") from error


def _has_adapters(variables: PyTree) -> bool:
  return any(f"/{PREFIX}" in path for path in leaves_by_path(variables))


def _make_map(
  network: nn.Module, variables: PyTree, weights: Weights, namings: Sequence[str], part: str
) -> NameMap:
  if "asmjax" in namings:
    return {path: names for path, names in identity_map(variables).items() if is_within(path, part)}
  if part:
    return nest(part, find_name_map(getattr(network, part), namings, weights))
  return find_name_map(network, namings, weights)


def _has_arrays(weights: Weights, make_map: Callable[[str], NameMap], part: str) -> bool:
  """Returns whether a file has all arrays of a part."""
  try:
    sources = make_map(part).values()
  except ValueError:  # There is no map for this part.
    return False
  return weights.keys() >= {name for source in sources for name in source.names}


def _list_modules(network: nn.Module) -> list[str]:
  """Returns the names of a network's fields that are modules."""
  names = [field.name for field in dataclasses.fields(network) if field.name != "parent"]
  return [name for name in names if isinstance(getattr(network, name), nn.Module)]
