"""Parameters of layers, against Flax's own modules."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.ops import Layer


def make(base, init):
  class Product(base):
    features: int = 3

    @nn.compact
    def __call__(self, x):
      return x @ self.param("kernel", init, (x.shape[-1], self.features), jnp.float32)

  return Product()


def test_layer_draws_and_takes_the_parameters_that_a_flax_module_does():
  init, x = nn.initializers.normal(), jnp.ones((4, 2))
  layer, module = (make(base, init) for base in (Layer, nn.Module))
  variables = module.init(jax.random.key(0), x)
  jax.tree.map(np.testing.assert_array_equal, layer.init(jax.random.key(0), x), variables)
  np.testing.assert_array_equal(layer.apply(variables, x), module.apply(variables, x))


def test_layer_traces_an_initializer_only_to_draw():
  calls = []

  def init(key, shape, dtype):
    calls.append(shape)
    return jnp.zeros(shape, dtype)

  layer, x = make(Layer, init), jnp.ones((4, 2))
  variables = layer.init(jax.random.key(0), x)
  layer.apply(variables, x)
  jax.grad(lambda v: layer.apply(v, x).sum())(variables)
  assert calls == [(2, 3)]


def test_layer_refuses_a_parameter_of_another_shape_or_none_as_flax_does():
  layer, x = make(Layer, nn.initializers.zeros), jnp.ones((4, 2))
  with pytest.raises(flax.errors.ScopeParamShapeError, match=r"kernel.*\(2, 3\).*\(2, 5\)"):
    layer.apply({"params": {"kernel": jnp.ones((2, 5))}}, x)
  with pytest.raises(flax.errors.ScopeCollectionNotFound):
    layer.apply({}, x)
