"""What a run leaves behind."""

import contextlib
import json
import struct
import sys
from unittest import mock

import numpy as np
import pytest

from asmjax.train.logger import (
  FileLogger,
  Logger,
  Loggers,
  SkippedExamples,
  TensorBoardLogger,
  TerminalLogger,
  Throughput,
  open_run_loggers,
)
from asmjax.train.trackers import MlflowLogger, WandbLogger
from asmjax.utils.files import read_jsonl


def test_skipped_examples_lists_every_fault_once_over_all_parts_of_a_run(tmp_path, capsys):
  path = tmp_path / "run" / "skipped.0.jsonl"
  skips = SkippedExamples(path)
  assert not path.exists()
  for fault in ("a.png is cut", "b.png is cut", "a.png is cut"):
    skips.add(fault)
  resumed = SkippedExamples(path)
  resumed.add("b.png is cut")
  resumed.add("c.png is cut")
  listed = [json.loads(line) for line in path.read_text().splitlines()]
  assert listed == ["a.png is cut", "b.png is cut", "c.png is cut"]
  assert capsys.readouterr().err.count("skipped:") == 3


def open_logger(workdir, start=0):
  return contextlib.closing(open_run_loggers(workdir, start=start, steps=20))


def warnings(workdir):
  return read_jsonl(workdir / "warnings.jsonl")


def metrics(workdir):
  return read_jsonl(workdir / "metrics.jsonl")


def test_open_run_loggers_prints_and_keeps_warnings(tmp_path, capsys):
  with open_logger(tmp_path) as logger:
    logger.log_metrics(5, {"a/b": 1.0}, {})
    assert not (tmp_path / "warnings.jsonl").exists()
    logger.log_warnings(5, ["a: it is ill; give it tea"])
    logger.log_warnings(10, ["a: it is worse"])
  assert warnings(tmp_path) == [
    {"step": 5, "warning": "a: it is ill; give it tea"},
    {"step": 10, "warning": "a: it is worse"},
  ]
  err = capsys.readouterr().err.splitlines()
  assert err == ["step 5: a: it is ill; give it tea", "step 10: a: it is worse"]


def test_open_run_loggers_drops_what_a_killed_run_logged_after_its_checkpoint(tmp_path):
  with open_logger(tmp_path) as logger:
    for step in (5, 10, 15):
      logger.log_metrics(step, {"a/b": 1.0 / step}, {})
      logger.log_warnings(step, [f"warned at {step}"])
  with (tmp_path / "warnings.jsonl").open("a") as file:
    file.write('{"step": 16, "warn')  # Killed while it wrote.
  with open_logger(tmp_path, start=10) as logger:
    assert [each["step"] for each in warnings(tmp_path)] == [5, 10]
    assert metrics(tmp_path) == [{"step": 5, "a/b": 0.2}, {"step": 10, "a/b": 0.1}]
    logger.log_warnings(15, ["warned again"])
  assert [each["warning"] for each in warnings(tmp_path)][2:] == ["warned again"]
  with open_logger(tmp_path):
    assert metrics(tmp_path) == [] and warnings(tmp_path) == []


def test_open_run_loggers_writes_no_file_of_warnings_without_any(tmp_path):
  for start in (0, 5):
    with open_logger(tmp_path, start) as logger:
      logger.log_metrics(start + 5, {"a/b": 1.0}, {})
  assert (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "warnings.jsonl").exists()


def test_file_logger_adds_up_wall_time_over_the_parts_of_a_run(tmp_path, monkeypatch):
  clock = iter([100.0, 103.0, 104.0, 110.0, 500.0, 507.5])
  monkeypatch.setattr("asmjax.train.logger._now", lambda: next(clock))
  # A start and three steps, then one that is done again: it is not counted twice.
  for start, steps in ((0, (5, 10, 15)), (10, (15,))):
    logger = FileLogger(tmp_path, start)
    for step in steps:
      logger.log_metrics(step, {"a/b": 1.0}, {})
  lines = [json.loads(line) for line in (tmp_path / "wall_time.jsonl").read_text().splitlines()]
  assert [(line["step"], line["seconds"]) for line in lines] == [(5, 3.0), (10, 4.0), (15, 11.5)]


def test_loggers_log_to_all_in_order():
  calls = []

  class Recorder(Logger):
    def __init__(self, name):
      self.name = name

    def log_metrics(self, step, means, scores):
      calls.append((self.name, step, means, scores))

    def log_warnings(self, step, warnings):
      calls.append((self.name, step, list(warnings)))

  logger = Loggers([Recorder("a"), Recorder("b")])
  logger.log_metrics(1, {"x": 1.0}, {"y": 2.0})
  logger.log_warnings(1, (warning for warning in ["ill"]))
  logger.log_images(1, lambda: pytest.fail("drawn for nobody"))
  logger.close()
  assert calls == [
    ("a", 1, {"x": 1.0}, {"y": 2.0}),
    ("b", 1, {"x": 1.0}, {"y": 2.0}),
    ("a", 1, ["ill"]),
    ("b", 1, ["ill"]),
  ]


class Tracker(Logger):
  """Loses its connection at a step, or when it is closed."""

  def __init__(self, at):
    self._at, self.steps = at, []

  def log_metrics(self, step, means, scores):
    if step == self._at:
      raise ConnectionError("no route\nto host")
    self.steps.append(step)

  def close(self):
    if self._at is None:
      raise TimeoutError("too late")


@pytest.mark.parametrize("at, reason", [(10, "ConnectionError: no route to host"), (None, "late")])
def test_loggers_drop_an_optional_one_that_raises_with_one_warning(at, reason, tmp_path, capsys):
  trackers = [Tracker(at), Tracker(-1)]
  logger = open_run_loggers(tmp_path, start=0, steps=20, others=trackers)
  for step in (5, 10, 15):
    logger.log_metrics(step, {"a": 1.0}, {})
  logger.close()
  assert [tracker.steps for tracker in trackers] == [[5] if at else [5, 10, 15], [5, 10, 15]]
  (warning,) = warnings(tmp_path)
  assert warning["step"] == (at or 15)
  assert warning["warning"].startswith("Tracker is dropped: ") and reason in warning["warning"]
  assert capsys.readouterr().err.count("dropped") == 1
  assert [line["step"] for line in metrics(tmp_path)] == [5, 10, 15]


def test_tensorboard_logger_hides_what_is_repeated(tmp_path):
  """Every record has its length, and the events are those that TensorBoard reads."""
  from tensorboardX.proto.event_pb2 import Event

  with contextlib.closing(TensorBoardLogger(tmp_path, 10)) as logger:
    logger.log_metrics(15, {"a/b": 0.5, "bad": float("nan")}, {"c": 0.25})
    logger.log_warnings(15, ["ill"])
    logger.log_images(15, lambda: {"input": np.zeros((2, 4, 4, 3), np.uint8)})
  (path,) = tmp_path.iterdir()
  assert path.name.startswith("events.out.tfevents.")
  data, events = path.read_bytes(), []
  while data:
    (length,) = struct.unpack("<Q", data[:8])
    events.append(Event.FromString(data[12 : 12 + length]))
    data = data[16 + length :]
  assert events[0].file_version == "brain.Event:2"
  assert events[1].session_log.status == 1 and events[1].step == 11
  values = [(event.step, value) for event in events[2:] for value in event.summary.value]
  assert {step for step, _ in values} == {15}
  scalars = {value.tag: value.simple_value for _, value in values if "a/b" in value.tag}
  assert scalars == {"a/b": 0.5}
  assert [v.tag for _, v in values] == ["a/b", "c", "warnings/text_summary", "input"]
  assert values[-1][1].image.width == 8


def test_tensorboard_logger_writes_no_file_without_events(tmp_path):
  TensorBoardLogger(tmp_path / "tensorboard").close()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["[1, 2]", '{"loss": 1.0}', '{"step": "5"}', '{"step": 5'])
def test_file_logger_names_and_drops_damaged_lines(line, tmp_path, capsys):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 5, "a": 1.0}\n' + line + '\n{"step": 10, "a": 2.0}\n')
  FileLogger(tmp_path, 10)
  assert [entry["step"] for entry in metrics(tmp_path)] == [5, 10]
  (warning,) = warnings(tmp_path)
  assert warning["warning"].startswith(f"{path}, line 2, ")
  assert warning["warning"].endswith("; it is left out")
  assert warning["warning"] in capsys.readouterr().err


@pytest.mark.parametrize("steps", [20, None])
def test_terminal_logger_shows_a_bar_above_the_metrics(steps, monkeypatch, capsys):
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
  monkeypatch.setenv("TTY_COMPATIBLE", "1")
  logger = TerminalLogger(0, steps)
  logger.log_metrics(10, {"loss": 0.5}, {"segmentation/mean_iou": 0.25})
  logger.log_metrics(20, {"loss": 0.4, "epoch": float("nan")}, {})
  logger.close()
  output = capsys.readouterr().out
  assert "step 20" in output and "loss 0.4" in output and "epoch" not in output
  assert output.index("step 20") < output.rindex("loss 0.4")


def test_throughput_leaves_out_the_compilation(monkeypatch):
  clock = iter([100.0, 102.0])
  monkeypatch.setattr("asmjax.train.logger._now", lambda: next(clock))
  throughput = Throughput()
  assert throughput.measure(10) is None
  assert throughput.measure(20) == 5.0


def test_terminal_logger_prints_pace_and_time_left_elsewhere(monkeypatch, capsys):
  clock = iter([100.0, 102.0])
  monkeypatch.setattr("asmjax.train.logger._now", lambda: next(clock))
  logger = TerminalLogger(0, 30)
  for step in (10, 20):
    logger.log_metrics(step, {"loss": 0.5}, {})
  lines = capsys.readouterr().out.splitlines()
  assert lines == ["step 10/30  loss 0.5", "step 20/30  5.00 steps/s  0:02 left  loss 0.5"]


def test_terminal_logger_shows_the_main_metrics_alone(capsys):
  means = {"pixel/segmentation": 0.4, "loss": 0.5, "gradient_norm/predictor": 1.0, "epoch": 2.0}
  scores = {"segmentation/mean_iou": 0.25, "segmentation/iou/a": 0.1, "segmentation/bf/bf": 0.2}
  course = {"lookahead/cycle": 1.0, "lookahead/decision/segmentation/mean_iou": 0.3}
  rates = {"learning_rate/predictor": 0.01}
  TerminalLogger(0, None).log_metrics(5, means | rates, scores | course)
  assert capsys.readouterr().out == (
    "step 5  segmentation/mean_iou 0.25  lookahead/cycle 1  loss 0.5  epoch 2  "
    "learning_rate/predictor 0.01\n"
  )


def test_wandb_logger_logs_metrics_warnings_and_images(monkeypatch):
  run = mock.Mock()
  monkeypatch.setitem(sys.modules, "wandb", mock.Mock(Image=np.shape))
  logger = WandbLogger(run)
  logger.log_metrics(5, {"a": 1.0}, {"b": 2.0})
  logger.log_warnings(5, ["ill"])
  logger.log_images(5, lambda: {"input": np.zeros((2, 4, 6, 3), np.uint8)})
  assert run.log.call_args_list == [
    mock.call({"a": 1.0, "b": 2.0}, step=5),
    mock.call({"input": [(4, 6, 3)] * 2}, step=5),
  ]
  run.alert.assert_called_once_with(title="asmjax", text="step 5: ill")


def test_mlflow_logger_logs_metrics_and_images():
  client = mock.Mock()
  logger = MlflowLogger(client, "id")
  logger.log_metrics(5, {"a/b": 1.0}, {})
  logger.log_images(5, lambda: {"a/b": np.zeros((2, 4, 6, 3), np.uint8)})
  client.log_metric.assert_called_once_with("id", "a/b", 1.0, step=5)
  (run_id, sheet), options = client.log_image.call_args
  assert run_id == "id" and sheet.shape == (4, 12, 3) and options == {"key": "a_b", "step": 5}
