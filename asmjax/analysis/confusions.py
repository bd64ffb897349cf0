"""Confusion matrices of runs: which class a method predicts in place of which."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asmjax.analysis.plotting import save_figure
from asmjax.config.run_dir import read_state, reopen
from asmjax.metrics.confusion import ConfusionMatrix
from asmjax.metrics.moments import ratio
from asmjax.train.evaluate import make_evaluate

_TASK = "segmentation"
# Largest number of classes whose matrix has numbers in its cells; with more they are unreadable.
_MAX_NUMBERED = 12


def count_confusions(
  workdir: pathlib.Path, data_root: str | None = None
) -> tuple[ConfusionMatrix, tuple[str, ...]]:
  """Counts the confusions of a run's last checkpoint on the split of its own evaluation.

  Args:
    workdir: Folder of the run.
    data_root: Folder of the data set; None, the default, for the one in the run's config.

  Returns:
    Number of pixels by true and predicted class, and the names of the classes.

  Raises:
    ValueError: Segmentation is not among the run's tasks.
    FileNotFoundError: The run has no checkpoint.
  """
  run = reopen(workdir, data_root=data_root)
  if _TASK not in run.game.tasks:
    raise ValueError(f"{workdir} has tasks {sorted(run.game.tasks)}; expected {_TASK!r}")
  # Extra metrics are slow to compute, and the confusion matrix does not depend on them.
  task = dataclasses.replace(run.game.tasks[_TASK], extra_metrics=())
  game = dataclasses.replace(run.game, tasks={**run.game.tasks, _TASK: task})
  scores = make_evaluate(game)(read_state(run, workdir).variables(), run.eval_batches())
  return ConfusionMatrix(scores.sums[_TASK]["confusion"]), task.classes


def normalize_rows(matrix: ConfusionMatrix) -> np.ndarray:
  """Divides each row by its sum: recall on the diagonal, NaN for a class without truth."""
  return ratio(matrix.counts, matrix.counts.sum(1, keepdims=True))


def normalize_columns(matrix: ConfusionMatrix) -> np.ndarray:
  """Divides each column by its sum: precision on the diagonal, NaN if never predicted."""
  return ratio(matrix.counts, matrix.counts.sum(0, keepdims=True))


def save_matrices(
  matrices: Mapping[str, ConfusionMatrix], classes: Sequence[str], path: pathlib.Path
) -> None:
  """Draws confusion matrices side by side, normalized by row above and by column below.

  As Hwang et al. 2019, Appendix C.

  Args:
    matrices: Confusion matrices by the label of the run.
    classes: Names of the classes, in the order of the matrices.
    path: Path of the PNG file to write.
  """
  from matplotlib.figure import Figure

  side = 1.6 + (0.36 if len(classes) <= _MAX_NUMBERED else 0.2) * len(classes)
  figure = Figure(figsize=(side * len(matrices) + 0.9, 2 * side), layout="compressed")
  grid = figure.subplots(2, len(matrices), squeeze=False, sharex=True, sharey=True)
  kinds = ((normalize_rows, "of the true class"), (normalize_columns, "of the predicted class"))
  for row, (normalize, title) in zip(grid, kinds, strict=True):
    for axes, (label, matrix) in zip(row, matrices.items(), strict=True):
      image = draw_matrix(axes, 100 * normalize(matrix), classes)
      axes.set_title(f"{label}\n% {title}", fontsize=9)
  for axes in grid[-1]:
    axes.set_xlabel("predicted")
  for axes in grid[:, 0]:
    axes.set_ylabel("true")
  bar = figure.colorbar(image, ax=grid, shrink=0.6, aspect=40, pad=0.02)
  bar.set_ticks([0, 1, 5, 10, 25, 50, 75, 100])
  bar.ax.tick_params(labelsize=8)
  save_figure(figure, path, dpi=150, bbox_inches="tight")


def draw_matrix(axes: Any, shares: np.ndarray, classes: Sequence[str]) -> Any:
  """Draws a matrix (c, c) in per cent, with numbers in its cells if there are few classes.

  Cells of NaN are gray.

  Returns:
    Matplotlib image, for a color bar.
  """
  from matplotlib import colormaps
  from matplotlib.colors import PowerNorm

  # Colors by the square root, as confusions are few per cent and would all look alike.
  shade = PowerNorm(0.5, 0, 100)
  image = axes.imshow(shares, colormaps["magma_r"].with_extremes(bad="0.8"), shade)
  ticks = range(len(classes))
  axes.set_xticks(ticks, classes, rotation=90, fontsize=8)
  axes.set_yticks(ticks, classes, fontsize=8)
  axes.tick_params(length=0)
  if len(classes) <= _MAX_NUMBERED:
    for (row, column), share in np.ndenumerate(shares):
      if not np.isnan(share):
        color = "white" if shade(share) > 0.42 else "black"
        style = {"ha": "center", "va": "center", "fontsize": 6.5, "color": color}
        axes.text(column, row, f"{share:.1f}", **style)
  return image
