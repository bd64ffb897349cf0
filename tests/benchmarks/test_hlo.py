"""Costs of a compiled program's instructions, against XLA's own count of the complete program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import hlo, roofline
from benchmarks.hlo import Operation, read_operations

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _compile(function, *shapes):
  return jax.jit(function).lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)).compile()


def _convolve(**settings):
  return lambda x, k: jax.lax.conv_general_dilated(
    x, k, **{"window_strides": (1, 1), "padding": "SAME", **settings}, dimension_numbers=_DIMENSIONS
  )


@pytest.mark.parametrize(
  "function, x, kernel",
  [
    (_convolve(), (2, 9, 7, 4), (3, 3, 4, 6)),
    (_convolve(window_strides=(2, 3)), (2, 9, 7, 4), (3, 2, 4, 6)),
    (_convolve(rhs_dilation=(2, 2)), (2, 9, 9, 4), (3, 3, 4, 6)),
    (_convolve(lhs_dilation=(2, 2), padding=((1, 2), (2, 1))), (2, 5, 6, 4), (3, 3, 4, 6)),
    (_convolve(feature_group_count=4), (2, 9, 7, 4), (3, 3, 1, 8)),
    (lambda x, y: x @ y, (5, 7), (7, 3)),
    (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), (2, 5, 7), (2, 7, 3)),
  ],
)
def test_products_count_as_many_operations_as_xla_does(function, x, kernel):
  compiled = _compile(function, x, kernel)
  operations = read_operations(compiled.as_text()).values()
  assert sum(op.flops for op in operations) == compiled.cost_analysis()["flops"] > 0
  (kind,) = {op.kind for op in operations if op.flops}
  assert kind == ("convolution" if len(x) == 4 else "product")


def test_gradients_count_twice_the_convolution():
  # Valid padding, so that each of the three takes as many products as the other two.
  shapes = (2, 12, 10, 4), (3, 3, 4, 6)
  forward = _convolve(padding="VALID")
  gradients = jax.grad(lambda x, k: (forward(x, k) ** 2).sum(), (0, 1))
  count = lambda f: sum(op.flops for op in read_operations(_compile(f, *shapes).as_text()).values())
  assert count(gradients) == 3 * count(forward)


def test_instructions_read_and_write_each_array_once():
  compiled = _compile(lambda x, y: jnp.tanh(x) * y, (100, 30), (100, 30))
  (operation,) = (op for op in read_operations(compiled.as_text()).values() if op.bytes)
  assert operation.kind == "element-wise"
  assert operation.bytes == 3 * 100 * 30 * 4
  assert "f32[100,30]" in operation.description


@pytest.mark.parametrize(
  "function, kind",
  [
    (lambda x: x.T, "copy"),
    (lambda x: x.sum(axis=0), "reduction"),
    (lambda x: jnp.sort(x), "gather, scatter, sort"),
  ],
)
def test_kinds_of_instructions(function, kind):
  operations = read_operations(_compile(function, (64, 48)).as_text()).values()
  assert kind in {op.kind for op in operations if op.bytes}


def test_loops_are_counted_by_what_they_run():
  body = lambda i, x: x @ x
  compiled = _compile(lambda x: jax.lax.fori_loop(0, 5, body, x), (8, 8))
  operations = read_operations(compiled.as_text())
  assert sum(op.flops for op in operations.values()) == 2 * 8**3
  (loop,) = (op for op in operations.values() if op.kind == hlo.CONTROL)
  assert loop.bytes == loop.flops == 0


_GPU_PROGRAM = """HloModule jit_step

ENTRY %main.9 (image: f32[2,9,9,4]) -> f32[3,3,4,6] {
  %image = f32[2,9,9,4]{3,2,1,0} parameter(0)
  %kernel = f32[3,3,4,6]{3,2,1,0} parameter(1)
  %signal = f32[2,9,9,6]{3,2,1,0} parameter(2)
  %a = f32[5,8]{1,0} parameter(3)
  %b = f32[5,6]{1,0} parameter(4)
  %forward = (f32[2,9,9,6]{3,2,1,0}, u8[0]{0}) custom-call(%image, %kernel), WINDOWForward"
  %input = (f32[2,9,9,4]{3,2,1,0}, u8[0]{0}) custom-call(%signal, %kernel), WINDOWBackwardInput"
  %filter = (f32[3,3,4,6]{3,2,1,0}, u8[9]{0}) custom-call(%image, %signal), WINDOWBackwardFilter"
  %gemm = (f32[8,6]{1,0}, s8[16]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", DIMS
}
"""
_WINDOW = "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f"
_DIMS = '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["0"]}}'


def test_calls_of_gpu_libraries_count_the_forward_convolution():
  program = _GPU_PROGRAM.replace("WINDOW", f'{_WINDOW}, custom_call_target="__cudnn$conv')
  program = program.replace("DIMS", f'backend_config={{"gemm_backend_config":{_DIMS}}}')
  operations = read_operations(program)
  convolution = _compile(_convolve(), (2, 9, 9, 4), (3, 3, 4, 6)).cost_analysis()["flops"]
  for name in ("forward", "input", "filter"):
    assert operations[name].kind == "convolution"
    assert operations[name].flops == convolution
  assert operations["gemm"].kind == "product"
  assert operations["gemm"].flops == 2 * 8 * 6 * 5


def test_roof_is_the_longer_of_both_times():
  peak = roofline.Peak(flops=100.0, bytes=10.0)
  compute, memory = Operation("product", 1000, 20, ""), Operation("copy", 0, 30, "")
  assert (peak.roof(compute), peak.roof(memory)) == (10.0, 3.0)
  loop = Operation(hlo.CONTROL, 0, 0, "")
  operations = {"dot": compute, "copy": memory, "while": loop}
  seconds = {"copy": 6.0, "dot": 20.0, "while": 26.0, "memset": 4.0}
  everything, *kinds, longest = roofline.make_rows(seconds, operations, count=1)
  assert everything.seconds == 30.0
  assert everything.measure_roof(peak) == pytest.approx(13 / 30)
  assert [row.label for row in kinds] == ["product", "copy", "not in the program"]
  assert longest.seconds == 20.0
  share, *_, compute_bound, _ = everything.format(peak, whole=60.0).split()[1:]
  assert (float(share), float(compute_bound)) == (0.5, 0.67)


def test_profile_gives_a_time_to_the_operations_of_the_program():
  compiled = _compile(lambda x: jnp.tanh(x @ x), (256, 256))
  x = jnp.asarray(np.eye(256, dtype=np.float32))
  jax.block_until_ready(compiled(x))
  seconds = roofline.profile(lambda: compiled(x), steps=3)
  operations = read_operations(compiled.as_text())
  assert seconds.keys() <= operations.keys()
  assert any(operations[name].flops == 2 * 256**3 and s > 0 for name, s in seconds.items())
