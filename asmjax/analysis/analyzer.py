"""What a structure analyzer holds against predictions: Figs. 3 and 4 of Hwang et al. 2019.

Maps of losses are at the size of the predictor's outputs, or of an analyzer's layer, and NaN where
there is no truth. They are computed by functions of arrays alone, and drawn by others.
"""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax import batch as batches
from asmjax.analysis.sheets import Block, Column, Scale, draw_sheet
from asmjax.config.run_dir import read_config, read_state, reopen
from asmjax.game import Game
from asmjax.losses.matching import matching_distance
from asmjax.ops.masked_mean import MaskedMean
from asmjax.tasks.base import Task
from asmjax.terms import Structure
from asmjax.terms.structures import MaskedStructures, select_tasks
from asmjax.train.experiment import Experiment
from asmjax.train.state import TrainState


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
    if not term.reconstruction_weight:
      raise ValueError(
        f"{workdir}: terms.{name}.reconstruction_weight is 0; expected a positive weight"
      )
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
  draw_sheet(blocks).savefig(path, dpi=150)


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
  draw_sheet(blocks).savefig(path, dpi=150)


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
  means = jax.vmap(loss)(*pixels)
  return jnp.where(means.count > 0, means.total, jnp.nan).reshape(shape)


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
  # Flax's `apply` knows nothing of what the module returns.
  _, *maps = cast(tuple[Any, ...], term.critic.apply({"params": params}, *judged.true))
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
  distance = lambda a, b, mask: matching_distance(a, b, mask=mask, normalize=term.normalize)
  return {
    layer: pixelwise(
      distance,
      shown[layer],
      true[layer],
      judged.mask(true[layer].shape[1:3], count_partial_cells=term.count_partial_cells),
    )
    for layer in term.layers
  }


def _predicted(
  run: Experiment, state: TrainState, count: int
) -> tuple[dict[str, np.ndarray], dict[str, Array], dict[str, ArrayLike]]:
  """The first held-out examples, the predictor's outputs, and the truth at the outputs' size."""
  with contextlib.closing(run.eval_batches()) as examples:
    rows = list(itertools.islice(examples, -(-count // run.evaluation.batch_size)))
  real = np.flatnonzero(np.concatenate([row["weight"] for row in rows]) > 0)[:count]
  batch = {key: np.concatenate([row[key] for row in rows])[real] for key in rows[0]}
  outputs = jax.jit(run.game.predict)(state.variables(), batch["image"])
  size = outputs[next(iter(run.game.tasks))].shape[1:3]
  return batch, outputs, batches.downsample(batch, size, align_corners=run.game.align_corners)


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
