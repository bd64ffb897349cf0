"""MobileNet against the published counts; depthwise convolution against one map at a time."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones.mobilenet import V1_BLOCKS, MobileNetV1
from asmjax.models.critics.mobilenet import MobileNetCritic
from asmjax.models.layers import Conv, Norm
from asmjax.resize import bilinear
from tests import reference

TINY = MobileNetCritic((40, 33), dropout=0.5, width=0.125)


def structure(*shape):
  return jnp.array(np.random.default_rng(0).normal(size=shape), jnp.float32)


def initial(net, x):
  """Variables as `init` would make them, without compiling it for a network this deep."""
  rng = np.random.default_rng(1)

  def value(path, leaf):
    if path[-1].key == "kernel":
      kernel = rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:3]))
      return jnp.array(kernel, leaf.dtype)
    return jnp.full(leaf.shape, 1.0 if path[-1].key in ("scale", "var") else 0.0)

  return jax.tree_util.tree_map_with_path(
    value, jax.eval_shape(lambda: net.init(jax.random.key(0), x, train=False))
  )


def products(net, *shape):
  """Multiply-adds of all convolutions and matrix products of `net`."""
  x = jnp.zeros(shape)
  variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x, train=False))
  traced = jax.make_jaxpr(lambda v, x: net.apply(v, x, train=False))(variables, x)
  count = 0
  for equation in traced.eqns:
    kernel = equation.invars[1].aval.shape if len(equation.invars) > 1 else ()
    if equation.primitive.name == "conv_general_dilated":
      count += equation.outvars[0].aval.size * math.prod(kernel[:-1])
    elif equation.primitive.name == "dot_general":
      count += equation.outvars[0].aval.size * kernel[0]
  return count


def test_parameters_and_statistics_are_as_published():
  variables = jax.eval_shape(
    lambda: MobileNetV1().init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
  )
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  assert count(variables["params"]) == 3_206_976
  assert count(variables["batch_stats"]) == 21_888
  assert f"{(count(variables['params']) + 1001 * 1000) / 1e6:.1f}" == "4.2"


@pytest.mark.parametrize("width, millions", [(1.0, 569), (0.75, 325), (0.5, 149), (0.25, 41)])
def test_multiply_adds_at_224_pixels_are_those_of_the_papers_table_6(width, millions):
  count = products(MobileNetV1(width), 1, 224, 224, 3) + int(1024 * width) * 1000
  assert round(count / 1e6) == millions


@pytest.mark.parametrize("size", [(64, 96), (33, 1)])
def test_features_are_a_32nd_of_the_size_rounded_up(size):
  features, _ = jax.eval_shape(lambda: MobileNetV1(0.25).init_with_output(
    jax.random.key(0), jnp.zeros((2, *size, 3)), train=False
  ))
  assert features.shape == (2, *(-(-side // 32) for side in size), V1_BLOCKS[-1][0] // 4)


@pytest.mark.parametrize("kernel, stride, groups", [(3, 1, 4), (3, 2, 4), (3, 1, 2), (1, 1, 2)])
def test_groups_are_convolved_on_their_own(kernel, stride, groups):
  rng = np.random.default_rng(0)
  x, layer = structure(2, 9, 7, 4), Conv(8, kernel, stride, groups=groups)
  params = {
    "kernel": rng.normal(size=(kernel, kernel, 4 // groups, 8)).astype(np.float32),
    "bias": rng.normal(size=8).astype(np.float32),
  }
  parts = zip(
    np.split(x, groups, -1), np.split(params["kernel"], groups, -1),
    np.split(params["bias"], groups), strict=True,
  )
  expected = np.concatenate([reference.convolve(*part, stride, 1) for part in parts], -1)
  np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
def test_groups_of_a_joined_map_are_those_of_the_concatenation(kernel):
  low, skip = structure(1, 4, 3, 4), structure(1, 8, 6, 2)
  layer = Conv(6, kernel, groups=3)
  params = layer.init(jax.random.key(0), skip, low)
  concatenated = jnp.concatenate([bilinear(low, (8, 6)), skip], -1)
  np.testing.assert_allclose(
    layer.apply(params, skip, low), layer.apply(params, concatenated), rtol=1e-5, atol=1e-5
  )


def test_the_critic_judges_the_structure_at_its_own_size():
  x = structure(2, 19, 24, 6)
  variables = initial(TINY, x)
  judge = jax.jit(lambda x: TINY.apply(variables, x, train=False))
  logits = judge(x)
  assert logits.shape == (2, 1, 1, 1) and logits[0] != logits[1]
  np.testing.assert_allclose(judge(bilinear(x, TINY.size)), logits, rtol=1e-5, atol=1e-7)


def test_dropout_is_random_in_training_only_and_gradients_reach_everything():
  net, x = TINY.clone(norm=Norm("none")), structure(2, 19, 24, 6)
  params = initial(net, x)["params"]

  @jax.jit
  def graded(params, x, key):
    def total(params, x):
      logits = net.apply({"params": params}, x, train=True, rngs={"dropout": key})
      return jnp.sum(jnp.sin(logits)), logits
    return jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)

  runs = [graded(params, x, jax.random.key(seed)) for seed in (0, 0, 1)]
  first, again, other = (np.ravel(logits) for (_, logits), _ in runs)
  assert np.array_equal(first, again) and np.all(first != other)
  _, grads = runs[0]
  assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in jax.tree.leaves(grads))
