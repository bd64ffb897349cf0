"""Compares finished runs: a table, learning curves, the critics' health, a grid of predictions.

`python launch/analyze.py --group="IID=runs/iid_0,runs/iid_1" --group="ASM=runs/asm_0" --out=DIR`

Of groups whose first run is a LoAd run it also shows the cycles: tables of them and of how stable
they were, the convergence of every run, and an album of a group's first run. With
`--baseline=LABEL` every other group is held against that one: differences at the same seed; IoU
and, where the runs have them, boundary and instance metrics of each class, as tables and as bars
(ASM Fig. 6 and 7); and the confusion matrices of the first runs. Of a group's first run with a
structure analyzer it shows what that looks at: `losses_LABEL.png` (ASM Fig. 4),
`patches_LABEL.png` (Fig. 5) and, where it rebuilds structures, `errors_LABEL.png` (Fig. 3); of
adaptive affinity fields the sizes they chose for each class, `sizes.png` (AAF Fig. 4).
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

from asmjax.cli.overrides import exit_on_config_error

_GROUPS = flags.DEFINE_multi_string("group", None, "LABEL=DIR,DIR,...: runs that differ in seed")
_OUT = flags.DEFINE_string("out", None, "folder for the figures")
_METRICS = flags.DEFINE_list(
  "metrics", [], "the first one is drawn; by default the usual ones of the runs' tasks"
)
_COUNT = flags.DEFINE_integer("count", 6, "held-out examples in the grid and the album")
_ROOT = flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
_CLASSES = flags.DEFINE_list(
  "classes",
  [],
  "metrics whose classes are held against the baseline, as segmentation/boundary/f; "
  "by default what papers show, of what the runs have",
)
_BASELINE = flags.DEFINE_string("baseline", None, "LABEL of the group that others are held against")


def main(_: list[str]) -> None:
  """Prints the tables and writes the figures.

  `curves.png`, `predictions.png` and, of critics, `health.png`; of LoAd runs `convergence.png` and
  `album.png`; with a baseline `classes.png`, and `confusions_LABEL.png` of every other group.
  """
  from asmjax.analysis import figures, lookahead, runs
  from asmjax.analysis.comparison import compare

  logging.set_verbosity(logging.ERROR)
  groups = [runs.Group.parse(text) for text in _GROUPS.value]
  with exit_on_config_error():
    baseline, others = _against(groups, _BASELINE.value)
    metrics = _METRICS.value or runs.usual_metrics(groups)
    compared = compare(groups, metrics, baseline=_BASELINE.value)
  print(f"{compared.markdown()}\n\n{compared.caption()}")
  out = pathlib.Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  figures.curves(groups, metrics[0], out / "curves.png")
  figures.health(groups, out / "health.png")
  figures.predictions(groups, out / "predictions.png", count=_COUNT.value, data_root=_ROOT.value)
  if cycled := [group for group in groups if lookahead.is_lookahead(group)]:
    _show_cycles(cycled, out)
  if others:
    _show_classes(baseline, others, out)
  for group in groups:
    _show_analyzer(group, out)
  _show_sizes(groups, out)


def _against(groups: list, label: str | None) -> tuple:
  """The baseline and the groups to hold against it, of which there are none without one."""
  if label is None:
    return None, []
  by_label = {group.label: group for group in groups}
  if label not in by_label:
    raise ValueError(f"--baseline={label} is none of the groups: {', '.join(by_label)}")
  return by_label.pop(label), list(by_label.values())


def _show_cycles(groups: list, out: pathlib.Path) -> None:
  from asmjax.analysis import lookahead

  for group in groups:
    for workdir in group.workdirs:
      history = lookahead.History.read(workdir)
      print(f"\n{group.label}, {workdir}\n\n{lookahead.cycle_table(history)}")
  print(f"\n{lookahead.stability_table(groups)}")
  lookahead.convergence(groups, out / "convergence.png")
  lookahead.album(groups, out / "album.png", count=_COUNT.value)


def _show_classes(baseline, others: list, out: pathlib.Path) -> None:
  from asmjax.analysis import classes

  groups = [baseline, *others]
  metrics = _CLASSES.value or classes.usual_classes(groups)
  if not metrics:
    raise ValueError(f"{baseline.label} and the others share no metric by class")
  for metric in metrics:
    for group in others:
      print(f"\n{classes.class_table(baseline, group, metric)}")
  found = [classes.read(groups, metric) for metric in metrics]
  classes.draw(found, baseline.label, out / "classes.png")
  if all("segmentation/mean_iou" in group.results()[0]["metrics"] for group in groups):
    _show_confusions(baseline, others, out)


def _show_confusions(baseline, others: list, out: pathlib.Path) -> None:
  from asmjax.analysis import confusions, runs

  before, classes = confusions.confusions(baseline.workdirs[0], _ROOT.value)
  for group in others:
    after, theirs = confusions.confusions(group.workdirs[0], _ROOT.value)
    if theirs != classes:
      raise ValueError(f"{group.label} has classes {theirs}; expected those of the baseline")
    matrices = {baseline.label: before, group.label: after}
    confusions.draw(matrices, classes, out / f"confusions_{runs.file_name(group.label)}.png")


def _show_analyzer(group, out: pathlib.Path) -> None:
  from asmjax.analysis import analyzer, runs, stimuli

  workdir, shown = group.workdirs[0], {"count": _COUNT.value, "data_root": _ROOT.value}
  name = runs.file_name(group.label)
  sections = analyzer.term_sections(workdir, "structure").values()
  if not sections:
    return
  analyzer.loss_maps(workdir, out / f"losses_{name}.png", **shown)
  stimuli.patches(workdir, out / f"patches_{name}.png", data_root=_ROOT.value)
  if all(section["reconstruction"] for section in sections):
    analyzer.error_maps(workdir, out / f"errors_{name}.png", **shown)


def _show_sizes(groups: list, out: pathlib.Path) -> None:
  from asmjax.analysis import analyzer, kernels

  is_adaptive = lambda workdir: any(
    section["adaptive"] for section in analyzer.term_sections(workdir, "affinity").values()
  )
  found = {
    group.label: [kernels.kernel_sizes(workdir, _ROOT.value) for workdir in group.workdirs]
    for group in groups
    if is_adaptive(group.workdirs[0])
  }
  if found:
    print(f"\n{kernels.table(found)}")
    kernels.draw(found, out / "sizes.png")


if __name__ == "__main__":
  flags.mark_flags_as_required(["group", "out"])
  app.run(main)
