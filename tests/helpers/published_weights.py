"""What tests of published weights have in common: variables, files for a map, the real files."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.pretrained import name_map
from asmjax.pretrained.load import PYTORCH
from asmjax.pretrained.maps import find_name_map
from asmjax.pretrained.names import leaves_by_path


def fresh(network, size=32):
  """Variables of zeros, which nothing in a file is."""
  x = jnp.zeros((1, size, size, 3))
  shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), x, train=False))
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def torch_shape(shape):
  """Shape that PyTorch has for one of our arrays: channels come first in its kernels."""
  return (*shape[:-3:-1], *shape[:-2]) if len(shape) in (2, 4) else shape


def stored(network, prefix=""):
  """A file's arrays for a network, of PyTorch's shapes; all of them are ones."""
  variables = leaves_by_path(fresh(network))
  arrays = {}
  for path, source in find_name_map(network, PYTORCH, ()).items():
    shape = torch_shape(variables[path].shape)
    arrays |= {prefix + name: np.ones(shape, np.float32) for name in source.names}
  return arrays


def drawn(network, naming):
  """A file's arrays for a network, drawn so that values keep their scale, with a fixed seed."""
  variables, rng, arrays = leaves_by_path(fresh(network, 64)), np.random.default_rng(0), {}
  entries = name_map(network, naming).items()
  by_name = {name: path for path, source in entries for name in source.names}
  for name, path in sorted(by_name.items()):
    shape = torch_shape(variables[path].shape)
    noise = rng.normal(size=shape)
    if path.endswith("kernel"):
      value = noise * np.sqrt(2 / np.prod(shape[1:]))
    else:
      value = (0 if path.endswith(("bias", "mean")) else 1) + np.clip(noise, -2, 2) / 5
    arrays[name] = value.astype(np.float32)
  return arrays


def real(name, variable="ASMJAX_WEIGHTS"):
  """A file of real weights, or a folder of real data."""
  path = pathlib.Path(os.environ.get(variable, "/nonexistent")) / name
  if not list(path.parent.glob(f"{path.name}*")):
    pytest.skip(f"{variable} names no folder with {name}")
  return path
