"""Convolutions on CPUs against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.layers import Conv
from asmjax.ops import conv2d, use_cpu_kernels


@pytest.mark.parametrize(
  "kernel, stride, dilation, size, padding",
  [
    ((3, 3), 1, 1, (8, 7), ((1, 1), (1, 1))),
    ((3, 3), 2, 1, (9, 6), ((1, 1), (1, 1))),
    ((3, 3), 1, 4, (5, 6), ((4, 4), (4, 4))),
    ((3, 3), 2, 2, (8, 8), ((2, 2), (2, 2))),
    ((4, 4), 2, 1, (7, 8), ((1, 2), (1, 2))),
    ((5, 5), 1, 1, (3, 2), ((2, 2), (2, 2))),
    # Axes that differ.
    ((3, 5), 1, 2, (8, 9), ((1, 0), (2, 3))),
    # More zeros than the kernel reaches, and pixels that are left out.
    ((3, 3), 1, 1, (4, 5), ((4, 0), (-1, 3))),
  ],
)
def test_conv2d_by_channel_has_the_gradients_of_xla(
  kernel, stride, dilation, size, padding, float64
):
  rng = np.random.default_rng(0)
  x, k = rng.normal(size=(2, *size, 6)), rng.normal(size=(*kernel, 1, 6))
  xla_conv = lambda x, k: jax.lax.conv_general_dilated(
    x,
    k,
    (stride,) * 2,
    padding,
    rhs_dilation=(dilation,) * 2,
    feature_group_count=6,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  depthwise = lambda x, k: conv2d(x, k, padding=padding, stride=stride, dilation=dilation, groups=6)

  def with_penalty(convolve):
    """Its gradient contains gradients, as a gradient penalty's does."""
    total = lambda x, k: jnp.sum(jnp.tanh(convolve(x, k)))
    return lambda x, k: total(x, k) + jnp.sum(jnp.square(jax.grad(total)(x, k)))

  results, expected = (
    jax.jit(lambda x, k, f=f: (f(x, k), jax.grad(with_penalty(f), (0, 1))(x, k)))(x, k)
    for f in (depthwise, xla_conv)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), results, expected
  )


@pytest.mark.parametrize(
  "kernel, stride, dilation, size, features",
  [
    # Fewer pixels than taps.
    (7, 1, 1, (5, 6), 5),
    (7, 2, 1, (6, 3), 5),
    (4, 1, 1, (3, 3), 5),
    (3, 2, 2, (1, 1), 5),
    # More weights than patches.
    (3, 1, 1, (5, 4), 41),
    (3, 2, 1, (9, 5), 31),
    (4, 2, 1, (7, 8), 33),
    # Taps a third of the map apart, half of it, and beyond it.
    (3, 1, 4, (9, 12), 5),
    (3, 1, 3, (5, 6), 5),
    (3, 1, 4, (2, 4), 5),
    (4, 1, 5, (7, 13), 5),
  ],
)
def test_conv2d_of_maps_that_are_small_beside_the_kernel_is_that_of_xla(
  kernel, stride, dilation, size, features, float64
):
  conv, rng = Conv(features, kernel, stride, dilation), np.random.default_rng(0)
  x, weights = (rng.normal(size=shape) for shape in ((2, *size, 3), (kernel, kernel, 3, features)))
  params = {"kernel": weights, "bias": np.zeros(features)}
  shape = jax.eval_shape(lambda x: conv.apply({"params": params}, x), x).shape
  cotangent = rng.normal(size=shape)

  def value(params, x):
    y = conv.apply({"params": params}, x)
    return jnp.sum(y * cotangent), y

  # Of a new function each time: traces are kept.
  traced = lambda: str(jax.make_jaxpr(lambda params, x: value(params, x))(params, x))
  compute = lambda: jax.jit(jax.grad(value, (0, 1), has_aux=True))(params, x)
  results = compute()
  assert "conv_general_dilated" not in traced()
  with use_cpu_kernels(False):
    assert "conv_general_dilated" in traced()
    expected = compute()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), results, expected
  )


def test_conv2d_by_channel_sums_in_float32():
  x, k = jnp.ones((1, 40, 40, 1), jnp.bfloat16), jnp.full((3, 3, 1, 1), 0.5, jnp.bfloat16)
  y, of_k = jax.jit(lambda: (conv2d(x, k), jax.grad(lambda k: jnp.sum(conv2d(x, k)))(k)))()
  assert y.dtype == of_k.dtype == jnp.bfloat16
  assert of_k[1, 1, 0, 0] == 1600 and y[0, 1, 1, 0] == 4.5
