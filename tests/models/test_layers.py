"""Convolution and resizing against slow oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax import resize
from asmjax.models.layers import Conv, Norm
from tests import reference


@pytest.mark.parametrize("kernel, stride, dilation", [
  (1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (4, 2, 1), (5, 1, 1), (3, 2, 3),
])
def test_convolution_agrees_with_the_oracle(kernel, stride, dilation):
  rng = np.random.default_rng(0)
  x = jnp.array(rng.normal(size=(2, 9, 7, 3)), jnp.float32)
  layer = Conv(5, kernel, stride, dilation)
  params = {
    "kernel": rng.normal(size=(kernel, kernel, 3, 5)).astype(np.float32),
    "bias": rng.normal(size=5).astype(np.float32),
  }
  expected = reference.convolve(x, params["kernel"], params["bias"], stride, dilation)
  np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("low, kernel", [((4, 3), 3), ((3, 2), 3), ((4, 3), 1), ((5, 2), 1)])
def test_joining_is_resizing_concatenating_and_convolving(low, kernel):
  rng = np.random.default_rng(0)
  low, skip = (jnp.array(rng.normal(size=(2, *size, 3)), jnp.float32) for size in (low, (8, 6)))
  layer = Conv(5, kernel)
  params = jax.jit(lambda: layer.init(jax.random.key(0), skip, low))()
  joined = lambda params, low, skip: layer.apply(params, skip, low)
  plain = lambda params, low, skip: layer.apply(
    params, jnp.concatenate([jax.image.resize(low, (2, 8, 6, 3), "bilinear"), skip], -1)
  )
  weights = jnp.array(rng.normal(size=(2, 8, 6, 5)), jnp.float32)
  results = [
    jax.jit(jax.value_and_grad(
      lambda *inputs, f=f: jnp.sum(weights * jnp.sin(f(*inputs))), (0, 1, 2)
    ))(params, low, skip) for f in (joined, plain)
  ]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results
  )


def test_parameters_stay_single_precision_under_bfloat16_compute():
  layer = Conv(4, dtype=jnp.bfloat16)
  init = jax.jit(lambda: layer.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 2))))
  y, variables = init()
  assert y.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_unknown_norm_is_refused_and_the_known_listed():
  with pytest.raises(ValueError, match="'weight'.*known: none, batch, sync_batch, group"):
    Norm("weight")


@pytest.mark.parametrize("size", [(8, 6), (4, 3), (7, 11), (2, 3)])
def test_bilinear_has_half_pixel_centres(size):
  x = jnp.array(np.random.default_rng(0).normal(size=(2, 4, 3, 5)), jnp.float32)
  expected = jax.image.resize(x, (2, *size, 5), "bilinear", antialias=False)
  np.testing.assert_allclose(resize.bilinear(x, size), expected, rtol=1e-5, atol=1e-6)


def test_bilinear_keeps_constants_and_its_transpose_keeps_sums():
  x = jnp.ones((1, 5, 4, 2))
  np.testing.assert_allclose(resize.bilinear(x, (10, 8)), 1, rtol=1e-6)
  grads = jax.grad(lambda x: jnp.sum(resize.bilinear(x, (10, 8))))(x)
  np.testing.assert_allclose(jnp.sum(grads), 10 * 8 * 2, rtol=1e-6)


@pytest.mark.parametrize("size", [(2, 3), (8, 12), (3, 5)])
def test_nearest_takes_the_pixel_under_the_centre(size):
  label = np.random.default_rng(0).integers(0, 9, (2, 4, 6)).astype(np.int32)
  rows, columns = (
    ((np.arange(new) + 0.5) * old / new).astype(int)
    for new, old in zip(size, label.shape[1:], strict=True)
  )
  np.testing.assert_array_equal(
    resize.nearest(label, size), label[:, rows[:, None], columns[None]]
  )
