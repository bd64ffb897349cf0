"""A report on finished runs: one HTML file that needs no network, no server and no script."""

import pathlib
from collections.abc import Sequence

from asmjax.analysis.report.contents import Report, collect
from asmjax.analysis.report.page import render
from asmjax.analysis.runs import Group
from asmjax.utils.files import atomic_write

__all__ = ["Report", "collect", "render", "write"]


def write(
  groups: Sequence[Group],
  path: pathlib.Path,
  *,
  count: int = 6,
  data_root: str | None = None,
  baseline: str | None = None,
  command: Sequence[str] = (),
) -> Report:
  """Writes a report whole or not at all.

  Args:
    groups: runs that differ in seed.
    path: of the HTML file.
    count: of held-out examples in pictures, at most.
    data_root: folder of the data set; the run's own by default.
    baseline: label of the group that others are held against; the first one by default.
    command: that makes the report.

  Returns:
    What the report says.

  Raises:
    ValueError: see `collect`.
  """
  report = collect(groups, baseline=baseline, count=count, data_root=data_root, command=command)
  with atomic_write(path) as temporary:
    temporary.write_text(render(report), encoding="utf-8")
  return report
