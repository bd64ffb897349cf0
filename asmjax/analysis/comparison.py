"""Comparison of groups of runs: means, deviations, and paired differences with intervals."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asmjax.analysis.formatting import display_scale, format_metric, format_number, markdown_table
from asmjax.analysis.runs import Group, check_comparable
from asmjax.metrics.names import metric_direction

# Level of the confidence intervals, the usual 95 %.
CONFIDENCE = 0.95

_DIRECTIONS = {"higher": 1, "lower": -1, "none": 0}


@dataclasses.dataclass(frozen=True)
class MetricColumn:
  """Metric, and the format of its column in a table.

  Attributes:
    name: Key of the metric in `results.json`.
    title: Head of the column.
    scale: Factor by which displayed values are multiplied, such as 100 for per cent.
    direction: 1 if higher values are better, -1 if lower ones are, 0 if neither.
  """

  name: str
  title: str
  scale: float
  direction: int

  @classmethod
  def parse(cls, entry: str | Mapping[str, Any]) -> "MetricColumn":
    """Reads a column from the name of a metric, or from a mapping with further settings.

    Args:
      entry: Name of the metric; or a mapping with `name` and any of `title`, `scale` and
        `direction`, which is "higher", "lower" or "none". Settings left out follow from the name.

    Raises:
      ValueError: A key is unknown, the name is missing, or the direction is unknown.
    """
    if not isinstance(entry, str | Mapping):
      raise ValueError(f"metric {entry!r}; expected a name, or a dict with one")
    entry = {"name": entry} if isinstance(entry, str) else dict(entry)
    unknown = entry.keys() - {"name", "title", "scale", "direction"}
    if unknown or "name" not in entry:
      raise ValueError(f"metric {entry}; expected name and any of title, scale, direction")
    name = entry["name"]
    direction = entry.get("direction")
    if direction not in (None, *_DIRECTIONS):
      raise ValueError(f"direction {direction!r} of {name}; known: {', '.join(_DIRECTIONS)}")
    return cls(
      name,
      entry.get("title", format_metric(name)),
      entry.get("scale", display_scale(name)),
      metric_direction(name) if direction is None else _DIRECTIONS[direction],
    )

  def format(self, value: float, sign: str = "") -> str:
    """Formats a value in the units of `results.json`; see `format_number`."""
    return format_number(value, self.scale, sign)


@dataclasses.dataclass(frozen=True)
class SeedSummary:
  """Values of a metric of the runs of a group, in the units of `results.json`.

  Attributes:
    values: Final value by seed, for the runs that have one.
  """

  values: Mapping[int, float]

  @property
  def mean(self) -> float:
    """Mean over the seeds; NaN without any."""
    return float(np.mean(list(self.values.values()))) if self.values else math.nan

  @property
  def std(self) -> float:
    """Sample standard deviation over the seeds (n - 1); NaN for fewer than two."""
    return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else math.nan


@dataclasses.dataclass(frozen=True)
class PairedDifference(SeedSummary):
  """Differences of a group's runs from the baseline's runs of the same seeds.

  Attributes:
    values: Difference by seed, for the seeds that both groups have.
    direction: 1 if higher values of the metric are better, -1 if lower ones are, 0 if neither.
  """

  direction: int

  @property
  def interval(self) -> tuple[float, float]:
    """Ends of the Student-t confidence interval of the mean difference.

    They are the mean -+ t_{0.975, n-1} s / sqrt(n); NaN for fewer than two seeds.
    """
    from scipy.special import stdtrit

    n = len(self.values)
    if n < 2:
      return math.nan, math.nan
    half_width = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * self.std / math.sqrt(n)
    return self.mean - half_width, self.mean + half_width

  @property
  def ahead(self) -> int:
    """Number of seeds in which the group is better than the baseline."""
    return sum(self.direction * value > 0 for value in self.values.values())


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Comparison of groups of runs, metric by metric.

  Attributes:
    labels: Labels of the groups, in order.
    baseline: Label of the group that the others are compared with; None for none.
    metrics: Metrics to compare, one column each.
    examples: Data set, split and number of examples of the evaluation.
    summaries: Values over seeds, by the group's label and the metric's name.
    differences: Differences from the baseline, by the group's label and the metric's name; without
      the baseline itself, and empty if there is none.
    seconds: Wall time of training in seconds by label; without values where none was recorded.
    cost: Ratio of the wall time to the baseline's, over the seeds that both groups have, by label;
      empty without a baseline.
  """

  labels: tuple[str, ...]
  baseline: str | None
  metrics: tuple[MetricColumn, ...]
  examples: tuple[str, str, int]
  summaries: Mapping[str, Mapping[str, SeedSummary]]
  differences: Mapping[str, Mapping[str, PairedDifference]]
  seconds: Mapping[str, SeedSummary]
  cost: Mapping[str, float]

  def to_markdown(self) -> str:
    """Formats a Markdown table with a row for each group; `caption` explains its cells."""
    is_timed = any(seconds.values for seconds in self.seconds.values())
    head = ["runs"]
    for metric in self.metrics:
      head += [metric.title, f"against {self.baseline}"] if self.differences else [metric.title]
    rows = []
    for label in self.labels:
      row = [label]
      for metric in self.metrics:
        row.append(_format_summary(metric, self.summaries[label][metric.name]))
        if self.differences:
          row.append(_format_difference(metric, self.differences.get(label, {}).get(metric.name)))
      rows.append(row + [_format_minutes(self.seconds[label], self.cost.get(label))] * is_timed)
    return markdown_table(head + ["minutes"] * is_timed, rows)

  def caption(self) -> str:
    """Describes the cells of the table and the examples of the evaluation."""
    data_set, split, examples = self.examples
    parts = [f"{data_set} {split}, {examples} examples."]
    if any(len(runs.values) > 1 for row in self.summaries.values() for runs in row.values()):
      parts.append("Mean over the seeds ± sample standard deviation (every seed's value).")
    if self.differences:
      parts.append(
        f"Against {self.baseline} at the same seed: mean difference [its {CONFIDENCE:.0%} "
        "Student-t interval], in how many seeds it is better."
      )
    if any(seconds.values for seconds in self.seconds.values()):
      unit = f" (in terms of {self.baseline})" if self.cost else ""
      parts.append(f"Minutes: mean wall time of a training{unit}.")
    return " ".join(parts)

  def to_dict(self) -> dict[str, Any]:
    """Converts the comparison to the types of JSON, with values in the units of `results.json`."""
    data_set, split, examples = self.examples
    return {
      "data_set": data_set,
      "split": split,
      "examples": examples,
      "baseline": self.baseline,
      "confidence": CONFIDENCE,
      "metrics": [dataclasses.asdict(metric) for metric in self.metrics],
      "rows": [self._describe_row(label) for label in self.labels],
    }

  def _describe_row(self, label: str) -> dict[str, Any]:
    metrics = {}
    for name, summary in self.summaries[label].items():
      metrics[name] = _describe_seeds(summary)
      if difference := self.differences.get(label, {}).get(name):
        low, high = difference.interval
        metrics[name]["difference"] = {
          **_describe_seeds(difference),
          "low": low,
          "high": high,
          "ahead": difference.ahead,
        }
    seconds = {**_describe_seeds(self.seconds[label]), "ratio": self.cost.get(label)}
    return {"label": label, "metrics": metrics, "seconds": seconds}


def compare(
  groups: Sequence[Group],
  metrics: Sequence[str | Mapping[str, Any] | MetricColumn],
  baseline: str | None = None,
) -> Comparison:
  """Compares groups of finished runs, and with a baseline the runs of the same seed.

  Args:
    groups: Groups of runs that differ in their seeds alone.
    metrics: Metrics to compare, as columns or in a form that `MetricColumn.parse` reads.
    baseline: Label of the group to compare the others with; None, the default, for none.

  Raises:
    ValueError: The runs were not evaluated on the same examples, a metric or the baseline is
      unknown, labels are not distinct, or with a baseline runs have no seeds of their own.
  """
  labels = tuple(group.label for group in groups)
  if len(set(labels)) < len(labels):
    raise ValueError(f"labels {', '.join(labels)}; expected different ones")
  if baseline not in (None, *labels):
    raise ValueError(f"baseline {baseline!r} is none of the groups: {', '.join(labels)}")
  check_comparable(groups)
  metrics = tuple(
    entry if isinstance(entry, MetricColumn) else MetricColumn.parse(entry) for entry in metrics
  )
  seeds = {group.label: _read_seeds(group, required=baseline is not None) for group in groups}
  summaries = {
    group.label: {
      metric.name: _summarize_seeds(seeds[group.label], group.read_final(metric.name))
      for metric in metrics
    }
    for group in groups
  }
  seconds = {
    group.label: _summarize_seeds(seeds[group.label], group.read_seconds()) for group in groups
  }
  differences, cost = {}, {}
  if baseline:
    differences = {
      label: {
        metric.name: subtract_baseline(
          by_metric[metric.name], summaries[baseline][metric.name], metric.direction
        )
        for metric in metrics
      }
      for label, by_metric in summaries.items()
      if label != baseline
    }
    cost = {label: _divide_seconds(seconds[label], seconds[baseline]) for label in labels}
  results = groups[0].read_results()[0]
  examples = results["data_set"], results["split"], results["examples"]
  return Comparison(labels, baseline, metrics, examples, summaries, differences, seconds, cost)


def subtract_baseline(
  group: SeedSummary, baseline: SeedSummary, direction: int
) -> PairedDifference:
  """Subtracts the baseline's values from a group's, for each seed that both have."""
  shared = [seed for seed in group.values if seed in baseline.values]
  values = {seed: group.values[seed] - baseline.values[seed] for seed in shared}
  return PairedDifference(values, direction)


def _divide_seconds(group: SeedSummary, baseline: SeedSummary) -> float:
  """Divides a group's wall time by the baseline's, over the seeds that both have; NaN if none."""
  shared = [seed for seed in group.values if seed in baseline.values]
  total = lambda summary: sum(summary.values[seed] for seed in shared)
  return total(group) / total(baseline) if shared and total(baseline) else math.nan


def _read_seeds(group: Group, *, required: bool) -> Sequence[int]:
  """Returns the seeds of runs; their numbers from 0 if seeds are unknown and not required."""
  try:
    return group.read_seeds()
  except ValueError:
    if required:
      raise
    return range(len(group.workdirs))


def _summarize_seeds(seeds: Sequence[int], values: np.ndarray) -> SeedSummary:
  pairs = zip(seeds, values.tolist(), strict=True)
  return SeedSummary({seed: value for seed, value in pairs if not math.isnan(value)})


def _describe_seeds(summary: SeedSummary) -> dict[str, Any]:
  values = {str(seed): value for seed, value in summary.values.items()}
  return {"mean": summary.mean, "std": summary.std, "values": values}


def _format_summary(metric: MetricColumn, summary: SeedSummary) -> str:
  if len(summary.values) < 2:
    return metric.format(summary.mean)
  values = ", ".join(metric.format(value) for value in summary.values.values())
  return f"**{metric.format(summary.mean)}** ± {metric.format(summary.std)} ({values})"


def _format_difference(metric: MetricColumn, difference: PairedDifference | None) -> str:
  if difference is None or not difference.values:
    return ""
  cell = metric.format(difference.mean, "+")
  if len(difference.values) > 1:
    low, high = (metric.format(end, "+") for end in difference.interval)
    cell += f" [{low}, {high}]"
  return cell + (f", {difference.ahead} of {len(difference.values)}" if metric.direction else "")


def _format_minutes(seconds: SeedSummary, ratio: float | None) -> str:
  if not seconds.values:
    return ""
  minutes = f"{seconds.mean / 60:.1f}"
  return minutes if ratio is None or math.isnan(ratio) else f"{minutes} ({ratio:.2f}x)"
