"""The patches that most excite an analyzer's filters, against a search through everything."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from asmjax.analysis import stimuli as figures
from asmjax.analysis.stimuli import LayerField, Stimuli, find_stimuli, layer_fields, select_strips
from asmjax.config.build import build_experiment
from asmjax.losses.matching import pool_mask
from asmjax.train.loop import open_checkpoints
from tests.helpers import small_configs as small
from tests.helpers import tiny_games as games

LAYERS = ("conv1", "conv2", "conv3")


@functools.cache
def searched():
  """A term, its parameters, a split of 13 examples, and of each layer all that its filters say."""
  players = games.game(structure=games.structure(layers=LAYERS, count_partial_cells=False))
  term, params = players.terms["structure"], games.variables(players)[0]["structure"]
  examples = games.batch(13, seed=3)
  examples["label"][5] = 255  # Has nothing to respond to.
  structure = games.TASK.true_structure(examples)
  said = jax.jit(lambda params, x: term.critic.apply({"params": params}, x)[0])(params, structure)
  known = games.TASK.mask(examples)
  responses = {}
  for layer, features in said.items():
    valid = np.asarray(pool_mask(known, features.shape[1:3], count_partial_cells=False))
    responses[layer] = np.where(valid > 0, features, -np.inf)
  return term, params, examples, responses


def batched(examples, size):
  for start in range(0, 13, size):
    yield {key: each[start : start + size] for key, each in examples.items()}


@pytest.mark.parametrize("size", [4, 13])
def test_the_patches_are_those_that_a_search_finds(size):
  term, params, examples, responses = searched()
  tasks = {"segmentation": games.TASK}
  found = find_stimuli(term, tasks, params, games.SIZE, batched(examples, size), count=3)
  assert set(found) == set(LAYERS)
  for layer, each in found.items():
    of_all = responses[layer]
    for index in range(of_all.shape[-1]):
      maxima = [(float(x[..., index].max()), -i) for i, x in enumerate(of_all)]
      best = sorted(maxima, reverse=True)[:3]
      np.testing.assert_allclose(each.activation[:, index], [top for top, _ in best], rtol=1e-5)
      assert each.example[:, index].tolist() == [-place for _, place in best]
      for (top, example), place in zip(best, each.place[:, index], strict=True):
        assert of_all[-example].reshape(-1, of_all.shape[-1])[place, index] == pytest.approx(top)
      known = of_all[..., index][np.isfinite(of_all[..., index])]
      expected = (np.mean([top for top, _ in best]) - known.mean()) / known.std()
      assert each.selectivity[index] == pytest.approx(expected, rel=1e-3)


def test_an_example_without_truth_has_no_patch():
  term, params, examples, responses = searched()
  tasks = {"segmentation": games.TASK}
  known = {i for i, each in enumerate(responses["conv1"]) if np.isfinite(each).any()}
  assert 5 not in known and 0 in known
  found = find_stimuli(term, tasks, params, games.SIZE, batched(examples, 13), count=20)["conv1"]
  assert found.activation.shape[0] == 13
  field = layer_fields(term, tasks, params, games.SIZE)["conv1"]
  (strip,) = select_strips(found, field, filters=1)
  assert set(strip.examples) == known and len(strip.windows) == len(known)


def test_a_place_sees_its_window_and_nothing_else():
  """With positive weights nothing is rectified, and whatever is seen has a gradient."""
  term, params, *_ = searched()
  params = jax.tree.map(lambda x: jnp.abs(x) + 0.1, params)
  size = 24, 20
  found = layer_fields(term, {"segmentation": games.TASK}, params, size)

  @functools.partial(jax.jit, static_argnums=0)
  def seen(layer, row, column):
    features = lambda x: term.critic.apply({"params": params}, x)[0][layer][0, row, column].sum()
    return jax.grad(features)(jnp.ones((1, *size, games.TASK.channels)))[0].sum(-1) > 0

  for layer, sides in (("conv1", (3, 3)), ("conv2", (7, 7)), ("conv3", None)):
    height, width = len(found[layer].rows), len(found[layer].columns)
    for row, column in ((0, 0), (height // 2, width // 2), (height - 1, width - 1)):
      light = np.argwhere(seen(layer, row, column))
      rows, columns = found[layer].window(row * width + column)
      for (start, stop), lit, side in zip((rows, columns), light.T, size, strict=True):
        assert (lit.min(), lit.max() + 1) == (max(start, 0), min(stop, side))
      if sides:
        assert (rows[1] - rows[0], columns[1] - columns[0]) == sides


def test_filters_that_show_the_same_images_count_once():
  field = LayerField(np.array([[0, 2], [2, 4]]), np.array([[0, 3], [3, 6]])).scaled(2, 1)
  example = np.array([[1, 1, 7, 1], [2, 2, 8, 2], [3, 3, 1, 3]])
  best = Stimuli(
    np.ones((3, 4)), example, np.array([[0, 1, 2, 3]] * 3), np.array([2.0, 3.0, 1.0, -np.inf])
  )
  chosen = select_strips(best, field, filters=4)
  assert [strip.title for strip in chosen] == ["filter 1", "filter 2"]
  # Two structure pixels high and three wide; a pixel is two rows of the photo.
  np.testing.assert_array_equal(chosen[0].windows[0], [[0, 4], [3, 6]])
  np.testing.assert_array_equal(chosen[1].windows[2], [[4, 8], [0, 3]])
  assert [strip.title for strip in select_strips(best, field, filters=1)] == ["filter 1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of depth and normals that has made no step, and its folder."""
  workdir = tmp_path_factory.mktemp("run")
  made = small.config("asm,depth+normals", **{"data.options.length": 11, "eval.batch_size": 8})
  (workdir / "config.json").write_text(json.dumps(made.to_dict()))
  found = build_experiment(made)
  with open_checkpoints(found, workdir) as checkpoints:
    checkpoints.save(found.init_state())
  return found, workdir


def test_photos_and_truths_are_cut_at_the_same_window(run, monkeypatch, tmp_path):
  run, workdir = run
  drawn = []
  monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: drawn.append(self))
  figures.save_patches(workdir, tmp_path / "patches.png", filters=1, layers=("conv2",))
  drawn[0].draw_without_rendering()  # All has a place.
  (part,) = drawn[0].subfigs
  assert part._suptitle.get_text() == "conv2: sees 7 x 7 pixels"
  shown = [axes for axes in part.axes if axes.images]
  photos, depths, normals = (shown[i * 10 : (i + 1) * 10] for i in range(3))
  assert len(shown) == 30 and depths[0].get_ylabel() == "depth"
  originals = [run.validation[index]["image"] for index in range(11)]
  taken = set()
  for photo, depth, normal in zip(photos, depths, normals, strict=True):
    for axes in (depth, normal):
      assert (axes.get_xlim(), axes.get_ylim()) == (photo.get_xlim(), photo.get_ylim())
    assert np.ptp(photo.get_xlim()) == np.ptp(photo.get_ylim()) == 7
    pixels = photo.images[0].get_array()
    taken |= {i for i, each in enumerate(originals) if np.array_equal(each, pixels)}
  assert len(taken) == 10


def test_unknown_layers_are_refused(run, tmp_path):
  with pytest.raises(ValueError, match="unknown layers .'conv9'. in .*; known: .*conv3"):
    figures.save_patches(run[1], tmp_path / "patches.png", layers=("conv9",))
