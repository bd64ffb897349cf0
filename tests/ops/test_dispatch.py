"""The one table and the one switch of what is faster on CPUs."""

import pathlib

import jax.numpy as jnp
import pytest

import asmjax
from asmjax.ops import use_cpu_kernels
from asmjax.ops.cpu import depthwise, im2col, matmul, tap_sum
from asmjax.ops.dispatch import find_cpu_kernel
from asmjax.ops.windows import ConvOptions, same_padding


@pytest.mark.parametrize(
  "x, kernel, options, expected",
  [
    ((1, 32, 32, 4), (1, 1, 4, 5), {}, matmul.conv2d),
    ((1, 32, 32, 4), (3, 3, 1, 4), {"groups": 4}, depthwise.conv2d),
    ((1, 32, 32, 4), (3, 3, 4, 5), {"dilation": 12}, tap_sum.conv2d),
    ((1, 2, 2, 4), (3, 3, 4, 5), {}, im2col.conv2d),
    ((1, 32, 32, 4), (3, 3, 4, 5), {}, None),
    ((1, 32, 32, 4), (3, 3, 2, 6), {"groups": 2}, None),
  ],
)
def test_find_cpu_kernel_takes_the_first_that_applies(x, kernel, options, expected):
  padding = same_padding(kernel, options.get("dilation", 1))
  arguments = jnp.zeros(x), jnp.zeros(kernel), ConvOptions(padding, **options)
  assert find_cpu_kernel("conv2d", *arguments) is expected
  with use_cpu_kernels(False):
    assert find_cpu_kernel("conv2d", *arguments) is None
    with use_cpu_kernels(True):
      assert find_cpu_kernel("conv2d", *arguments) is expected
  assert find_cpu_kernel("conv2d", *arguments) is expected


def test_find_cpu_kernel_is_called_by_no_network():
  files = list((pathlib.Path(asmjax.__file__).parent / "models").rglob("*.py"))
  texts = {path.name: path.read_text() for path in files}
  assert len(texts) > 15
  for name, text in texts.items():
    assert "ops.cpu" not in text and "backend()" not in text, name
