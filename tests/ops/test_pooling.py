"""Max pooling against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.ops import max_pool, use_cpu_kernels


@pytest.mark.parametrize(
  "window, stride, pads, size",
  [
    (2, 2, "SAME", (8, 6)),
    (2, 2, "SAME", (7, 5)),
    (3, 2, ((1, 1), (1, 1)), (9, 8)),
    (3, 1, "SAME", (5, 4)),
    (2, 3, "VALID", (8, 9)),
    (3, 2, ((0, 2), (1, 0)), (2, 4)),
  ],
)
def test_max_pool_has_the_gradients_of_xla(window, stride, pads, size, float64):
  rng = np.random.default_rng(0)
  # Few values, so that many are equal within a window. Second derivatives are compared without
  # such ties: there XLA takes another of the equal values from JAX 0.11 on.
  ties = rng.integers(0, 4, (2, *size, 3)).astype(np.float64)
  distinct = ties + rng.random(ties.shape) / 2

  def total(x, cotangent):
    return jnp.sum(jnp.sin(cotangent * max_pool(x, window, stride, pads)))

  def bent(x, cotangent):
    """Its gradient contains a gradient."""
    return total(x, cotangent) + jnp.sum(jnp.square(jax.grad(total)(x, cotangent)))

  shape = jax.eval_shape(lambda x: max_pool(x, window, stride, pads), ties).shape
  cotangent = rng.normal(size=shape)

  def compute():
    def results(ties, distinct):
      pooled = max_pool(ties, window, stride, pads)
      return pooled, jax.grad(total)(ties, cotangent), jax.grad(bent)(distinct, cotangent)

    return jax.jit(results)(ties, distinct)

  traced = lambda: str(jax.make_jaxpr(lambda x: jax.grad(bent)(x, cotangent))(ties))
  results = compute()
  assert "select_and_gather" not in traced() and "select_and_scatter" not in traced()
  with use_cpu_kernels(False):
    assert "select_and_scatter" in traced()
    expected = compute()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), results, expected
  )
