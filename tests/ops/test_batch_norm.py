"""Batch normalization against Flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.ops import BatchNorm


@pytest.mark.parametrize("dtype, tolerance", [(None, 1e-12), (jnp.bfloat16, 0)])
@pytest.mark.parametrize("running", [False, True])
def test_batch_norm_is_that_of_flax(running, dtype, tolerance, float64):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(1.0, 2.0, (2, 5, 4, 3)), dtype)
  cotangent = rng.normal(size=x.shape)
  variables = {
    "params": {"scale": rng.normal(size=3), "bias": rng.normal(size=3)},
    "batch_stats": {"mean": rng.normal(size=3), "var": rng.uniform(1, 2, 3)},
  }

  def results(kind):
    layer = kind(running, momentum=0.9, epsilon=1e-3, dtype=dtype)

    def total(params, x):
      y, updated = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
      return jnp.sum(y * cotangent), (y, updated)

    return jax.grad(total, (0, 1), has_aux=True)(variables["params"], x)

  result, expected = results(BatchNorm), results(nn.BatchNorm)
  assert jax.tree.structure(result) == jax.tree.structure(expected)
  for a, b in zip(*map(jax.tree.leaves, (result, expected)), strict=True):
    assert a.dtype == b.dtype
    wide = lambda x: np.asarray(x, np.float64)
    near = tolerance or float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(wide(a), wide(b), rtol=near, atol=near * np.abs(wide(b)).max())
  init = lambda kind: kind(running).init(jax.random.key(0), x)
  jax.tree.map(np.testing.assert_array_equal, init(BatchNorm), init(nn.BatchNorm))
