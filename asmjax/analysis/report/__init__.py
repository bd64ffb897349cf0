"""A report on finished runs: one HTML file that needs no network, no server and no script."""

import pathlib
from collections.abc import Sequence

from asmjax.analysis.report.contents import RunReport, read_report
from asmjax.analysis.report.page import render_page
from asmjax.analysis.runs import Group
from asmjax.utils.files import atomic_write

__all__ = ["RunReport", "read_report", "render_page", "write_report"]


def write_report(
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
    count: Largest number of validation examples in pictures; 6 by default.
    data_root: Folder of the data set; None, the default, for the one in each run's config.
    baseline: Label of the group that others are compared with; the first one by default.
    command: Command that makes the report; none by default.

  Returns:
    The content of the report.

  Raises:
    ValueError: See `read_report`.
  """
  report = read_report(groups, baseline=baseline, count=count, data_root=data_root, command=command)
  with atomic_write(path) as temporary:
    temporary.write_text(render_page(report), encoding="utf-8")
  return report
