"""Placing published weights into a network's variables, with a report of what went where."""

import dataclasses
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from asmjax.pretrained.names import Origin, by_path, named

Shape = tuple[int, ...]

# What files hold besides weights: counters, means of colors, optimizers' slots and averages.
NON_WEIGHTS = (
  "*num_batches_tracked",
  "global_step",
  "save_counter/*",
  "*/mean_rgb",
  "*/Momentum",
  "*/Adam",
  "*/Adam_1",
  "*/RMSProp",
  "*/RMSProp_1",
  "*/ExponentialMovingAverage",
)

# Classifiers of ImageNet, with the last convolution of MobileNetV2, and auxiliary ones. A map that
# has a place for one of them names it.
CLASSIFIERS = (
  "fc.*",
  "classifier.*",
  "aux_classifier.*",
  "AuxLogits*",
  "*/AuxLogits/*",
  "*/Logits/*",
  "*/logits/*",
  "logits/*",
  "vgg_16/fc[678]/*",
  "MobilenetV2/Conv_1/*",
  "features.18.[01].*",
)

IGNORED = NON_WEIGHTS + CLASSIFIERS

_LISTED = 10


@dataclasses.dataclass(frozen=True)
class Coverage:
  """What became of a network's variables and of a file's arrays; printing it gives a summary.

  Our variables are named by path, collection first; the file's arrays as the file names them.

  Attributes:
    shapes: of all our variables.
    part: the module that was to be loaded; "" if all.
    loaded: our variables that have the file's values: the arrays' names.
    outside: our variables outside of the part, which stay fresh: their shapes.
    reinitialized: our variables that were to stay fresh, or heads of another number of classes:
      the shape of what the file has for them, laid out as ours, or None.
    missing: our variables that got nothing: the names that the file lacks, none where the map
      has no entry.
    misfit: our variables for which the file has another shape: that shape, laid out as ours.
    unused: arrays of the file that have no place: their shapes.
    ignored: of those, the ones that are known to be of no interest: their shapes.
  """

  shapes: Mapping[str, Shape]
  part: str = ""
  loaded: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  outside: dict[str, Shape] = dataclasses.field(default_factory=dict)
  reinitialized: dict[str, Shape | None] = dataclasses.field(default_factory=dict)
  missing: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  misfit: dict[str, Shape] = dataclasses.field(default_factory=dict)
  unused: dict[str, Shape] = dataclasses.field(default_factory=dict)
  ignored: dict[str, Shape] = dataclasses.field(default_factory=dict)

  def parameters(self) -> tuple[int, int]:
    """Numbers of parameters loaded and in all; running statistics are none."""
    return _parameters(self.shapes, self.loaded), _parameters(self.shapes, self.shapes)

  def faults(self) -> str:
    """What keeps the transfer from being complete, the first names of each kind; "" if nothing."""
    missing = (
      f"{path} {self.shapes[path]}: "
      + (f"no {' and no '.join(map(repr, names))} in the file" if names else "not in the map")
      for path, names in self.missing.items()
    )
    misfit = (
      f"{path}: found {found}, expected {self.shapes[path]}" for path, found in self.misfit.items()
    )
    unused = (f"{name} {shape}" for name, shape in self.unused.items())
    return (
      _listing("missing", missing)
      + _listing("of another shape", misfit)
      + _listing("unused of the file", unused)
    )

  def __str__(self) -> str:
    loaded, total = self.parameters()
    fresh = (
      f"{path} {self.shapes[path]}" + (f", the file has {found}" if found else "")
      for path, found in self.reinitialized.items()
    )
    outside = f"\nfresh outside of {self.part}: {len(self.outside)} arrays" if self.part else ""
    return (
      f"loaded {loaded:,} of {total:,} parameters: {len(self.loaded)} of {len(self.shapes)} "
      f"arrays; {len(self.ignored)} of the file ignored"
      + outside
      + _listing("reinitialized", fresh)
      + self.faults()
    )


def transfer(
  variables: PyTree,
  weights: Mapping[str, np.ndarray],
  name_map: Mapping[str, Origin],
  *,
  part: str = "",
  strict: bool = True,
  heads: Sequence[str] = ("params/head_*",),
  reinitialize: Sequence[str] = (),
  ignore: Sequence[str] = (),
) -> tuple[PyTree, Coverage]:
  """A network's variables with the values that a file has for them, in our types.

  `*` in a pattern stands for any characters.

  Args:
    variables: of the network, freshly initialized, collections first; they are left as they are.
    weights: arrays by name, as `asmjax.pretrained.read` gives them.
    name_map: our paths to names of the file; see `asmjax.pretrained.names`.
    part: the module to load; what is outside of it stays fresh. "" loads all.
    strict: every variable must get a value and every array must be used.
    heads: patterns of our paths that keep their fresh values where the file differs in the last
      axis alone, the number of classes.
    reinitialize: patterns of our paths, such as "*/conv1/*", that keep their fresh values whether
      or not the file has any. What it has may differ in the last axis.
    ignore: patterns of names of the file that have no place here, besides `IGNORED`.

  Raises:
    ValueError: nothing fits; there is no such part; an array that is wanted is not of a floating
      type or of the map's rank; a pattern of `reinitialize` that no path has; and, if strict,
      anything is missing, unused or of another shape.
  """
  leaves = by_path(variables)
  _check_patterns(reinitialize, leaves)
  coverage = Coverage({path: tuple(leaf.shape) for path, leaf in leaves.items()}, part)
  placed = {}
  for path, leaf in leaves.items():
    origin = name_map.get(path, Origin(()))
    if not within(path, part):
      coverage.outside[path] = coverage.shapes[path]
    elif not origin.names or not weights.keys() >= set(origin.names):
      if _matches(path, reinitialize):
        coverage.reinitialized[path] = None
      else:
        coverage.missing[path] = tuple(name for name in origin.names if name not in weights)
    else:
      value = _value(path, weights, origin)
      if _fits(coverage, path, value.shape, heads=heads, reinitialize=reinitialize):
        # A copy: on the CPU an array may otherwise share the memory of the file's.
        placed[path] = jnp.array(value, leaf.dtype)
        coverage.loaded[path] = origin.names
  _record_rest(coverage, weights, name_map, ignore)
  _check(coverage, strict)
  replaced = jax.tree_util.tree_map_with_path(
    lambda path, leaf: placed.get(named(path), leaf), variables
  )
  return replaced, coverage


def within(path: str, part: str) -> bool:
  """Whether a variable belongs to a module at the top of the network, or to all if it is ""."""
  return not part or path.split("/")[1] == part


def _value(path: str, weights: Mapping[str, np.ndarray], origin: Origin) -> np.ndarray:
  arrays = [weights[name] for name in origin.names]
  found = ", ".join(
    f"{name!r} {array.dtype} {array.shape}"
    for name, array in zip(origin.names, arrays, strict=True)
  )
  if not all(jnp.issubdtype(array.dtype, jnp.floating) for array in arrays):
    raise ValueError(f"{path}: found {found}; expected a floating type")
  try:
    return origin.transform(*arrays)
  except ValueError as error:
    raise ValueError(f"{path}: found {found}, of another rank than expected: {error}") from error


def _fits(
  coverage: Coverage, path: str, found: Shape, *, heads: Sequence[str], reinitialize: Sequence[str]
) -> bool:
  """Whether a variable takes what was found for it; if not, the coverage says why."""
  expected = coverage.shapes[path]
  stays = _matches(path, reinitialize) or found != expected and _matches(path, heads)
  if found == expected and not stays:
    return True
  kind = coverage.reinitialized if stays and found[:-1] == expected[:-1] else coverage.misfit
  kind[path] = found
  return False


def _record_rest(
  coverage: Coverage,
  weights: Mapping[str, np.ndarray],
  name_map: Mapping[str, Origin],
  ignore: Sequence[str],
) -> None:
  inside = coverage.shapes.keys() - coverage.outside.keys()
  known = {name for path in inside & name_map.keys() for name in name_map[path].names}
  for name in sorted(weights.keys() - known):
    rest = coverage.ignored if _matches(name, (*IGNORED, *ignore)) else coverage.unused
    rest[name] = weights[name].shape


def _check_patterns(patterns: Sequence[str], paths: Iterable[str]) -> None:
  for pattern in patterns:
    if not fnmatch.filter(paths, pattern):
      raise ValueError(
        f"reinitialize: no variable matches {pattern!r}; variables: {sorted(paths)[:_LISTED]}, ..."
      )


def _check(coverage: Coverage, strict: bool) -> None:
  if coverage.shapes.keys() == coverage.outside.keys():
    tops = sorted({path.split("/")[1] for path in coverage.shapes})
    raise ValueError(f"no variables in part {coverage.part!r}; known: {tops}")
  if not coverage.loaded:
    raise ValueError(f"none of the weights fits the network:{coverage.faults()}")
  if strict and coverage.faults():
    raise ValueError(
      f"the weights do not fit the network:{coverage.faults()}\n"
      "Reinitialize or ignore what is meant to differ, or load what fits with strict=False."
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
  return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _parameters(shapes: Mapping[str, Shape], paths: Iterable[str]) -> int:
  return sum(math.prod(shapes[path]) for path in paths if path.startswith("params/"))


def _listing(title: str, lines: Iterable[str]) -> str:
  lines = list(lines)
  more = [f"... and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
  return (
    "".join(f"\n  {line}" for line in (*lines[:_LISTED], *more)).join(
      (f"\n{title} ({len(lines)}):", "")
    )
    if lines
    else ""
  )
