"""Losses on the shape of depth and normal maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.losses import (
  edge_aware_smoothness,
  gradient_matching_loss,
  scale_invariant_log_loss,
  ssim_loss,
)
from tests.oracles import regions as oracle


def example(channels=1, size=(9, 14), n=3):
  """Positive maps, their truths, and a mask."""
  rng = np.random.default_rng(0)
  maps = rng.uniform(0.5, 5, (2, n, *size, channels)).astype(np.float32)
  return maps[0], maps[1], (rng.random((n, *size, 1)) > 0.2).astype(np.float32)


@pytest.mark.parametrize("scale_invariance", [0.0, 0.5, 1.0])
def test_scale_invariant_log_loss_agrees_with_pairs_of_pixels(scale_invariance):
  """Eigen et al. 2014, Eq. 2: with lambda 1 it is half the mean over pairs of pixels."""
  predictions, targets, mask = example()
  expected = []
  for p, y, known in zip(predictions, targets, mask > 0, strict=True):
    d = np.log(np.float64(p[known])) - np.log(y[known])
    of_pairs = np.mean((d[:, None] - d) ** 2) / 2
    expected.append(scale_invariance * of_pairs + (1 - scale_invariance) * np.mean(d**2))
  loss = scale_invariant_log_loss(
    predictions, targets, mask=mask, scale_invariance=scale_invariance
  )
  np.testing.assert_allclose(loss.mean(), np.mean(expected), rtol=1e-5)


def test_scale_invariant_log_loss_has_a_gradient_for_depths_of_0_that_do_not_count():
  predictions, targets, mask = example()
  targets = np.where(mask > 0, targets, 0)
  loss = lambda x: scale_invariant_log_loss(x, targets, mask=mask).mean()
  gradient = jax.grad(loss)(jnp.array(predictions))
  assert np.all(np.isfinite(gradient)) and np.all(gradient[mask == 0] == 0)
  assert np.all(gradient[mask > 0] != 0)


def test_gradient_matching_loss_agrees_with_the_oracle():
  predictions, targets, mask = example(channels=2)
  values = []
  for scale in range(3):
    at = np.s_[:, :: 2**scale, :: 2**scale]
    d, known = (np.float64(predictions) - targets)[at], mask[at][..., 0] > 0
    for n, i, j in np.ndindex(known.shape):
      for other in ((n, i + 1, j), (n, i, j + 1)):
        inside = other[1] < known.shape[1] and other[2] < known.shape[2]
        if inside and known[n, i, j] and known[other]:
          values.append(np.abs(d[other] - d[n, i, j]).sum())
  loss = gradient_matching_loss(predictions, targets, mask=mask, scales=3)
  assert loss.count == len(values)
  np.testing.assert_allclose(loss.mean(), np.mean(values), rtol=1e-5)


def test_gradient_matching_loss_does_not_see_an_offset():
  predictions, targets, mask = example()
  expected = gradient_matching_loss(predictions, targets, mask=mask).mean()
  np.testing.assert_allclose(
    gradient_matching_loss(predictions + 7, targets, mask=mask).mean(), expected, rtol=1e-5
  )


def test_ssim_loss_agrees_with_the_oracle():
  predictions, targets, mask = example(channels=2, size=(8, 10), n=2)
  mask[:] = 1
  mask[0, 0, 0], mask[1, 7, 9] = 0, 0
  values = []
  for n, c in np.ndindex(2, 2):
    ssim = oracle.ssim(predictions[n, ..., c], targets[n, ..., c], 5, 1.5, 4.0)
    known = np.ones(ssim.shape, bool)
    known[(0, 0) if n == 0 else (-1, -1)] = False
    values.extend((1 - ssim[known]) / 2)
  loss = ssim_loss(predictions, targets, mask=mask, value_range=4.0, window=5)
  assert loss.count == len(values)
  np.testing.assert_allclose(loss.mean(), np.mean(values), rtol=1e-5)


def test_ssim_loss_keeps_the_digits_of_surfaces_far_away():
  """Differences of millimeters at 8 m: SSIM is 1 up to the precision of float32."""
  rows, columns = np.indices((8, 10))
  truth = np.float32(8 + rows / 64 + 0.01 * np.sin(columns))
  near = truth + np.random.default_rng(0).normal(scale=1e-3, size=truth.shape).astype(np.float32)
  expected = np.mean(1 - oracle.ssim(near, truth, 5, 1.5, 10.0)) / 2
  maps = (x[None, ..., None] for x in (near, truth))
  loss = ssim_loss(*maps, value_range=10.0, window=5).mean()
  assert expected < 1e-5
  np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_ssim_loss_refuses_maps_that_are_smaller_than_a_window():
  predictions, targets, _ = example()
  with pytest.raises(ValueError, match=r"maps \(9, 14\) are smaller than a window of 11 pixels"):
    ssim_loss(predictions, targets)


def test_edge_aware_smoothness_agrees_with_the_oracle():
  predictions, _, mask = example(channels=3)
  image = np.random.default_rng(1).random((3, 9, 14, 3)).astype(np.float32)
  values, p, guide = [], np.float64(predictions), np.float64(image)
  for n, i, j in np.ndindex(3, 9, 14):
    for k, m in ((i + 1, j), (i, j + 1)):
      if k < 9 and m < 14 and mask[n, i, j, 0] and mask[n, k, m, 0]:
        edge = np.abs(guide[n, k, m] - guide[n, i, j]).mean()
        values.append(np.abs(p[n, k, m] - p[n, i, j]).sum() * np.exp(-5 * edge))
  loss = edge_aware_smoothness(predictions, image, mask=mask, sharpness=5.0)
  assert loss.count == len(values)
  np.testing.assert_allclose(loss.mean(), np.mean(values), rtol=1e-5)


LOSSES = {
  "scale_invariant_log": scale_invariant_log_loss,
  "gradient_matching": gradient_matching_loss,
  "ssim": lambda *maps, mask: ssim_loss(*maps, mask=mask, window=3, value_range=5.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_on_geometry_vanish_at_the_truth_and_pull_towards_it(name):
  predictions, targets, mask = example()
  mask[:, :4] = 1
  loss = jax.jit(jax.value_and_grad(lambda p: LOSSES[name](p, targets, mask=mask).mean()))
  value, gradient = loss(predictions)
  length = 1e-3 / np.abs(gradient).max()
  assert loss(predictions - length * gradient)[0] < value
  assert abs(float(loss(jnp.array(targets))[0])) < 1e-6
  assert np.any(gradient != 0) and LOSSES[name](predictions, targets, mask=0 * mask).mean() == 0


@pytest.mark.parametrize(
  "loss",
  [
    lambda x: gradient_matching_loss(x, jnp.full_like(x, 3.0)).mean(),
    lambda x: edge_aware_smoothness(x, example()[1]).mean(),
  ],
)
def test_flat_maps_have_no_gradient(loss):
  gradient = jax.grad(loss)(jnp.ones_like(example()[0]))
  np.testing.assert_array_equal(gradient, 0)


def test_ssim_loss_refuses_windows_without_pixels():
  with pytest.raises(ValueError, match="window=0; expected a side of at least one pixel"):
    ssim_loss(*example()[:2], window=0)
