"""What an analyzer holds against predictions, against the losses themselves."""

import contextlib
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from asmjax.analysis import analyzer
from asmjax.analysis.analyzer import feature_distances, per_pixel_loss, reconstruct
from asmjax.analysis.sheets import Scale
from asmjax.config.build import build_experiment
from asmjax.tasks import Depth, Normals
from asmjax.train.loop import open_checkpoints
from tests.helpers import small_configs as small
from tests.helpers import tiny_games as games

RNG = np.random.default_rng(0)


def outputs(n=4):
  """What a predictor may say of each task."""
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
def test_a_map_of_the_pixel_loss_adds_up_to_it(task):
  said = next(each for name, each in outputs().items() if isinstance(task, type(games.TASKS[name])))
  own = {task.truth_key: truth()[task.truth_key]}
  found = np.asarray(jax.jit(functools.partial(per_pixel_loss, task.pixel_loss))(said, own))
  loss = task.pixel_loss(said, own)
  np.testing.assert_array_equal(np.isfinite(found), np.asarray(task.mask(own))[..., 0] > 0)
  np.testing.assert_allclose(np.nanmean(found), loss.mean(), rtol=1e-5)
  # Each is where it belongs: an example on its own has the same loss.
  for index in range(len(found)):
    alone = jax.tree.map(lambda x, i=index: x[i : i + 1], (said, own))
    np.testing.assert_allclose(np.nansum(found[index]), task.pixel_loss(*alone).total, rtol=1e-4)


@functools.cache
def compared(method):
  """A term's own summands and its maps for one batch, and what makes the maps."""
  players = games.of_method(method)
  term, tasks = players.terms["structure"], players.tasks
  params = games.variables(players)[0]["structure"]
  said, true = outputs(), truth()
  own = jax.jit(
    lambda params, said: games.evaluate(term, tasks, said, true, critic={"params": params}).losses
  )(params, said)
  compute = jax.jit(lambda said: feature_distances(term, tasks, params, said, true))
  again = jax.jit(lambda said: reconstruct(term, tasks, params, said, true))
  return own, compute, again, said, players


@pytest.mark.parametrize("method", ["asm", "asm_released", "asm_released_all"])
def test_maps_of_layers_add_up_to_what_the_term_sums(method):
  own, compute, _, said, players = compared(method)
  found = compute(said)
  assert set(found) == set(players.terms["structure"].layers)
  for layer, each in found.items():
    assert own[layer].value.count == np.isfinite(each).sum() > 0
    np.testing.assert_allclose(np.nansum(each), own[layer].value.total, rtol=1e-4)


def test_a_wrong_pixel_shows_where_it_is():
  _, compute, _, said, players = compared("asm")
  label = truth()["label"]
  right = 20.0 * jax.nn.one_hot(label, games.TASK.channels)
  # Of the last example, which lacks many labels.
  row, column = (int(places[0]) for places in np.nonzero(label[3] < games.TASK.channels))
  wrong = right.at[3, row, column].set(-right[3, row, column])
  for layer, each in compute({**said, "segmentation": wrong}).items():
    stride = 2 if layer == "conv1" else 4
    seen = np.argwhere(np.nan_to_num(each) > 1e-4)
    assert len(seen) and set(seen[:, 0]) == {3}
    assert np.all(np.abs(seen[:, 1:] * stride - (row, column)) <= stride)


def test_reconstructions_are_held_against_the_truth_as_predictions_are():
  own, _, again, said, players = compared("iid_asm_all")
  assert set(players.tasks) == {"segmentation", "depth", "normals"}
  for name, each in again(said).items():
    task = players.tasks[name]
    for found, output in ((each.predicted, said[name]), (each.error, each.output)):
      loss = task.pixel_loss(output, truth()).mean()
      np.testing.assert_allclose(np.nanmean(found), loss, rtol=1e-4)
    # The structure of what would be said is what the term compares with that of the truth.
    difference = task.structure(each.output) - task.true_structure(truth())
    squares = np.sum(task.mask(truth()) * difference**2) / np.sum(task.mask(truth()))
    term = own[f"reconstruction_{name}"].value.mean()
    by_hand = {"segmentation": np.nanmean(each.error), "depth": squares, "normals": squares}
    np.testing.assert_allclose(by_hand[name], term, rtol=1e-4)


def test_colors_range_over_all_but_the_brightest():
  maps = np.arange(1001.0).reshape(1, 7, 143)
  assert Scale.of(maps, np.full((2, 2), np.nan))[:2] == (0, pytest.approx(990))
  assert Scale.of(maps - 10).low == -10
  nothing = Scale.of(np.full((1, 2, 2), np.nan))
  assert nothing.low < nothing.high
  constant = Scale.of(np.zeros((1, 2, 2)))
  assert constant.low < constant.high


@functools.cache
def state_of(variant):
  """The initial state of a small run."""
  return build_experiment(made(variant)).init_state()


def made(variant, **changes):
  return small.config(variant, **{"data.options.length": 5, "eval.batch_size": 8, **changes})


def save(workdir, variant, **changes):
  """A run that has made no step."""
  config = made(variant, **changes)
  (workdir / "config.json").write_text(json.dumps(config.to_dict()))
  run = build_experiment(config)
  with open_checkpoints(run, workdir) as checkpoints:
    checkpoints.save(state_of(variant))
  return run


@pytest.fixture
def drawn(monkeypatch):
  """Figures that are kept instead of written."""
  kept = []
  monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: kept.append(self))
  return kept


def columns(part):
  """Of a part of a figure the pictures of each column, by the titles; and the bars' labels."""
  axes = [each for each in part.axes if each.images]
  titles = [each.get_title() for each in axes if each.get_title()]
  pictures = [
    [image for each in axes[i :: len(titles)] for image in each.images] for i in range(len(titles))
  ]
  return dict(zip(titles, pictures, strict=True))


def test_errors_of_all_tasks_are_drawn_in_shared_colors(drawn, tmp_path):
  run = save(tmp_path, "asm,all")
  analyzer.save_error_maps(tmp_path, tmp_path / "errors.png", count=2)
  (figure,) = drawn
  figure.draw_without_rendering()  # All has a place.
  state = state_of("asm,all")
  with contextlib.closing(run.eval_batches()) as batches:
    examples = {key: value[:2] for key, value in next(batches).items()}
  said = jax.jit(run.game.predict)(state.variables(), examples["image"])
  assert [part._suptitle.get_text() for part in figure.subfigs] == list(run.game.tasks)
  for part, (name, task) in zip(figure.subfigs, run.game.tasks.items(), strict=True):
    found = columns(part)
    np.testing.assert_array_equal(found["photo"][1].get_array(), examples["image"][1])
    errors = found["error of the\nprediction"]
    shown = np.stack([each.get_array().filled(np.nan) for each in errors])
    loss = task.pixel_loss(said[name], examples).mean()
    np.testing.assert_allclose(np.nanmean(shown), loss, rtol=1e-4)
    assert {each.get_clim() for each in errors + found["error of the\nreconstruction"]} == {
      errors[0].get_clim()
    }
  labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
  assert labels == 2 * ["cross-entropy, nats"] + 2 * ["squared error, m²"] + 2 * ["2 - 2 cosine"]


def test_every_layer_is_drawn_and_matched_ones_are_told_apart(drawn, tmp_path):
  save(tmp_path, "asm,segmentation+depth,apart")
  analyzer.save_loss_maps(tmp_path, tmp_path / "losses.png", count=9)
  (figure,) = drawn
  assert [part._suptitle.get_text() for part in figure.subfigs] == [
    "structure_depth",
    "structure_segmentation",
  ]
  for part in figure.subfigs:
    found = columns(part)
    task = part._suptitle.get_text().removeprefix("structure_")
    matched = ["photo", f"truth\nof {task}", f"prediction\nof {task}", "conv1", "conv2"]
    layers = [title for title in found if title.startswith("(")]
    assert [*found] == matched + layers and layers
    assert {len(pictures) for pictures in found.values()} == {5}  # All there are.


@pytest.mark.parametrize("figure", [analyzer.save_error_maps, analyzer.save_loss_maps])
def test_a_run_without_an_analyzer_is_refused(figure, tmp_path):
  save(tmp_path, "iid")
  with pytest.raises(ValueError, match="has the terms pixel; expected a structure term"):
    figure(tmp_path, tmp_path / "figure.png")
  assert not analyzer.term_sections(tmp_path, "structure")


def test_what_was_never_trained_to_reconstruct_is_not_drawn(tmp_path):
  save(tmp_path, "asm_no_rec")
  with pytest.raises(ValueError, match="terms.structure.reconstruction_weight is 0"):
    analyzer.save_error_maps(tmp_path, tmp_path / "errors.png")
  (section,) = analyzer.term_sections(tmp_path, "structure").values()
  assert section["reconstruction_weight"] == 0
