"""Plans of sweeps: labeled configs with overrides, each run with every seed."""

import dataclasses
import graphlib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from asmjax.analysis.comparison import MetricColumn
from asmjax.analysis.runs import locate_results, make_file_name
from asmjax.config.library import read_sweep_file
from asmjax.config.load import format_values, load_config
from asmjax.config.presets import Config
from asmjax.config.run_dir import check_same_config, config_differences, read_results
from asmjax.config.schema import check_keys, construct
from asmjax.utils.files import read_json_object


@dataclasses.dataclass(frozen=True)
class Row:
  """Row of a sweep's table: one config, run with every seed.

  Attributes:
    label: Name of the row in the table.
    config: Path of the config file and variant, as in "configs/scenes.py:asm".
    overrides: Values by dotted key of the config, as in {"train.steps": 750}; none by default. A
      string is passed on the command line as it is, another value by its `repr`.
    start: Label of another row, whose trained predictor with the same seed every run starts from
      (`init.path`), and waits for; empty, the default, for none.
  """

  label: str
  config: str
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  start: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
  """Training run of a sweep, with the evaluation of its final state.

  Attributes:
    label: Label of the run's row.
    seed: Seed of the run.
    workdir: Path of the run's folder.
    arguments: Flags of the command `train` that select and override the config.
    config: Config of the run, with all overrides.
    split: Name of the split to evaluate on; empty, the default, for `eval.split` of the config.
    start: Name of the run whose predictor this one starts from; empty, the default, for none.
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
    """Name of the run in messages."""
    return run_name(self.label, self.seed)

  @property
  def log(self) -> pathlib.Path:
    """Path of the file that the run's output is written to."""
    return self.workdir.with_name(f"{self.workdir.name}.log")

  def check(self) -> None:
    """Raises ValueError if the run's folder has a run with another config."""
    check_same_config(self.workdir, self.config.to_dict())

  def is_trained(self) -> bool:
    """Returns whether the run's folder has the results of its end, with the same config."""
    results = _read_if_exists(self.workdir / "results.json", read_results)
    config = _read_if_exists(self.workdir / "config.json", read_json_object)
    if results is None or config is None or config_differences(config, self.config.to_dict()):
      return False
    if "lookahead" in self.config:  # LoAd decides during the run how many steps to take.
      return "lookahead" in results
    return results["step"] == self.config.train.steps or "early_stop" in results

  def is_scored(self) -> bool:
    """Returns whether the trained state has been evaluated on `split`."""
    scores = _read_if_exists(locate_results(self.workdir, self.split), read_results)
    results = _read_if_exists(self.workdir / "results.json", read_results)
    return scores is not None and results is not None and scores["step"] == results["step"]

  def is_finished(self) -> bool:
    """Returns whether the run has been trained and evaluated."""
    return self.is_trained() and self.is_scored()


@dataclasses.dataclass(frozen=True)
class Sweep:
  """Sweep over rows and seeds, with the columns of the table that compares the rows.

  Attributes:
    rows: Rows of the table.
    seeds: Seeds that every row is run with; 0 alone by default.
    overrides: Overrides of all rows by dotted key; those of a row have priority.
    baseline: Label of the row that the others are compared with; empty, the default, for none.
    metrics: Metrics of the table; if empty, the default, the usual ones of the runs' tasks.
    split: Name of the split to evaluate on; empty, the default, for that of each run's config.

  Raises:
    ValueError: There are no rows or no seeds, a seed is given twice, two labels would have the same
      folder, `baseline` or a row's `start` is no label, or rows start from each other.
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
    if len({make_file_name(label) for label in labels}) < len(labels):
      raise ValueError(f"labels {', '.join(labels)}; expected names of different folders")
    for label in (self.baseline, *(row.start for row in self.rows)):
      if label and label not in labels:
        raise ValueError(f"no row is called {label!r}; known: {', '.join(labels)}")
    try:
      graphlib.TopologicalSorter({row.label: {row.start} for row in self.rows}).prepare()
    except graphlib.CycleError as error:
      circle = " from ".join(reversed(error.args[1]))
      raise ValueError(f"rows start from each other: {circle}") from error

  @classmethod
  def from_dict(cls, section: Mapping[str, Any]) -> "Sweep":
    """Creates a sweep from the dict that `get_sweep()` of a sweep file returns.

    Args:
      section: Dict with `runs`, which maps each label to a config string or to a dict with `config`
        and optionally `overrides` and `start`, and optionally the other attributes of a sweep.

    Raises:
      ValueError: A key is unknown or missing, or the sweep is invalid; see `Sweep`.
    """
    known = {"runs", *(field.name for field in dataclasses.fields(cls))} - {"rows"}
    check_keys(section, known, {"runs"}, "sweep")
    fields = dict(section)
    runs, metrics = fields.pop("runs"), fields.pop("metrics", ())
    if not isinstance(runs, Mapping) or not isinstance(metrics, Sequence):
      raise ValueError(
        f"sweep.runs is {runs!r} and metrics {metrics!r}; expected a dict and a list"
      )
    rows = tuple(_parse_row(label, entry) for label, entry in runs.items())
    return construct(
      cls, fields, "sweep", rows=rows, metrics=tuple(map(MetricColumn.parse, metrics))
    )

  def override(self, overrides: Mapping[str, Any]) -> "Sweep":
    """Returns the sweep with these overrides in every row, with priority over the row's own."""
    rows = [dataclasses.replace(row, overrides={**row.overrides, **overrides}) for row in self.rows]
    return dataclasses.replace(self, rows=tuple(rows))

  def only(self, labels: Iterable[str]) -> "Sweep":
    """Returns the sweep with some rows alone, and those that they start from.

    Args:
      labels: Labels of the rows to keep.

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
      out: Path of the sweep's folder.

    Raises:
      ValueError: A config does not exist, an overridden key is not in it, or a value has the wrong
        type; the message names the row.
    """
    return [self._run(row, seed, out) for seed in self.seeds for row in self.rows]

  def _run(self, row: Row, seed: int, out: pathlib.Path) -> Run:
    """Creates the run of a row with a seed, and reads its config."""
    folder = lambda label: out / make_file_name(label) / str(seed)
    start = {"init.path": folder(row.start), "init.format": "orbax"} if row.start else {}
    # Weights that all rows begin with, by an override of the sweep, are those of the first rows.
    overrides = {**self.overrides, **row.overrides, **start}
    if "seed" in overrides:
      raise ValueError(f"{row.label}: seed is an override; expected it among the sweep's seeds")
    overrides["seed"] = seed
    texts = format_values(overrides)
    try:
      config = load_config(row.config, texts)
    except (ValueError, OSError) as error:
      raise ValueError(f"{row.label}: {error}") from error
    return Run(
      row.label,
      seed,
      folder(row.label),
      (f"--config={row.config}", *(f"--config.{key}={text}" for key, text in texts.items())),
      config,
      self.split,
      run_name(row.start, seed) if row.start else "",
    )


def run_name(label: str, seed: int) -> str:
  """Returns the name of a run in messages."""
  return f"{label} seed {seed}"


def read_sweep(path: str) -> Sweep:
  """Reads the sweep that `get_sweep()` of a Python file returns.

  Args:
    path: "FILE" or "FILE:ARGUMENT"; see `asmjax.config.library.read_sweep_file`.

  Raises:
    ValueError: The file has no `get_sweep`, or that takes no argument and one is given, or its
      result is invalid; see `Sweep.from_dict`.
    FileNotFoundError: The sweep file does not exist.
  """
  return Sweep.from_dict(read_sweep_file(path))


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
  """Parses texts of the form NAME=VALUE to a dict of values by name.

  Args:
    texts: Values of the flag.
    flag: Name of the flag, for the error message.

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


def _parse_row(label: str, entry: str | Mapping[str, Any]) -> Row:
  section = {"config": entry} if isinstance(entry, str) else entry
  return construct(Row, section, f"sweep.runs.{label}", label=label)


def _read_if_exists(
  path: pathlib.Path, read: Callable[[pathlib.Path], dict[str, Any]]
) -> dict[str, Any] | None:
  return read(path) if path.exists() else None
