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
  # Few values, so that many are equal within a window.
  x = rng.integers(0, 4, (2, *size, 3)).astype(np.float64)

  def bent(x, cotangent):
    """Its gradient contains a gradient."""
    total = lambda x: jnp.sum(jnp.sin(cotangent * max_pool(x, window, stride, pads)))
    return total(x) + jnp.sum(jnp.square(jax.grad(total)(x)))

  shape = jax.eval_shape(lambda x: max_pool(x, window, stride, pads), x).shape
  cotangent = rng.normal(size=shape)
  traced = lambda: str(jax.make_jaxpr(lambda x: jax.grad(bent)(x, cotangent))(x))
  results = jax.jit(lambda x: (max_pool(x, window, stride, pads), jax.grad(bent)(x, cotangent)))(x)
  assert "select_and_gather" not in traced() and "select_and_scatter" not in traced()
  with use_cpu_kernels(False):
    assert "select_and_scatter" in traced()
    expected = jax.jit(lambda x: (max_pool(x, window, stride, pads), jax.grad(bent)(x, cotangent)))(
      x
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), results, expected
  )
