"""Image patches that excite the filters of an analyzer most (Hwang et al. 2019, Fig. 5)."""

import contextlib
import dataclasses
import operator
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.analysis.analyzer import AnalyzerRun
from asmjax.analysis.plotting import save_figure
from asmjax.analysis.sheets import draw_legend, legend_height
from asmjax.analysis.stimuli import LayerField, Stimuli, compute_layer_fields, find_stimuli
from asmjax.ops.resize import find_stride
from asmjax.terms.structures import select_tasks
from asmjax.train.experiment import Experiment

# Smallest side of a drawn patch, as a part of the image's smaller side: a field of view of a few
# pixels is not recognized without its surroundings.
_MIN_VIEW = 0.2
# Side of a drawn patch in inches.
_SIDE = 0.75
# Space below the rows of a filter, in heights of a row.
_GAP = 0.15


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
  run: AnalyzerRun,
  path: pathlib.Path,
  *,
  layers: Sequence[str] = (),
  filters: int = 3,
  count: int = 10,
) -> None:
  """Draws the validation patches that excite filters of the analyzer most (Fig. 5), by layer.

  A patch is where the true structure of an image excites the filter most; the receptive field is
  framed. Every image contributes at most one patch to a filter.

  Args:
    run: Run with analyzers.
    path: Path of the PNG file to write.
    layers: Names of the analyzer's layers to draw; by default all layers of its encoder.
    filters: Number of filters to draw for each layer, the most selective ones; 3 by default.
    count: Largest number of patches for each filter; 10 by default.

  Raises:
    ValueError: The analyzer has no such layer, or no filter varies.
  """
  experiment, state, terms = run
  game, sides = experiment.game, experiment.prepare.size
  tasks, aligned = game.tasks, game.align_corners
  photo = jax.ShapeDtypeStruct((1, *sides, 3), jnp.uint8)
  outputs = jax.eval_shape(game.predict, state.variables(), photo)
  size = outputs[next(iter(tasks))].shape[1:3]
  factors = tuple(map(find_stride if aligned else operator.truediv, sides, size))
  blocks = []
  for name, term in terms.items():
    drawn_layers = tuple(layers) or term.critic.layers[: len(term.critic.filters)]
    term, params = dataclasses.replace(term, layers=drawn_layers), state.players[name].params
    with contextlib.closing(experiment.eval_batches()) as examples:
      stimuli = find_stimuli(term, tasks, params, size, examples, count, align_corners=aligned)
    for layer, field in compute_layer_fields(term, tasks, params, size).items():
      field = field.scale(*factors, align_corners=aligned)
      extent = " x ".join(f"{float(np.diff(ends[0])[0]):g}" for ends in field)
      prefix = f"{name}, " if len(terms) > 1 else ""
      if strips := select_strips(stimuli[layer], field, filters):
        title = f"{prefix}{layer}: sees {extent} pixels"
        blocks.append(PatchBlock(title, tuple(select_tasks(tasks, term.tasks)), strips))
  if not blocks:
    raise ValueError(f"no filter of {', '.join(terms)} responds to the truth")
  save_figure(draw_patches(experiment, blocks), path, dpi=150)


def select_strips(stimuli: Stimuli, field: LayerField, filters: int) -> list[Strip]:
  """Selects the patches of the most selective filters, in descending order.

  A filter is left out if more than half of its patches are from images that a filter selected
  before it has, too: filters that respond to the same few images would look alike.

  Args:
    stimuli: Largest activations of the layer's filters.
    field: Receptive fields of the layer, in pixels of the image.
    filters: Largest number of filters to select.
  """
  strips: list[Strip] = []
  for index in np.argsort(-stimuli.selectivity, kind="stable"):
    responds = np.isfinite(stimuli.activation[:, index])
    examples = stimuli.example[responds, index]
    common = [np.isin(examples, strip.examples).mean() for strip in strips]
    is_new = np.isfinite(stimuli.selectivity[index]) and max(common, default=0) <= 0.5
    if is_new and len(strips) < filters:
      windows = [field.window(position) for position in stimuli.position[responds, index]]
      strips.append(Strip(f"filter {index}", examples, windows))
  return strips


def draw_patches(run: Experiment, blocks: Sequence[PatchBlock]) -> Any:
  """Draws, for each filter, a row of photos and a row of each task's truth, two blocks abreast.

  Returns:
    Matplotlib figure.
  """
  from matplotlib.figure import Figure

  pictures = _draw_examples(run, blocks)
  num_patches = max(len(strip.examples) for block in blocks for strip in block.strips)
  shape = -(-len(blocks) // 2), min(2, len(blocks))
  num_rows = max(len(block.strips) * (1 + len(block.tasks) + _GAP) for block in blocks)
  legend, width = run.class_colors, shape[1] * (_SIDE * num_patches + 0.8)
  height = shape[0] * (_SIDE * num_rows + 0.35) + legend_height(legend, width)
  figure = Figure(figsize=(width, height))
  figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
  parts = figure.subfigures(*shape, squeeze=False).ravel()
  for part, block in zip(parts, blocks, strict=False):
    _draw_block(part, block, num_patches, pictures, name_tasks=len(run.game.tasks) > 1)
  draw_legend(figure, legend)
  return figure


def _draw_block(
  part: Any,
  block: PatchBlock,
  num_patches: int,
  pictures: dict[str, dict[int, np.ndarray]],
  *,
  name_tasks: bool,
) -> None:
  """Draws a block in a subfigure; `pictures` are those of `_draw_examples`."""
  part.suptitle(block.title, fontsize=10, fontweight="bold")
  titles = block.tasks if name_tasks else ("truth",)
  ratios = [*[1] * (1 + len(titles)), _GAP] * len(block.strips)
  grid = part.subplots(len(ratios), num_patches, squeeze=False, height_ratios=ratios)
  for axes in grid.flat:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
  for strip, rows in zip(block.strips, np.split(grid, len(block.strips)), strict=True):
    kinds = zip(rows, (f"{strip.title}\nphoto", *titles), ("", *block.tasks), strict=False)
    for row, title, kind in kinds:
      row[0].set_ylabel(title, fontsize=8, rotation=0, ha="right", va="center")
      for axes, example, window in zip(row, strip.examples, strip.windows, strict=False):
        _draw_patch(axes, pictures[kind][example], window)


def _draw_patch(axes: Any, picture: np.ndarray, window: np.ndarray) -> None:
  """Draws a window of a picture, with its surroundings if it is small; gray beyond the border."""
  from matplotlib.patches import Rectangle
  from matplotlib.patheffects import withStroke

  height, width, _ = picture.shape
  (top, left), (bottom, right) = window.T
  sides = bottom - top, right - left
  view = [max(side, _MIN_VIEW * min(height, width)) for side in sides]
  axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
  axes.set(
    xlim=((left + right - view[1]) / 2, (left + right + view[1]) / 2),
    ylim=((top + bottom + view[0]) / 2, (top + bottom - view[0]) / 2),
    facecolor="0.85",
  )
  if max(view) > max(sides):
    halo = [withStroke(linewidth=2, foreground="black")]
    style = {"fill": False, "edgecolor": "white", "linewidth": 0.8, "path_effects": halo}
    axes.add_patch(Rectangle((left, top), sides[1], sides[0], **style))


def _draw_examples(
  run: Experiment, blocks: Sequence[PatchBlock]
) -> dict[str, dict[int, np.ndarray]]:
  """Returns photos as "" and pictures of the truth by task, each by the index of its example."""
  indices = sorted(
    {int(index) for block in blocks for strip in block.strips for index in strip.examples}
  )
  # In evaluation examples are prepared without randomness.
  examples = [run.prepare(run.validation[index], np.random.default_rng(0)) for index in indices]
  batch = {key: np.stack([example[key] for example in examples]) for key in examples[0]}
  palette = run.descriptor.palette_array
  pictures = {"": batch["image"]}
  for name, task in run.game.tasks.items():
    truth = task.from_prediction(batch[task.truth_key])
    pictures[name] = task.draw_comparison(truth, batch, palette)["truth"]
  return {kind: dict(zip(indices, rows, strict=True)) for kind, rows in pictures.items()}
