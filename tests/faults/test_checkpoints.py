"""Damaged checkpoints: noticed, named, replaced by the newest intact one, never deleted.

Damage that leaves all that was saved as it was, such as a flipped bit of a time stamp, may go
unnoticed: then what is restored is compared with what was saved.
"""

import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import asmjax
from asmjax.config.run_dir import read_checkpoint
from asmjax.pretrained import read
from asmjax.train.checkpoint import Checkpoints, ExtraState, load_state
from asmjax.train.state import Player, TrainState
from asmjax.utils.checkpoint_folder import DamagedError, read_arrays, read_manifest, verify
from asmjax.utils.trees import leaves_by_path
from tests.helpers import damage
from tests.helpers import small_configs as small

# Orbax leaves reads under way when one of them fails; they end in a loop that is closed by then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

METRIC = "score"
# The best is neither the latest nor the one before.
SCORES = {2: 0.9, 3: 0.8, 4: 0.1, 8: 0.2}


def make_state(step):
  """A state with arrays of several types, large enough for most bits to be of numbers."""
  rng = np.random.default_rng(step)
  params = {"conv": {"kernel": rng.normal(size=(40, 40)).astype(np.float32)}}
  slots = (jnp.asarray(rng.normal(size=30), jnp.bfloat16), np.float32(rng.normal()))
  player = Player(params, {"mean": rng.normal(size=5).astype(np.float32)}, slots)
  return TrainState(np.int32(step), {"predictor": player}, np.arange(2, dtype=np.uint32))


def make_extra(step):
  """What LoAd saves besides."""
  rng = np.random.default_rng(-step % 2**32)
  return ExtraState({"best": rng.normal(size=50)}, {"phase": step, "sets": [[0, True], [step, 0]]})


def open_checkpoints(directory, **options):
  return Checkpoints(directory, metric=METRIC, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A directory with four checkpoints."""
  directory = tmp_path_factory.mktemp("run") / "checkpoints"
  with open_checkpoints(directory) as checkpoints:
    for step, score in SCORES.items():
      checkpoints.save(make_state(step), {METRIC: score}, step=step, extra=make_extra(step))
  assert {int(path.name) for path in directory.iterdir()} == set(SCORES)
  return directory


@pytest.fixture
def copy(saved, tmp_path):
  """Copies of that directory, as many as there are calls."""
  numbers = iter(range(10**6))

  def make():
    return shutil.copytree(saved, tmp_path / str(next(numbers)) / "checkpoints")

  return make


def assert_same(restored, expected):
  assert jax.tree.structure(restored) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_restores(checkpoints, step):
  """All that a checkpoint holds is what was saved."""
  assert_same(checkpoints.restore(make_state(0), step), make_state(step))
  extra = checkpoints.restore_extra(make_extra(0).arrays, step)
  assert_same(extra.arrays, make_extra(step).arrays)
  assert extra.fields == make_extra(step).fields
  assert read_manifest(checkpoints.step_path(step)).metrics == {METRIC: SCORES[step]}


@pytest.mark.parametrize("kind", damage.KINDS, ids=lambda kind: kind.__name__)
def test_checkpoints_fall_back_to_the_newest_intact_one(kind, copy, injections):
  for seed in range(injections(3)):
    directory, rng = copy(), np.random.default_rng(seed)
    victim = int(rng.choice([8, 8, 4, 2]))
    others = {step: damage.contents(directory / str(step)) for step in SCORES if step != victim}
    kind(directory / str(victim), rng)
    remains = damage.contents(directory / str(victim))
    with open_checkpoints(directory) as checkpoints:
      latest = checkpoints.latest_step()
      if checkpoints.damaged:
        (text,) = checkpoints.damaged
        assert str(directory / str(victim)) in text and "\n" not in text
        assert text.endswith(f"; it is moved to {victim}.damaged")
        assert damage.contents(directory / f"{victim}.damaged") == remains
        assert latest == (4 if victim == 8 else 8)
        assert checkpoints.best_step() == (3 if victim == 2 else 2)
      else:
        assert latest == 8
        assert_restores(checkpoints, victim)
      assert_restores(checkpoints, latest)
    for step, content in others.items():
      assert damage.contents(directory / str(step)) == content


def test_verify_finds_flipped_bits_of_numbers(copy, injections):
  """The numbers lie in the largest file, which has hardly anything else in it."""
  folder = copy() / "8"
  path = max(damage.list_files(folder), key=lambda path: path.stat().st_size)
  before, rng, num_found, count = path.read_bytes(), np.random.default_rng(0), 0, injections(3)
  for _ in range(count):
    damage.flip_bit_of(path, rng)
    try:
      verify(folder)
    except DamagedError as error:
      assert str(folder / "state") in str(error)
      num_found += 1
    else:  # Of the few bytes between the numbers.
      assert_same(load_state(folder, make_state(0)), make_state(8))
    path.write_bytes(before)
  assert num_found >= 0.9 * count


def test_checkpoints_count_no_damaged_one_as_kept(copy):
  """The two latest intact ones and the two best stay, however many were damaged."""
  directory = copy()
  for step in (8, 2):
    damage.truncate(directory / str(step) / "manifest", np.random.default_rng(0))
  with open_checkpoints(directory) as checkpoints:
    assert len(checkpoints.damaged) == 2
    checkpoints.save(make_state(8), {METRIC: 0.2}, step=8)
  kept = {path.name for path in directory.iterdir()}
  assert kept == {"3", "4", "8", "2.damaged", "8.damaged"}
  damage.empty_folder(directory / "8" / "manifest", None)
  with open_checkpoints(directory) as checkpoints:
    assert checkpoints.latest_step() == 4
  assert (directory / "8.damaged.2").is_dir() and (directory / "8.damaged").is_dir()


def test_checkpoints_without_an_intact_one_are_refused_and_left(copy):
  directory = copy()
  for step in SCORES:
    damage.empty_folder(directory / str(step), None)
  with pytest.raises(DamagedError, match=r"8/manifest/.* no checkpoint in .* is intact: remove"):
    open_checkpoints(directory)
  assert {path.name for path in directory.iterdir()} == set(map(str, SCORES))
  with pytest.raises(DamagedError, match="no other checkpoint is intact"):
    read_checkpoint(directory.parent, "last", verify, metric=METRIC)


def test_checkpoints_ignore_a_stray_folder(copy):
  directory = copy()
  (directory / "12").mkdir()
  with open_checkpoints(directory) as checkpoints:
    assert checkpoints.latest_step() == 8 and (directory / "12.damaged").is_dir()
    (text,) = checkpoints.damaged
    assert text.startswith(f"{directory}/12/manifest")


def test_load_state_distinguishes_damage_from_another_config(copy):
  directory = copy()
  other = make_state(0)
  other.players["predictor"].params["conv"]["kernel"] = np.zeros((3, 3), np.float32)
  with pytest.raises(ValueError, match=r"does not fit this config: .*kernel is float32\(40, 40\)"):
    load_state(directory / "8", other)
  damage.delete_folder(directory / "8" / "state", np.random.default_rng(0))
  with pytest.raises(DamagedError, match="8/state is damaged"):
    load_state(directory / "8", other)


@pytest.mark.parametrize("which", ["last", "best"])
def test_read_checkpoint_never_gives_wrong_numbers(which, copy, injections, capsys):
  """What predict, evaluate, export and `init.path` read: the predictor alone, and all."""
  first, second = {"last": (8, 4), "best": (2, 3)}[which]
  for seed in range(injections(3)):
    directory, rng = copy(), np.random.default_rng(seed)
    kind = damage.KINDS[rng.integers(len(damage.KINDS))]
    kind(directory / str(first), rng)
    before = damage.contents(directory)
    predictor = read_checkpoint(
      directory.parent, which, lambda folder: (folder.name, read(folder, "orbax")), metric=METRIC
    )
    printed = capsys.readouterr().err
    state = read_checkpoint(
      directory.parent,
      which,
      lambda folder: (folder.name, load_state(folder, make_state(0))),
      metric=METRIC,
    )
    capsys.readouterr()
    for step, values in (predictor, state):
      assert int(step) in (first, second)
      expected = make_state(int(step))
      assert_same(values, expected if values is state[1] else leaves_by_path(expected.variables()))
    if predictor[0] == str(second):
      assert f"{directory}/{first}" in printed and printed.count("\n") == 1
    assert damage.contents(directory) == before  # Who only reads changes nothing.
    if which == "last":
      assert_same(read(directory.parent, "orbax"), predictor[1])
      capsys.readouterr()


def test_read_checkpoint_takes_a_newer_one_for_one_that_is_removed_meanwhile(copy, capsys):
  directory = copy()

  def read_slowly(folder):
    if folder.name == "8":
      folder.rename(folder.with_name("9"))
    return int(load_state(folder, make_state(0)).step)

  assert read_checkpoint(directory.parent, "last", read_slowly, metric=METRIC) == 8
  assert not capsys.readouterr().err


def test_read_checkpoint_reads_while_a_training_writes(tmp_path, injections, capsys):
  directory = tmp_path / "checkpoints"
  steps, faults = 5 * injections(2), []

  def write():
    try:
      with open_checkpoints(directory, keep=1) as checkpoints:
        for step in range(steps):
          checkpoints.save(make_state(step), {METRIC: -float(step)}, step=step)
    except BaseException as error:
      faults.append(error)

  thread = threading.Thread(target=write)
  thread.start()
  num_read, last = 0, -1
  while thread.is_alive():
    load = lambda folder: (int(folder.name), load_state(folder, make_state(0)))
    try:
      step, state = read_checkpoint(tmp_path, "last", load, metric=METRIC)
    except FileNotFoundError:
      assert not num_read  # The first is not written yet.
      continue
    assert_same(state, make_state(step))
    assert step >= last
    num_read, last = num_read + 1, step
  thread.join()
  assert not faults and num_read and not capsys.readouterr().err


def test_checkpoints_remove_what_a_killed_process_left(copy):
  directory = copy()
  for name in ("12.orbax-checkpoint-tmp", "3.part"):
    shutil.copytree(directory / "4", directory / name)
  with open_checkpoints(directory) as checkpoints:
    assert not checkpoints.damaged and checkpoints.latest_step() == 8
  assert {path.name for path in directory.iterdir()} == set(map(str, SCORES))


SETTINGS = {
  "data.options.length": 8,
  "train.steps": 6,
  "train.batch_size": 8,
  "train.log_every": 1,
  "eval.batch_size": 8,
  "eval.every": 3,
  "checkpoint.every": 2,
  "predictor.levels": 1,
  "predictor.width": 4,
}


def test_train_goes_on_from_an_older_checkpoint_to_the_very_same_end(tmp_path, injections, capfd):
  whole = asmjax.train("scenes:iid", tmp_path / "whole", **SETTINGS)
  logged = small.logged(whole.workdir)
  last = read_arrays(whole.workdir / "checkpoints" / "6", "state")
  assert {path.name for path in (whole.workdir / "checkpoints").iterdir()} == {"3", "4", "6"}
  for seed in range(injections(1)):
    workdir, rng = tmp_path / str(seed), np.random.default_rng(seed)
    shutil.copytree(whole.workdir, workdir)
    (workdir / "results.json").unlink()
    kind = (damage.keep_half, damage.empty_folder, damage.flip_bit)[seed % 3]
    kind(workdir / "checkpoints" / "6", rng)
    capfd.readouterr()
    again = asmjax.train("scenes:iid", workdir, **SETTINGS)
    assert again.results == whole.results and small.logged(workdir) == logged
    assert_same(read_arrays(workdir / "checkpoints" / "6", "state"), last)
    if (workdir / "checkpoints" / "6.damaged").exists():
      assert "step 4: " in capfd.readouterr().err
      assert "checkpoints/6/" in (workdir / "warnings.jsonl").read_text()
