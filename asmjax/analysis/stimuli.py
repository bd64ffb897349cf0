"""Structures that excite an analyzer's filters most, and the receptive fields of its layers."""

import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax import batch as batches
from asmjax.analysis.network.receptive_field import trace_fields
from asmjax.tasks.base import Task
from asmjax.terms import Structure
from asmjax.terms.structures import MaskedStructures, select_tasks


class Stimuli(NamedTuple):
  """Largest activations of the f filters of a layer, from at most k images, in descending order.

  Attributes:
    activation: Maximum over an image before the ReLU, (k, f); -inf where the image has no truth.
    example: Index of the image in the split, (k, f).
    position: Position of the maximum in the layer's map, row * width + column, (k, f).
    selectivity: Number of standard deviations over all positions that the mean of these maxima is
      above the mean over all positions, (f,); -inf for a filter that does not vary.
  """

  activation: np.ndarray
  example: np.ndarray
  position: np.ndarray
  selectivity: np.ndarray


class LayerField(NamedTuple):
  """Receptive fields of a layer's positions, in pixels, which may extend beyond the border.

  Attributes:
    rows: Start and stop of the field along the vertical axis, for each row of the layer, (h, 2).
    columns: Start and stop of the field along the horizontal axis, for each column of the layer,
      (w, 2).
  """

  rows: np.ndarray
  columns: np.ndarray

  def window(self, position: int) -> np.ndarray:
    """Returns the field of a position: start and stop of its rows, and of its columns, (2, 2).

    Args:
      position: Number of the position, row * w + column.
    """
    row, column = divmod(int(position), len(self.columns))
    return np.stack([self.rows[row], self.columns[column]])

  def scale(self, height: float, width: float, *, align_corners: bool = False) -> "LayerField":
    """Converts the fields to pixels of a larger map, such as the image.

    Args:
      height: Height of a pixel in pixels of the larger map.
      width: Width of a pixel in pixels of the larger map.
      align_corners: Whether the corners of both maps are aligned; see `asmjax.ops.resize`.
    """
    shift = lambda factor: (factor - 1) / 2 if align_corners else 0
    return LayerField(self.rows * height - shift(height), self.columns * width - shift(width))


def find_stimuli(
  term: Structure,
  tasks: Mapping[str, Task],
  params: PyTree,
  size: tuple[int, int],
  examples: Iterable[Mapping[str, np.ndarray]],
  count: int = 10,
  *,
  align_corners: bool = False,
) -> dict[str, Stimuli]:
  """Finds the true structures that excite each filter of a term's layers most.

  Positions without truth are left out, as in the term's loss.

  Args:
    term: Structure term with the analyzer.
    tasks: All tasks of the game, by name.
    params: Parameters of the analyzer.
    size: Height and width of the predictor's outputs, to which the truth is downsampled.
    examples: Batches of a split in order; one at a time is in memory.
    count: Largest number of images for each filter; 10 by default.
    align_corners: Whether outputs are aligned with the image's corners; see `asmjax.ops.resize`.

  Returns:
    Largest activations of the filters, by layer.
  """
  downsample = functools.partial(batches.downsample, size=size, align_corners=align_corners)
  measure = jax.jit(lambda params, batch: _find_maxima(term, tasks, params, downsample(batch)))
  largest: dict[str, list[np.ndarray]] = {}
  moments: dict[str, np.ndarray] = {}
  start = 0
  for batch in examples:
    truth = {task.truth_key: batch[task.truth_key] for task in tasks.values()}
    for layer, (activation, position, sums) in jax.device_get(measure(params, truth)).items():
      index = np.arange(start, start + len(activation))[:, None]
      maxima = [activation, np.broadcast_to(index, activation.shape), position]
      largest[layer] = _keep_largest(largest.get(layer), maxima, count)
      moments[layer] = moments.get(layer, 0) + np.asarray(sums, np.float64)
    start += len(batch["image"])
  return {
    layer: Stimuli(activation, example, position, _compute_selectivity(activation, moments[layer]))
    for layer, (activation, example, position) in largest.items()
  }


def compute_layer_fields(
  term: Structure, tasks: Mapping[str, Task], params: PyTree, size: tuple[int, int]
) -> dict[str, LayerField]:
  """Computes the receptive fields of the positions of a term's layers, by layer.

  All fields of a layer have the size of its largest: those at the border extend beyond it.

  Args:
    term: Structure term with the analyzer.
    tasks: All tasks of the game, by name.
    params: Parameters of the analyzer.
    size: Height and width of the structures.

  Returns:
    Fields in pixels of the structures, by layer.
  """
  structures = [
    jax.ShapeDtypeStruct((1, *size, task.channels), jnp.float32)
    for task in select_tasks(tasks, term.tasks).values()
  ]

  def compute_features(params, *structures):
    features, *_ = term.critic.apply({"params": params}, *structures)
    return [features[layer] for layer in term.layers]

  values, features = trace_fields(compute_features, params, structures)
  fields = {}
  for layer, value, feature in zip(term.layers, values, features, strict=True):
    assert value.fields is not None, f"{layer} depends on no structure"
    rows, columns = (
      _extend(np.broadcast_to(field.ends.max((0, 2 - axis, 3)), (feature.shape[1 + axis], 2)))
      for axis, field in enumerate(value.fields)
    )
    fields[layer] = LayerField(rows, columns)
  return fields


def _find_maxima(
  term: Structure, tasks: Mapping[str, Task], params: PyTree, truth: Mapping[str, ArrayLike]
) -> dict[str, tuple[Array, Array, Array]]:
  """Returns, by layer, maxima (n, f), positions (n, f), and number, sum and squares' sum (3, f)."""
  structures = MaskedStructures(select_tasks(tasks, term.tasks), {}, truth)
  features, *_ = term.critic.apply({"params": params}, *structures.true)
  results = {}
  for layer in term.layers:
    x = features[layer].astype(jnp.float32)
    valid = structures.mask(x.shape[1:3], count_partial_cells=term.count_partial_cells) > 0
    flat = jnp.where(valid, x, -jnp.inf).reshape(len(x), -1, x.shape[-1])
    sums = [jnp.sum(jnp.where(valid, y, 0), (0, 1, 2)) for y in (jnp.ones_like(x), x, x * x)]
    results[layer] = jnp.max(flat, 1), jnp.argmax(flat, 1), jnp.stack(sums)
  return results


def _keep_largest(
  before: list[np.ndarray] | None, maxima: list[np.ndarray], count: int
) -> list[np.ndarray]:
  """Merges two lists, by descending activation of each filter; equal ones keep their order."""
  if before is not None:
    maxima = [np.concatenate(pair) for pair in zip(before, maxima, strict=True)]
  order = np.argsort(-maxima[0], axis=0, kind="stable")[:count]
  return [np.take_along_axis(values, order, 0) for values in maxima]


def _compute_selectivity(activation: np.ndarray, sums: np.ndarray) -> np.ndarray:
  number, total, squares = sums
  mean = total / np.maximum(number, 1)
  # In single precision, rounding alone gives a constant filter a deviation of up to about 1e-3 of
  # its mean.
  deviation = np.sqrt(np.maximum(squares / np.maximum(number, 1) - mean**2, 0))
  varies = deviation > 1e-3 * np.abs(mean)
  above = np.where(np.isfinite(activation), activation, mean).mean(0) - mean
  return np.where(varies, above / np.where(varies, deviation, 1), -np.inf)


def _extend(ends: np.ndarray) -> np.ndarray:
  """Converts `ReceptiveField.ends` (h, 2) to start and stop, of one length also at the border."""
  start, stop = -ends[:, 0], ends[:, 1] + 1
  cut = np.max(stop - start) - (stop - start)
  return np.stack([start - cut * (start == 0), stop + cut * (start > 0)], -1)
