"""Formats of metrics' names and values in tables and figures."""

import math
import re
from collections.abc import Iterable, Sequence

from asmjax.metrics.names import split_quantity

# Metrics that are fractions, displayed in per cent, by the last part of their names.
_FRACTIONS = re.compile("iou|accuracy|delta|within|precision|recall|^bf|(^|_)f(_|$)")

# Units of what is neither a fraction nor a ratio, by task and quantity.
_UNITS = {
  ("depth", "rms"): "m",
  ("depth", "sq_rel"): "m",
  ("normals", "mean"): "degrees",
  ("normals", "median"): "degrees",
}


def display_scale(metric: str) -> int:
  """Returns the factor from values to displayed values: 100 (per cent) for fractions, else 1."""
  return 100 if _FRACTIONS.search(split_quantity(metric)) else 1


def format_metric(metric: str) -> str:
  """Formats a metric's name without its task, as in "boundary precision" or "rms in m"."""
  *path, name = metric.split("/")
  task, kinds = (path or [""])[0], path[1:]
  kinds = [kind for kind in kinds if not name.startswith(kind)]
  unit = _UNITS.get((task, name))
  return format_key(" ".join([*kinds, name])) + (f" in {unit}" if unit else "")


def format_key(key: str) -> str:
  """Formats a key as words."""
  words = key.replace("_", " ")
  return re.sub(r"\bf\b", "F", re.sub(r"\biou\b", "IoU", words))


def format_number(value: float, scale: float = 1, sign: str = "") -> str:
  """Formats a scaled number with two decimals, or three within -1 and 1; NaN as a dash.

  Args:
    value: Number to format.
    scale: Factor from `value` to the displayed number; with a factor above 1, such as that of per
      cent, there always are two decimals.
    sign: "+" to write the sign of positive numbers, too; empty by default.
  """
  number = scale * value
  if math.isnan(number):
    return "–"
  return f"{number:{sign}.{2 if scale > 1 or abs(number) >= 1 else 3}f}"


def format_value(metric: str, value: float) -> str:
  """Formats a value of a metric, a fraction in per cent."""
  return format_number(value, display_scale(metric))


def format_change(metric: str, change: float) -> str:
  """Formats a difference between two values of a metric with its sign, a fraction in points."""
  return format_number(change, display_scale(metric), "+").replace("-", "−")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """Formats cells as a Markdown table."""
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)
