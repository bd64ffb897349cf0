"""Convolution and normalization layers against slow oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.layers import Conv, Norm
from asmjax.ops import resize_bilinear, upsample
from tests.oracles import arrays as oracle


def normal(*shape):
  return jnp.array(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
  "kernel, stride, dilation",
  [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (4, 2, 1), (5, 1, 1), (3, 2, 3)],
)
def test_conv_agrees_with_the_oracle(kernel, stride, dilation):
  rng = np.random.default_rng(0)
  x = jnp.array(rng.normal(size=(2, 9, 7, 3)), jnp.float32)
  layer = Conv(5, kernel, stride, dilation)
  params = {
    "kernel": rng.normal(size=(kernel, kernel, 3, 5)).astype(np.float32),
    "bias": rng.normal(size=5).astype(np.float32),
  }
  expected = oracle.convolve(x, params["kernel"], params["bias"], stride, dilation)
  np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  "low, kernel, align_corners",
  [
    ((4, 3), 3, False),
    ((3, 2), 3, False),
    ((4, 3), 1, False),
    ((5, 2), 1, False),
    ((4, 3), 3, True),
    ((2, 2), 1, True),
  ],
)
def test_conv_of_two_maps_enlarges_concatenates_and_convolves(low, kernel, align_corners):
  rng = np.random.default_rng(0)
  low, skip = (jnp.array(rng.normal(size=(2, *size, 3)), jnp.float32) for size in (low, (8, 6)))
  layer = Conv(5, kernel)
  params = jax.jit(lambda: layer.init(jax.random.key(0), skip, low))()
  joined = lambda params, low, skip: layer.apply(params, skip, low, align_corners=align_corners)
  enlarge = lambda low: (
    upsample(low, (8, 6), align_corners=True)
    if align_corners
    else jax.image.resize(low, (2, 8, 6, 3), "bilinear")
  )
  concatenated = lambda params, low, skip: layer.apply(
    params, jnp.concatenate([enlarge(low), skip], -1)
  )
  weights = jnp.array(rng.normal(size=(2, 8, 6, 5)), jnp.float32)
  results = [
    jax.jit(
      jax.value_and_grad(lambda *inputs, f=f: jnp.sum(weights * jnp.sin(f(*inputs))), (0, 1, 2))
    )(params, low, skip)
    for f in (joined, concatenated)
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results)


def test_conv_scales_filters_down_to_the_largest_norm():
  kernel = np.asarray(normal(3, 3, 2, 4))
  lengths = np.linalg.norm(kernel.reshape(-1, 4), axis=0)
  limit = float(np.sort(lengths)[1:3].mean())
  assert sum(lengths > limit) == 2
  params = {"kernel": kernel, "bias": normal(4)}
  scaled = params | {"kernel": kernel * np.minimum(1, limit / lengths)}
  x = normal(1, 5, 6, 2)
  np.testing.assert_allclose(
    Conv(4, max_norm=limit).apply({"params": params}, x),
    Conv(4).apply({"params": scaled}, x),
    rtol=1e-5,
    atol=1e-5,
  )


def test_conv_keeps_float32_parameters_under_bfloat16_compute():
  layer = Conv(4, dtype=jnp.bfloat16)
  init = jax.jit(lambda: layer.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 2))))
  y, variables = init()
  assert y.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_norm_refuses_unknown_kinds_and_lists_the_known():
  with pytest.raises(ValueError, match="'weight'.*known: none, batch, sync_batch, group, layer"):
    Norm("weight")


def test_norm_names_the_layer_whose_channels_are_no_multiple_of_its_groups():
  layer = Norm("group").make_layer(train=True, name="conv1_norm")
  with pytest.raises(ValueError, match="kind='group' has 32 groups.*conv1_norm has 48 channels"):
    layer(jnp.zeros((1, 2, 2, 48)))


@pytest.mark.parametrize("kernel, stride, groups", [(3, 1, 4), (3, 2, 4), (3, 1, 2), (1, 1, 2)])
def test_conv_convolves_groups_separately(kernel, stride, groups):
  rng = np.random.default_rng(0)
  x, layer = normal(2, 9, 7, 4), Conv(8, kernel, stride, groups=groups)
  params = {
    "kernel": rng.normal(size=(kernel, kernel, 4 // groups, 8)).astype(np.float32),
    "bias": rng.normal(size=8).astype(np.float32),
  }
  parts = zip(
    np.split(x, groups, -1),
    np.split(params["kernel"], groups, -1),
    np.split(params["bias"], groups),
    strict=True,
  )
  expected = np.concatenate([oracle.convolve(*part, stride, 1) for part in parts], -1)
  np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_of_two_maps_groups_their_concatenation(kernel):
  low, skip = normal(1, 4, 3, 4), normal(1, 8, 6, 2)
  layer = Conv(6, kernel, groups=3)
  params = layer.init(jax.random.key(0), skip, low)
  concatenated = jnp.concatenate([resize_bilinear(low, (8, 6)), skip], -1)
  np.testing.assert_allclose(
    layer.apply(params, skip, low), layer.apply(params, concatenated), rtol=1e-5, atol=1e-5
  )
