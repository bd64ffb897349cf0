"""Names and numbers as a reader wants them."""

import re

from asmjax.analysis.runs import scale, written


def spelled(metric: str) -> str:
  """A metric's name without its task, as in "boundary precision"."""
  _, *kinds, name = metric.split("/")
  kinds = [kind for kind in kinds if not name.startswith(kind)]
  return short(" ".join([*kinds, name]))


def short(name: str) -> str:
  """A key as words."""
  return re.sub(r"\biou\b", "IoU", name.replace("_", " "))


def curve_title(metric: str) -> str:
  """What a curve of a logged metric shows."""
  kind, _, name = metric.partition("/")
  if kind == "pixel":
    return f"pixel loss of {short(name)}"
  return f"{spelled(metric)} of held-out examples{', %' * (scale(metric) > 1)}"


def number(metric: str, value: float) -> str:
  """A value of a metric; parts of a whole in per cent."""
  return "–" if value != value else written(scale(metric) * value)


def signed(metric: str, change: float) -> str:
  """A change of a metric, with its sign; of parts of a whole in points of a per cent."""
  size = scale(metric) * abs(change)
  return f"{'−' if change < 0 else '+'}" + (f"{size:.2f}" if scale(metric) > 1 else written(size))
