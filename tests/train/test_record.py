"""What a run leaves behind."""

import contextlib
import json

from asmjax.train.record import NullLogger, Record, SkippedExamples


def test_every_fault_is_listed_once_over_all_parts_of_a_run(tmp_path, capsys):
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


def record(workdir, start=0):
  return contextlib.closing(Record(workdir, start=start, steps=20))


def warnings(workdir):
  return [json.loads(line) for line in (workdir / "warnings.jsonl").read_text().splitlines()]


def test_warnings_are_said_and_kept_in_words(tmp_path, capsys):
  with record(tmp_path) as run:
    run.step(5, {"a/b": 1.0})
    assert not (tmp_path / "warnings.jsonl").exists()
    run.warn(5, ["a: it is ill; give it tea"])
    run.warn(10, ["a: it is worse"])
  assert warnings(tmp_path) == [
    {"step": 5, "warning": "a: it is ill; give it tea"},
    {"step": 10, "warning": "a: it is worse"},
  ]
  err = capsys.readouterr().err.splitlines()
  assert err == ["step 5: a: it is ill; give it tea", "step 10: a: it is worse"]


def test_a_resumed_run_drops_what_a_killed_one_recorded_after_its_checkpoint(tmp_path):
  with record(tmp_path) as run:
    for step in (5, 10, 15):
      run.step(step, {"a/b": 1.0 / step})
      run.warn(step, [f"warned at {step}"])
  with (tmp_path / "warnings.jsonl").open("a") as file:
    file.write('{"step": 16, "warn')  # Killed while it wrote.
  with record(tmp_path, start=10) as run:
    assert [each["step"] for each in warnings(tmp_path)] == [5, 10]
    assert run.logged() == [{"step": 5, "a/b": 0.2}, {"step": 10, "a/b": 0.1}]
    run.warn(15, ["warned again"])
  assert [each["warning"] for each in warnings(tmp_path)][2:] == ["warned again"]
  with record(tmp_path) as run:
    assert run.logged() == [] and warnings(tmp_path) == []


def test_a_run_without_warnings_has_no_file_of_them_also_when_resumed(tmp_path):
  for start in (0, 5):
    with record(tmp_path, start) as run:
      run.step(start + 5, {"a/b": 1.0})
  assert (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "warnings.jsonl").exists()


def test_wall_time_adds_up_over_the_parts_of_a_run(tmp_path, monkeypatch):
  clock = iter([100.0, 103.0, 104.0, 110.0, 500.0, 507.5])
  monkeypatch.setattr("asmjax.train.record._now", lambda: next(clock))
  # A start and three steps, then one that is done again: it is not counted twice.
  for start, steps in ((0, (5, 10, 15)), (10, (15,))):
    with record(tmp_path, start=start) as run:
      for step in steps:
        run.step(step, {"a/b": 1.0})
  lines = [json.loads(line) for line in (tmp_path / "wall_time.jsonl").read_text().splitlines()]
  assert [(line["step"], line["seconds"]) for line in lines] == [(5, 3.0), (10, 4.0), (15, 11.5)]


def test_other_processes_record_nothing(capsys):
  run = NullLogger()
  run.step(1, {"a": 1.0})
  run.warn(1, ["a"])
  assert run.logged() == []
  assert capsys.readouterr().err == ""
