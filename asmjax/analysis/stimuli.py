"""Which structures excite the filters of an analyzer most: Fig. 5 of Hwang et al. 2019."""

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

# A patch shows at least this part of the image's smaller side, around the field of view.
_SHOWN = 0.2
# Inches of a patch.
_SIDE = 0.75
# The space below a filter's rows, of which one is 1 high.
_GAP = 0.15


class Stimuli(NamedTuple):
  """What most excites the filters of a layer: maxima of k images at most, the largest first.

  Attributes:
    activation: (k, f) before the ReLU.
    example: (k, f) index in the split.
    place: (k, f) row * width + column in the layer's map.
    selectivity: (f,) how many standard deviations of all positions the mean of these maxima is
      above the mean of all positions; -inf for a filter that does not vary.
  """

  activation: np.ndarray
  example: np.ndarray
  place: np.ndarray
  selectivity: np.ndarray


class LayerField(NamedTuple):
  """The pixels of a structure that each position of a layer sees, which may be beyond its border.

  Attributes:
    rows: (h, 2) start and stop.
    columns: (w, 2) likewise.
  """

  rows: np.ndarray
  columns: np.ndarray

  def window(self, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns that the place, row * w + column, sees."""
    row, column = divmod(int(place), len(self.columns))
    return self.rows[row], self.columns[column]

  def scaled(self, down: float, across: float, *, align_corners: bool = False) -> "LayerField":
    """In pixels of which so many make one of the structure; see `asmjax.ops.resize`."""
    shift = lambda factor: (factor - 1) / 2 if align_corners else 0
    return LayerField(self.rows * down - shift(down), self.columns * across - shift(across))


class Strip(NamedTuple):
  """Patches that excite a filter.

  Attributes:
    title: of the filter.
    examples: (k,) indices in the split.
    windows: of each of them rows (start, stop) and columns (start, stop) in pixels of the photo.
  """

  title: str
  examples: np.ndarray
  windows: list[np.ndarray]


class PatchBlock(NamedTuple):
  """Patches that excite filters of one layer, by the tasks whose structures it sees."""

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
  """Draws the held-out patches that most excite filters of the analyzer (Fig. 5), a block a layer.

  A patch lies where the true structure of an image excites the filter most; its field of view is
  framed. Every image gives one patch at most.

  Args:
    workdir: of the run.
    path: of the PNG.
    layers: of the analyzer; by default all on its way down.
    filters: of each layer, the most selective ones.
    count: of patches of a filter, at most.
    data_root: folder of the data set; the run's own by default.

  Raises:
    ValueError: the run has no structure term, or that has no such layer.
    FileNotFoundError: the run has no checkpoint.
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
  """The patches of so many filters, the most selective one first.

  A filter is left out if most of its patches are of images that one of those shows.
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
  """The true structures that most excite each filter of the term's layers.

  Positions count as they do in the term's loss: there must be truth.

  Args:
    term: with the analyzer.
    tasks: that are trained.
    params: of the analyzer.
    size: (h, w) of the predictor's outputs.
    examples: batches of a split, of which one at a time is held.
    count: of images, at most.
    align_corners: where these lie in the image; see `asmjax.ops.resize`.
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
  """What the positions of each of the term's layers see of structures of `size`.

  All fields of a layer are as large as its largest: those that the border cuts off go beyond.
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
  """By layer: maxima (n, f), their places, and (3, f) number, sum and sum of squares."""
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
  """Activations and what belongs to them, filter by filter; of equal ones the first come first."""
  both = new if old is None else [np.concatenate(pair) for pair in zip(old, new, strict=True)]
  order = np.argsort(-both[0], axis=0, kind="stable")[:count]
  return [np.take_along_axis(each, order, 0) for each in both]


def _selectivity(activation: np.ndarray, sums: np.ndarray) -> np.ndarray:
  number, total, squares = sums
  mean = total / np.maximum(number, 1)
  # Rounding alone leaves the squares of a constant this far from its square.
  deviation = np.sqrt(np.maximum(squares / np.maximum(number, 1) - mean**2, 0))
  varies = deviation > 1e-3 * np.abs(mean)
  above = np.where(np.isfinite(activation), activation, mean).mean(0) - mean
  return np.where(varies, above / np.where(varies, deviation, 1), -np.inf)


def _whole(ends: np.ndarray) -> np.ndarray:
  """From minus the first and the last pixel (h, 2) to start and stop of equally long fields."""
  start, stop = -ends[:, 0], ends[:, 1] + 1
  lack = np.max(stop - start) - (stop - start)
  return np.stack([start - lack * (start == 0), stop + lack * (start > 0)], -1)


def draw_album(run: Experiment, blocks: Sequence[PatchBlock]) -> Any:
  """Of each filter a row of photos and one of each task's truth; two blocks stand side by side.

  Returns:
    Matplotlib's figure.
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
  """The window of a picture, with what is around it if it is small; beyond the border is gray."""
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
  """Photos as "", and pictures of the truth by task, of all examples that are shown."""
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
