"""Presentation of a data set: the report of an inspection as text, and contact sheets."""

import collections
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from asmjax.analysis.plotting import add_legend, make_panels, save_figure
from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.inspection import Report, Statistics
from asmjax.data.transforms import Example
from asmjax.data.wrappers import spread_indices
from asmjax.utils import colors
from asmjax.utils.printable import one_line

# Smallest number of pixels of a drawn example's smaller side: cells are 2 inches at 130 dpi.
_MIN_SIDE = 300


def format_report(report: Report, max_problems: int = 20) -> str:
  """Formats the report of an inspection as text.

  Args:
    report: Report of `asmjax.data.inspection.inspect`.
    max_problems: Largest number of problems of each kind to list; 20 by default.
  """
  lines = []
  for name, split in report.splits.items():
    lines += [f"{split.descriptor.name} {name}", *_format_split(split.to_dict()), ""]
  kinds = collections.defaultdict(list)
  for problem in report.problems:
    kinds[problem.kind].append(problem)
  lines.append(f"problems: {len(report.problems) or 'none'}")
  for kind, problems in kinds.items():
    lines.append(f"  {kind}: {len(problems)}")
    lines += [
      f"    {problem.split}: {one_line(problem.message)}" for problem in problems[:max_problems]
    ]
    if len(problems) > max_problems:
      lines.append(f"    and {len(problems) - max_problems} more")
  return "\n".join(lines)


def _format_split(summary: dict[str, Any]) -> Iterator[str]:
  yield f"  examples   {summary['examples']}, of which {summary['whole']} were read and are valid"
  if size := summary.get("size"):
    low, median, high = ("x".join(map(str, size[key])) for key in ("min", "median", "max"))
    yield f"  size       {low} to {high}, median {median}; {size['distinct']} different"
  if depth := summary.get("depth"):
    values = [f"{key} {depth[key]:.3g} m, " for key in ("min", "median", "max") if key in depth]
    yield f"  depth      {''.join(values)}missing {depth['missing']:.2%}"
  if normals := summary.get("normals"):
    yield f"  normals    missing {normals['missing']:.2%}"
  if instance := summary.get("instance"):
    yield f"  instances  {instance['number']}, {instance['per_image']:.1f} an image"
  if label := summary.get("label"):
    yield from _format_classes(label)


def _format_classes(label: dict[str, Any]) -> Iterator[str]:
  width = max(map(len, label["classes"]))
  ids = ", ".join(map(str, label["ignored_ids"]))
  yield f"  unlabeled {label['unlabeled']:.2%} of the pixels" + (f" (ids {ids})" if ids else "")
  yield f"  {'class':{width}}  {'labeled':>8}  {'images':>6}"
  for name, row in label["classes"].items():
    yield f"  {name:{width}}  {row['share']:8.2%}  {row['images']:6}"
  if label["absent"]:
    yield f"  never seen: {', '.join(label['absent'])}"


def save_contact_sheet(
  source: Source, statistics: Statistics, path: pathlib.Path, *, count: int = 8
) -> None:
  """Draws examples, evenly spread over a split, with a legend of the classes.

  Only examples without problems are drawn.

  Args:
    source: Source of the split's examples.
    statistics: Statistics of the split from `asmjax.data.inspection.inspect`.
    path: Path of the PNG file to write.
    count: Largest number of examples to draw; 8 by default.

  Raises:
    ValueError: Every example has a problem.
  """
  valid = list(statistics.counts)
  if not valid:
    raise ValueError(f"split {source.split!r} of {source.descriptor.name} has no valid example")
  indices = [valid[i] for i in spread_indices(len(valid), count)]
  rows = draw_panels([_subsample(source[index]) for index in indices], source.descriptor)
  # About 8 columns whatever the data set provides: examples with few pictures share a row.
  examples_per_row = min(max(1, 8 // len(rows[0])), len(rows))
  shape = -(-len(rows) // examples_per_row), examples_per_row * len(rows[0])
  aspect = float(np.median([row["image"].shape[0] / row["image"].shape[1] for row in rows]))
  handles = _make_legend_handles(statistics)
  height = (2 * aspect + 0.2) * shape[0] + 0.2 * -(-len(handles) // shape[1])
  cells = [
    (_name_example(source, index) if title == "image" else title, picture)
    for index, row in zip(indices, rows, strict=True)
    for title, picture in row.items()
  ]
  figure, panels = make_panels(len(cells), shape[1], (2 * shape[1], height))
  for axes, (title, picture) in zip(panels, cells, strict=True):
    axes.axis("off")
    axes.imshow(picture)
    axes.set_title(title, fontsize=7)
  if handles:
    add_legend(figure, shape[1], handles)
  save_figure(figure, path, dpi=130)


def draw_panels(examples: Sequence[Example], descriptor: Descriptor) -> list[dict[str, np.ndarray]]:
  """Draws the image and every kind of truth of some examples; depths share one range of colors.

  Args:
    examples: Examples of one data set.
    descriptor: Descriptor of the data set, with the palette and the kinds of truth.

  Returns:
    Pictures of each example, uint8 (h, w, 3), by title.
  """
  depths = np.concatenate([e["depth"].ravel() for e in examples if "depth" in e] or [[]])
  valid = depths[np.isfinite(depths) & (depths > 0)]
  # Percentiles, as with the extremes a single outlier would give all other pixels one color.
  low, high = np.percentile(valid, (2, 98)) if valid.size else (0.0, 1.0)
  kinds = {
    "label": ("label", lambda e: colors.overlay(e["image"], e["label"], descriptor.palette, 1.0)),
    "depth": (
      f"depth, {low:.2g} to {high:.2g} m",
      lambda e: colors.depth_colors(e["depth"], low, high),
    ),
    "normals": ("normals", lambda e: colors.normal_colors(e["normals"])),
    "instance": ("instances", lambda e: colors.instance_colors(e["instance"])),
  }
  return [
    {"image": example["image"]}
    | {title: draw(example) for key, (title, draw) in kinds.items() if key in descriptor.provides}
    for example in examples
  ]


def _subsample(example: Example) -> Example:
  """Keeps every k-th pixel: several large examples are in memory at once, and drawn small."""
  step = max(1, min(example["image"].shape[:2]) // _MIN_SIDE)
  return {key: value[::step, ::step] for key, value in example.items()}


def _name_example(source: Source, index: int) -> str:
  files = source.files(index)
  return files["image"].name if "image" in files else f"{source.split}[{index}]"


def _make_legend_handles(statistics: Statistics) -> list[Any]:
  from matplotlib.patches import Patch

  descriptor = statistics.descriptor
  if "label" not in descriptor.provides:
    return []
  label = statistics.to_dict()["label"]
  entries = [
    (color, f"{name} {row['share']:.2%}" if row["pixels"] else f"{name} (never)")
    for (name, row), color in zip(label["classes"].items(), descriptor.palette, strict=True)
  ]
  if label["unlabeled"]:
    entries.append(((255, 255, 255), f"unlabeled {label['unlabeled']:.2%}"))
  return [
    Patch(facecolor=f"#{red:02x}{green:02x}{blue:02x}", edgecolor="gray", label=name)
    for (red, green, blue), name in entries
  ]
