"""Groups of runs side by side: means, spreads, and paired differences with their intervals."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asmjax.analysis.formatting import display_scale, metric_direction
from asmjax.analysis.runs import Group, check_comparable

# Of the confidence intervals.
CONFIDENCE = 0.95

_DIRECTIONS = {"higher": 1, "lower": -1, "none": 0}


@dataclasses.dataclass(frozen=True)
class MetricColumn:
  """A metric and how it is shown.

  Attributes:
    name: Its key in `results.json`.
    title: Head of its column.
    scale: Factor by which values are multiplied to be shown.
    direction: 1 if higher values are better, -1 if lower ones are, 0 if neither.
  """

  name: str
  title: str
  scale: float
  direction: int

  @classmethod
  def parse(cls, entry: str | Mapping[str, Any]) -> "MetricColumn":
    """Reads a metric's name, or a mapping with `name` and any of the other settings.

    Args:
      entry: The name alone, or with `title`, `scale` and `direction`: "higher", "lower" or "none".

    Raises:
      ValueError: A key is unknown or missing, or the direction is.
    """
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
      entry.get("title", name.rpartition("/")[2]),
      entry.get("scale", display_scale(name)),
      metric_direction(name) if direction is None else _DIRECTIONS[direction],
    )

  def format(self, value: float, sign: str = "") -> str:
    """Returns a value as it is shown, in as many digits as are worth reading."""
    value = self.scale * value
    if math.isnan(value):
      return "–"
    return f"{value:{sign}.{2 if self.scale > 1 or abs(value) >= 1 else 3}f}"


@dataclasses.dataclass(frozen=True)
class SeedSummary:
  """A metric of the runs of one group, in the units of `results.json`.

  Attributes:
    values: Final value by seed, of those runs that have one.
  """

  values: Mapping[int, float]

  @property
  def mean(self) -> float:
    """Mean over the seeds, NaN without any."""
    return float(np.mean(list(self.values.values()))) if self.values else math.nan

  @property
  def std(self) -> float:
    """Sample standard deviation over the seeds (n - 1), NaN for fewer than two."""
    return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else math.nan


@dataclasses.dataclass(frozen=True)
class PairedDifference(SeedSummary):
  """Differences to the baseline's run of the same seed.

  Attributes:
    values: Difference by seed, of the seeds that both groups have.
    direction: That of the metric.
  """

  direction: int

  @property
  def half_width(self) -> float:
    """Half the Student-t confidence interval of the mean with n - 1 degrees of freedom.

    It is t_{0.975, n-1} s / sqrt(n), and NaN for fewer than two seeds.
    """
    from scipy.special import stdtrit

    n = len(self.values)
    if n < 2:
      return math.nan
    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * self.std / math.sqrt(n)

  @property
  def interval(self) -> tuple[float, float]:
    """Lower and upper end of the confidence interval of the mean."""
    return self.mean - self.half_width, self.mean + self.half_width

  @property
  def ahead(self) -> int:
    """Number of seeds in which the group is better than the baseline."""
    return sum(self.direction * value > 0 for value in self.values.values())


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Groups of runs, compared metric by metric.

  Attributes:
    labels: Labels of the groups, in order.
    baseline: Label of the group that others are held against; None for none.
    metrics: What is compared.
    examples: Data set, split and number of examples of the evaluation.
    summaries: By label and the metric's name.
    differences: Likewise, of all groups but the baseline.
    seconds: Wall times of training by label; without values where runs recorded none.
    cost: By label the wall time in terms of the baseline's, over the seeds that both have.
  """

  labels: tuple[str, ...]
  baseline: str | None
  metrics: tuple[MetricColumn, ...]
  examples: tuple[str, str, int]
  summaries: Mapping[str, Mapping[str, SeedSummary]]
  differences: Mapping[str, Mapping[str, PairedDifference]]
  seconds: Mapping[str, SeedSummary]
  cost: Mapping[str, float]

  def markdown(self) -> str:
    """Returns a table with a row for each group; `caption` says what is in it."""
    timed = any(each.values for each in self.seconds.values())
    head = ["runs"]
    for metric in self.metrics:
      head += [metric.title, f"against {self.baseline}"] if self.differences else [metric.title]
    rows = [head + ["minutes"] * timed, ["---"] * (len(head) + timed)]
    for label in self.labels:
      row = [label]
      for metric in self.metrics:
        row.append(_summary_cell(metric, self.summaries[label][metric.name]))
        if self.differences:
          row.append(_difference_cell(metric, self.differences.get(label, {}).get(metric.name)))
      rows.append(row + [_cost_cell(self.seconds[label], self.cost.get(label))] * timed)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

  def caption(self) -> str:
    """Returns what the cells of the table mean, and what was evaluated."""
    data_set, split, examples = self.examples
    parts = [f"{data_set} {split}, {examples} examples."]
    if any(len(each.values) > 1 for row in self.summaries.values() for each in row.values()):
      parts.append("Mean over the seeds ± sample standard deviation (every seed's value).")
    if self.differences:
      parts.append(
        f"Against {self.baseline} at the same seed: mean difference [its {CONFIDENCE:.0%} "
        "Student-t interval], in how many seeds it is better."
      )
    if any(each.values for each in self.seconds.values()):
      of = f" (in terms of {self.baseline})" if self.cost else ""
      parts.append(f"Minutes: mean wall time of a training{of}.")
    return " ".join(parts)

  def to_dict(self) -> dict[str, Any]:
    """Returns everything in the types of JSON, in the units of `results.json`."""
    data_set, split, examples = self.examples
    return {
      "data_set": data_set,
      "split": split,
      "examples": examples,
      "baseline": self.baseline,
      "confidence": CONFIDENCE,
      "metrics": [dataclasses.asdict(metric) for metric in self.metrics],
      "rows": [self._row(label) for label in self.labels],
    }

  def _row(self, label: str) -> dict[str, Any]:
    metrics = {}
    for name, summary in self.summaries[label].items():
      metrics[name] = _facts(summary)
      if difference := self.differences.get(label, {}).get(name):
        low, high = difference.interval
        metrics[name]["difference"] = {
          **_facts(difference),
          "low": low,
          "high": high,
          "ahead": difference.ahead,
        }
    seconds = {**_facts(self.seconds[label]), "ratio": self.cost.get(label)}
    return {"label": label, "metrics": metrics, "seconds": seconds}


def compare(
  groups: Sequence[Group],
  metrics: Sequence[str | Mapping[str, Any] | MetricColumn],
  baseline: str | None = None,
) -> Comparison:
  """Compares finished runs, with a baseline pairwise at the same seed.

  Args:
    groups: Runs that differ in their seeds alone.
    metrics: See `MetricColumn.parse`.
    baseline: Label of the group that others are held against.

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
    each if isinstance(each, MetricColumn) else MetricColumn.parse(each) for each in metrics
  )
  seeds = {group.label: _seeds(group, required=baseline is not None) for group in groups}
  summaries = {
    group.label: {
      metric.name: _summary(seeds[group.label], group.final(metric.name)) for metric in metrics
    }
    for group in groups
  }
  seconds = {group.label: _summary(seeds[group.label], group.seconds()) for group in groups}
  results = groups[0].results()[0]
  return Comparison(
    labels=labels,
    baseline=baseline,
    metrics=metrics,
    examples=tuple(results[key] for key in ("data_set", "split", "examples")),
    summaries=summaries,
    differences={
      label: {
        metric.name: paired_difference(
          summaries[label][metric.name], summaries[baseline][metric.name], metric.direction
        )
        for metric in metrics
      }
      for label in labels
      if label != baseline
    }
    if baseline
    else {},
    seconds=seconds,
    cost={label: _cost(seconds[label], seconds[baseline]) for label in labels} if baseline else {},
  )


def paired_difference(
  group: SeedSummary, baseline: SeedSummary, direction: int
) -> PairedDifference:
  """Subtracts the baseline's value from the group's at each seed that both have."""
  shared = [seed for seed in group.values if seed in baseline.values]
  values = {seed: group.values[seed] - baseline.values[seed] for seed in shared}
  return PairedDifference(values, direction)


def _cost(group: SeedSummary, baseline: SeedSummary) -> float:
  """The group's wall time over the baseline's, of the seeds that both have; NaN without any."""
  shared = [seed for seed in group.values if seed in baseline.values]
  total = lambda summary: sum(summary.values[seed] for seed in shared)
  return total(group) / total(baseline) if shared and total(baseline) else math.nan


def _seeds(group: Group, *, required: bool) -> Sequence[int]:
  """Seeds of the runs; their places where seeds are not needed and not told."""
  try:
    return group.seeds()
  except ValueError:
    if required:
      raise
    return range(len(group.workdirs))


def _summary(seeds: Sequence[int], values: np.ndarray) -> SeedSummary:
  pairs = zip(seeds, values.tolist(), strict=True)
  return SeedSummary({seed: value for seed, value in pairs if not math.isnan(value)})


def _facts(summary: SeedSummary) -> dict[str, Any]:
  values = {str(seed): value for seed, value in summary.values.items()}
  return {"mean": summary.mean, "std": summary.std, "values": values}


def _summary_cell(metric: MetricColumn, summary: SeedSummary) -> str:
  if len(summary.values) < 2:
    return metric.format(summary.mean)
  each = ", ".join(metric.format(value) for value in summary.values.values())
  return f"**{metric.format(summary.mean)}** ± {metric.format(summary.std)} ({each})"


def _difference_cell(metric: MetricColumn, difference: PairedDifference | None) -> str:
  if difference is None or not difference.values:
    return ""
  cell = metric.format(difference.mean, "+")
  if len(difference.values) > 1:
    low, high = (metric.format(end, "+") for end in difference.interval)
    cell += f" [{low}, {high}]"
  return cell + (f", {difference.ahead} of {len(difference.values)}" if metric.direction else "")


def _cost_cell(seconds: SeedSummary, ratio: float | None) -> str:
  if not seconds.values:
    return ""
  minutes = f"{seconds.mean / 60:.1f}"
  return minutes if ratio is None or math.isnan(ratio) else f"{minutes} ({ratio:.2f}x)"
