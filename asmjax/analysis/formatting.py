"""Formats of metrics' names and values in tables and figures."""

import re

from asmjax.metrics.names import split_class

# Metrics that are fractions, displayed in per cent, by the last part of their names.
_FRACTIONS = re.compile("iou|accuracy|delta|within|precision|recall|^bf|(^|_)f(_|$)")

# Errors, of which less is better, by the last part of their names.
_ERRORS = frozenset(
  (
    "calibration_error",
    "rel",
    "rel_by_prediction",
    "sq_rel",
    "rms",
    "log_rms",
    "log10",
    "mean",
    "median",
  )
)


def display_scale(metric: str) -> int:
  """Returns the factor from values to displayed values: 100 (per cent) for fractions, else 1."""
  return 100 if _FRACTIONS.search(_quantity(metric)) else 1


def metric_direction(metric: str) -> int:
  """Returns 1 if higher values of a metric are better, -1 if lower ones are, 0 if neither."""
  quantity = _quantity(metric)
  return -1 if quantity in _ERRORS else 0 if quantity.endswith("_std") else 1


def format_metric(metric: str) -> str:
  """Formats a metric's name without its task, as in "boundary precision"."""
  _, *kinds, name = metric.split("/")
  kinds = [kind for kind in kinds if not name.startswith(kind)]
  return format_key(" ".join([*kinds, name]))


def format_key(key: str) -> str:
  """Formats a key as words."""
  return re.sub(r"\biou\b", "IoU", key.replace("_", " "))


def format_number(value: float) -> str:
  """Formats a number with two decimals, or with three if it is within -1 and 1."""
  return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def format_value(metric: str, value: float) -> str:
  """Formats a value of a metric, a fraction in per cent, and NaN as a dash."""
  return "–" if value != value else format_number(display_scale(metric) * value)


def format_change(metric: str, change: float) -> str:
  """Formats a difference between two values of a metric with its sign, a fraction in points."""
  size = display_scale(metric) * abs(change)
  number = f"{size:.2f}" if display_scale(metric) > 1 else format_number(size)
  return f"{'−' if change < 0 else '+'}{number}"


def _quantity(metric: str) -> str:
  return split_class(metric)[0].rpartition("/")[2]
