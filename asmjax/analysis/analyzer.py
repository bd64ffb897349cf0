"""Maps of a structure analyzer's losses (Hwang et al. 2019, Figs. 3 and 4).

Maps of losses are at the size of the predictor's outputs, or of an analyzer's layer, and NaN where
there is no truth. Functions of arrays compute them; others read runs and draw figures.
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
from asmjax.analysis.plotting import save_figure
from asmjax.analysis.sheets import Block, Column, Scale, draw_sheet
from asmjax.config.run_dir import read_config, read_state, reopen
from asmjax.losses.matching import matching_distance
from asmjax.ops.masked_mean import MaskedMean
from asmjax.tasks.base import Task
from asmjax.terms import Structure
from asmjax.terms.structures import MaskedStructures, select_tasks
from asmjax.train.experiment import Experiment
from asmjax.train.state import TrainState


class Reconstruction(NamedTuple):
  """A task's prediction and the autoencoder's reconstruction of its truth, against the truth.

  Attributes:
    predicted: Pixel loss of the prediction.
    output: Predictor's output whose structure is the reconstruction.
    error: Pixel loss of that output.
  """

  predicted: Float[Array, "n h w"]
  output: Float[Array, "n h w c"]
  error: Float[Array, "n h w"]


class AnalyzerRun(NamedTuple):
  """Run with structure terms.

  Attributes:
    experiment: Experiment of the run.
    state: State of the last checkpoint, in the host's memory.
    terms: Structure terms by name, at least one.
  """

  experiment: Experiment
  state: TrainState
  terms: dict[str, Structure]

  @classmethod
  def reopen(cls, workdir: pathlib.Path, data_root: str | None = None) -> "AnalyzerRun":
    """Reads the config and the last checkpoint of a run.

    Args:
      workdir: Folder of the run.
      data_root: Folder of the data set; None, the default, for the one in the run's config.

    Raises:
      ValueError: The run has no structure term.
      FileNotFoundError: The run or its data set is missing, or it has no checkpoint.
    """
    experiment = reopen(workdir, data_root=data_root)
    terms = experiment.game.terms
    structures = {name: term for name, term in terms.items() if isinstance(term, Structure)}
    if not structures:
      raise ValueError(f"{workdir} has the terms {', '.join(terms)}; expected a structure term")
    return cls(experiment, jax.device_get(read_state(experiment, workdir)), structures)


def save_error_maps(run: AnalyzerRun, path: pathlib.Path, *, count: int = 6) -> None:
  """Draws errors of predictions and of reconstructions of the truth (Fig. 3), by task.

  Both are the task's pixel loss, in the same colors.

  Args:
    run: Run with analyzers.
    path: Path of the PNG file to write.
    count: Largest number of validation examples; 6 by default.

  Raises:
    ValueError: An analyzer was not trained to reconstruct.
  """
  experiment, state, terms = run
  for name, term in terms.items():
    if not term.reconstruction_weight:
      raise ValueError(f"terms.{name}.reconstruction_weight is 0; expected a positive weight")
  tasks = experiment.game.tasks
  batch, outputs, truth = _predict_examples(experiment, state, count)
  blocks = []
  for name, term in terms.items():
    compute = jax.jit(lambda *args, term=term: reconstruct(term, tasks, *args))
    reconstructions = jax.device_get(compute(state.players[name].params, outputs, truth))
    # Compiled functions return dicts in the order of their keys.
    for key, task in select_tasks(tasks, term.tasks).items():
      result = reconstructions[key]
      pictures = _draw_comparison(experiment, key, outputs[key], batch)
      rebuilt = _draw_comparison(experiment, key, result.output, batch)["prediction"]
      scale = Scale.of(result.predicted, result.error, label=task.pixel_loss_label)
      blocks.append(
        Block(
          key if len(tasks) > 1 else "",
          (
            Column("photo", batch["image"]),
            Column("truth", pictures["truth"]),
            Column("prediction", pictures["prediction"]),
            Column("error of the\nprediction", result.predicted, scale),
            Column("reconstruction\nof the truth", _mask_unlabeled(task, batch, rebuilt)),
            Column("error of the\nreconstruction", result.error, scale),
          ),
        )
      )
  save_figure(draw_sheet(blocks, experiment.class_colors), path, dpi=150)


def save_loss_maps(run: AnalyzerRun, path: pathlib.Path, *, count: int = 6) -> None:
  """Draws the losses of each layer of the analyzer (Fig. 4), a block for each term.

  Layers that the run's loss leaves out have their names in brackets. Each layer has its own scale
  of colors, whose bar marks the margin beyond which the analyzer does not climb.

  Args:
    run: Run with analyzers.
    path: Path of the PNG file to write.
    count: Largest number of validation examples; 6 by default.
  """
  experiment, state, terms = run
  tasks = experiment.game.tasks
  batch, outputs, truth = _predict_examples(experiment, state, count)
  blocks = []
  for name, term in terms.items():
    all_layers = dataclasses.replace(term, layers=term.critic.layers)
    compute = jax.jit(lambda *args, term=all_layers: compute_feature_distances(term, tasks, *args))
    losses = jax.device_get(compute(state.players[name].params, outputs, truth))
    columns = [Column("photo", batch["image"])]
    for key in select_tasks(tasks, term.tasks):
      pictures = _draw_comparison(experiment, key, outputs[key], batch)
      suffix = f"\nof {key}" if len(tasks) > 1 else ""
      columns += [Column(f"{kind}{suffix}", pictures[kind]) for kind in ("truth", "prediction")]
    for layer in all_layers.layers:
      is_matched = layer in term.layers
      scale = Scale.of(losses[layer], mark=term.margin if is_matched else 0.0)
      columns.append(Column(layer if is_matched else f"({layer})", losses[layer], scale))
    blocks.append(Block(name if len(terms) > 1 else "", columns, _write_note(term)))
  save_figure(draw_sheet(blocks, experiment.class_colors), path, dpi=150)


def read_term_sections(workdir: pathlib.Path, kind: str) -> dict[str, dict[str, Any]]:
  """Reads the config sections of a run's terms of a kind, by name.

  Args:
    workdir: Folder of the run.
    kind: Kind of the terms, which a section names by "kind" or else by its own name.
  """
  terms = read_config(workdir)["terms"]
  return {name: section for name, section in terms.items() if section.get("kind", name) == kind}


def compute_pixel_losses(loss: Callable[..., MaskedMean], *maps: PyTree) -> Float[Array, "n h w"]:
  """Computes the map of a loss that is a sum over pixels.

  Args:
    loss: Loss of maps (1, 1, 1, ...), of a single pixel.
    *maps: Pytrees of arrays (n, h, w, ...), the arguments of the loss.

  Returns:
    Summand of each pixel; NaN where the loss has no weight.
  """
  shape = jax.tree.leaves(maps)[0].shape[:3]
  pixels = jax.tree.map(lambda x: jnp.reshape(x, (-1, 1, 1, 1, *x.shape[3:])), maps)
  means = jax.vmap(loss)(*pixels)
  return jnp.where(means.count > 0, means.total, jnp.nan).reshape(shape)


def reconstruct(
  term: Structure,
  tasks: Mapping[str, Task],
  params: PyTree,
  outputs: Mapping[str, Array],
  truth: Mapping[str, Array],
) -> dict[str, Reconstruction]:
  """Compares predictions, and the autoencoder's reconstructions of the truth, with the truth.

  Args:
    term: Term with the autoencoder.
    tasks: All tasks of the game, by name.
    params: Parameters of the autoencoder.
    outputs: Outputs of the predictor, by task.
    truth: Truth at the outputs' size, by key of the batch.

  Returns:
    Maps of the pixel losses by the task's name.
  """
  structures = MaskedStructures(select_tasks(tasks, term.tasks), outputs, truth)
  # Flax's `apply` has no type for the module's result.
  _, *reconstructed = cast(tuple[Any, ...], term.critic.apply({"params": params}, *structures.true))
  results = {}
  for (name, task), structure in zip(structures.tasks.items(), reconstructed, strict=True):
    targets = {task.truth_key: truth[task.truth_key]}
    output = task.from_reconstruction(structure)
    error, predicted = (
      compute_pixel_losses(task.pixel_loss, x, targets) for x in (output, outputs[name])
    )
    results[name] = Reconstruction(predicted, output, error)
  return results


def compute_feature_distances(
  term: Structure,
  tasks: Mapping[str, Task],
  params: PyTree,
  outputs: Mapping[str, Array],
  truth: Mapping[str, Array],
) -> dict[str, Float[Array, "n h2 w2"]]:
  """Computes the summands of the loss V (Eq. 1) at every position of the term's layers.

  Args:
    term: Structure term with the analyzer.
    tasks: All tasks of the game, by name.
    params: Parameters of the analyzer.
    outputs: Outputs of the predictor, by task.
    truth: Truth at the outputs' size, by key of the batch.

  Returns:
    Maps of the losses (n, h, w) at the size of each layer, by layer; NaN without truth.
  """
  structures = MaskedStructures(select_tasks(tasks, term.tasks), outputs, truth)
  predicted, true = (
    term.critic.apply({"params": params}, *inputs)[0]
    for inputs in (structures.predicted, structures.true)
  )
  distance = lambda a, b, mask: matching_distance(a, b, mask=mask, normalize=term.normalize)
  return {
    layer: compute_pixel_losses(
      distance,
      predicted[layer],
      true[layer],
      structures.mask(true[layer].shape[1:3], count_partial_cells=term.count_partial_cells),
    )
    for layer in term.layers
  }


def _predict_examples(
  run: Experiment, state: TrainState, count: int
) -> tuple[dict[str, np.ndarray], dict[str, Array], dict[str, ArrayLike]]:
  """Returns the first validation examples, the predictor's outputs, and truth at their size."""
  with contextlib.closing(run.eval_batches()) as examples:
    rows = list(itertools.islice(examples, -(-count // run.evaluation.batch_size)))
  real = np.flatnonzero(np.concatenate([row["weight"] for row in rows]) > 0)[:count]
  batch = {key: np.concatenate([row[key] for row in rows])[real] for key in rows[0]}
  outputs = jax.jit(run.game.predict)(state.variables(), batch["image"])
  size = outputs[next(iter(run.game.tasks))].shape[1:3]
  return batch, outputs, batches.downsample(batch, size, align_corners=run.game.align_corners)


def _draw_comparison(
  run: Experiment, task: str, output: Array, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  palette = run.descriptor.palette_array
  return run.game.tasks[task].draw_comparison(
    output, batch, palette, align_corners=run.game.align_corners
  )


def _mask_unlabeled(
  task: Task, batch: Mapping[str, np.ndarray], pictures: np.ndarray
) -> np.ndarray:
  """Whitens pictures where there is no truth, so that the autoencoder has no input."""
  return np.where(np.asarray(task.mask(batch)) > 0, pictures, np.uint8(255))


# Quantity that the structure term compares, by its `normalize`.
_DISTANCES = {
  "none": "1/2 squared distances",
  "pixel": "squared distances of unit features",
  "image": "1/2 squared distances of features with a mean square of 1",
}


def _write_note(term: Structure) -> str:
  notes = [_DISTANCES[term.normalize]]
  if set(term.layers) < set(term.critic.layers):
    notes.append("layers in brackets are not matched")
  if term.margin:
    notes.append(f"the analyzer climbs to the margin of {term.margin:g}, marked blue")
  return "; ".join(notes)
