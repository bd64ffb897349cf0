"""Maps of an analyzer's losses, against the losses themselves."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.analysis import analyzer
from asmjax.analysis.analyzer import (
  AnalyzerRun,
  compute_feature_distances,
  compute_pixel_losses,
  reconstruct,
)
from asmjax.analysis.sheets import Scale
from asmjax.tasks import Depth, Normals
from tests.helpers import tiny_games as games
from tests.helpers.finished_runs import save_untrained

RNG = np.random.default_rng(0)


def outputs(n=4):
  """Draws random outputs of a predictor for each task."""
  return {
    name: jnp.array(RNG.normal(size=(n, *games.SIZE, task.channels)), jnp.float32)
    for name, task in games.TASKS.items()
  }


def truth(n=4):
  examples = games.batch(n)
  return {key: jnp.array(examples[key]) for key in ("label", "depth", "normals")}


@pytest.mark.parametrize(
  "task",
  [*games.TASKS.values(), Depth(released=True), Normals(released=True)],
  ids=["segmentation", "depth", "normals", "released_depth", "released_normals"],
)
def test_compute_pixel_losses_adds_up_to_the_loss(task):
  output = next(x for name, x in outputs().items() if isinstance(task, type(games.TASKS[name])))
  targets = {task.truth_key: truth()[task.truth_key]}
  losses = np.asarray(
    jax.jit(functools.partial(compute_pixel_losses, task.pixel_loss))(output, targets)
  )
  mean = task.pixel_loss(output, targets).mean()
  np.testing.assert_array_equal(np.isfinite(losses), np.asarray(task.mask(targets))[..., 0] > 0)
  np.testing.assert_allclose(np.nanmean(losses), mean, rtol=1e-5)
  # Each is where it belongs: an example on its own has the same loss.
  for index in range(len(losses)):
    alone = jax.tree.map(lambda x, i=index: x[i : i + 1], (output, targets))
    np.testing.assert_allclose(np.nansum(losses[index]), task.pixel_loss(*alone).total, rtol=1e-4)


@functools.cache
def evaluated_game(method):
  """Returns a term's losses of a batch, functions of its maps, outputs, and the game."""
  players = games.of_method(method)
  term, tasks = players.terms["structure"], players.tasks
  params = games.variables(players)[0]["structure"]
  x, true = outputs(), truth()
  losses = jax.jit(
    lambda params, x: games.evaluate(term, tasks, x, true, critic={"params": params}).losses
  )(params, x)
  measure = jax.jit(lambda x: compute_feature_distances(term, tasks, params, x, true))
  rebuild = jax.jit(lambda x: reconstruct(term, tasks, params, x, true))
  return losses, measure, rebuild, x, players


@pytest.mark.parametrize("method", ["asm", "asm_released", "asm_released_all"])
def test_compute_feature_distances_add_up_to_the_losses_of_the_term(method):
  losses, measure, _, x, players = evaluated_game(method)
  distances = measure(x)
  assert set(distances) == set(players.terms["structure"].layers)
  for layer, values in distances.items():
    assert losses[layer].value.count == np.isfinite(values).sum() > 0
    np.testing.assert_allclose(np.nansum(values), losses[layer].value.total, rtol=1e-4)


def test_compute_feature_distances_show_a_wrong_pixel_where_it_is():
  _, measure, _, x, _ = evaluated_game("asm")
  label = truth()["label"]
  right = 20.0 * jax.nn.one_hot(label, games.TASK.channels)
  # Of the last example, which lacks many labels.
  row, column = np.argwhere(np.asarray(label[3]) < games.TASK.channels)[0].tolist()
  wrong = right.at[3, row, column].set(-right[3, row, column])
  for layer, distances in measure({**x, "segmentation": wrong}).items():
    stride = 2 if layer == "conv1" else 4
    differing = np.argwhere(np.nan_to_num(distances) > 1e-4)
    assert len(differing) and set(differing[:, 0]) == {3}
    assert np.all(np.abs(differing[:, 1:] * stride - (row, column)) <= stride)


def test_reconstruct_compares_reconstructions_and_predictions_with_the_truth():
  losses, _, rebuild, x, players = evaluated_game("iid_asm_all")
  assert set(players.tasks) == {"segmentation", "depth", "normals"}
  for name, result in rebuild(x).items():
    task = players.tasks[name]
    for errors, output in ((result.predicted, x[name]), (result.error, result.output)):
      loss = task.pixel_loss(output, truth()).mean()
      np.testing.assert_allclose(np.nanmean(errors), loss, rtol=1e-4)
    # The term compares the structure of the reconstructed output with that of the truth.
    difference = task.structure(result.output) - task.true_structure(truth())
    squares = np.sum(task.mask(truth()) * difference**2) / np.sum(task.mask(truth()))
    term = losses[f"reconstruction_{name}"].value.mean()
    by_hand = {"segmentation": np.nanmean(result.error), "depth": squares, "normals": squares}
    np.testing.assert_allclose(by_hand[name], term, rtol=1e-4)


def test_scale_ranges_over_all_but_the_largest_losses():
  maps = np.arange(1001.0).reshape(1, 7, 143)
  assert Scale.of(maps, np.full((2, 2), np.nan))[:2] == (0, pytest.approx(990))
  assert Scale.of(maps - 10).low == -10
  empty = Scale.of(np.full((1, 2, 2), np.nan))
  assert empty.low < empty.high
  constant = Scale.of(np.zeros((1, 2, 2)))
  assert constant.low < constant.high


SMALL_SPLIT = {"data.options.length": 3, "eval.batch_size": 8}


def columns(part):
  """Returns the images of each column of a part of a figure, by its title."""
  panels = [axes for axes in part.axes if axes.images]
  titles = [axes.get_title() for axes in panels if axes.get_title()]
  return {
    title: [image for axes in panels[i :: len(titles)] for image in axes.images]
    for i, title in enumerate(titles)
  }


def test_save_error_maps_draws_all_tasks_in_shared_colors(saved_figures, tmp_path):
  run, state = save_untrained(tmp_path, "asm,all", **SMALL_SPLIT)
  analyzer.save_error_maps(AnalyzerRun.reopen(tmp_path), tmp_path / "errors.png", count=2)
  (figure,) = saved_figures
  figure.draw_without_rendering()  # Raises where the layout has no room.
  with contextlib.closing(run.eval_batches()) as batches:
    examples = {key: value[:2] for key, value in next(batches).items()}
  output = jax.jit(run.game.predict)(state.variables(), examples["image"])
  assert [part._suptitle.get_text() for part in figure.subfigs] == list(run.game.tasks)
  for part, (name, task) in zip(figure.subfigs, run.game.tasks.items(), strict=True):
    images = columns(part)
    np.testing.assert_array_equal(images["photo"][1].get_array(), examples["image"][1])
    errors = images["error of the\nprediction"]
    losses = np.stack([image.get_array().filled(np.nan) for image in errors])
    loss = task.pixel_loss(output[name], examples).mean()
    np.testing.assert_allclose(np.nanmean(losses), loss, rtol=1e-4)
    assert {image.get_clim() for image in errors + images["error of the\nreconstruction"]} == {
      errors[0].get_clim()
    }
  labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
  assert labels == 2 * ["cross-entropy, nats"] + 2 * ["squared error, m²"] + 2 * ["2 - 2 cosine"]


def test_save_loss_maps_draws_every_layer_and_brackets_unmatched_ones(saved_figures, tmp_path):
  save_untrained(tmp_path, "asm,segmentation+depth,apart", **SMALL_SPLIT)
  analyzer.save_loss_maps(AnalyzerRun.reopen(tmp_path), tmp_path / "losses.png", count=9)
  (figure,) = saved_figures
  assert [part._suptitle.get_text() for part in figure.subfigs] == [
    "structure_depth",
    "structure_segmentation",
  ]
  for part in figure.subfigs:
    images = columns(part)
    task = part._suptitle.get_text().removeprefix("structure_")
    matched = ["photo", f"truth\nof {task}", f"prediction\nof {task}", "conv1", "conv2"]
    layers = [title for title in images if title.startswith("(")]
    assert [*images] == matched + layers and layers
    assert {len(column) for column in images.values()} == {3}  # All examples of the split.


def test_analyzer_run_refuses_a_run_without_structure_terms(tmp_path):
  save_untrained(tmp_path, "iid", **SMALL_SPLIT)
  with pytest.raises(ValueError, match="has the terms pixel; expected a structure term"):
    AnalyzerRun.reopen(tmp_path)
  assert not analyzer.read_term_sections(tmp_path, "structure")


def test_save_error_maps_refuses_an_analyzer_that_does_not_reconstruct(tmp_path):
  save_untrained(tmp_path, "asm_no_rec", **SMALL_SPLIT)
  with pytest.raises(ValueError, match="terms.structure.reconstruction_weight is 0"):
    analyzer.save_error_maps(AnalyzerRun.reopen(tmp_path), tmp_path / "errors.png")
  (section,) = analyzer.read_term_sections(tmp_path, "structure").values()
  assert section["reconstruction_weight"] == 0
