"""Batches and windows that are chosen by memory."""

import numpy as np
import pytest

from asmjax.inference.multiscale import make_predict
from asmjax.inference.programs import MemoryLimits, Programs
from asmjax.inference.views import Inference
from asmjax.utils.memory import GIB
from tests.helpers import inference_runs
from tests.helpers import tiny_games as games

DEVICES = 8


def programs(limit, network=inference_runs.Local, batch_size=4 * DEVICES):
  limits = MemoryLimits(program=limit, arrays=1e9)
  return Programs(inference_runs.trained(network), games.TASKS, limits, batch_size)


def test_programs_choose_batches_and_windows_that_fit():
  """The network takes less than 100 bytes a pixel, as the compiler says."""
  many, few = programs(1e9), programs(100.0 * 64 * 64)
  assert many.max_batch((64, 64)) == 4 * DEVICES
  assert DEVICES <= few.max_batch((64, 64)) < 3 * DEVICES
  assert few.max_batch((640, 640)) == 0
  side = few.choose_window()
  assert side % 32 == 0 and few.max_batch((side, side)) >= DEVICES > few.max_batch((160, 160))
  assert programs(100.0).choose_window() == 0


def test_programs_compile_no_full_batch_for_a_lone_image():
  each = programs(1e9)
  assert each.padded((16, 24), 1) == DEVICES
  assert each.padded((16, 24), 2 * DEVICES + 1) == 4 * DEVICES
  each.run(np.zeros((2 * DEVICES, 16, 24, 3), np.uint8))
  assert each.padded((16, 24), 1) == 2 * DEVICES and each.padded((16, 32), 1) == DEVICES


def test_memory_limits_follow_the_setting():
  one, two = MemoryLimits.measure(1.0), MemoryLimits.measure(2.0)
  assert two.program == 2 * one.program < GIB and two.arrays == 2 * one.arrays < 2 * GIB
  free = MemoryLimits.measure()
  assert 0 < free.program < free.arrays


def test_make_predict_cuts_what_is_too_large_for_memory():
  """The windows are those that the side in pixels would give."""
  trained, image = inference_runs.trained(), inference_runs.image(100, 150)
  small, cut = Inference(memory=0.02), []  # Room for 600 kB on each of the simulated devices.
  predict = make_predict(trained, small, on_cut=lambda *each: cut.append(each))
  ((_, actual),) = predict([("a", image)])
  ((key, side),) = cut
  assert key == "a" and side % 32 == 0 and side < 150
  ((_, expected),) = make_predict(trained, Inference(window=side))([("a", image)])
  for name in games.TASKS:
    np.testing.assert_allclose(actual[name], expected[name], atol=1e-6)
  with pytest.raises(ValueError, match=f"100x150 pixels .* expected smaller .* windows, of {side}"):
    list(make_predict(trained, small)([("a", image)]))


def test_make_predict_goes_on_after_an_image_that_does_not_fit():
  sizes, faults = [(12, 20), (400, 400), (16, 24)], []
  images = [inference_runs.image(*size) for size in sizes]
  predict = make_predict(
    inference_runs.trained(), Inference(memory=0.01), on_fault=lambda *each: faults.append(each)
  )
  predicted = dict(predict(enumerate(images)))
  assert sorted(predicted) == [0, 2]
  ((key, error),) = faults
  assert key == 1 and isinstance(error, MemoryError) and "400x400 pixels" in str(error)
  ((_, alone),) = make_predict(inference_runs.trained())([(2, images[2])])
  for name in games.TASKS:
    np.testing.assert_allclose(predicted[2][name], alone[name], atol=1e-6)


def test_make_predict_computes_the_others_of_a_batch_that_fails(monkeypatch):
  run, asked = Programs.run, []

  def fail_in_company(self, inputs):
    asked.append(int((inputs != inference_runs.FILL).any((1, 2, 3)).sum()))
    if asked[-1] > 1 or inputs[0, 0, 0, 0] == 7:
      raise MemoryError("too much")
    return run(self, inputs)

  monkeypatch.setattr(Programs, "run", fail_in_company)
  images, faults = [np.full((8, 8, 3), value, np.uint8) for value in (5, 6, 7)], []
  predict = make_predict(
    inference_runs.trained(), Inference(), on_fault=lambda *each: faults.append(each)
  )
  assert sorted(dict(predict(enumerate(images)))) == [0, 1] and asked == [3, 1, 1, 1]
  assert [(key, str(error)) for key, error in faults] == [(2, "too much")]
