"""What a sweep runs: labeled configs with overrides, each with every seed."""

import dataclasses
import pathlib
import runpy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from asmjax.analysis.comparison import MetricColumn
from asmjax.analysis.runs import file_name, results_path
from asmjax.config.presets import Config
from asmjax.config.run_dir import check_same_config, config_differences
from asmjax.config.schema import check_keys, check_path
from asmjax.utils.files import read_json


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of a sweep's table.

  Attributes:
    label: Its name in the table.
    config: Config file and variant, as "configs/scenes.py:asm".
    overrides: Values by dotted key of the config, as {"train.steps": 750}; a string is written on
      the command line as it is.
    start: Label of another row; every run starts from that row's trained predictor with the same
      seed (`init.path`), and waits for it. Empty for none.
  """

  label: str
  config: str
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  start: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
  """One training of a sweep.

  Attributes:
    label: Label of its row.
    seed: Its seed.
    workdir: Its folder.
    arguments: Flags of the command `train` that make its config.
    config: The config itself.
    split: Split that it is scored on; empty for that of its own evaluation.
    start: Name of the run that it starts from; empty for none.
  """

  label: str
  seed: int
  workdir: pathlib.Path
  arguments: tuple[str, ...]
  config: Config
  split: str = ""
  start: str = ""

  @property
  def name(self) -> str:
    """What it is called in messages."""
    return run_name(self.label, self.seed)

  @property
  def log(self) -> pathlib.Path:
    """File with all that it prints."""
    return self.workdir.with_name(f"{self.workdir.name}.log")

  def check(self) -> None:
    """Raises ValueError if its folder holds a run with another config."""
    check_same_config(self.workdir / "config.json", self.config.to_dict())

  def is_trained(self) -> bool:
    """Whether its folder holds the results of its last step, with the same config."""
    results = _read(self.workdir / "results.json")
    config = _read(self.workdir / "config.json")
    if results is None or config is None or config_differences(config, self.config.to_dict()):
      return False
    if "lookahead" in self.config:  # Its steps are not known beforehand.
      return "lookahead" in results
    return results["step"] == self.config.train.steps

  def is_scored(self) -> bool:
    """Whether its trained state is evaluated on `split`."""
    scores = _read(results_path(self.workdir, self.split))
    results = _read(self.workdir / "results.json")
    return scores is not None and results is not None and scores["step"] == results["step"]

  def is_finished(self) -> bool:
    """Whether nothing is left to do."""
    return self.is_trained() and self.is_scored()


@dataclasses.dataclass(frozen=True)
class Sweep:
  """Rows x seeds, and what is read off their results.

  Attributes:
    rows: Rows of the table.
    seeds: Seeds that every row is run with.
    overrides: Overrides of all rows; a row's own come first.
    baseline: Label of the row that others are compared with; empty for none.
    metrics: Metrics of the table; the usual ones of the runs' tasks if empty.
    split: Split that is scored; empty for that of each run's own evaluation.

  Raises:
    ValueError: No row or seed, labels whose folders would be the same, or a label that is unknown.
  """

  rows: tuple[Row, ...]
  seeds: tuple[int, ...] = (0,)
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  baseline: str = ""
  metrics: tuple[MetricColumn, ...] = ()
  split: str = ""

  def __post_init__(self) -> None:
    """Checks labels and seeds."""
    labels = [row.label for row in self.rows]
    if not labels or not self.seeds:
      raise ValueError("a sweep without runs; expected at least one row and one seed")
    if len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f"seeds {self.seeds}; expected different ones")
    if len({file_name(label) for label in labels}) < len(labels):
      raise ValueError(f"labels {', '.join(labels)}; expected names of different folders")
    for label in (self.baseline, *(row.start for row in self.rows)):
      if label and label not in labels:
        raise ValueError(f"no row is called {label!r}; known: {', '.join(labels)}")

  @classmethod
  def from_dict(cls, section: Mapping[str, Any]) -> "Sweep":
    """Reads what `get_sweep()` of a sweep file returns.

    Args:
      section: `runs`, a config string or a mapping with `config` and perhaps `overrides` and
        `start` by label, and any other attribute of a sweep.

    Raises:
      ValueError: A key is unknown or missing, or see `Sweep`.
    """
    known = {"runs", *(field.name for field in dataclasses.fields(cls))} - {"rows"}
    check_keys(section, known, {"runs"}, "sweep")
    rest = {key: section[key] for key in section if key not in ("runs", "metrics", "seeds")}
    return cls(
      rows=tuple(_row(label, entry) for label, entry in section["runs"].items()),
      seeds=tuple(section.get("seeds", (0,))),
      metrics=tuple(map(MetricColumn.parse, section.get("metrics", ()))),
      **rest,
    )

  def override(self, overrides: Mapping[str, Any]) -> "Sweep":
    """Returns the sweep with these overrides in every row, whatever the row itself says."""
    rows = [dataclasses.replace(row, overrides={**row.overrides, **overrides}) for row in self.rows]
    return dataclasses.replace(self, rows=tuple(rows))

  def only(self, labels: Iterable[str]) -> "Sweep":
    """Returns the sweep with these rows alone, and those that they start from.

    Raises:
      ValueError: A label is unknown.
    """
    by_label, kept, wanted = {row.label: row for row in self.rows}, set(), list(labels)
    while wanted:
      label = wanted.pop()
      if label not in by_label:
        raise ValueError(f"no row is called {label!r}; known: {', '.join(by_label)}")
      kept.add(label)
      wanted += [by_label[label].start] if by_label[label].start else []
    rows = tuple(row for row in self.rows if row.label in kept)
    baseline = self.baseline if self.baseline in kept else ""
    return dataclasses.replace(self, rows=rows, baseline=baseline)

  def runs(self, out: pathlib.Path) -> list[Run]:
    """Returns all runs, seed by seed, so that early tables compare all rows.

    Args:
      out: Folder of the sweep.

    Raises:
      ValueError: A config does not exist or has no such key, or a value is of a wrong type; the
        message names the row.
    """
    return [self._run(row, seed, out) for seed in self.seeds for row in self.rows]

  def _run(self, row: Row, seed: int, out: pathlib.Path) -> Run:
    folder = lambda label: out / file_name(label) / str(seed)
    start = {"init.path": folder(row.start), "init.format": "orbax"} if row.start else {}
    overrides = {**start, **self.overrides, **row.overrides}
    if "seed" in overrides:
      raise ValueError(f"{row.label}: seed is an override; expected it among the sweep's seeds")
    overrides["seed"] = seed
    try:
      config = read_config(row.config, overrides)
    except (ValueError, OSError) as error:
      raise ValueError(f"{row.label}: {error}") from error
    return Run(
      row.label,
      seed,
      folder(row.label),
      config_arguments(row.config, overrides),
      config,
      self.split,
      run_name(row.start, seed) if row.start else "",
    )


def run_name(label: str, seed: int) -> str:
  """Returns what a run is called in messages."""
  return f"{label} seed {seed}"


def config_arguments(config: str, overrides: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the flags of a command for a config with overrides."""
  written = lambda value: str(value) if isinstance(value, str | pathlib.Path) else repr(value)
  return (
    f"--config={config}",
    *(f"--config.{key}={written(value)}" for key, value in overrides.items()),
  )


def read_config(config: str, overrides: Mapping[str, Any]) -> Config:
  """Returns a config as a command gets it from the command line.

  Raises:
    ValueError: A key is unknown, a value of a wrong type, or the variant unknown.
    FileNotFoundError: There is no such file.
  """
  path, _, variant = config.partition(":")
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"config file {path} does not exist")
  made = runpy.run_path(path)["get_config"](*filter(None, [variant]))
  for key in overrides:
    check_path(made, key)
  values, argv = flags.FlagValues(), ["sweep", *config_arguments(config, overrides)[1:]]
  config_flags.DEFINE_config_dict("config", made, flag_values=values, sys_argv=argv)
  try:
    values(argv)
  except flags.Error as error:
    raise ValueError(str(error)) from error
  return values.config


def read_sweep(path: str) -> Sweep:
  """Returns the sweep of a Python file with `get_sweep()`; FILE.py:ARGUMENT passes an argument.

  Raises:
    ValueError: see `Sweep.from_dict`.
    FileNotFoundError: There is no such file.
  """
  file, _, argument = path.partition(":")
  if not pathlib.Path(file).is_file():
    raise FileNotFoundError(f"sweep file {file} does not exist")
  module = runpy.run_path(file)
  if "get_sweep" not in module:
    raise ValueError(f"{file} has no get_sweep(); expected one that returns the sweep")
  return Sweep.from_dict(module["get_sweep"](*filter(None, [argument])))


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
  """Returns the values by name of texts NAME=VALUE.

  Raises:
    ValueError: A text has another form, or a name is given twice.
  """
  pairs: dict[str, str] = {}
  for text in texts:
    name, _, value = text.partition("=")
    if not name or not value or name in pairs:
      raise ValueError(f"--{flag}={text}; expected NAME=VALUE, each name once")
    pairs[name] = value
  return pairs


def _row(label: str, entry: str | Mapping[str, Any]) -> Row:
  if isinstance(entry, str):
    return Row(label, entry)
  check_keys(entry, ("config", "overrides", "start"), {"config"}, f"sweep.runs.{label}")
  return Row(label, **{key: entry[key] for key in entry})


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  return read_json(path) if path.exists() else None
