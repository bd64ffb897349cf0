"""Farabet et al.'s network: its pyramid, its normalization, and all of it in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.input_transform import normalize_locally
from asmjax.models.predictors import Farabet
from asmjax.models.predictors.farabet import laplacian_pyramid
from asmjax.ops import resize_bilinear
from tests.helpers import tiny_backbones as backbones
from tests.oracles import arrays as reference

SMALL = {"widths": (8, 6, 5), "fan_in": (3, 2), "hidden": 7}


def test_laplacian_pyramid_adds_up_to_the_image():
  sizes = [(33, 48), (5, 1)]
  images = [backbones.image(*size) for size in sizes]
  pyramids = jax.jit(lambda: [laplacian_pyramid(x, 3) for x in images])()
  for x, levels in zip(images, pyramids, strict=True):
    assert [level.shape[1:3] for level in levels] == [
      tuple(-(-side // every) for side in x.shape[1:3]) for every in (1, 2, 4)
    ]
    total = levels[-1]
    for level in reversed(levels[:-1]):
      total = resize_bilinear(total, level.shape[1:3]) + level
    np.testing.assert_allclose(total, x, rtol=1e-5, atol=1e-5)


def test_laplacian_pyramid_has_the_mean_in_the_last_level_alone():
  x = jnp.full((1, 12, 20, 2), 3.0)
  *fine, coarse = jax.jit(lambda: laplacian_pyramid(x, 3))()
  np.testing.assert_allclose(coarse, 3, rtol=1e-6)
  for level in fine:
    np.testing.assert_allclose(level, 0, atol=1e-6)


def normalized(x, window):
  """Pixel by pixel."""

  def mean(x):
    out, reach = np.zeros_like(x), window // 2
    for i, j in np.ndindex(x.shape[1:3]):
      rows, columns = (slice(max(k - reach, 0), k + reach + 1) for k in (i, j))
      out[:, i, j] = x[:, rows, columns].mean((1, 2))
    return out

  x = x - mean(x)
  deviation = np.sqrt(mean(x**2) + 1e-8)
  return x / np.maximum(deviation, deviation.mean((1, 2), keepdims=True))


@pytest.mark.parametrize("size, window", [((19, 22), 15), ((9, 4), 15), ((10, 12), 3)])
def test_normalize_locally_agrees_with_the_oracle(size, window):
  x = np.asarray(backbones.image(*size), np.float64).repeat(2, 0)
  x[1] *= np.linspace(0.1, 5, size[1])[:, None]
  result = jax.jit(lambda x: normalize_locally(x, window))(jnp.array(x, jnp.float32))
  np.testing.assert_allclose(result, normalized(x, window), rtol=1e-3, atol=1e-4)


def test_normalize_locally_keeps_a_flat_image_flat():
  np.testing.assert_allclose(normalize_locally(jnp.full((1, 20, 20, 1), 7.0)), 0, atol=0.02)


def compiled(net, x):
  """Random parameters, the maps, and the slopes of a loss along the convolutions' kernels."""
  params = backbones.initial(net, x)["params"]

  def loss(params):
    maps = net.apply({"params": params}, x, train=False)
    return (maps["a"] ** 2).sum(), maps

  slopes, maps = jax.jit(jax.grad(loss, has_aux=True))(params)
  kernels = {name: np.asarray(slopes[name]["kernel"]) for name in ("conv1", "conv2", "conv3")}
  return jax.tree.map(np.asarray, params), maps, kernels


def test_farabet_filters_take_as_many_maps_as_published():
  """Luminance or both chroma channels, then 8 of 16 and 32 of 64 maps (Sec. 5)."""
  *_, slopes = compiled(Farabet({"a": 2}, scales=1, hidden=8), backbones.image(32, 36))
  sees = []
  for slope in slopes.values():
    # All taps of a connection learn, or none.
    np.testing.assert_array_equal((slope != 0).any((0, 1)), (slope != 0).all((0, 1)))
    sees.append((slope != 0).any((0, 1)))
  assert [slope.shape for slope in sees] == [(3, 16), (16, 64), (64, 256)]
  np.testing.assert_array_equal(sees[0][:, :10], np.array([[1], [0], [0]]).repeat(10, 1))
  np.testing.assert_array_equal(sees[0][:, 10:], np.array([[0], [1], [1]]).repeat(6, 1))
  for slope, count in zip(sees[1:], (8, 32), strict=True):
    assert (slope.sum(0) == count).all() and slope.any(1).all()
    assert len(np.unique(slope, axis=1).T) > slope.shape[1] // 2


def test_farabet_is_its_definition():
  """One set of weights for all levels; masked weights have no effect."""
  x = backbones.image(23, 18)
  net = Farabet({"a": 2, "b": 1}, **SMALL)
  params, outputs, slopes = compiled(net, x)
  assert set(params) == {"conv1", "conv2", "conv3", "hidden", "head_a", "head_b"}
  masks = {name: level != 0 for name, level in slopes.items()}

  def conv(name, x):
    kernel, bias = (params[name][key] for key in ("kernel", "bias"))
    return reference.convolve(x, kernel * masks.get(name, 1), bias, 1, 1)

  def pool(x):
    h, w = (-(-side // 2) for side in x.shape[1:3])
    cells = [
      [x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2)) for j in range(w)] for i in range(h)
    ]
    return np.stack([np.stack(row, 1) for row in cells], 1)

  red, green, blue = np.moveaxis(np.asarray(x, np.float64), -1, 0)
  luminance = 0.299 * red + 0.587 * green + 0.114 * blue
  yuv = np.stack([luminance, 0.492 * (blue - luminance), 0.877 * (red - luminance)], -1)
  maps = []
  for level in laplacian_pyramid(jnp.array(yuv, jnp.float32), 3):
    y = np.tanh(conv("conv1", normalized(np.asarray(level, np.float64), 15)))
    y = np.tanh(conv("conv2", pool(y)))
    maps.append(np.tanh(conv("conv3", pool(y))))
  y = np.concatenate([resize_bilinear(level, (6, 5)) for level in maps], -1)
  y = np.tanh(conv("hidden", y))
  for task in ("a", "b"):
    expected = conv(f"head_{task}", y)
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(outputs[task], expected, rtol=0.01, atol=0.01 * np.std(expected))
