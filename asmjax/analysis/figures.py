"""Figures of finished runs: learning curves and grids of predictions."""

import pathlib
from collections.abc import Sequence

import numpy as np

from asmjax.analysis.runs import Group
from asmjax.config.run_dir import read_state, reopen
from asmjax.game import PREDICTOR
from asmjax.train.loop import make_draw


def curves(groups: Sequence[Group], metric: str, path: pathlib.Path) -> None:
  """Draws a metric over the steps: the mean of each group, and its range as a shade."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(7, 4.2), layout="constrained")
  axes = figure.subplots()
  for group in groups:
    steps, values = group.curve(metric)
    (line,) = axes.plot(steps, values.mean(0), marker=".", label=group.label)
    axes.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.15)
  axes.set(xlabel="step", ylabel=metric)
  axes.grid(alpha=0.3)
  axes.legend(frameon=False)
  figure.savefig(path, dpi=110)


# What is drawn of a critic's health: the title, the metrics of a term, and the scale.
_HEALTH = (
  (
    "accuracy on truth (solid) and on predictions (dotted)",
    ("{}/accuracy_real", "{}/accuracy_fake"),
    "linear",
  ),
  (
    "discriminator's loss on truth (solid) and on predictions (dotted)",
    ("{}/judge_real", "{}/judge_fake"),
    "log",
  ),
  ("norm of the critic's gradient", ("gradient/{}",), "log"),
  ("norm of what the term sends to the predictor", ("sent/{}",), "log"),
)


def health(groups: Sequence[Group], path: pathlib.Path) -> bool:
  """Draws how the critics of all groups fare over the steps, means over the runs of a group.

  Returns:
    Whether there was a critic to draw; otherwise nothing is written.
  """
  from matplotlib.figure import Figure

  players = [
    (group, name.removeprefix("gradient/"))
    for group in groups
    for name in group.logged()
    if name.startswith("gradient/") and name != f"gradient/{PREDICTOR}"
  ]
  figure = Figure(figsize=(11, 7), layout="constrained")
  for axes, (title, metrics, scale) in zip(figure.subplots(2, 2).flat, _HEALTH, strict=True):
    for i, (group, critic) in enumerate(players):
      for metric, style in zip(metrics, ("-", ":"), strict=False):
        steps, values = group.curve(metric.format(critic))
        if len(steps):
          label = f"{group.label}: {critic}" if style == "-" else None
          axes.plot(steps, values.mean(0), style, color=f"C{i}", label=label)
    axes.set(title=title, xlabel="step", yscale=scale)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
  if players:
    lines, labels = axes.get_legend_handles_labels()  # The last panel has them all.
    figure.legend(lines, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
  return bool(players)


def predictions(
  groups: Sequence[Group], path: pathlib.Path, *, count: int = 6, data_root: str | None = None
) -> None:
  """Draws input, truths and each group's predictions (its first run's) of held-out examples."""
  columns = {}
  for group in groups:
    for name, rows in _pictures(group.workdirs[0], count, data_root).items():
      task, _, kind = name.rpartition("/")
      if kind != "error":
        columns.setdefault((task, group.label if kind == "prediction" else kind), rows)
  tasks = list(dict.fromkeys(task for task, _ in columns if task))
  order = [("", "input")]
  order += [(task, each) for task in tasks for each in ("truth", *(g.label for g in groups))]
  title = lambda task, each: f"{task}\n{each}" if len(tasks) > 1 and task else each
  # Groups may have trained different tasks.
  _grid([(title(*key), columns[key]) for key in order if key in columns], path)


def _grid(columns: Sequence[tuple[str, np.ndarray]], path: pathlib.Path) -> None:
  from matplotlib.figure import Figure

  height, width = columns[0][1].shape[1:3]
  count = len(columns[0][1])
  size = (1.6 * len(columns), 1.6 * height / width * count + 0.3)
  figure = Figure(figsize=size, layout="constrained")
  axes = figure.subplots(count, len(columns), squeeze=False)
  for j, (label, rows) in enumerate(columns):
    axes[0, j].set_title(label, fontsize=9)
    for i, row in enumerate(rows):
      axes[i, j].imshow(row)
      axes[i, j].axis("off")
  figure.savefig(path, dpi=110)


def _pictures(workdir: pathlib.Path, count: int, data_root: str | None) -> dict[str, np.ndarray]:
  run = reopen(workdir, data_root=data_root)
  return make_draw(run, count=count)(read_state(run, workdir))
