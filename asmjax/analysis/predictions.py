"""Predictions of runs for validation examples, in columns of pictures."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asmjax.analysis.plotting import save_figure
from asmjax.analysis.runs import Group
from asmjax.analysis.sheets import Block, Column, draw_sheet
from asmjax.config.run_dir import read_state, reopen
from asmjax.data.descriptor import Source
from asmjax.data.wrappers import spread_indices
from asmjax.tasks.segmentation import WRONG_COLOR
from asmjax.train.loop import make_draw_predictions


class Predictions(NamedTuple):
  """Pictures of validation examples, with their truth and the predictions of groups of runs.

  Attributes:
    names: Name of each example: of its photo's file, or split and number without files.
    columns: Pictures uint8 (n, h, w, 3) by title: the input, then of each task the truth and the
      prediction of every group that has the task.
    errors: The same with errors in place of predictions, as the task draws them.
    overlays: The same with predictions over the photo, of the tasks that draw them so.
    titles: Titles of the columns with predictions, by the group's label.
    colors: Color (r, g, b) in 0..255 by the name of the class; empty if no run segments.
    missing: Reason why a group has no pictures, by its label.
  """

  names: tuple[str, ...]
  columns: dict[str, np.ndarray]
  errors: dict[str, np.ndarray]
  overlays: dict[str, np.ndarray]
  titles: dict[str, tuple[str, ...]]
  colors: dict[str, tuple[int, int, int]]
  missing: dict[str, str]


def predict_examples(
  groups: Sequence[Group], count: int, data_root: str | None = None
) -> Predictions:
  """Predicts validation examples, evenly spread, with the first run of each group.

  Args:
    groups: Groups of runs; one without a checkpoint is listed in `missing`.
    count: Largest number of examples.
    data_root: Folder of the data set; None, the default, for the one in each run's config.
  """
  names: tuple[str, ...] = ()
  pictures, colors, missing = {}, {}, {}
  for group in groups if count else ():
    try:
      run = reopen(group.workdirs[0], data_root=data_root)
      pictures[group.label] = make_draw_predictions(run, count=count)(
        read_state(run, group.workdirs[0])
      )
    except FileNotFoundError as error:
      missing[group.label] = str(error)
      continue
    names = names or _name_examples(run.validation, count)
    colors = run.class_colors or colors
  columns, titles = _arrange_columns(pictures, "prediction")
  errors, _ = _arrange_columns(pictures, "error")
  overlays, _ = _arrange_columns(pictures, "overlay")
  return Predictions(names, columns, errors, overlays, titles, colors, missing)


def save_predictions(
  groups: Sequence[Group], out: pathlib.Path, *, count: int = 6, data_root: str | None = None
) -> None:
  """Draws inputs, truths and each group's predictions, their errors, and them over the photos.

  Args:
    groups: Groups of runs, of which the first run is drawn.
    out: Folder of the files to write, `predictions.png`, `prediction_errors.png` and, of classes,
      `prediction_overlays.png`.
    count: Largest number of examples.
    data_root: Folder of the data set; None, the default, for the one in each run's config.

  Raises:
    FileNotFoundError: A run has no checkpoint, or there is no data set.
  """
  predictions = predict_examples(groups, count, data_root)
  for label, reason in predictions.missing.items():
    raise FileNotFoundError(f"{label}: {reason}")
  colors = predictions.colors
  wrong = {"wrong": WRONG_COLOR} if colors else {}
  sheets = {
    "predictions": (predictions.columns, colors),
    "prediction_errors": (predictions.errors, colors | wrong),
    "prediction_overlays": (predictions.overlays, colors),
  }
  for name, (pictures, legend) in sheets.items():
    if len(pictures) > 1:  # Beside the input.
      columns = [Column(title, rows) for title, rows in pictures.items()]
      sheet = draw_sheet([Block("", columns, names=predictions.names)], legend)
      save_figure(sheet, out / f"{name}.png", dpi=110)


def _name_examples(source: Source, count: int) -> tuple[str, ...]:
  """Returns the names of the photos' files, or the split and the number of what has none."""
  return tuple(
    path.name if (path := source.files(index).get("image")) else f"{source.split}[{index}]"
    for index in spread_indices(len(source), count)
  )


def _arrange_columns(
  pictures: Mapping[str, Mapping[str, np.ndarray]], kind: str
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
  """Returns columns with pictures of `kind` by title, and their titles by label."""
  names = dict.fromkeys(name for kinds in pictures.values() for name in kinds)
  tasks = [name.rpartition("/")[0] for name in names if name.endswith("/truth")]
  full_title = lambda task, title: f"{task}: {title}" if len(tasks) > 1 else title
  columns: dict[str, np.ndarray] = {}
  titles: dict[str, tuple[str, ...]] = {label: () for label in pictures}
  for kinds in pictures.values():
    columns.setdefault("input", kinds["input"])
  for task in tasks:
    for label, kinds in pictures.items():
      if f"{task}/{kind}" in kinds:  # Groups may have trained different tasks.
        columns.setdefault(full_title(task, "truth"), kinds[f"{task}/truth"])
        titles[label] += (full_title(task, label),)
        columns[full_title(task, label)] = kinds[f"{task}/{kind}"]
  return columns, titles
