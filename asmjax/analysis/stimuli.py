"""Structures that excite the filters of an analyzer most (Hwang et al. 2019, Fig. 5)."""

import contextlib
import dataclasses
import functools
import operator
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax import batch as batches
from asmjax.analysis.analyzer import structure_terms
from asmjax.analysis.network.receptive_field import Value, image, propagate
from asmjax.config.run_dir import read_state, reopen
from asmjax.ops import use_cpu_kernels
from asmjax.ops.resize import find_stride
from asmjax.tasks.base import Task
from asmjax.terms import Structure
from asmjax.terms.structures import MaskedStructures, select_tasks
from asmjax.train.experiment import Experiment

# Smallest side of a drawn patch, as a part of the image's smaller side: a field of view of a few
# pixels says nothing without its surroundings.
_SHOWN = 0.2
# Side of a drawn patch in inches.
_SIDE = 0.75
# Space below the rows of a filter, in heights of a row.
_GAP = 0.15


class Stimuli(NamedTuple):
  """Largest activations of the f filters of a layer, from at most k images, in descending order.

  Attributes:
    activation: Maximum over an image before the ReLU, (k, f); -inf where the image has no truth.
    example: Index of the image in the split, (k, f).
    place: Position of the maximum in the layer's map, row * width + column, (k, f).
    selectivity: Number of standard deviations over all positions that the mean of these maxima is
      above the mean over all positions, (f,); -inf for a filter that does not vary.
  """

  activation: np.ndarray
  example: np.ndarray
  place: np.ndarray
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

  def window(self, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the field of a position: start and stop of its rows, and of its columns.

    Args:
      place: Number of the position, row * w + column.
    """
    row, column = divmod(int(place), len(self.columns))
    return self.rows[row], self.columns[column]

  def scaled(self, down: float, across: float, *, align_corners: bool = False) -> "LayerField":
    """Converts the fields to pixels of a larger map, such as the image.

    Args:
      down: Height of a pixel in pixels of the larger map.
      across: Width of a pixel in pixels of the larger map.
      align_corners: Whether the corners of both maps are aligned; see `asmjax.ops.resize`.
    """
    shift = lambda factor: (factor - 1) / 2 if align_corners else 0
    return LayerField(self.rows * down - shift(down), self.columns * across - shift(across))


class Strip(NamedTuple):
  """Image patches that excite a filter most.

  Attributes:
    title: Title of the filter.
    examples: Indices of the images in the split, (k,).
    windows: Window in each image, (2, 2): start and stop of its rows, then of its columns, in
      pixels.
  """

  title: str
  examples: np.ndarray
  windows: list[np.ndarray]


class PatchBlock(NamedTuple):
  """Strips of the filters of one layer.

  Attributes:
    title: Title of the layer.
    tasks: Names of the tasks whose structures are inputs of the layer.
    strips: Strips of the filters.
  """

  title: str
  tasks: tuple[str, ...]
  strips: Sequence[Strip]


def save_patches(
  workdir: pathlib.Path,
  path: pathlib.Path,
  *,
  layers: Sequence[str] = (),
  filters: int = 3,
  count: int = 10,
  data_root: str | None = None,
) -> None:
  """Draws the validation patches that excite filters of the analyzer most (Fig. 5), by layer.

  A patch is where the true structure of an image excites the filter most; the receptive field is
  framed. Every image contributes at most one patch to a filter.

  Args:
    workdir: Folder of the run.
    path: Path of the PNG file to write.
    layers: Names of the analyzer's layers to draw; by default all layers of its encoder.
    filters: Number of filters to draw for each layer, the most selective ones; 3 by default.
    count: Largest number of patches for each filter; 10 by default.
    data_root: Folder of the data set; None, the default, for the one in the run's config.

  Raises:
    ValueError: The run has no structure term, the analyzer has no such layer, or no filter varies.
    FileNotFoundError: The run has no checkpoint.
  """
  run = reopen(workdir, data_root=data_root)
  state = jax.device_get(read_state(run, workdir))
  terms = structure_terms(run.game, workdir)
  tasks, sides, aligned = run.game.tasks, run.prepare.size, run.game.align_corners
  photo = jax.ShapeDtypeStruct((1, *sides, 3), jnp.uint8)
  outputs = jax.eval_shape(run.game.predict, state.variables(), photo)
  size = outputs[next(iter(tasks))].shape[1:3]
  blocks = []
  for name, term in terms.items():
    own = tuple(layers) or term.critic.layers[: len(term.critic.filters)]
    term, params = dataclasses.replace(term, layers=own), state.players[name].params
    with contextlib.closing(run.eval_batches()) as examples:
      best = find_stimuli(term, tasks, params, size, examples, count, align_corners=aligned)
    for layer, field in layer_fields(term, tasks, params, size).items():
      factors = map(find_stride if aligned else operator.truediv, sides, size)
      scaled = field.scaled(*factors, align_corners=aligned)
      seen = " x ".join(f"{float(np.diff(each[0])[0]):g}" for each in scaled)
      of = f"{name}, " if len(terms) > 1 else ""
      title = f"{of}{layer}: sees {seen} pixels"
      found = select_strips(best[layer], scaled, filters)
      blocks.append(PatchBlock(title, tuple(select_tasks(tasks, term.tasks)), found))
  if not any(block.strips for block in blocks):
    raise ValueError(f"no filter of {', '.join(terms)} in {workdir} responds to the truth")
  draw_album(run, [block for block in blocks if block.strips]).savefig(path, dpi=150)


def select_strips(best: Stimuli, field: LayerField, filters: int) -> list[Strip]:
  """Selects the patches of the most selective filters, in descending order.

  A filter is left out if more than half of its patches are from images that a filter selected
  before it has, too: filters that respond to the same few images would look alike.

  Args:
    best: Largest activations of the layer's filters.
    field: Receptive fields of the layer, in pixels of the image.
    filters: Largest number of filters to select.
  """
  found: list[Strip] = []
  for index in np.argsort(-best.selectivity, kind="stable"):
    there = np.isfinite(best.activation[:, index])
    examples = best.example[there, index]
    common = [np.isin(examples, strip.examples).mean() for strip in found]
    new = np.isfinite(best.selectivity[index]) and max(common, default=0) <= 0.5
    if new and len(found) < filters:
      windows = [np.stack(field.window(place)) for place in best.place[there, index]]
      found.append(Strip(f"filter {index}", examples, windows))
  return found


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
  shrink = functools.partial(batches.downsample, size=size, align_corners=align_corners)
  excite = jax.jit(lambda params, batch: _excited(term, tasks, params, shrink(batch)))
  best: dict[str, list[np.ndarray]] = {}
  sums: dict[str, np.ndarray] = {}
  start = 0
  for batch in examples:
    truth = {task.truth_key: batch[task.truth_key] for task in tasks.values()}
    for layer, (activation, place, total) in jax.device_get(excite(params, truth)).items():
      number = np.arange(start, start + len(activation))[:, None]
      found = [activation, np.broadcast_to(number, activation.shape), place]
      best[layer] = _largest(best.get(layer), found, count)
      sums[layer] = sums.get(layer, 0) + np.asarray(total, np.float64)
    start += len(batch["image"])
  return {
    layer: Stimuli(activation, example, place, _selectivity(activation, sums[layer]))
    for layer, (activation, example, place) in best.items()
  }


def layer_fields(
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
  shapes = [
    jax.ShapeDtypeStruct((1, *size, task.channels), jnp.float32)
    for task in select_tasks(tasks, term.tasks).values()
  ]

  def taps(params, *structures):
    features, *_ = term.critic.apply({"params": params}, *structures)
    return [features[layer] for layer in term.layers]

  with use_cpu_kernels(False):
    traced, made = jax.make_jaxpr(taps, return_shape=True)(params, *shapes)
  known = [Value()] * len(jax.tree.leaves(params)) + [image(each.shape) for each in shapes]
  values = propagate(traced.jaxpr, traced.consts, known, lambda *_: None)
  found = {}
  for layer, value, features in zip(term.layers, values, made, strict=True):
    assert value.fields is not None, f"{layer} depends on no structure"
    ends = (field.ends.max((0, 2 - axis, 3)) for axis, field in enumerate(value.fields))
    found[layer] = LayerField(
      *(
        _whole(np.broadcast_to(each, (side, 2)))
        for each, side in zip(ends, features.shape[1:3], strict=True)
      )
    )
  return found


def _excited(
  term: Structure, tasks: Mapping[str, Task], params: PyTree, truth: Mapping[str, ArrayLike]
) -> dict[str, tuple[Array, Array, Array]]:
  """Computes, by layer, maxima (n, f), their places, and number, sum and sum of squares (3, f)."""
  judged = MaskedStructures(select_tasks(tasks, term.tasks), {}, truth)
  features, *_ = term.critic.apply({"params": params}, *judged.true)
  found = {}
  for layer in term.layers:
    valid = (
      judged.mask(features[layer].shape[1:3], count_partial_cells=term.count_partial_cells) > 0
    )
    x = features[layer].astype(jnp.float32)
    flat = jnp.where(valid, x, -jnp.inf).reshape(len(x), -1, x.shape[-1])
    sums = [jnp.sum(jnp.where(valid, each, 0), (0, 1, 2)) for each in (jnp.ones_like(x), x, x * x)]
    found[layer] = jnp.max(flat, 1), jnp.argmax(flat, 1), jnp.stack(sums)
  return found


def _largest(old: list[np.ndarray] | None, new: list[np.ndarray], count: int) -> list[np.ndarray]:
  """Merges two lists, by descending activation of each filter; equal ones keep their order."""
  both = new if old is None else [np.concatenate(pair) for pair in zip(old, new, strict=True)]
  order = np.argsort(-both[0], axis=0, kind="stable")[:count]
  return [np.take_along_axis(each, order, 0) for each in both]


def _selectivity(activation: np.ndarray, sums: np.ndarray) -> np.ndarray:
  number, total, squares = sums
  mean = total / np.maximum(number, 1)
  # In single precision, rounding alone gives a constant filter a deviation of up to about 1e-3 of
  # its mean.
  deviation = np.sqrt(np.maximum(squares / np.maximum(number, 1) - mean**2, 0))
  varies = deviation > 1e-3 * np.abs(mean)
  above = np.where(np.isfinite(activation), activation, mean).mean(0) - mean
  return np.where(varies, above / np.where(varies, deviation, 1), -np.inf)


def _whole(ends: np.ndarray) -> np.ndarray:
  """Converts ends of fields (h, 2) to start and stop, extended to one length at the border.

  The ends are those of `Value.fields`: minus the first pixel, and the last pixel.
  """
  start, stop = -ends[:, 0], ends[:, 1] + 1
  lack = np.max(stop - start) - (stop - start)
  return np.stack([start - lack * (start == 0), stop + lack * (start > 0)], -1)


def draw_album(run: Experiment, blocks: Sequence[PatchBlock]) -> Any:
  """Draws, for each filter, a row of photos and a row of each task's truth, two blocks abreast.

  Args:
    run: Description of the run, with the validation examples.
    blocks: Strips of each layer.

  Returns:
    Matplotlib figure.
  """
  from matplotlib.figure import Figure

  drawn = _drawn(run, blocks)
  across = max(len(strip.examples) for block in blocks for strip in block.strips)
  shape = -(-len(blocks) // 2), min(2, len(blocks))
  rows = max(len(block.strips) * (1 + len(block.tasks) + _GAP) for block in blocks)
  size = shape[1] * (_SIDE * across + 0.8), shape[0] * (_SIDE * rows + 0.35)
  figure = Figure(figsize=size)
  figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
  parts = figure.subfigures(*shape, squeeze=False).ravel()
  for part, block in zip(parts, blocks, strict=False):
    part.suptitle(block.title, fontsize=10, fontweight="bold")
    titles = block.tasks if len(run.game.tasks) > 1 else ["truth"]
    ratios = [*[1] * (1 + len(titles)), _GAP]
    grid = part.subplots(
      len(ratios) * len(block.strips),
      across,
      squeeze=False,
      height_ratios=ratios * len(block.strips),
    )
    for axes in grid.flat:
      axes.set(xticks=[], yticks=[])
      axes.spines[:].set_visible(False)
    for strip, rows in zip(block.strips, np.split(grid, len(block.strips)), strict=True):
      titled = zip(rows, (f"{strip.title}\nphoto", *titles), ("", *block.tasks), strict=False)
      for places, title, kind in titled:
        places[0].set_ylabel(title, fontsize=8, rotation=0, ha="right", va="center")
        for axes, example, window in zip(places, strip.examples, strip.windows, strict=False):
          _draw_patch(axes, drawn[kind][example], window)
  return figure


def _draw_patch(axes: Any, picture: np.ndarray, window: np.ndarray) -> None:
  """Draws a window of a picture, with its surroundings if it is small; gray beyond the border."""
  from matplotlib.patches import Rectangle
  from matplotlib.patheffects import withStroke

  height, width, _ = picture.shape
  (top, left), (bottom, right) = window.T
  sides = bottom - top, right - left
  shown = [max(side, _SHOWN * min(height, width)) for side in sides]
  axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
  axes.set(
    xlim=((left + right - shown[1]) / 2, (left + right + shown[1]) / 2),
    ylim=((top + bottom + shown[0]) / 2, (top + bottom - shown[0]) / 2),
    facecolor="0.85",
  )
  if max(shown) > max(sides):
    axes.add_patch(
      Rectangle(
        (left, top),
        sides[1],
        sides[0],
        fill=False,
        edgecolor="white",
        linewidth=0.8,
        path_effects=[withStroke(linewidth=2, foreground="black")],
      )
    )


def _drawn(run: Experiment, blocks: Sequence[PatchBlock]) -> dict[str, dict[int, np.ndarray]]:
  """Returns photos as "" and pictures of the truth by task, each by the index of its example."""
  strips = [strip for block in blocks for strip in block.strips]
  shown = sorted({int(each) for strip in strips for each in strip.examples})
  # In evaluation examples are prepared without randomness.
  rows = [run.prepare(run.validation[index], np.random.default_rng(0)) for index in shown]
  batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
  palette = np.array(run.descriptor.palette, np.uint8)
  pictures = {"": batch["image"]}
  for name, task in run.game.tasks.items():
    said = task.from_prediction(batch[task.truth_key])
    pictures[name] = task.draw_comparison(said, batch, palette)["truth"]
  return {kind: dict(zip(shown, each, strict=True)) for kind, each in pictures.items()}
