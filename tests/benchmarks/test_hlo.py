"""Costs of a compiled program's instructions, against XLA's own count of the complete program."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.hlo import CONTROL, Operation, read_operations
from benchmarks.timed_operations import Peak, Timed, make_rows, profile

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
  assert kind == ("convolution" if len(x) == 4 else "matmul")


def test_gradients_count_as_the_convolution():
  # Valid padding, so that each takes as many products as the other.
  x, k, y = (2, 12, 10, 4), (3, 3, 4, 6), (2, 10, 8, 6)
  forward = _convolve(padding="VALID")
  transpose = lambda x, k, y: jax.vjp(forward, x, k)[1](y)
  count = lambda f, *shapes: sum(
    op.flops for op in read_operations(_compile(f, *shapes).as_text()).values()
  )
  assert count(transpose, x, k, y) == 2 * count(forward, x, k)


def test_instructions_read_and_write_each_array_once():
  compiled = _compile(lambda x, y: jnp.tanh(x) * y - x * x, (100, 30), (100, 30))
  (operation,) = (op for op in read_operations(compiled.as_text()).values() if op.bytes)
  assert operation.kind == "element-wise"
  assert operation.bytes == 3 * 100 * 30 * 4
  assert operation.flops == compiled.cost_analysis()["flops"] == 3 * 100 * 30
  assert "f32[100,30]" in operation.description


def test_slices_read_no_more_than_they_return():
  compiled = _compile(lambda x: x[10:20] * 2.0, (1000, 30))
  (operation,) = (op for op in read_operations(compiled.as_text()).values() if op.bytes)
  assert operation.bytes == 2 * 10 * 30 * 4


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
  kinds = {op.kind for op in operations if op.bytes}
  assert kind in kinds and kinds <= {kind, "copy"}


def test_loops_are_counted_as_often_as_they_run():
  compiled = _compile(lambda x: jax.lax.fori_loop(0, 50, lambda i, x: x @ x, x), (128, 128))
  operations = read_operations(compiled.as_text())
  assert any(op.kind == CONTROL and op.bytes == op.flops == 0 for op in operations.values())
  x = jnp.zeros((128, 128))
  jax.block_until_ready(compiled(x))
  profiled = profile(lambda: compiled(x), steps=2)
  assert all(seconds > 0 for seconds, _ in profiled.values())
  everything = make_rows(profiled, operations, count=0)[0]
  flops = [timed.flops for timed in everything.operations if timed.operation.kind == "matmul"]
  assert flops == [50 * 2 * 128**3]


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
  assert operations["gemm"].kind == "matmul"
  assert operations["gemm"].flops == 2 * 8 * 6 * 5


def test_bound_is_the_longer_of_both_times():
  peak = Peak(flops=100.0, bytes=10.0)
  matmul, copy = Operation("matmul", 500, 10, ""), Operation("copy", 0, 30, "")
  assert peak.bound(Timed(matmul, 20.0, times=2)) == 10.0
  assert peak.bound(Timed(copy, 6.0, times=1)) == 3.0
  operations = {"dot": matmul, "copy": copy, "while": Operation(CONTROL, 0, 0, "")}
  profiled = {"copy": (6.0, 1), "dot": (20.0, 2), "while": (26.0, 1), "memset": (4.0, 1)}
  everything, *kinds, longest = make_rows(profiled, operations, count=1)
  assert everything.seconds == 30.0
  assert everything.compare_bound(peak) == pytest.approx(13 / 30)
  assert [row.label for row in kinds] == ["matmul", "copy", "not in the program"]
  assert longest.seconds == 20.0
  share, *_, compute_bound, _ = everything.format(peak, whole=60.0).split()[1:]
  assert (float(share), float(compute_bound)) == (0.5, 0.67)
