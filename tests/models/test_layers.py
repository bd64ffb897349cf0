"""Convolution and resizing against slow oracles."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.layers import Conv, Norm, max_pool, plain_convolutions
from asmjax.ops import resize
from asmjax.ops.batch_norm import BatchNorm
from asmjax.ops.cpu.depthwise import convolve_depthwise
from tests.oracles import arrays as reference


@pytest.mark.parametrize(
  "kernel, stride, dilation",
  [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (4, 2, 1), (5, 1, 1), (3, 2, 3)],
)
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
    jax.jit(
      jax.value_and_grad(lambda *inputs, f=f: jnp.sum(weights * jnp.sin(f(*inputs))), (0, 1, 2))
    )(params, low, skip)
    for f in (joined, plain)
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results)


@pytest.mark.parametrize(
  "kernel, stride, dilation, size",
  [
    (3, 1, 1, (8, 7)),
    (3, 2, 1, (9, 6)),
    (3, 1, 4, (5, 6)),
    (3, 2, 2, (8, 8)),
    (4, 2, 1, (7, 8)),
    (5, 1, 1, (3, 2)),
  ],
)
def test_depthwise_convolution_and_its_gradients_are_xlas(kernel, stride, dilation, size, float64):
  rng = np.random.default_rng(0)
  x, k = rng.normal(size=(2, *size, 6)), rng.normal(size=(kernel, kernel, 1, 6))
  pads = (((kernel - 1) // 2 * dilation, kernel // 2 * dilation),) * 2
  plain = lambda x, k: jax.lax.conv_general_dilated(
    x,
    k,
    (stride,) * 2,
    pads,
    rhs_dilation=(dilation,) * 2,
    feature_group_count=6,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  ours = lambda x, k: convolve_depthwise(x, k, stride, dilation)

  def penalised(convolve):
    """Its gradient contains gradients, as a gradient penalty's does."""
    total = lambda x, k: jnp.sum(jnp.tanh(convolve(x, k)))
    return lambda x, k: total(x, k) + jnp.sum(jnp.square(jax.grad(total)(x, k)))

  found, expected = (
    jax.jit(lambda x, k, f=f: (f(x, k), jax.grad(penalised(f), (0, 1))(x, k)))(x, k)
    for f in (ours, plain)
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)


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
def test_maps_that_are_small_beside_the_kernel_are_convolved_and_differentiated_alike(
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
  found = jax.grad(value, (0, 1), has_aux=True)(params, x)
  assert "conv_general_dilated" not in traced()
  with plain_convolutions():
    assert "conv_general_dilated" in traced()
    expected = jax.grad(value, (0, 1), has_aux=True)(params, x)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)


def test_depthwise_convolution_adds_up_in_single_precision():
  x, k = jnp.ones((1, 40, 40, 1), jnp.bfloat16), jnp.full((3, 3, 1, 1), 0.5, jnp.bfloat16)
  y, of_k = jax.jit(
    lambda: (convolve_depthwise(x, k), jax.grad(lambda k: jnp.sum(convolve_depthwise(x, k)))(k))
  )()
  assert y.dtype == of_k.dtype == jnp.bfloat16
  assert of_k[1, 1, 0, 0] == 1600 and y[0, 1, 1, 0] == 4.5


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
def test_bilinear_has_half_pixel_centers(size):
  x = jnp.array(np.random.default_rng(0).normal(size=(2, 4, 3, 5)), jnp.float32)
  expected = jax.image.resize(x, (2, *size, 5), "bilinear", antialias=False)
  np.testing.assert_allclose(resize.bilinear(x, size), expected, rtol=1e-5, atol=1e-6)


def test_bilinear_keeps_constants_and_its_transpose_keeps_sums():
  x = jnp.ones((1, 5, 4, 2))
  np.testing.assert_allclose(resize.bilinear(x, (10, 8)), 1, rtol=1e-6)
  grads = jax.grad(lambda x: jnp.sum(resize.bilinear(x, (10, 8))))(x)
  np.testing.assert_allclose(jnp.sum(grads), 10 * 8 * 2, rtol=1e-6)


@pytest.mark.parametrize("size", [(2, 3), (8, 12), (3, 5)])
def test_nearest_takes_the_pixel_under_the_center(size):
  label = np.random.default_rng(0).integers(0, 9, (2, 4, 6)).astype(np.int32)
  rows, columns = (
    ((np.arange(new) + 0.5) * old / new).astype(int)
    for new, old in zip(size, label.shape[1:], strict=True)
  )
  np.testing.assert_array_equal(resize.nearest(label, size), label[:, rows[:, None], columns[None]])


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
def test_maxima_and_their_gradients_are_xlas(window, stride, pads, size, float64):
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
  found = jax.jit(lambda x: (max_pool(x, window, stride, pads), jax.grad(bent)(x, cotangent)))(x)
  assert "select_and_gather" not in traced() and "select_and_scatter" not in traced()
  with plain_convolutions():
    assert "select_and_scatter" in traced()
    expected = jax.jit(lambda x: (max_pool(x, window, stride, pads), jax.grad(bent)(x, cotangent)))(
      x
    )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)


@pytest.mark.parametrize("dtype, tolerance", [(None, 1e-12), (jnp.bfloat16, 0)])
@pytest.mark.parametrize("running", [False, True])
def test_batch_norm_is_flaxs(running, dtype, tolerance, float64):
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

  found, expected = results(BatchNorm), results(nn.BatchNorm)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    assert a.dtype == b.dtype
    wide = lambda x: np.asarray(x, np.float64)
    near = tolerance or float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(wide(a), wide(b), rtol=near, atol=near * np.abs(wide(b)).max())
  init = lambda kind: kind(running).init(jax.random.key(0), x)
  jax.tree.map(np.testing.assert_array_equal, init(BatchNorm), init(nn.BatchNorm))
