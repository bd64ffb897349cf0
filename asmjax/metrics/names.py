"""Names of the metrics of an evaluation.

"TASK/METRIC" and, of details, "TASK/KIND/METRIC" are of all classes. "TASK/iou/CLASS" and
"TASK/KIND/METRIC/CLASS" are of one; the name of a class may hold slashes.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

_T = TypeVar("_T")
_OF_A_CLASS = re.compile(r"([^/]+/(?:iou|[^/]+/[^/]+))/(.+)", re.DOTALL)


def split_class(name: str) -> tuple[str, str | None]:
  """Parts a metric's name into what is measured and the class, None for all of them.

  Example:
    >>> split_class("segmentation/iou/wall"), split_class("segmentation/boundary/f/wall")
    (('segmentation/iou', 'wall'), ('segmentation/boundary/f', 'wall'))
    >>> split_class("segmentation/boundary/boundary_f")
    ('segmentation/boundary/boundary_f', None)
  """
  found = _OF_A_CLASS.fullmatch(name)
  return (found[1], found[2]) if found else (name, None)


def by_class(metrics: Mapping[str, _T]) -> dict[str, dict[str, _T]]:
  """Values by what is measured and by class, in their order; those of all classes are left out."""
  found: dict[str, dict[str, _T]] = {}
  for name, value in metrics.items():
    metric, each = split_class(name)
    if each is not None:
      found.setdefault(metric, {})[each] = value
  return found


def logged(metrics: Mapping[str, _T]) -> dict[str, _T]:
  """What is logged while a run trains: all but the details of single classes, which are many."""
  detail = lambda name: (parts := split_class(name))[1] is not None and parts[0].count("/") > 1
  return {name: value for name, value in metrics.items() if not detail(name)}


def brief(metrics: Mapping[str, _T]) -> dict[str, _T]:
  """The metrics without those of single classes."""
  return {name: value for name, value in metrics.items() if split_class(name)[1] is None}
