"""Structures that most excite an analyzer's filters, against a search of all positions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.analysis.patches import select_strips
from asmjax.analysis.stimuli import compute_layer_fields, find_stimuli
from asmjax.losses.matching import pool_mask
from tests.helpers import tiny_games as games

LAYERS = ("conv1", "conv2", "conv3")


@functools.cache
def analyzed_split():
  """Returns a term, its parameters, a split of 13 examples, and all responses of each layer."""
  players = games.game(structure=games.structure(layers=LAYERS, count_partial_cells=False))
  term, params = players.terms["structure"], games.variables(players)[0]["structure"]
  examples = games.batch(13, seed=3)
  examples["label"][5] = 255  # Without truth, filters have no input.
  structure = games.TASK.true_structure(examples)
  features = jax.jit(lambda params, x: term.critic.apply({"params": params}, x)[0])(
    params, structure
  )
  mask = games.TASK.mask(examples)
  responses = {}
  for layer, x in features.items():
    valid = np.asarray(pool_mask(mask, x.shape[1:3], count_partial_cells=False))
    responses[layer] = np.where(valid > 0, x, -np.inf)
  return term, params, examples, responses


def batches(examples, size):
  for start in range(0, 13, size):
    yield {key: values[start : start + size] for key, values in examples.items()}


@pytest.mark.parametrize("size", [4, 13])
def test_find_stimuli_agrees_with_a_search_of_all_positions(size):
  term, params, examples, responses = analyzed_split()
  tasks = {"segmentation": games.TASK}
  stimuli = find_stimuli(term, tasks, params, games.SIZE, batches(examples, size), count=3)
  assert set(stimuli) == set(LAYERS)
  for layer, (activations, indices, positions, selectivity) in stimuli.items():
    for i in range(len(selectivity)):
      response = responses[layer][..., i]
      maxima = response.max((1, 2))
      best = np.argsort(-maxima, kind="stable")[:3]
      np.testing.assert_allclose(activations[:, i], maxima[best], rtol=1e-5)
      np.testing.assert_array_equal(indices[:, i], best)
      at_positions = response.reshape(len(response), -1)[best, positions[:, i]]
      np.testing.assert_allclose(at_positions, maxima[best])
      valid = response[np.isfinite(response)]
      expected = (maxima[best].mean() - valid.mean()) / valid.std()
      assert selectivity[i] == pytest.approx(expected, rel=1e-3)


def test_find_stimuli_leaves_out_an_example_without_truth():
  term, params, examples, responses = analyzed_split()
  tasks = {"segmentation": games.TASK}
  labeled = {i for i, x in enumerate(responses["conv1"]) if np.isfinite(x).any()}
  assert 5 not in labeled and 0 in labeled
  stimuli = find_stimuli(term, tasks, params, games.SIZE, batches(examples, 13), count=20)["conv1"]
  assert stimuli.activation.shape[0] == 13
  field = compute_layer_fields(term, tasks, params, games.SIZE)["conv1"]
  (strip,) = select_strips(stimuli, field, filters=1)
  assert set(strip.examples) == labeled and len(strip.windows) == len(labeled)


def test_compute_layer_fields_are_the_pixels_with_a_gradient():
  """With positive weights nothing is rectified, so that all of a field has a gradient."""
  term, params, *_ = analyzed_split()
  params = jax.tree.map(lambda x: jnp.abs(x) + 0.1, params)
  size = 24, 20
  fields = compute_layer_fields(term, {"segmentation": games.TASK}, params, size)

  @functools.partial(jax.jit, static_argnums=0)
  def has_gradient(layer, row, column):
    features = lambda x: term.critic.apply({"params": params}, x)[0][layer][0, row, column].sum()
    return jax.grad(features)(jnp.ones((1, *size, games.TASK.channels)))[0].sum(-1) > 0

  for layer, sides in (("conv1", (3, 3)), ("conv2", (7, 7)), ("conv3", None)):
    height, width = len(fields[layer].rows), len(fields[layer].columns)
    for row, column in ((0, 0), (height // 2, width // 2), (height - 1, width - 1)):
      pixels = np.argwhere(has_gradient(layer, row, column))
      window = fields[layer].window(row * width + column)
      for (start, stop), along, side in zip(window, pixels.T, size, strict=True):
        assert (along.min(), along.max() + 1) == (max(start, 0), min(stop, side))
      if sides:
        assert tuple(np.diff(window)[:, 0]) == sides
