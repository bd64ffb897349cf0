"""What a run leaves behind."""

import contextlib
import json

import pytest

from asmjax.train.logger import NullLogger, RunLogger, SkippedExamples


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
  return contextlib.closing(RunLogger(workdir, start=start, steps=20))


def warnings(workdir):
  return [json.loads(line) for line in (workdir / "warnings.jsonl").read_text().splitlines()]


def test_run_logger_prints_and_keeps_warnings(tmp_path, capsys):
  with open_logger(tmp_path) as logger:
    logger.log_metrics(5, {"a/b": 1.0})
    assert not (tmp_path / "warnings.jsonl").exists()
    logger.log_warnings(5, ["a: it is ill; give it tea"])
    logger.log_warnings(10, ["a: it is worse"])
  assert warnings(tmp_path) == [
    {"step": 5, "warning": "a: it is ill; give it tea"},
    {"step": 10, "warning": "a: it is worse"},
  ]
  err = capsys.readouterr().err.splitlines()
  assert err == ["step 5: a: it is ill; give it tea", "step 10: a: it is worse"]


def test_run_logger_drops_what_a_killed_run_logged_after_its_checkpoint(tmp_path):
  with open_logger(tmp_path) as logger:
    for step in (5, 10, 15):
      logger.log_metrics(step, {"a/b": 1.0 / step})
      logger.log_warnings(step, [f"warned at {step}"])
  with (tmp_path / "warnings.jsonl").open("a") as file:
    file.write('{"step": 16, "warn')  # Killed while it wrote.
  with open_logger(tmp_path, start=10) as logger:
    assert [each["step"] for each in warnings(tmp_path)] == [5, 10]
    assert logger.read_metrics() == [{"step": 5, "a/b": 0.2}, {"step": 10, "a/b": 0.1}]
    logger.log_warnings(15, ["warned again"])
  assert [each["warning"] for each in warnings(tmp_path)][2:] == ["warned again"]
  with open_logger(tmp_path) as logger:
    assert logger.read_metrics() == [] and warnings(tmp_path) == []


def test_run_logger_writes_no_file_of_warnings_without_any(tmp_path):
  for start in (0, 5):
    with open_logger(tmp_path, start) as logger:
      logger.log_metrics(start + 5, {"a/b": 1.0})
  assert (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "warnings.jsonl").exists()


def test_run_logger_adds_up_wall_time_over_the_parts_of_a_run(tmp_path, monkeypatch):
  clock = iter([100.0, 103.0, 104.0, 110.0, 500.0, 507.5])
  monkeypatch.setattr("asmjax.train.logger._now", lambda: next(clock))
  # A start and three steps, then one that is done again: it is not counted twice.
  for start, steps in ((0, (5, 10, 15)), (10, (15,))):
    with open_logger(tmp_path, start=start) as logger:
      for step in steps:
        logger.log_metrics(step, {"a/b": 1.0})
  lines = [json.loads(line) for line in (tmp_path / "wall_time.jsonl").read_text().splitlines()]
  assert [(line["step"], line["seconds"]) for line in lines] == [(5, 3.0), (10, 4.0), (15, 11.5)]


def test_null_logger_logs_and_draws_nothing(capsys):
  logger = NullLogger()
  logger.log_metrics(1, {"a": 1.0})
  logger.log_warnings(1, ["a"])
  logger.log_images(1, lambda: pytest.fail("drawn for nobody"))
  logger.close()
  assert logger.read_metrics() == []
  assert capsys.readouterr().err == ""
