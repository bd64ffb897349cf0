"""A report on finished runs: one HTML file that needs no network, no server and no script."""

import pathlib
from collections.abc import Sequence

from asmjax.analysis.report.contents import RunReport, collect
from asmjax.analysis.report.page import render
from asmjax.analysis.runs import Group
from asmjax.utils.files import atomic_write

__all__ = ["RunReport", "collect", "render", "write"]


def write(
  groups: Sequence[Group],
  path: pathlib.Path,
  *,
  count: int = 6,
  data_root: str | None = None,
  baseline: str | None = None,
  command: Sequence[str] = (),
) -> RunReport:
  """Writes a report on finished runs, atomically.

  Args:
    groups: Groups of runs that differ in seed.
    path: Path of the HTML file to write.
    count: Number of held-out examples in pictures, at most.
    data_root: Folder of the data set; the run's own by default.
    baseline: Label of the group that others are held against; the first one by default.
    command: Command that makes the report.

  Returns:
    The content of the report.

  Raises:
    ValueError: See `collect`.
  """
  report = collect(groups, baseline=baseline, count=count, data_root=data_root, command=command)
  with atomic_write(path) as temporary:
    temporary.write_text(render(report), encoding="utf-8")
  return report
