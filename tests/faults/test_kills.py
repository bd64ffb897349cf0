"""Processes that are killed at any moment of any command: nothing is lost, nothing is half there.

One training and one other command, chosen at random, are killed once; the long form kills every
command `--injections` times.
"""

import functools
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from PIL import Image

from asmjax.cli.errors import Status
from tests.helpers import small_configs as small
from tests.helpers.commands import Commands

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
# Of a process that leaves on a signal, by that signal; a training may just have ended.
LEAVING = {
  signal.SIGKILL: {-signal.SIGKILL},
  signal.SIGINT: {Status.INTERRUPTED, -signal.SIGINT},
  signal.SIGTERM: {Status.STOPPED, -signal.SIGTERM},
}
SCENES = small.flags(
  **{"data.options.length": 12, "eval.batch_size": 8, "train.steps": 8, "checkpoint.every": 2}
)
PIXEL = [flag for flag in SCENES if ".terms." not in flag]
TRAININGS = {
  "training": ["--config=configs/scenes.py:iid", *PIXEL],
  "lookahead": [
    "--config=configs/scenes.py:load_asm",
    *SCENES,
    *(f"--config.{key}={value}" for key, value in small.AHEAD.items() if "adversarial" not in key),
  ],
}


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
  server = Commands(tmp_path_factory.mktemp("compiled"))
  yield server
  server.close()


class Subject:
  """A command that is killed: its arguments for a folder, and the files that it leaves there."""

  def __init__(self, commands, name, arguments, folder):
    self.commands, self.name, self.arguments = commands, name, arguments
    self.folder = folder / "complete"
    self.folder.mkdir(parents=True)
    # Once compiled, it takes about half of the time.
    self.seconds = 0.6 * self.run(self.folder, fills_cache=True)[1]

  def run(self, folder, **options):
    log = folder.with_suffix(".log")
    status, seconds = self.commands.run(self.name, *self.arguments(folder), log=log, **options)
    assert status == 0, log.read_text()
    return status, seconds

  def interrupt(self, folder, when, number):
    """Runs it until a signal ends it; whether it did, rather than the command itself."""
    log = folder.with_suffix(".log")
    status = self.commands.interrupt(
      self.name, *self.arguments(folder), log=log, when=when, number=number
    )
    assert status in LEAVING[number] | {0}, (status, log.read_text())
    if number != signal.SIGKILL:
      # Python itself ignores a Ctrl-C that comes while it collects garbage, and says so.
      text = log.read_text()
      assert text.count("Traceback") == text.count("Exception ignored in"), text
    return status != 0


@pytest.fixture(scope="module")
def trained(commands, tmp_path_factory):
  """Function of a name that returns that training, which was never killed."""

  @functools.cache
  def train(name):
    arguments = lambda folder: [*TRAININGS[name], f"--workdir={folder}"]
    return Subject(commands, "train", arguments, tmp_path_factory.mktemp(name))

  return train


def choose(names, injections):
  """All of them, or a random one where there is to be one fault alone."""
  names = list(names)
  return [str(np.random.default_rng().choice(names))] if injections(1) == 1 else names


def test_trainings_end_bit_for_bit_whenever_they_are_killed(trained, tmp_path, injections):
  for name in choose(TRAININGS, injections):
    kill_often(trained(name), tmp_path / name, injections(1))


def kill_often(training, folder, wanted):
  """Kills a training until it was killed so many times, and compares what it ends with."""
  folder.mkdir()
  rng = np.random.default_rng()
  expected, count = small.last_state(training.folder), 0
  while count < wanted:
    workdir = folder / "killed"
    logged = []
    for _ in range(rng.integers(1, 6) if wanted > 1 else 1):
      number = SIGNALS[rng.integers(len(SIGNALS))]
      # The time that is left grows short, and some runs end before.
      pause = rng.uniform(0, training.seconds)
      was_killed = training.interrupt(workdir, lambda pause=pause: time.sleep(pause), number)
      count += was_killed
      training.seconds *= 1 if was_killed else 0.8  # It takes less time than it was thought to.
      logged.append((number, round(pause, 2)))
    training.run(workdir)
    jax.tree.map(np.testing.assert_array_equal, small.last_state(workdir), expected)
    print(f"{count} killed, the same in the end; the last ones: {logged}")
    names = ["results.json"]
    if all(number == signal.SIGKILL for number, _ in logged):
      names.append("metrics.jsonl")  # Otherwise a line is there for each step that was left at.
    for name in names:
      assert (workdir / name).read_text() == (training.folder / name).read_text(), logged
    shutil.rmtree(workdir)


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
  """A finished training, and photos."""
  folder = tmp_path_factory.mktemp("finished")
  shutil.copytree(trained("training").folder, folder / "run")
  (folder / "photos").mkdir()
  for index in range(6):
    pixels = np.random.default_rng(index).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
  return folder


COMMANDS = {
  "evaluate": lambda run, out: [f"--workdir={out / 'run'}"],
  "prepare": lambda run, out: [
    "--config=configs/scenes.py:iid",
    *PIXEL,
    "--examples_per_shard=3",
    f"--out={out / 'packed'}",
  ],
  "predict": lambda run, out: [
    f"--workdir={run / 'run'}",
    f"--input={run / 'photos'}",
    f"--out={out / 'maps'}",
    "--overlay",
  ],
  "export": lambda run, out: [
    f"--workdir={run / 'run'}",
    f"--out={out / 'net.stablehlo'}",
    "--platforms=cpu",
  ],
  "report": lambda run, out: [
    f"--group=A={run / 'run'}",
    f"--out={out / 'page.html'}",
    "--count=1",
  ],
}


def files(folder):
  """The contents of the files in a folder, without those that are being written.

  The folder's own name, which a report's command has, is left out.
  """
  return {
    str(path.relative_to(folder)): path.read_bytes().replace(bytes(folder), b"")
    for path in sorted(folder.rglob("*"))
    if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
  }


def assert_complete_or_absent(folder, expected):
  for name, content in files(folder).items():
    assert name in expected and content == expected[name], name


def test_commands_leave_complete_files_or_none_whenever_they_are_killed(
  run, commands, tmp_path, injections
):
  for name in choose(COMMANDS, injections):
    interrupt_often(name, run, commands, tmp_path / name, injections(1))


def interrupt_often(name, run, commands, folder, times):
  """Runs a command to its end and, in other folders, until a signal ends it and then again."""

  def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    if name == "evaluate" and not (folder / "run").exists():
      shutil.copytree(run / "run", folder / "run")
    return COMMANDS[name](run, folder)

  subject = Subject(commands, name, make, folder)
  expected = files(subject.folder)
  rng = np.random.default_rng()
  for _ in range(times):
    again = folder / "again"
    number, pause = SIGNALS[rng.integers(len(SIGNALS))], rng.uniform(0, subject.seconds)
    subject.interrupt(again, lambda pause=pause: time.sleep(pause), number)
    assert_complete_or_absent(again, expected)
    subject.run(again)
    assert files(again).keys() == expected.keys()
    assert_complete_or_absent(again, expected)
    shutil.rmtree(again)


def test_train_ends_with_a_line_when_the_first_process_is_killed(tmp_path):
  endless = {"train.steps": 10**6, "train.log_every": 1, "eval.every": 0, "checkpoint.every": 0}
  arguments = ["--config=configs/scenes.py:asm", f"--workdir={tmp_path}/run"]
  first, other = small.start_two("main.py", *arguments, *small.flags(**endless))
  with first:
    assert any(line.startswith("step 2") for line in first.stdout)
    first.kill()
  output, _ = other.communicate(timeout=300)
  assert other.returncode == Status.STOPPED
  assert output.splitlines()[-1].startswith("FATAL another process of the run was lost")
