"""Compares a finished run to scores of another method that its config stores."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from asmjax.config.schema import construct, flatten

# Keys that change neither the data nor the predictor nor the budget.
_FREE = ("seed", "terms", "optimizer.critic", "optimizer.affinity", "checkpoint", "reference")


@dataclasses.dataclass(frozen=True)
class Reference:
  """Stored scores at the data, predictor and budget of a config.

  Attributes:
    label: Name of the method that has these scores.
    command: Command that gives them, with SEED for the seed.
    scores: By seed, by metric, as in `results.json`.
  """

  label: str
  command: str
  scores: Mapping[str, Mapping[str, float]]


def compare_to_reference(
  config: Mapping[str, Any], default: Mapping[str, Any], metrics: Mapping[str, float]
) -> str:
  """Returns a table of a run's scores beside those that its config stores.

  Args:
    config: Config of the run, as a dict.
    default: Config of the run without overrides.
    metrics: Scores of the run, by name.

  Returns:
    A line for each stored metric with both scores and their difference, and the command that gives
    the stored ones. Empty if the config has no scores of this seed, or the run has other data,
    another predictor or another budget.
  """
  section = config.get("reference")
  if not section or _fixed(config) != _fixed(default):
    return ""
  reference = construct(Reference, section, "reference")
  scores = reference.scores.get(str(config["seed"]), {})
  if not scores:
    return ""
  lines = [f"{'':36}{'this run':>12}{reference.label:>16}{'difference':>12}"]
  for name, stored in scores.items():
    score = metrics.get(name, math.nan)
    lines.append(f"{name:36}{score:12.4f}{stored:16.4f}{score - stored:+12.4f}")
  command = reference.command.replace("SEED", str(config["seed"]))
  return "\n".join((*lines, f"stored, from: {command}"))


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns all values but those of the keys `_FREE`, by path."""
  is_free = lambda path: any(path == key or path.startswith(f"{key}.") for key in _FREE)
  return {path: value for path, value in flatten(config).items() if not is_free(path)}
