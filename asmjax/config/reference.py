"""Scores of another method that a config keeps, to hold a run against them when it ends."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from asmjax.config.schema import construct

# A run with other values of these keys has the same data, predictor and budget.
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
  """Returns lines that hold a run's scores against those that its config keeps.

  Args:
    config: The run's config, as a dict.
    default: The same config without overrides.
    metrics: The run's scores.

  Returns:
    A line for each stored metric with both scores and their difference, and the command that gives
    the stored ones; empty if the config keeps none for this seed, or the run has other data,
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
    found = metrics.get(name, math.nan)
    lines.append(f"{name:36}{found:12.4f}{stored:16.4f}{found - stored:+12.4f}")
  command = reference.command.replace("SEED", str(config["seed"]))
  return "\n".join((*lines, f"stored, from: {command}"))


def _fixed(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
  """Values by path, of all keys but those that are free."""
  values = {}
  for key, value in config.items():
    inner = f"{path}.{key}" if path else key
    if inner in _FREE:
      continue
    if isinstance(value, Mapping):
      values |= _fixed(value, inner)
    else:
      values[inner] = list(value) if isinstance(value, tuple) else value
  return values
