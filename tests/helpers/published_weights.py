"""What tests of published weights have in common: variables, files for a map, the real files."""

import os
import pathlib

import jax
import jax.numpy as jnp
import pytest


def fresh(network, size=32):
  """Variables of zeros, which nothing in a file is."""
  x = jnp.zeros((1, size, size, 3))
  shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), x, train=False))
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def real(name, variable="ASMJAX_WEIGHTS"):
  """A file of real weights, or a folder of real data."""
  path = pathlib.Path(os.environ.get(variable, "/nonexistent")) / name
  if not list(path.parent.glob(f"{path.name}*")):
    pytest.skip(f"{variable} names no folder with {name}")
  return path
