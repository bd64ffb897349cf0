"""Transfer of weights into a network's variables, with a report of what went where."""

import dataclasses
import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from asmjax.pretrained.names import WeightSource
from asmjax.utils.trees import join_path, leaves_by_path

Shape = tuple[int, ...]

# Arrays of files from which nothing is computed: counters, means of colors, optimizers' slots and
# averages, weights of classes in the loss, tokens in place of masked patches, and half of the first
# fusion block of DPT.
NON_WEIGHTS = (
  "*num_batches_tracked",
  "*mask_token",
  "loss.criterion.weight",
  "neck.fusion_stage.layers.0.residual_layer1.*",
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

# Classifiers of ImageNet, with the last convolution of MobileNetV2 and the last ones of HRNet, and
# auxiliary ones. A map of a network that has such a layer names it, and then it is not ignored.
CLASSIFIERS = (
  "fc.*",
  "classifier.*",
  "aux_classifier.*",
  "auxiliary_head.*",
  "head.*",
  "AuxLogits*",
  "*/AuxLogits/*",
  "*/Logits/*",
  "*/logits/*",
  "logits/*",
  "vgg_16/fc[678]/*",
  "MobilenetV2/Conv_1/*",
  "features.18.[01].*",
  "incre_modules.*",
  "downsamp_modules.*",
  "final_layer.*",
  "model.last_layer.*",
)

IGNORED = NON_WEIGHTS + CLASSIFIERS

# Names of each kind that messages list.
_LISTED = 10


@dataclasses.dataclass(frozen=True)
class Coverage:
  """Report of what became of a network's variables and of a file's arrays; it prints a summary.

  Our variables are named by path, collection first; the file's arrays as the file names them.

  Attributes:
    shapes: Shapes of all our variables.
    part: Module that was to be loaded; "" means all.
    loaded: Names of the arrays that each of our loaded variables is made of.
    outside: Shapes of our variables outside of the part, which stay fresh.
    reinitialized: Shapes that the file has, laid out as ours, for variables that were to stay
      fresh and for heads of another number of classes; None where it has nothing.
    missing: Names that the file lacks for each of our variables that got nothing, none where the
      map has no entry.
    shape_mismatch: Shapes that the file has, laid out as ours, for variables of another shape.
    unused: Shapes of the file's arrays that have no place.
    ignored: Shapes of those without a place that are known to be of no interest.
  """

  shapes: Mapping[str, Shape]
  part: str = ""
  loaded: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  outside: dict[str, Shape] = dataclasses.field(default_factory=dict)
  reinitialized: dict[str, Shape | None] = dataclasses.field(default_factory=dict)
  missing: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  shape_mismatch: dict[str, Shape] = dataclasses.field(default_factory=dict)
  unused: dict[str, Shape] = dataclasses.field(default_factory=dict)
  ignored: dict[str, Shape] = dataclasses.field(default_factory=dict)

  def count_parameters(self) -> tuple[int, int]:
    """Counts the parameters loaded and all of them; running statistics are no parameters."""
    return _count_parameters(self.shapes, self.loaded), _count_parameters(self.shapes, self.shapes)

  def describe_faults(self) -> str:
    """Lists what keeps the transfer from being complete, the first names of each kind, else ""."""
    missing = (
      f"{path} {self.shapes[path]}: "
      + (f"no {' and no '.join(map(repr, names))} in the file" if names else "not in the map")
      for path, names in self.missing.items()
    )
    mismatch = (
      f"{path}: found {shape}, expected {self.shapes[path]}"
      for path, shape in self.shape_mismatch.items()
    )
    unused = (f"{name} {shape}" for name, shape in self.unused.items())
    return (
      _format_list("of another shape", mismatch)
      + _format_list("missing", missing)
      + _format_list("unused of the file", unused)
    )

  def __str__(self) -> str:
    loaded, total = self.count_parameters()
    fresh = (
      f"{path} {self.shapes[path]}" + (f", the file has {shape}" if shape else "")
      for path, shape in self.reinitialized.items()
    )
    outside = f"\nfresh outside of {self.part}: {len(self.outside)} arrays" if self.part else ""
    return (
      f"loaded {loaded:,} of {total:,} parameters: {len(self.loaded)} of {len(self.shapes)} "
      f"arrays; {len(self.ignored)} of the file ignored"
      + outside
      + _format_list("reinitialized", fresh)
      + self.describe_faults()
    )


def transfer(
  variables: PyTree,
  weights: Mapping[str, np.ndarray],
  name_map: Mapping[str, WeightSource],
  *,
  part: str = "",
  strict: bool = True,
  heads: Sequence[str] = ("params/head_*",),
  reinitialize: Sequence[str] = (),
  ignore: Sequence[str] = (),
) -> tuple[PyTree, Coverage]:
  """Replaces a network's variables by the values that a file has for them, in our types.

  `*` in a pattern stands for any characters.

  Args:
    variables: Freshly initialized variables of the network, collections first; they are left as
      they are.
    weights: Arrays by name, as `asmjax.pretrained.read` returns them.
    name_map: Map from our paths to names of the file; see `asmjax.pretrained.names`.
    part: Module to load; what is outside of it stays fresh. "" loads all.
    strict: Whether every variable must get a value and every array must be used.
    heads: Patterns of our paths that keep their fresh values where the file differs in the number
      of classes alone: in the last axis, or between classes in the last two by the same factor.
    reinitialize: Patterns of our paths, such as "*/conv1/*", that keep their fresh values whatever
      the file has.
    ignore: Patterns of names of the file that have no place in the network, besides `IGNORED`.

  Returns:
    The variables, and a report of what went where.

  Raises:
    ValueError: Nothing fits; there is no such part; a needed array is not of a floating type or of
      the map's rank; no path matches a pattern of `reinitialize`; or, if strict, anything is
      missing, unused or of another shape.
  """
  leaves = leaves_by_path(variables)
  _check_patterns(reinitialize, leaves)
  coverage = Coverage({path: tuple(leaf.shape) for path, leaf in leaves.items()}, part)
  placed = {}
  for path, leaf in leaves.items():
    if not is_within(path, part):
      coverage.outside[path] = coverage.shapes[path]
      continue
    source = name_map.get(path, WeightSource(()))
    value = _find_value(coverage, path, weights, source, heads, reinitialize)
    if value is not None:
      # A copy: on the CPU an array may otherwise share the memory of the file's.
      placed[path] = jnp.array(value, leaf.dtype)
  _record_unmapped(coverage, weights, name_map, ignore)
  _check_coverage(coverage, strict)
  replaced = jax.tree_util.tree_map_with_path(
    lambda path, leaf: placed.get(join_path(path), leaf), variables
  )
  return replaced, coverage


def is_within(path: str, part: str) -> bool:
  """Returns whether a variable is in a module at the top of the network; all of them are in ""."""
  return not part or path.split("/")[1] == part


def _find_value(
  coverage: Coverage,
  path: str,
  weights: Mapping[str, np.ndarray],
  source: WeightSource,
  heads: Sequence[str],
  reinitialize: Sequence[str],
) -> np.ndarray | None:
  """Returns the value of a variable, None if it stays fresh, and records in the coverage why."""
  expected, is_reset = coverage.shapes[path], _matches(path, reinitialize)
  lacking = tuple(name for name in source.names if name not in weights)
  if lacking or not source.names:
    if is_reset:
      coverage.reinitialized[path] = None
    else:
      coverage.missing[path] = lacking
    return None
  value = _convert(path, weights, source)
  if value.shape == expected and not is_reset:
    coverage.loaded[path] = source.names
    return value
  if is_reset or (_matches(path, heads) and _differ_in_classes(value.shape, expected)):
    coverage.reinitialized[path] = value.shape
  else:
    coverage.shape_mismatch[path] = value.shape
  return None


def _differ_in_classes(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
  """Returns whether shapes are those of one layer to, or between, other numbers of classes."""
  if found[:-1] == expected[:-1]:
    return True
  # Kernels from classes to classes, as FCN enlarges them: two axes, each a multiple of the number.
  fit = len(found) == len(expected) == 4 and found[:-2] == expected[:-2]
  return fit and found[-2] * expected[-1] == found[-1] * expected[-2]


def _convert(path: str, weights: Mapping[str, np.ndarray], source: WeightSource) -> np.ndarray:
  arrays = [weights[name] for name in source.names]
  described = ", ".join(
    f"{name!r} {array.dtype} {array.shape}"
    for name, array in zip(source.names, arrays, strict=True)
  )
  if not all(jnp.issubdtype(array.dtype, jnp.floating) for array in arrays):
    raise ValueError(f"{path}: found {described}; expected a floating type")
  try:
    return source.transform(*arrays)
  except ValueError as error:
    raise ValueError(
      f"{path}: found {described}, of another rank than expected: {error}"
    ) from error


def _record_unmapped(
  coverage: Coverage,
  weights: Mapping[str, np.ndarray],
  name_map: Mapping[str, WeightSource],
  ignore: Sequence[str],
) -> None:
  inside = coverage.shapes.keys() - coverage.outside.keys()
  known = {name for path in inside & name_map.keys() for name in name_map[path].names}
  for name in sorted(weights.keys() - known):
    group = coverage.ignored if _matches(name, (*IGNORED, *ignore)) else coverage.unused
    group[name] = weights[name].shape


def _check_patterns(patterns: Sequence[str], paths: Iterable[str]) -> None:
  for pattern in patterns:
    if not fnmatch.filter(paths, pattern):
      raise ValueError(
        f"reinitialize: no variable matches {pattern!r}; variables: {sorted(paths)[:_LISTED]}, ..."
      )


def _check_coverage(coverage: Coverage, strict: bool) -> None:
  if coverage.shapes.keys() == coverage.outside.keys():
    tops = sorted({path.split("/")[1] for path in coverage.shapes})
    raise ValueError(f"no variables in part {coverage.part!r}; known: {tops}")
  if not coverage.loaded:
    raise ValueError(f"none of the weights fits the network:{coverage.describe_faults()}")
  if strict and coverage.describe_faults():
    raise ValueError(
      f"the weights do not fit the network:{coverage.describe_faults()}\n"
      "Reinitialize or ignore what is meant to differ, or load what fits with strict=False."
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
  return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _count_parameters(shapes: Mapping[str, Shape], paths: Iterable[str]) -> int:
  return sum(math.prod(shapes[path]) for path in paths if path.startswith("params/"))


def _format_list(title: str, lines: Iterable[str]) -> str:
  lines = list(lines)
  if not lines:
    return ""
  more = [f"... and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
  return "\n  ".join([f"\n{title} ({len(lines)}):", *lines[:_LISTED], *more])
