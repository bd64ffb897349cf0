"""What tests of backbones have in common: counting, random variables, and what all must do."""

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.models.backbones import VGG
from asmjax.models.layers import Norm
from asmjax.ops import use_cpu_kernels


class Thinned(VGG):
  """Has pixels of the image for features, so that what sees them can be tested alone.

  Attributes:
    finest: the stride whose features are all pixels; those of twice the stride are every second
      one, and so on up to the output stride.
  """

  finest: int = 4

  def __call__(self, x, *, train):
    del train
    every = {s: max(min(s, self.output_stride) // self.finest, 1) for s in (2, 4, 8, 16, 32)}
    return {stride: x[:, ::step, ::step] for stride, step in every.items()}


def image(*size):
  return jnp.array(np.random.default_rng(0).normal(size=(1, *size, 3)), jnp.float32)


def initial(net, x):
  """Variables of a network; see `initial_layer`."""
  return initial_layer(net, x, train=False)


def initial_layer(module, x, **options):
  """Variables that keep the scale, without compiling the initialization of a deep module."""
  rng = np.random.default_rng(1)

  def value(path, leaf):
    noise = rng.normal(size=leaf.shape)
    if path[-1].key == "kernel":
      return jnp.array(noise * np.sqrt(2 / np.prod(leaf.shape[:3])), leaf.dtype)
    return jnp.array(noise / 10 + (path[-1].key in ("scale", "var")), leaf.dtype)

  return jax.tree_util.tree_map_with_path(
    value, jax.eval_shape(lambda: module.init(jax.random.key(0), x, **options))
  )


def start(net, *size):
  """Features of a black image and random variables."""
  return net.init_with_output(jax.random.key(0), jnp.zeros((1, *size, 3)), train=False)


def shapes(net, *size):
  """Features of an image and variables, as shapes."""
  return jax.eval_shape(lambda: start(net, *size))


def count(tree):
  """Numbers in a tree."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def costs(net, *size):
  """Multiply-adds of all convolutions and matrix products for an image, and values they make."""
  with use_cpu_kernels(False):
    traced = jax.make_jaxpr(lambda: start(net, *size))()
  products = values = 0
  for equation in traced.eqns:
    if equation.primitive.name in ("conv_general_dilated", "dot_general"):
      kernel, size_out = equation.invars[1].aval, equation.outvars[0].aval.size
      products, values = products + size_out * kernel.size // kernel.shape[-1], values + size_out
  return products, values


def assert_rounded_up(make, *size):
  """Features have 1/stride of the size, rounded up, whichever strides are given up."""
  for output in (8, 16, 32):
    features, _ = shapes(make(output_stride=output), *size)
    assert list(features) == [2, 4, 8, 16, 32]
    for stride, x in features.items():
      assert x.shape[1:3] == tuple(-(-side // min(stride, output)) for side in size)


def assert_denser(make, x):
  """Dilation in place of strides finds the same features at the places that strides keep."""
  nets = {s: make(output_stride=s, norm=Norm("none")) for s in (8, 16, 32)}
  variables = initial(nets[32], x)
  run = jax.jit(lambda: {s: net.apply(variables, x, train=False) for s, net in nets.items()})
  features = run()
  for stride, coarse in features[32].items():
    assert np.std(coarse) > 0.01
    for output in (8, 16):
      every = max(stride // output, 1)
      np.testing.assert_allclose(
        features[output][stride][:, ::every, ::every], coarse, rtol=1e-4, atol=1e-4 * np.std(coarse)
      )


def assert_recomputed(make, x):
  """With `remat` there is more to compute, for the same features, gradients and statistics."""
  variables = initial(make(), x)

  def graded(net):
    def total(params):
      features, updates = net.apply(
        {**variables, "params": params},
        x,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0)},
      )
      return sum(jnp.mean(jnp.sin(x)) for x in features.values()), updates

    return jax.value_and_grad(total, has_aux=True)

  stored, recomputed = (graded(make(remat=remat)) for remat in (False, True))
  with use_cpu_kernels(False):
    traces = [str(jax.make_jaxpr(step)(variables["params"])) for step in (stored, recomputed)]
  fewer, more = (trace.count("conv_general_dilated[") for trace in traces)
  assert more > fewer
  results = (jax.jit(step)(variables["params"]) for step in (stored, recomputed))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *results)


def assert_statistics_follow_training(make, x):
  """Training changes all running statistics; evaluation and frozen normalization change none."""
  variables = initial(make(norm=Norm()), x)
  runs = ((Norm(), True), (Norm(), False), (Norm(frozen=True), True))
  (_, trained), (features, evaluated_updates), (frozen, frozen_updates) = jax.jit(
    lambda: [
      make(norm=norm).apply(variables, x, train=train, mutable=["batch_stats"])
      for norm, train in runs
    ]
  )()
  before = variables["batch_stats"]
  assert all(
    jax.tree.leaves(
      jax.tree.map(lambda a, b: not np.allclose(a, b), before, trained["batch_stats"])
    )
  )
  for after in (evaluated_updates, frozen_updates):
    jax.tree.map(np.testing.assert_array_equal, before, after["batch_stats"])
  jax.tree.map(np.testing.assert_array_equal, features, frozen)
