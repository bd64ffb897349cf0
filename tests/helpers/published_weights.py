"""What tests of published weights have in common: variables, files for a map, the real files."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.pretrained import name_map
from asmjax.pretrained.names import leaves_by_path


def fresh(network, size=32):
  """Variables of zeros, which nothing in a file is."""
  x = jnp.zeros((1, size, size, 3))
  shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), x, train=False))
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def stored(network, prefix=""):
  """A file's arrays for a network; all of them are ones, of torchvision's shapes."""
  variables = leaves_by_path(fresh(network))
  arrays = {}
  for path, source in name_map(network, "torchvision").items():
    shape = variables[path].shape
    shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
    arrays |= {prefix + name: np.ones(shape, np.float32) for name in source.names}
  return arrays


def real(name, variable="ASMJAX_WEIGHTS"):
  """A file of real weights, or a folder of real data."""
  path = pathlib.Path(os.environ.get(variable, "/nonexistent")) / name
  if not list(path.parent.glob(f"{path.name}*")):
    pytest.skip(f"{variable} names no folder with {name}")
  return path
