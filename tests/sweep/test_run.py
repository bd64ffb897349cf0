"""A sweep from its plan to its table: with commands that only pretend, and once with real ones."""

import json
import re
import subprocess
import sys

import pytest

from asmjax.analysis.comparison import MetricColumn
from asmjax.sweep.plan import Row, Sweep
from asmjax.sweep.processes import Slot
from asmjax.sweep.run import Resources, run_sweep, write_table
from asmjax.utils.lock import lock_folder
from tests.helpers import small_configs as small

# Leaves what a run leaves: what it "scores" lies beside its folder, and so does its config.
TRAIN = """
import json, pathlib, shutil, sys
workdir = pathlib.Path(next(a for a in sys.argv if a.startswith("--workdir=")).partition("=")[2])
beside = lambda end: workdir.with_name(workdir.name + end)
print("trains", workdir.name)
if beside(".fails").exists():
  sys.exit("no luck")
workdir.mkdir(exist_ok=True)
shutil.copy(beside(".config"), workdir / "config.json")
config = json.loads(beside(".config").read_text())
results = {"step": config["train"]["steps"], "data_set": "scenes", "split": "val", "examples": 4,
           "metrics": {"segmentation/mean_iou": float(beside(".score").read_text())}}
(workdir / "results.json").write_text(json.dumps(results))
(workdir / "wall_time.jsonl").write_text('{"step": 1, "seconds": 30.0}\\n')
"""

EVALUATE = """
import json, pathlib, sys
workdir, split, checkpoint = (a.partition("=")[2] for a in sys.argv[1:])
assert checkpoint == "last"
results = json.loads((pathlib.Path(workdir) / "results.json").read_text())
results |= {"split": split, "metrics": {"segmentation/mean_iou": 0.25}}
(pathlib.Path(workdir) / f"results.{split}.json").write_text(json.dumps(results))
"""

IOU = "segmentation/mean_iou"
SCORES = {"A": {0: 0.5, 1: 0.6}, "B": {0: 0.55, 1: 0.75}}
SWEEP = Sweep(
  tuple(Row(label, "configs/scenes.py:iid", {"train.steps": 3}) for label in SCORES),
  (0, 1),
  baseline="A",
  metrics=(MetricColumn.parse(IOU),),
)


@pytest.fixture
def command(tmp_path):
  """Makes the commands `train` and `evaluate` scripts that pretend to do their work."""
  (tmp_path / "train.py").write_text(TRAIN)
  (tmp_path / "evaluate.py").write_text(EVALUATE)
  return lambda name: (sys.executable, str(tmp_path / f"{name}.py"))


def run(sweep, out, command):
  """Runs a sweep; the number of failures and what was said."""
  for planned in sweep.runs(out):
    planned.workdir.parent.mkdir(parents=True, exist_ok=True)
    planned.workdir.with_name(f"{planned.seed}.config").write_text(
      json.dumps(planned.config.to_dict())
    )
    planned.workdir.with_name(f"{planned.seed}.score").write_text(
      str(SCORES[planned.label][planned.seed])
    )
  progress = []
  return run_sweep(sweep, out, [Slot(), Slot()], progress.append, command), progress


def rows(out):
  return {row["label"]: row for row in json.loads((out / "table.json").read_text())["rows"]}


def trainings(out):
  return sum(path.read_text().count("trains") for path in out.glob("*/*.log"))


def test_run_sweep_runs_all_and_compares_them(tmp_path, command):
  out = tmp_path / "out"
  failed, progress = run(SWEEP, out, command)
  assert failed == 0 and sum("finished in" in line for line in progress) == 4
  table = rows(out)
  difference = table["B"]["metrics"][IOU]["difference"]
  assert difference["mean"] == pytest.approx(0.1) and difference["ahead"] == 2
  assert table["B"]["seconds"]["ratio"] == 1 and table["A"]["config"] == "configs/scenes.py:iid"
  assert table["A"]["overrides"] == {"train.steps": "3"}
  assert table["A"]["workdirs"] == {str(seed): str(out / "A" / str(seed)) for seed in (0, 1)}
  text = (out / "table.md").read_text()
  assert "| B | **65.00** ± 14.14 (55.00, 75.00) | +10.00 [-53.53, +73.53], 2 of 2 |" in text
  assert "Not finished" not in text


def test_run_sweep_repeats_unfinished_runs_alone(tmp_path, command):
  out = tmp_path / "out"
  run(SWEEP, out, command)
  (out / "B" / "1" / "results.json").unlink()
  failed, progress = run(SWEEP, out, command)
  assert failed == 0 and trainings(out) == 5
  assert [line for line in progress if "before" in line] == [
    f"{name} was finished before" for name in ("A seed 0", "B seed 0", "A seed 1")
  ]


def test_run_sweep_goes_on_after_failures_and_shows_their_logs(tmp_path, command):
  out = tmp_path / "out"
  (out / "A").mkdir(parents=True)
  (out / "A" / "1.fails").touch()
  (out / "A" / "1.log").write_text("of an earlier try\n")
  failed, progress = run(SWEEP, out, command)
  assert failed == 1 and progress[-1].endswith("no luck") and "earlier" not in progress[-1]
  assert progress[-2].startswith("FAILED A seed 1: exit status 1 after")
  table, text = rows(out), (out / "table.md").read_text()
  assert table["B"]["metrics"][IOU]["difference"]["values"] == {"0": pytest.approx(0.05)}
  assert "Not finished: A seed 1." in text
  (out / "A" / "1.fails").unlink()
  assert run(SWEEP, out, command)[0] == 0 and "Not finished" not in (out / "table.md").read_text()


def test_run_sweep_leaves_runs_of_another_config_and_their_table_alone(tmp_path, command):
  out = tmp_path / "out"
  run(SWEEP, out, command)
  for seed in (0, 1):
    (out / "A" / str(seed) / "checkpoints" / "3").mkdir(parents=True)
  before = (out / "table.md").read_text()
  failed, progress = run(SWEEP.override({"train.steps": 4}).only(["A"]), out, command)
  assert failed == 2 and trainings(out) == 4 and (out / "table.md").read_text() == before
  assert "A/0 holds a run with another config; give" in progress[0]
  assert "Differing: train.steps: 3 -> 4" in progress[0]


def test_run_sweep_goes_on_without_what_it_cannot_read_or_write(tmp_path, command):
  out = tmp_path / "out"
  (out / "A" / "0").mkdir(parents=True)
  (out / "A" / "0" / "results.json").write_text("{")
  (out / "table.md").mkdir()
  failed, progress = run(SWEEP, out, command)
  assert failed == 1 and trainings(out) == 3
  assert re.search(r"A seed 0 FAILED: .*A/0/results\.json", progress[0])
  assert any(line.startswith("no table: ") for line in progress)
  (out / "table.md").rmdir()
  assert "Not finished: A seed 0." in write_table(SWEEP, SWEEP.runs(out), out)


def test_run_sweep_starts_rows_from_others(tmp_path, command):
  out = tmp_path / "out"
  sweep = Sweep((Row("B", "configs/scenes.py:iid", start="A"), *SWEEP.rows[:1]), (0,))
  (out / "A").mkdir(parents=True)
  (out / "A" / "0.fails").touch()
  failed, progress = run(sweep, out, command)
  assert failed == 2 and "FAILED B seed 0: not started, since A seed 0 failed" in progress
  (out / "A" / "0.fails").unlink()
  failed, progress = run(sweep, out, command)
  assert failed == 0 and [line.split()[0] for line in progress if "started" in line] == ["A", "B"]


def test_run_sweep_scores_another_split(tmp_path, command):
  out = tmp_path / "out"
  sweep = Sweep(SWEEP.rows, (0,), split="test")
  assert run(sweep, out, command)[0] == 0
  assert rows(out)["B"]["metrics"][IOU]["mean"] == 0.25
  (out / "A" / "0" / "results.test.json").unlink()
  run(sweep, out, command)
  assert trainings(out) == 2 and rows(out)["A"]["metrics"][IOU]["mean"] == 0.25


def test_run_sweep_continues_after_a_mistake_in_the_table(tmp_path, command):
  out = tmp_path / "out"
  sweep = Sweep(SWEEP.rows, (0,), metrics=(MetricColumn.parse("miou"),))
  failed, progress = run(sweep, out, command)
  problems = [line for line in progress if line.startswith("no table")]
  assert failed == 0 and problems
  assert all("unknown metric 'miou'; known: segmentation/mean_iou" in line for line in problems)
  with pytest.raises(ValueError, match="unknown metric 'miou'"):
    write_table(sweep, sweep.runs(out), out)


def test_write_table_without_finished_runs_says_so(tmp_path):
  text = write_table(SWEEP, SWEEP.runs(tmp_path), tmp_path)
  assert text.startswith("Not finished: A seed 0, B seed 0") and not list(tmp_path.iterdir())


def test_run_sweep_locks_its_folder_as_long_as_a_run_lives(tmp_path, command):
  out = tmp_path / "out"
  with lock_folder(out, "a test") as lock:
    child = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    with pytest.raises(ValueError, match="another sweep, or a run that it started, is at work"):
      run(SWEEP, out, command)
  with pytest.raises(ValueError, match="another sweep"):  # As after a sweep that was killed.
    run(SWEEP, out, command)
  child.kill()
  child.wait()
  assert run(SWEEP, out, command)[0] == 0


def test_slots_divide_cores_and_devices():
  assert [slot.environment for slot in Resources().slots("gpu", ["0", "1"])] == [{}]
  assert len(Resources(jobs=3).slots("gpu", ["0", "1"])) == 3
  slots = Resources(jobs_per_device=2).slots("gpu", ["0", "1"])
  assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "0", "1"]
  assert Resources().slots("tpu", ["0"]) == [Slot()] and len(Resources(1, 1).slots("cpu", [])) == 1
  with pytest.raises(ValueError, match="2 jobs on tpu; only GPUs and CPUs can be shared"):
    Resources(jobs=2).slots("tpu", ["0"])
  with pytest.raises(ValueError, match="expected one of them"):
    Resources(jobs=2, jobs_per_device=2)
  with pytest.raises(ValueError, match="threads=-1; expected 0 or more"):
    Resources(threads=-1)


def test_sweep_command_trains_and_scores_a_part_of_a_split_once(tmp_path):
  settings = {key: value for key, value in small.SMALL.items() if "structure" not in key}
  flags = [
    "--run=IID=configs/scenes.py:iid",
    f"--out={tmp_path}",
    "--jobs=1",
    "--split=train[:8]",
    *(f"--set={key}={value}" for key, value in settings.items()),
  ]
  code, output = small.launch("sweep.py", *flags)
  assert code == 0 and "[1/1] IID seed 0 finished in" in output, output
  assert "scenes train[:8], 8 examples" in output
  scores = json.loads((tmp_path / "IID" / "0" / "results.train[:8].json").read_text())["metrics"]
  assert rows(tmp_path)["IID"]["metrics"][IOU]["values"] == {"0": scores[IOU]}
  code, output = small.launch("sweep.py", *flags)
  assert code == 0 and output.startswith("IID seed 0 was finished before")
