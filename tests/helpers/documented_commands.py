"""The commands of a page, run in this process and in a short form.

What a command reads and no command of its page has written is made for it: data sets, weights, and
runs, which are copies of one that the page has trained.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator

import grain.python  # noqa: F401 Defines flags of its own, which are there before any command's.
import numpy as np
import pytest
from absl import app, flags
from ml_collections import config_dict
from safetensors.numpy import save_file

import asmjax.cli
from asmjax.cli.config_flag import split_overrides
from asmjax.config.build import build_experiment, build_predictor
from asmjax.config.load import load_config
from asmjax.config.schema import check_path
from asmjax.models.backbones import ViT
from asmjax.sweep import run as sweeps
from asmjax.sweep.plan import read_sweep
from tests.helpers import small_configs as small
from tests.helpers.published_weights import stored
from tests.helpers.tiny_trees import write_photo, write_source
from tests.helpers.vit_weights import draw, vit_shapes

PLACEHOLDERS = {"VARIANT": "asm", "TASK": "depth", "SEED": "0", "BALANCE": "1"}

# Settings of a short run; a config takes those that it has.
SHORT = {
  **small.SMALL,
  **small.AHEAD,
  "data.eval_size": (32, 32),
  "data.options.length": 16,
  "tasks.segmentation.extra_metrics": ("boundary",),
  "train.updates": "joint",
  "checkpoint.every": 2,
  "predictor.backbone.blocks": (1, 1, 1, 1),
  "predictor.features": 8,
}
# The same for networks with a backbone: maps that are not too small, and of a training nothing but
# its start and its end, since a step compiles for long (tests/config trains such networks).
WITH_BACKBONE = {"data.size": (33, 33), "data.eval_size": (33, 33), "train.steps": 0}
NARROW = {
  "resnet": {"width": 2},
  "mobilenet_v2": {"width": 0.1},
  "mix_transformer": {"depths": (1,) * 4, "widths": (4,) * 4, "num_heads": (1,) * 4},
  "vit": {"width": 12, "depth": 4, "outputs": (1, 2, 3, 4)},
}

# Flags that make a benchmark short.
BENCHMARKS = {
  "boundary": ["--images=2", "--batch=1", "--size=40x50"],
  "collectives": [],
  "evaluation": ["--rounds=1"],
  "export": ["--rounds=1", "--calls=1"],
  "imports": ["--repeats=1"],
  "input": ["--batches=1", "--rounds=1", "--steps=1", "--workers=1"],
  "lookahead": ["--rounds=1", "--before=4"],
  "loop": ["--rounds=1"],
  "memory": ["--configs=scenes:iid", "--sizes=32", "--settings=plain"],
  "methods": ["--rounds=1"],
  "pages": ["--rounds=1"],
  "step": [
    "--rounds=1",
    "--batch=1",
    "--size=16x16",
    "--width=4",
    "--levels=1",
    "--preset=paper",
    "--no-torch",
  ],
}

# What is not run, and why.
NOT_RUN = {
  r"benchmarks/(affinity|predictors)\.py": "needs PyTorch",
  r"benchmarks/crf\.py": "needs pydensecrf2",
  r"benchmarks/devices\.py": "trains fifteen times, in processes of their own",
  r"benchmarks/run\.py": "runs the others",
  r"benchmarks/start\.py": "compiles a complete config",
  r"python -c .*torch": "needs PyTorch",
  r"tests\.helpers\.parity": "needs PyTorch and the libraries that it names",
  r"pip install ": "installs",
  r"pytest -": "is what runs this test",
  r"init\.format=tensorflow": "needs TensorFlow",
  r"asmjax replay ": "needs a step that was not finite (tests/faults makes one)",
}

# What is run in the long form alone, since it repeats others with further configs, whose every row
# tests/sweep reads.
REPEATED = r"asmjax sweep --sweep=(horse|scenes|voc_animals) "


def read_commands(page: pathlib.Path) -> list[str]:
  """Returns the commands of a page: in code blocks, continued lines joined, and in the text."""
  text = page.read_text().replace("\\\n", " ")
  lines = re.findall(r"^ {4}((?:\w+=\S+ )?(?:asmjax|python|pip) .*)$", text, re.M)
  for block in re.findall(r"```bash\n(.*?)```", text, re.S):
    lines += [line.rpartition(" && ")[2] for line in block.splitlines()]
  inline = re.findall(r"`(asmjax [a-z]+\s--config=[^`]*)`", text)
  return [" ".join(command.partition("  #")[0].split()) for command in lines + inline]


def why_not_run(command: str) -> str:
  """Returns the reason why a command is not run; nothing if it is."""
  return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), "")


class Reader:
  """Someone who runs the commands of a page one after the other, in the current folder.

  Attributes:
    trained: Folders of the runs so far, the last one at the end.
    steps: Length of trainings in steps, which compile for long; 0 builds what `train` would train.
  """

  def __init__(self, patch: pytest.MonkeyPatch, finished: pathlib.Path):
    """Starts on a page.

    Args:
      patch: What lets sweeps run in this process.
      finished: Folder that keeps a copy of every run: what a page trains, and an earlier one has
        trained with the same config once it is short, is copied from there.
    """
    self.steps = 2
    self.trained: list[str] = []
    self._finished = finished
    self._written: set[tuple[str, str]] = set()
    patch.setattr(sweeps, "find_devices", lambda: ("cpu", []))
    patch.setattr(sweeps, "Pool", functools.partial(_Pool, self))
    patch.setenv("PYTHONPATH", str(small.ROOT))

  def run(self, command: str) -> str:
    """Runs a command, which must succeed; returns its name."""
    for name, value in PLACEHOLDERS.items():
      command = command.replace(name, value)
    words = [word for word in shlex.split(command) if word != "..."]
    words = [word for word in words if not word.startswith("--distributed=")]
    words = [word.replace("=/", "=") for word in words]  # Nothing outside the current folder.
    while "=" in words[0] or words[0].endswith("python"):
      del words[0]
    script = pathlib.PurePath(words[0])
    if script.parent.name == "benchmarks":
      self._run_benchmark(script.stem, words[1:])
      return script.stem
    if script.parent.name == "launch":
      name = re.search(r'run\("(\w+)"\)', (small.ROOT / script).read_text())[1]
    else:
      name = words.pop(1)
    self._run_command(name, words[1:])
    return name

  def _run_command(self, name: str, words: list[str]) -> None:
    config = self._prepare_config(words)
    words = words + (shorten(config, self.steps) if config else [])
    words = _shorten_groups(words) + ["--count=1"] if name == "analyze" else words
    # Every further scale compiles another program.
    words = [re.sub(r"^(--scales=[^,]*,[^,]*),.*", r"\1", word) for word in words]
    if name == "train":
      if self.steps:
        self.train(words)
      else:
        build_experiment(_read_config(words))
      return
    self._provide_runs(words)
    run_asmjax(name, self._shorten_sweep(words) if name == "sweep" else words)

  def train(self, words: list[str]) -> None:
    """Runs the command `train`, or copies what it would train."""
    workdir = pathlib.Path(_value(words, "workdir"))
    shutil.rmtree(workdir, ignore_errors=True)  # Pages train variants of a run in one folder.
    key = hashlib.sha256(repr(sorted(_flatten(_read_config(words)))).encode()).hexdigest()
    if not (copy := self._finished / key).exists():
      run_asmjax("train", words)
      shutil.copytree(workdir, copy)
    else:
      shutil.copytree(copy, workdir)
    self.trained.append(str(workdir))

  def _run_benchmark(self, name: str, words: list[str]) -> None:
    config = self._prepare_config(words)
    self._provide_runs(words)
    words = words + BENCHMARKS[name] + (shorten(config, steps=2) if config else [])
    run_script(small.ROOT / "benchmarks" / f"{name}.py", words)

  def _prepare_config(self, words: list[str]) -> str:
    """Writes the data and the weights that a config is given; returns its name."""
    if not (config := _value(words, "config")):
      return ""
    loaded = load_config(config)
    if (root := _value(words, "config.data.root")) and loaded.data.source != "tfds":
      self._write_source(loaded.data.source, root)
    path = pathlib.Path(_value(words, "config.init.path") or ".")
    if _value(words, "config.init.format") == "orbax":
      self._stand_in(str(path))
    elif not path.exists():
      short = [flag.removeprefix("--config.") for flag in shorten(config, self.steps)]
      section = load_config(config, dict(flag.split("=", 1) for flag in short)).predictor
      network = build_predictor(section.to_dict(), {"segmentation": 21})
      is_vit = isinstance(network.backbone, ViT)
      save_file(draw(vit_shapes(network.backbone)) if is_vit else stored(network.backbone), path)
    return config

  def _shorten_sweep(self, words: list[str]) -> list[str]:
    """Returns the flags of a sweep, with one seed of one or two rows, and short runs."""
    configs = [word.rpartition("=")[2] for word in words if word.startswith("--run=")]
    labels = []
    if file := _value(words, "sweep"):
      rows = read_sweep(file).rows
      configs += [row.config for row in rows]
      # The second row shows more only if it starts from the first.
      kept = [row.label for row in rows[:2] if row.start or row is rows[0]]
      labels = [] if _value(words, "only") else [f"--only={','.join(kept)}"]
    if root := next((word.rpartition("=")[2] for word in words if "data.root" in word), ""):
      self._write_source(load_config(configs[0]).data.source, root)
    common = set.intersection(*(set(shorten(config, self.steps)) for config in configs))
    settings = [f"--set={flag.removeprefix('--config.')}" for flag in sorted(common)]
    keys = tuple(setting.rpartition("=")[0] + "=" for setting in settings)
    return [word for word in words if not word.startswith(keys)] + ["--seeds=0", *labels, *settings]

  def _write_source(self, source: str, root: str) -> None:
    if (source, root) not in self._written:
      self._written.add((source, root))
      write_source(source, pathlib.Path(root))

  def _provide_runs(self, words: list[str]) -> None:
    """Makes the runs and photos that a command reads."""
    runs: list[str] = []
    for word in words:
      flag, _, value = word.partition("=")
      if flag in ("--workdir", "--compare", "--group"):
        runs += value.rpartition("=")[2].split(",")
        for run in runs:
          self._stand_in(run)
      elif flag == "--input" and not pathlib.Path(value).exists():
        write_photo(pathlib.Path(value) / "photo.jpg", np.random.default_rng(0))
      elif flag == "--data_root":
        self._write_source(_read_source(runs[0]) if runs else "pascal_voc", value)

  def _stand_in(self, run: str) -> None:
    """Copies a trained run of a similar name to a folder, if that is missing, with a seed."""
    if pathlib.Path(run).exists():
      return
    if not self.trained:
      self.train(["--config=scenes:asm", "--workdir=runs/any", *shorten("scenes:asm", steps=2)])
    common = lambda other: len(
      os.path.commonprefix([pathlib.Path(path).name for path in (other, run)])
    )
    shutil.copytree(max(reversed(self.trained), key=common), run)
    path = pathlib.Path(run) / "config.json"
    seed = re.search(r"(\d*)$", run)[1] or 0
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": int(seed)}))


def _read_config(words: list[str]) -> config_dict.ConfigDict:
  """Returns the config that a command names, with its changes."""
  overrides, _ = split_overrides(words)
  return load_config(_value(words, "config"), dict(text.split("=", 1) for text in overrides))


def _read_source(run: str) -> str:
  """Returns the source of a run's data."""
  return json.loads((pathlib.Path(run) / "config.json").read_text())["data"]["source"]


def shorten(config: str, steps: int) -> list[str]:
  """Returns flags that make a run short, of so many steps at most, of what its config has."""
  loaded = load_config(config)
  values = SHORT | {"train.steps": steps}
  if backbone := loaded.predictor.get("backbone"):
    narrow = NARROW[backbone.get("name", "vit")].items()
    values |= WITH_BACKBONE | {f"predictor.backbone.{key}": value for key, value in narrow}
  return [f"--config.{key}={value}" for key, value in values.items() if _has(loaded, key, value)]


def run_asmjax(name: str, words: list[str]) -> None:
  """Runs a command as `asmjax NAME ...` does; it must succeed."""
  code = call_asmjax(name, words)
  assert not code, (name, words, code)


def call_asmjax(name: str, words: list[str]) -> str | int | None:
  """Runs a command as `asmjax NAME ...` does; returns what the process would exit with."""
  with own_flags(), pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "argv", ["asmjax", name, *words])
    with pytest.raises(SystemExit) as end:
      asmjax.cli.main()
  return end.value.code


def run_script(path: pathlib.Path, words: list[str]) -> None:
  """Runs a script as `python PATH ...` does; it must succeed."""
  with own_flags(), pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "argv", [str(path), *words])
    patch.setattr(sys, "path", [*sys.path])
    try:
      runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
      assert not end.code, (path, words, end.code)


@contextlib.contextmanager
def own_flags() -> Iterator[None]:
  """Hides the flags of other commands, and forgets those that are defined meanwhile."""
  values = flags.FLAGS
  others = {name: values[name] for name in values if name not in _OTHERS}
  _remove(others)
  try:
    yield
  finally:
    _remove(name for name in list(values) if name not in _OTHERS)
    for name, flag in others.items():
      values[name] = flag


# What libraries define.
app.define_help_flags()
_OTHERS = frozenset(flags.FLAGS)


def _remove(names) -> None:
  for name in list(names):
    delattr(flags.FLAGS, name)


class _Pool:
  """Runs the jobs of a sweep in this process."""

  def __init__(self, reader, slots, *, say, on_end):
    del slots, say
    self._reader, self._on_end = reader, on_end

  def run(self, jobs, faults):
    """Runs all jobs; none may fail."""
    del faults
    for job in jobs:
      for command in job.commands:
        name, *words = command[3:]
        self._reader.train(words) if name == "train" else run_asmjax(name, words)
      self._on_end(job)


def _shorten_groups(words: list[str]) -> list[str]:
  """Returns the flags of `analyze`, with two groups of one run each, the baseline among them."""
  groups = [word for word in words if word.startswith("--group=")]
  baseline = f"--group={_value(words, 'baseline')}="
  kept = sorted(groups, key=lambda word: not word.startswith(baseline))[:2]
  rest = [word for word in words if word not in groups]
  return [word.partition(",")[0] for word in kept] + rest


def _value(words: list[str], flag: str) -> str:
  """Returns the last value of a flag; nothing if it is not given."""
  start = f"--{flag}="
  return next((word[len(start) :] for word in reversed(words) if word.startswith(start)), "")


def _has(config, key: str, value: object) -> bool:
  if isinstance(value, dict):
    return False
  try:
    check_path(config, key)
  except ValueError:
    return False
  return True


def _flatten(config, path: str = "") -> Iterator[tuple[str, str]]:
  """Yields all settings of a config as text, but not where it lies."""
  for key, value in config.items():
    if hasattr(value, "items"):
      yield from _flatten(value, f"{path}{key}.")
    else:
      yield f"{path}{key}", repr(value)
