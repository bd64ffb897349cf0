"""What a structure analyzer holds against predictions: Figs. 3 and 4 of Hwang et al. 2019.

Maps of losses are at the size of the predictor's outputs, or of an analyzer's layer, and NaN where
there is no truth. They are computed by functions of arrays alone, and drawn by others.
"""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from asmjax import batch as batches
from asmjax.config.run_dir import read_config, read_state, reopen
from asmjax.game import Game
from asmjax.losses.matching import matching_distance
from asmjax.ops.masked_mean import MaskedMean
from asmjax.tasks.base import Task
from asmjax.terms import Structure
from asmjax.terms.structures import MaskedStructures, select_tasks
from asmjax.train.experiment import Experiment
from asmjax.train.state import TrainState

# Colors end at this percentile: a few pixels would leave all others dark.
_BRIGHTEST = 99


class Rebuilt(NamedTuple):
  """A task's prediction, and what the autoencoder makes of its truth, both against the truth.

  Attributes:
    predicted: pixel loss of the prediction.
    output: the predictor's map that would mean the reconstruction.
    error: pixel loss of that.
  """

  predicted: Float[Array, "n h w"]
  output: Float[Array, "n h w c"]
  error: Float[Array, "n h w"]


class Scale(NamedTuple):
  """The colors of losses.

  Attributes:
    low: black.
    high: the brightest, as is all beyond.
    label: below the bar of colors.
    mark: a value that is marked there; with 0 there is none.
  """

  low: float
  high: float
  label: str = ""
  mark: float = 0.0

  @classmethod
  def of(cls, *maps: np.ndarray, label: str = "", mark: float = 0.0) -> "Scale":
    """From 0, or the least if that is negative, to what one position in a hundred exceeds."""
    known = np.concatenate([each[np.isfinite(each)] for each in maps])
    low, high = (min(known.min(), 0), np.percentile(known, _BRIGHTEST)) if known.size else (0, 1)
    return cls(float(low), max(float(high), float(low) + 1e-6), label, mark)


class Column(NamedTuple):
  """Pictures uint8 (n, h, w, 3), or losses (n, h2, w2) in the colors of a scale."""

  title: str
  rows: np.ndarray
  scale: Scale | None = None


class Block(NamedTuple):
  """Columns of the same examples, a title above and a note below them.

  The first column holds photos, in whose shape all are drawn.
  """

  title: str
  columns: Sequence[Column]
  note: str = ""


def error_maps(
  workdir: pathlib.Path, path: pathlib.Path, *, count: int = 6, data_root: str | None = None
) -> None:
  """Draws errors of predictions and of reconstructions of the truth (Fig. 3), a block a task.

  Both are the task's pixel loss, in the same colors.

  Args:
    workdir: of the run.
    path: of the PNG.
    count: of held-out examples, at most.
    data_root: folder of the data set; the run's own by default.

  Raises:
    ValueError: the run has no structure term, or one that does not reconstruct.
    FileNotFoundError: the run has no checkpoint.
  """
  run = reopen(workdir, data_root=data_root)
  state = jax.device_get(read_state(run, workdir))
  terms = structure_terms(run.game, workdir)
  for name, term in terms.items():
    if not term.reconstruction:
      raise ValueError(f"{workdir}: terms.{name}.reconstruction is 0; expected a positive weight")
  batch, outputs, truth = _predicted(run, state, count)
  blocks = []
  for name, term in terms.items():
    compute = jax.jit(lambda *args, term=term: rebuilt(term, run.game.tasks, *args))
    found = jax.device_get(compute(state.players[name].params, outputs, truth))
    # Compiled functions return dicts in the order of their keys.
    for key, task in select_tasks(run.game.tasks, term.tasks).items():
      each = found[key]
      drawn = _pictures(run, key, outputs[key], batch)
      again = _pictures(run, key, each.output, batch)
      scale = Scale.of(each.predicted, each.error, label=task.pixel_loss_label)
      blocks.append(
        Block(
          key if len(run.game.tasks) > 1 else "",
          (
            Column("photo", batch["image"]),
            Column("truth", drawn["truth"]),
            Column("prediction", drawn["prediction"]),
            Column("error of the\nprediction", each.predicted, scale),
            Column("reconstruction\nof the truth", _where_true(task, batch, again["prediction"])),
            Column("error of the\nreconstruction", each.error, scale),
          ),
        )
      )
  sheet(blocks).savefig(path, dpi=150)


def loss_maps(
  workdir: pathlib.Path, path: pathlib.Path, *, count: int = 6, data_root: str | None = None
) -> None:
  """Draws what each layer of the analyzer holds against predictions (Fig. 4), a block a term.

  Layers that the run does not match are there in brackets. Each layer has its own colors, and a
  margin beyond which the analyzer does not climb is marked in their bar. Arguments and errors are
  those of `error_maps`, but the term need not reconstruct.
  """
  run = reopen(workdir, data_root=data_root)
  state = jax.device_get(read_state(run, workdir))
  terms = structure_terms(run.game, workdir)
  batch, outputs, truth = _predicted(run, state, count)
  blocks = []
  for name, term in terms.items():
    every = dataclasses.replace(term, layers=term.critic.layers)
    compute = jax.jit(lambda *args, term=every: distances(term, run.game.tasks, *args))
    found = jax.device_get(compute(state.players[name].params, outputs, truth))
    columns = [Column("photo", batch["image"])]
    judged = select_tasks(run.game.tasks, term.tasks)
    for key in judged:
      drawn = _pictures(run, key, outputs[key], batch)
      of = f"\nof {key}" if len(run.game.tasks) > 1 else ""
      columns += [Column(f"{kind}{of}", drawn[kind]) for kind in ("truth", "prediction")]
    for layer in every.layers:
      scale = Scale.of(found[layer], mark=term.margin)
      title = layer if layer in term.layers else f"({layer})"
      columns.append(Column(title, found[layer], scale))
    blocks.append(Block(name if len(terms) > 1 else "", columns, _note(term)))
  sheet(blocks).savefig(path, dpi=150)


def term_sections(workdir: pathlib.Path, kind: str) -> dict[str, dict[str, Any]]:
  """The settings of a run's terms of a kind, by name, as its config has them."""
  terms = read_config(workdir)["terms"]
  return {name: section for name, section in terms.items() if section.get("kind", name) == kind}


def structure_terms(game: Game, workdir: pathlib.Path) -> dict[str, Structure]:
  """The structure terms of a run's game, by name.

  Raises:
    ValueError: it has none.
  """
  found = {name: term for name, term in game.terms.items() if isinstance(term, Structure)}
  if not found:
    raise ValueError(f"{workdir} has the terms {', '.join(game.terms)}; expected a structure term")
  return found


def pixelwise(loss: Callable[..., MaskedMean], *maps: PyTree) -> Float[Array, "n h w"]:
  """The map of a loss that is a sum over pixels.

  Args:
    loss: of maps (1, 1, 1, ...), what `maps` hold of one pixel.
    *maps: pytrees of arrays (n, h, w, ...).

  Returns:
    The summand of each pixel; NaN where the loss counts nothing.
  """
  shape = jax.tree.leaves(maps)[0].shape[:3]
  pixels = jax.tree.map(lambda x: jnp.reshape(x, (-1, 1, 1, 1, *x.shape[3:])), maps)
  moments = jax.vmap(loss)(*pixels)
  return jnp.where(moments.count > 0, moments.sum, jnp.nan).reshape(shape)


def rebuilt(
  term: Structure,
  tasks: Mapping[str, Task],
  params: PyTree,
  outputs: Mapping[str, Array],
  truth: Mapping[str, Array],
) -> dict[str, Rebuilt]:
  """Predictions, and the autoencoder's reconstructions of the truth, by the task's name.

  Args:
    term: with the autoencoder.
    tasks: that are trained.
    params: of the autoencoder.
    outputs: the predictor's, by task.
    truth: at their size.
  """
  judged = MaskedStructures(select_tasks(tasks, term.tasks), outputs, truth)
  _, *maps = term.critic.apply({"params": params}, *judged.true)
  found = {}
  for (name, task), each in zip(judged.tasks.items(), maps, strict=True):
    own, output = {task.truth_key: truth[task.truth_key]}, task.from_reconstruction(each)
    error, predicted = (pixelwise(task.pixel_loss, x, own) for x in (output, outputs[name]))
    found[name] = Rebuilt(predicted, output, error)
  return found


def distances(
  term: Structure,
  tasks: Mapping[str, Task],
  params: PyTree,
  outputs: Mapping[str, Array],
  truth: Mapping[str, Array],
) -> dict[str, Float[Array, "n h2 w2"]]:
  """What V (Eq. 1) sums up, at every position of the term's layers; arguments as of `rebuilt`."""
  judged = MaskedStructures(select_tasks(tasks, term.tasks), outputs, truth)
  shown, true = (
    term.critic.apply({"params": params}, *each)[0] for each in (judged.predicted, judged.true)
  )
  distance = lambda a, b, valid: matching_distance(a, b, valid=valid, normalize=term.normalize)
  return {
    layer: pixelwise(
      distance, shown[layer], true[layer], judged.valid(true[layer].shape[1:3], partly=term.partly)
    )
    for layer in term.layers
  }


def sheet(blocks: Sequence[Block]) -> Any:
  """Blocks below each other, with a bar of colors below each column of losses.

  Returns:
    Matplotlib's figure.
  """
  from matplotlib.figure import Figure

  shapes = [block.columns[0].rows.shape for block in blocks]
  width = 1.5 * max(len(block.columns) for block in blocks)
  heights = [
    1.5 * rows * h / w + 0.8 + 0.2 * (bool(block.title) + bool(block.note))
    for block, (rows, h, w, _) in zip(blocks, shapes, strict=True)
  ]
  figure = Figure(figsize=(width, sum(heights)), layout="constrained")
  figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
  parts = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False).ravel()
  for part, block in zip(parts, blocks, strict=True):
    if block.title:
      part.suptitle(block.title, fontsize=10, fontweight="bold")
    if block.note:
      part.supxlabel(block.note, fontsize=9)
    _draw_block(part, block)
  return figure


def _draw_block(part: Any, block: Block) -> None:
  count, height, width, _ = block.columns[0].rows.shape
  grid = part.subplots(
    count + 1, len(block.columns), squeeze=False, height_ratios=[height / width] * count + [0.06]
  )
  for places, column in zip(grid.T, block.columns, strict=True):
    places[0].set_title(column.title, fontsize=9)
    style = _colors(column.scale) if column.scale else {}
    for axes, row in zip(places, column.rows, strict=False):
      # Whatever their stride, all have the size of the photo.
      drawn = axes.imshow(row, extent=(0, width, height, 0), interpolation="nearest", **style)
      axes.axis("off")
    if column.scale:
      _draw_bar(part, drawn, places[-1], column.scale)
    else:
      places[-1].axis("off")


def _colors(scale: Scale) -> dict[str, Any]:
  from matplotlib import colormaps
  from matplotlib.colors import PowerNorm

  # The root brings out what is small.
  shade = PowerNorm(0.5, scale.low, scale.high, clip=True)
  return {"cmap": colormaps["inferno"].with_extremes(bad="0.5"), "norm": shade}


def _draw_bar(part: Any, drawn: Any, axes: Any, scale: Scale) -> None:
  bar = part.colorbar(drawn, cax=axes, orientation="horizontal", extend="max")
  ticks = scale.low + (scale.high - scale.low) * np.array([0, 0.25, 1])
  thousands = scale.high >= 1000
  labels = [f"{tick / 1000:.3g}k" if thousands and tick else f"{tick:.2g}" for tick in ticks]
  bar.set_ticks(ticks, labels=labels, fontsize=7)
  # Labels stay within the bar, lest those of neighbors meet.
  for label, side in zip(bar.ax.get_xticklabels(), ("left", "center", "right"), strict=True):
    label.set_horizontalalignment(side)
  bar.set_label(scale.label, fontsize=8)
  if scale.low < scale.mark < scale.high:
    bar.ax.axvline(scale.mark, color="cyan", linewidth=2)


def _predicted(
  run: Experiment, state: TrainState, count: int
) -> tuple[dict[str, np.ndarray], dict[str, Array], dict[str, Array]]:
  """The first held-out examples, the predictor's outputs, and the truth at the outputs' size."""
  with contextlib.closing(run.eval_batches()) as examples:
    rows = list(itertools.islice(examples, -(-count // run.evaluation.batch_size)))
  real = np.flatnonzero(np.concatenate([row["weight"] for row in rows]) > 0)[:count]
  batch = {key: np.concatenate([row[key] for row in rows])[real] for key in rows[0]}
  outputs = jax.jit(run.game.predict)(state.variables(), batch["image"])
  size = outputs[next(iter(run.game.tasks))].shape[1:3]
  return batch, outputs, batches.shrink(batch, size, align_corners=run.game.align_corners)


def _pictures(
  run: Experiment, task: str, output: Array, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  palette = np.array(run.descriptor.palette, np.uint8)
  return run.game.tasks[task].draw_comparison(
    output, batch, palette, align_corners=run.game.align_corners
  )


def _where_true(task: Task, batch: Mapping[str, np.ndarray], drawn: np.ndarray) -> np.ndarray:
  """Pictures that are white where there is no truth: of that the autoencoder was shown nothing."""
  return np.where(np.asarray(task.mask(batch)) > 0, drawn, np.uint8(255))


# What the structure term compares, by its `normalize`.
_DISTANCES = {
  "none": "1/2 squared distances",
  "pixel": "squared distances of unit features",
  "image": "1/2 squared distances of features with a mean square of 1",
}


def _note(term: Structure) -> str:
  said = [_DISTANCES[term.normalize]]
  if set(term.layers) < set(term.critic.layers):
    said.append("layers in brackets are not matched")
  if term.margin:
    said.append(f"the analyzer climbs to the margin of {term.margin:g}, marked blue")
  return "; ".join(said)
