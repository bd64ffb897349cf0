"""What tests of published weights have in common: variables, files for a map, the real files."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def fresh(network, size=32):
  """Variables of zeros, which nothing in a file is."""
  x = jnp.zeros((1, size, size, 3))
  shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), x, train=False))
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def evaluated(network, variables, x):
  """The features of stride 32, or the outputs, for an image."""
  found = jax.jit(lambda x: network.apply(variables, x, train=False))(x)
  return np.asarray(found[32] if 32 in found else found["segmentation"])


def real(name):
  """A file of real weights."""
  folder = os.environ.get("ASMJAX_WEIGHTS")
  if not folder:
    pytest.skip("ASMJAX_WEIGHTS names no folder of real weights")
  return pathlib.Path(folder) / name
