"""Disks that are full or read-only, folders that vanish, files that change.

Disks are mounted for the test, which needs the right to do so; elsewhere these tests are skipped.
"""

import contextlib
import errno
import functools
import itertools
import os
import shutil
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from asmjax.cli import COMMANDS, main
from asmjax.cli.errors import Status, describe_failure
from asmjax.config.build import build_experiment
from asmjax.config.load import format_values, load_config, override_config
from asmjax.config.run_dir import write_run_files
from asmjax.data.packing import pack
from asmjax.inference.export import export, save
from asmjax.inference.outputs import Writer
from asmjax.inference.predict import PredictionJob
from asmjax.lookahead.maps import MapStore
from asmjax.run import prepare_run
from asmjax.train.checkpoint import Checkpoints
from asmjax.train.logger import FileLogger, Logger, SkippedExamples
from asmjax.train.loop import train
from asmjax.utils.checkpoint_folder import DamagedError, read_arrays
from asmjax.utils.exhaustion import WriteError
from asmjax.utils.files import atomic_write, check_file, check_folder, read_jsonl
from tests.data.test_packing import contents, two_splits
from tests.helpers import damage, inference_runs
from tests.helpers import small_configs as small
from tests.helpers.documented_commands import own_flags

# Orbax leaves writes under way when one of them fails; they end in a loop that is closed by then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

STEPS = 5
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def config():
  return small.config(
    "iid",
    **{
      "data.options.length": 8,
      "predictor.levels": 1,
      "train.steps": STEPS,
      "train.log_every": 1,
      "eval.batch_size": 8,
      "eval.every": 0,
      "checkpoint.every": 1,
      # All of them: one that is removed after the disk is filled would make room for the next.
      "checkpoint.keep": STEPS,
    },
  )


@pytest.fixture(scope="module")
def run(config):
  return build_experiment(config)


@pytest.fixture(scope="module")
def whole(run, config, tmp_path_factory, compiled_once):
  """Folder of an undisturbed run."""
  workdir = tmp_path_factory.mktemp("whole")
  write_run_files(workdir, config.to_dict(), run, ())
  train(run, workdir)
  return workdir


@pytest.fixture
def mount():
  """Function that mounts something until the end of the test, or skips it."""
  with contextlib.ExitStack() as stack:

    def mount(at, *options):
      at.mkdir(parents=True, exist_ok=True)
      done = subprocess.run(["mount", *options, str(at)], capture_output=True, text=True)
      if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
      # A test may have taken it away already.
      stack.callback(subprocess.run, ["umount", "--lazy", str(at)], stderr=subprocess.DEVNULL)

    yield mount


def mount_small(mount, at, size):
  mount(at, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")


def mount_read_only(mount, at):
  """Mounted elsewhere first: nobody may write there when it becomes read-only."""
  other = at.with_name("read_only")
  mount(other, "--bind", str(at))
  subprocess.run(["mount", "-o", "remount,bind,ro", str(other)], check=True)
  mount(at, "--bind", str(other))


class Fault(Logger):
  """Calls a function after a step is logged."""

  def __init__(self, step, inject):
    self._step, self._inject = step, inject

  def log_metrics(self, step, means, scores):
    if step == self._step:
      self._inject()


def fill(folder):
  """Leaves no room on a disk."""
  with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
    while True:
      file.write(bytes(4096))


def assert_same_end(workdir, whole):
  """Arrays and log are those of the undisturbed run."""
  last = [read_arrays(folder / "checkpoints" / str(STEPS), "state") for folder in (workdir, whole)]
  assert last[0].keys() == last[1].keys()
  jax.tree.map(np.testing.assert_array_equal, *last)
  for name in ("metrics.jsonl", "results.json"):
    assert (workdir / name).read_text() == (whole / name).read_text()


def assert_no_room(error, where):
  """The error ends a command in one line that names the place, with the status to try again."""
  failure = describe_failure(error)
  assert failure.status == Status.NO_ROOM and "\n" not in failure.message
  assert str(where) in failure.message


def test_train_on_a_full_disk_ends_in_one_line_and_goes_on_later(
  run, whole, mount, tmp_path, injections
):
  for seed in range(injections(1)):
    workdir = tmp_path / str(seed)
    mount_small(mount, workdir, "8m")
    step = int(np.random.default_rng(seed).integers(1, STEPS))
    with pytest.raises(OSError) as raised:
      train(run, workdir, loggers=[Fault(step, functools.partial(fill, workdir))])
    assert_no_room(raised.value, workdir)
    assert all(line["step"] <= step + 1 for line in read_jsonl(workdir / "metrics.jsonl"))
    with pytest.raises(OSError) as raised:  # It is still full.
      train(run, workdir)
    assert_no_room(raised.value, workdir)
    (workdir / "filler").unlink()
    train(run, workdir)
    assert_same_end(workdir, whole)


def test_train_in_a_folder_that_becomes_read_only_ends_in_one_line_and_goes_on_later(
  run, whole, mount, tmp_path
):
  workdir = tmp_path / "run"
  with pytest.raises(OSError) as raised:
    train(run, workdir, loggers=[Fault(2, lambda: mount_read_only(mount, workdir))])
  assert_no_room(raised.value, workdir)
  with pytest.raises(OSError) as raised:
    train(run, workdir)
  assert_no_room(raised.value, workdir)
  subprocess.run(["umount", str(workdir)], check=True)
  train(run, workdir)
  assert_same_end(workdir, whole)


def test_train_in_a_folder_that_vanishes_ends_in_one_line(run, whole, tmp_path):
  workdir = tmp_path / "run"
  with pytest.raises(WriteError) as raised:
    train(run, workdir, loggers=[Fault(2, lambda: shutil.rmtree(workdir))])
  assert_no_room(raised.value, workdir)
  assert not (workdir / "metrics.jsonl").exists()


def test_train_drops_tensorboard_on_a_full_disk(run, whole, mount, tmp_path, capsys):
  """The writer's thread would die, and the training wait for it for ever."""
  mount_small(mount, tmp_path / "tensorboard", "16k")
  train(run, tmp_path, loggers=[Fault(2, lambda: fill(tmp_path / "tensorboard"))])
  assert_same_end(tmp_path, whole)
  (warning,) = read_jsonl(tmp_path / "warnings.jsonl")
  assert warning["warning"].startswith("TensorBoardLogger is dropped: ")
  assert os.strerror(errno.ENOSPC) in warning["warning"]
  assert capsys.readouterr().err.count("TensorBoardLogger is dropped") == 1


INJECTIONS = {
  "full": lambda mount, folder: fill(folder),
  "read-only": mount_read_only,
  "vanished": lambda mount, folder: shutil.rmtree(folder),
}


def prepare_folder(fault, mount, folder):
  """Makes a folder for one of `INJECTIONS`."""
  if fault == "vanished":
    folder.mkdir()
  else:
    mount_small(mount, folder, "1m")


def mend_folder(fault, folder):
  """Makes room again, where there was a fault."""
  if fault == "full":
    (folder / "filler").unlink()
  elif fault == "read-only":
    subprocess.run(["umount", str(folder)], check=True)
  else:
    assert not folder.exists()


def save_photos(folder, count):
  folder.mkdir()
  for index in range(count):
    Image.fromarray(inference_runs.image(12, 20, seed=index)).save(folder / f"{index}.png")


@pytest.mark.parametrize("fault", INJECTIONS)
def test_prediction_job_ends_in_one_line_where_nothing_more_can_be_written(
  fault, mount, tmp_path, monkeypatch
):
  photos, out = tmp_path / "photos", tmp_path / "out"
  save_photos(photos, 6)
  prepare_folder(fault, mount, out)
  job = PredictionJob(inference_runs.trained(), photos, out)
  write, injected = Writer.write, threading.Lock()

  def write_and_inject(self, *arguments):
    write(self, *arguments)
    if injected.acquire(blocking=False):
      INJECTIONS[fault](mount, out)

  with monkeypatch.context() as patched:
    patched.setattr(Writer, "write", write_and_inject)
    patched.setattr("asmjax.inference.predict._NUM_THREADS", 1)  # None writes at that moment.
    with pytest.raises(OSError) as raised:
      job.run()
  assert_no_room(raised.value, out)
  mend_folder(fault, out)
  for path in damage.list_files(out):
    with Image.open(path) as picture:
      assert picture.load() and picture.size == (20, 12)
  assert job.run().num_images == 6 and len(damage.list_files(out)) == 18


@pytest.mark.parametrize("fault", INJECTIONS)
def test_pack_ends_in_one_line_where_nothing_more_can_be_written(fault, mount, tmp_path):
  folder = tmp_path / "packed"
  pack(two_splits(), tmp_path / "whole", examples_per_shard=2)
  prepare_folder(fault, mount, folder)
  calls = itertools.count()

  def inject(split, examples):
    if not next(calls):
      INJECTIONS[fault](mount, folder)

  with pytest.raises(OSError) as raised:
    pack(two_splits(), folder, examples_per_shard=2, progress=inject)
  assert_no_room(raised.value, folder)
  mend_folder(fault, folder)
  pack(two_splits(), folder, examples_per_shard=2)
  assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_save_leaves_no_half_of_an_export_where_nothing_can_be_written(fault, mount, tmp_path):
  artifact = export(inference_runs.trained(), size=(2, 2), platforms=("cpu",))
  folder = tmp_path / "there"
  mount_small(mount, folder, "1m")
  INJECTIONS[fault](mount, folder)
  with pytest.raises(OSError) as raised:
    save(artifact, folder / "net.stablehlo")
  assert_no_room(raised.value, folder)
  assert {path.name for path in damage.list_files(folder)} <= {"filler"}


def test_check_folder_refuses_what_cannot_be_written_to(mount, tmp_path):
  taken, folder = tmp_path / "taken", tmp_path / "folder"
  taken.write_text("a file")
  for path in (taken, taken / "a" / "b"):
    with pytest.raises(ValueError, match=f"{taken} is no folder; expected one, or a path where"):
      check_folder(path)
  with pytest.raises(ValueError, match=f"{tmp_path} is a folder; expected the path of a file"):
    check_file(tmp_path)
  folder.mkdir()
  check_folder(folder / "a" / "b")
  check_file(folder / "a" / "b.html")
  mount_read_only(mount, folder)
  with pytest.raises(WriteError) as raised:
    check_folder(folder / "a" / "b")
  assert_no_room(raised.value, folder)


GIVEN = {
  "train": ["--config=scenes:iid"],
  "predict": ["--workdir=unused", "--input=unused"],
  "inspect": ["--config=scenes:iid"],
  "prepare": ["--config=scenes:iid"],
  "analyze": ["--group=a=unused"],
  "sweep": ["--sweep=configs/sweeps/scenes.py"],
  "export": ["--workdir=unused"],
  "report": ["--group=a=unused"],
}


@pytest.mark.parametrize("command", GIVEN)
def test_commands_refuse_a_place_that_cannot_be_written_before_they_begin(
  command, tmp_path, monkeypatch, capsys
):
  (tmp_path / "taken").write_text("a file")
  place, flag = tmp_path / "taken" / "net.stablehlo", COMMANDS[command].folder or "out"
  monkeypatch.setattr(sys, "argv", ["asmjax", command, *GIVEN[command], f"--{flag}={place}"])
  with own_flags(), pytest.raises(SystemExit) as end:
    main()
  assert end.value.code == Status.FAILED
  expected = f"FATAL {tmp_path / 'taken'} is no folder; expected one, or a path where one can be"
  assert capsys.readouterr().err == f"{expected} made\n"


def test_evaluate_prints_the_results_of_a_run_that_is_read_only(
  run, config, whole, mount, tmp_path
):
  workdir = tmp_path / "archived"
  shutil.copytree(whole, workdir)
  before = damage.contents(workdir)
  mount_read_only(mount, workdir)
  code, output = small.launch("evaluate.py", f"--workdir={workdir}", devices=1)
  *_, last = output.splitlines()
  assert code == Status.NO_ROOM and "segmentation/mean_iou" in output
  assert last.startswith("the results are printed, but not kept: ") and "results.best.json" in last
  assert "Traceback" not in output and damage.contents(workdir) == before


def test_train_goes_on_with_a_damaged_log(run, whole, tmp_path, injections, capsys):
  """A line that is no entry is named and left out; the checkpoints are what counts."""
  names = ("metrics.jsonl", "wall_time.jsonl", "skipped.0.jsonl")
  for seed in range(injections(3)):
    workdir, rng = tmp_path / str(seed), np.random.default_rng(seed)
    shutil.copytree(whole, workdir)
    path = workdir / names[seed % 3]
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else [b'"a.png is cut"\n']
    number = int(rng.integers(len(lines)))
    lines[number] = bytes(rng.integers(128, 256, 20, np.uint8)) + b"\n"
    path.write_bytes(b"".join(lines))
    if path.name.startswith("skipped"):
      SkippedExamples(path)
    else:
      FileLogger(workdir, STEPS)
      assert len(read_jsonl(path)) == len(lines) - 1
    assert f"{path}, line {number + 1}, is no UTF-8" in capsys.readouterr().err


def test_prepare_run_removes_what_killed_processes_were_writing(config, tmp_path):
  dead = subprocess.Popen(["true"])
  dead.wait()
  alive = tmp_path / f".results.json.{os.getppid()}.part"
  for path in (alive, tmp_path / f".a.json.{dead.pid}.part", tmp_path / "maps" / ".b.zip.x.part"):
    path.parent.mkdir(exist_ok=True)
    path.write_text("half")
  prepare_run(config.copy_and_resolve_references(), tmp_path)
  assert [path for path in damage.list_files(tmp_path) if path.suffix == ".part"] == [alive]


def test_prepare_run_takes_another_config_where_no_checkpoint_was_completed(config, tmp_path):
  prepare_run(config.copy_and_resolve_references(), tmp_path)
  (tmp_path / "checkpoints" / "1.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
  other = override_config(config, format_values({"train.steps": 7}))
  prepare_run(other, tmp_path)
  with Checkpoints(tmp_path / "checkpoints", metric="a") as checkpoints:
    assert checkpoints.latest_step() is None
  assert not list((tmp_path / "checkpoints").iterdir())


def test_prepare_run_refuses_an_empty_path():
  config = load_config("scenes:iid")
  with pytest.raises(ValueError, match="workdir is empty; expected the folder of a run"):
    prepare_run(config, "")
  code, output = small.launch("main.py", "--config=scenes:iid", "--workdir=")
  assert code and "flag --workdir=: it is empty; expected a path" in output


def test_pack_writes_damaged_shards_again(tmp_path, injections):
  pack(two_splits(), tmp_path / "whole", examples_per_shard=2)
  expected = contents(tmp_path / "whole")
  for seed in range(injections(3)):
    folder, rng = tmp_path / str(seed), np.random.default_rng(seed)
    shutil.copytree(tmp_path / "whole", folder)
    shards = sorted(folder.glob("*array_record*-of-0000?"))
    path = shards[rng.integers(len(shards))]
    kept = {other: other.stat().st_ino for other in shards if other != path}
    damage.flip_bit_of(path, rng)
    pack(two_splits(), folder, examples_per_shard=2)
    assert contents(folder) == expected
    assert {other: other.stat().st_ino for other in kept} == kept


@pytest.mark.parametrize("cache_bytes", [1 << 20, 0], ids=["in memory", "memory-mapped"])
def test_model_maps_are_those_written_or_an_error_that_names_the_file(
  tmp_path, cache_bytes, injections
):
  maps, rng = {i: {"label": RNG.integers(0, 9, (5, 7))} for i in range(6)}, np.random.default_rng(0)
  MapStore(tmp_path / "whole", cache_bytes=0).write(3, "train", maps.items())
  num_refused = 0
  for seed in range(injections(20)):
    folder = tmp_path / str(seed)
    shutil.copytree(tmp_path / "whole", folder)
    kinds = (damage.flip_bit, damage.truncate, damage.empty, damage.zero_block)
    kinds[seed % len(kinds)](folder, rng)
    try:
      (replayed,) = MapStore(folder, cache_bytes=cache_bytes).read([3], "train")
      assert replayed.indices == tuple(maps)
      for index, expected in maps.items():
        np.testing.assert_array_equal(replayed[index]["replay_label"], expected["label"])
    except DamagedError as error:
      num_refused += 1
      assert f"{folder / '3' / 'train.0-of-1.zip'} is damaged (" in str(error)
      assert "\n" not in str(error)
  assert num_refused > injections(20) // 2


@pytest.mark.parametrize("stage", ["write", "sync", "rename"])
def test_atomic_write_on_a_failing_disk_leaves_the_old_file(stage, tmp_path, monkeypatch):
  path = tmp_path / "a.json"
  path.write_text("old")

  def fail(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  def write(temporary):
    temporary.write_text("new")
    if stage == "write":
      fail()

  monkeypatch.setattr(os, "fsync", fail if stage == "sync" else os.fsync)
  monkeypatch.setattr(os, "replace", fail if stage == "rename" else os.replace)
  with (
    pytest.raises(WriteError, match=r"a\.json cannot be written: ") as raised,
    atomic_write(path) as temporary,
  ):
    write(temporary)
  assert_no_room(raised.value, path)
  assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
