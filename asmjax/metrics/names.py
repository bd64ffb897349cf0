"""Names of the metrics of an evaluation.

"TASK/METRIC" and, of extra metrics, "TASK/KIND/METRIC" are of all classes. "TASK/iou/CLASS" and
"TASK/KIND/METRIC/CLASS" are of one; the name of a class may hold slashes.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

# Main metrics of each task in the papers, in the order of a table's columns.
MAIN_METRICS = (
  "segmentation/mean_iou",
  "segmentation/pixel_accuracy",
  "depth/delta_1.25",
  "depth/rel",
  "normals/within_11.25",
  "normals/mean",
)

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

_T = TypeVar("_T")
_OF_A_CLASS = re.compile(r"([^/]+/(?:iou|[^/]+/[^/]+))/(.+)", re.DOTALL)


def split_class(name: str) -> tuple[str, str | None]:
  """Splits a metric's name into what is measured and the class, None for all of them.

  Examples:
    >>> split_class("segmentation/iou/wall"), split_class("segmentation/boundary/f/wall")
    (('segmentation/iou', 'wall'), ('segmentation/boundary/f', 'wall'))
    >>> split_class("segmentation/boundary/boundary_f")
    ('segmentation/boundary/boundary_f', None)
  """
  match = _OF_A_CLASS.fullmatch(name)
  return (match[1], match[2]) if match else (name, None)


def split_quantity(name: str) -> str:
  """Returns the last part of a metric's name but for the class: what is measured.

  Examples:
    >>> split_quantity("segmentation/boundary/f/wall")
    'f'
  """
  return split_class(name)[0].rpartition("/")[2]


def metric_direction(name: str) -> int:
  """Returns 1 if higher values of a metric are better, -1 if lower ones are, 0 if neither."""
  quantity = split_quantity(name)
  return -1 if quantity in _ERRORS else 0 if quantity.endswith("_std") else 1


def group_by_class(metrics: Mapping[str, _T]) -> dict[str, dict[str, _T]]:
  """Groups the values of single classes by what is measured, in their order."""
  groups: dict[str, dict[str, _T]] = {}
  for name, value in metrics.items():
    metric, class_name = split_class(name)
    if class_name is not None:
      groups.setdefault(metric, {})[class_name] = value
  return groups


def drop_extra_classes(metrics: Mapping[str, _T]) -> dict[str, _T]:
  """Selects what is logged while a run trains: all but the many extra metrics of single classes."""

  def is_logged(name: str) -> bool:
    metric, class_name = split_class(name)
    return class_name is None or metric.count("/") == 1  # Extra metrics have another slash.

  return {name: value for name, value in metrics.items() if is_logged(name)}


def drop_classes(metrics: Mapping[str, _T]) -> dict[str, _T]:
  """Selects the metrics that are not of single classes."""
  return {name: value for name, value in metrics.items() if split_class(name)[1] is None}
