"""Neighborhood sizes that adaptive affinity fields learned for each class (Ke et al. 2018)."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from asmjax.analysis.formatting import markdown_table
from asmjax.analysis.plotting import FORMULA, add_legend, make_panels, save_figure
from asmjax.config.run_dir import read_state, reopen
from asmjax.losses.affinity import SizeWeights
from asmjax.models.critics.size_chooser import SizeChooser
from asmjax.terms import Affinity

# Titles of table columns and of a figure's panels, by the field of `KernelSizes`.
_KINDS = {"edge": "edge pairs", "non_edge": "other pairs"}


class KernelSizes(NamedTuple):
  """Expected size k of the k x k neighborhood of each class (Ke et al. 2018, Sec. 5.4).

  Attributes:
    classes: Names of the classes.
    sizes: Sizes k that the term chooses from, in pixels.
    edge: Expected size for pairs of which one pixel is of the class and the other is not,
      (classes,).
    non_edge: Expected size for all other pairs, (classes,).
  """

  classes: tuple[str, ...]
  sizes: tuple[int, ...]
  edge: np.ndarray
  non_edge: np.ndarray


def compute_kernel_sizes(workdir: pathlib.Path, data_root: str | None = None) -> KernelSizes:
  """Computes the expected neighborhood sizes from a run's last checkpoint.

  Args:
    workdir: Folder of the run.
    data_root: Folder of the data set; None, the default, for the one in the run's config.

  Raises:
    ValueError: The run has no adaptive affinity field, or several.
    FileNotFoundError: The run has no checkpoint.
  """
  run = reopen(workdir, data_root=data_root)
  state = jax.device_get(read_state(run, workdir))
  terms = run.game.terms
  adaptive = {
    name: term for name, term in terms.items() if isinstance(term, Affinity) and term.adaptive
  }
  if len(adaptive) != 1:
    raise ValueError(
      f"{workdir} has the terms {', '.join(terms)}, of which adaptive affinity fields: "
      f"{', '.join(adaptive) or 'none'}; expected one"
    )
  ((name, term),) = adaptive.items()
  task, params = run.game.tasks["segmentation"], state.players[name].params
  # Flax's `apply` has no type for the module's result.
  weights = cast(
    SizeWeights, SizeChooser().apply({"params": params}, task.channels, len(term.sizes))
  )
  # k_c = sum_k w_ck k for each class c.
  edge, non_edge = (np.asarray(w) @ np.array(term.sizes, np.float32) for w in weights)
  return KernelSizes(task.classes, term.sizes, edge, non_edge)


def format_table(groups: Mapping[str, Sequence[KernelSizes]]) -> str:
  """Formats a Markdown table of the sizes by class: mean over a group's runs, range in brackets.

  Args:
    groups: Sizes of each run of a group, by the group's label.

  Raises:
    ValueError: Runs have different classes or sizes.
  """
  classes, _ = _shared_choices(groups)
  titles = [f"{label}, {title}" for label in groups for title in _KINDS.values()]
  columns = [_stack_sizes(runs, kind) for runs in groups.values() for kind in _KINDS]
  rows = [
    [name, *(_format_cell(sizes[:, index]) for sizes in columns)]
    for index, name in enumerate(classes)
  ]
  return markdown_table(["kernel size", *titles], rows)


def save_bars(groups: Mapping[str, Sequence[KernelSizes]], path: pathlib.Path) -> None:
  """Draws the sizes as bars (Ke et al. 2018, Fig. 4), means over a group's runs with their range.

  Classes are in the order of the first group's sizes for edge pairs. A dashed line marks the value
  at the start of the training, when all sizes have equal weights.

  Args:
    groups: Sizes of each run of a group, by the group's label.
    path: Path of the PNG file to write.

  Raises:
    ValueError: Runs have different classes or sizes.
  """
  classes, sizes = _shared_choices(groups)
  order = np.argsort(_stack_sizes(next(iter(groups.values())), "edge").mean(0), kind="stable")
  thickness = 0.8 / len(groups)
  height = max(1.8, (0.16 + 0.12 * len(groups)) * len(classes) + 0.9)
  figure, panels = make_panels(2, 2, (7.5, height))
  for axes, (kind, title) in zip(panels, _KINDS.items(), strict=True):
    for i, (label, runs) in enumerate(groups.items()):
      positions = np.arange(len(classes)) - 0.4 + (len(groups) - i - 0.5) * thickness
      _draw_bars(
        axes, positions, thickness, label, _stack_sizes(runs, kind)[:, order], min(sizes), f"C{i}"
      )
    axes.axvline(np.mean(sizes), color="0.3", linestyle="--", linewidth=1, label="at the start")
    axes.set_xlabel(r"kernel size $k_c = \sum_k w_{ck}\, k$", gid=FORMULA)
    axes.set_xticks(sizes)
    axes.set_xlim(min(sizes), max(*sizes, min(sizes) + 1))
    axes.set_title(title, fontsize=10)
    axes.set_yticks(range(len(classes)), [classes[index] for index in order], fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
  panels[1].tick_params(labelleft=False)
  start, *bars = panels[0].get_legend_handles_labels()[0]
  add_legend(figure, 3, [*bars, start])
  save_figure(figure, path, dpi=150)


def _draw_bars(
  axes: Any,
  positions: np.ndarray,
  thickness: float,
  label: str,
  values: np.ndarray,
  low: int,
  color: str,
) -> None:
  """Draws bars from the smallest size to the means of values (runs, classes), with their range."""
  mean, whiskers = values.mean(0), None
  if len(values) > 1:
    label = f"{label}: mean and range of {len(values)} runs"
    # Rounding may put the mean of equal values outside their range, and lengths may not be < 0.
    whiskers = np.maximum(np.stack([mean - values.min(0), values.max(0) - mean]), 0)
  axes.barh(
    positions,
    mean - low,
    0.9 * thickness,
    left=low,
    xerr=whiskers,
    label=label,
    color=color,
    error_kw={"elinewidth": 1, "capsize": 2},
  )


def _shared_choices(
  groups: Mapping[str, Sequence[KernelSizes]],
) -> tuple[tuple[str, ...], tuple[int, ...]]:
  """Returns the classes and sizes that all runs share; raises ValueError if they differ."""
  choices = {(run.classes, run.sizes): label for label, runs in groups.items() for run in runs}
  if len(choices) != 1:
    listing = "; ".join(
      f"{label} has classes {', '.join(classes)} and sizes {sizes}"
      for (classes, sizes), label in choices.items()
    )
    raise ValueError(f"{listing or 'no runs'}; expected runs of the same classes and sizes")
  return next(iter(choices))


def _stack_sizes(runs: Sequence[KernelSizes], kind: str) -> np.ndarray:
  """Stacks the sizes of some runs, for one kind of pairs, (runs, classes)."""
  return np.stack([getattr(run, kind) for run in runs])


def _format_cell(values: np.ndarray) -> str:
  mean = f"{values.mean():.2f}"
  return f"{mean} ({values.min():.2f}–{values.max():.2f})" if len(values) > 1 else mean
