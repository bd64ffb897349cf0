"""Compares finished runs: a table, learning curves, the critics' health, a grid of predictions.

`asmjax analyze --group="IID=runs/iid_0,runs/iid_1" --group="ASM=runs/asm_0" --out=DIR`

What it prints is in `tables.md`, too.

Of groups whose first run is a LoAd run it also shows the cycles: tables of them and of how stable
they were, the convergence of every run, and an album of a group's first run. With
`--baseline=LABEL` every other group is held against that one: differences at the same seed; of
classes their IoU and, where the runs have them, boundary and instance metrics, as tables and as
bars (ASM Fig. 6 and 7), and the confusion matrices of the first runs. Of a group's first run with a
structure analyzer it shows what that looks at: `losses_LABEL.png` (ASM Fig. 4),
`patches_LABEL.png` (Fig. 5), where it rebuilds structures `errors_LABEL.png` (Fig. 3), and a table
of how many directions its filters have; of adaptive affinity fields the sizes they chose for each
class, `sizes.png` (AAF Fig. 4).
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
  from asmjax.analysis.runs import Group

flags.disclaim_key_flags()

# Function that prints a table and keeps it.
Show = Callable[[str], None]


def define_flags() -> None:
  """Defines the flags of `analyze`."""
  flags.DEFINE_multi_string("group", None, "LABEL=DIR,DIR,...: runs that differ in seed")
  flags.DEFINE_string("out", None, "folder for the figures")
  flags.DEFINE_list(
    "metrics", [], "the first one is drawn; by default the usual ones of the runs' tasks"
  )
  flags.DEFINE_integer("count", 6, "validation examples in the grid and the album", lower_bound=1)
  flags.DEFINE_string("data_root", None, "folder of the data set; the run's own by default")
  flags.DEFINE_list(
    "classes",
    [],
    "metrics whose classes are held against the baseline, as segmentation/boundary/f; "
    "by default what papers show, of what the runs have",
  )
  flags.DEFINE_string("baseline", None, "LABEL of the group that others are held against")
  flags.mark_flags_as_required(["group", "out"])


def main(_: list[str]) -> None:
  """Prints the tables, and writes them and the figures.

  `tables.md`, `curves.png`, `predictions.png`, `prediction_errors.png`, of classes
  `prediction_overlays.png` and, of critics, `health.png`; of LoAd runs `convergence.png` and
  `album.png`; with a baseline, of classes, `classes.png`, and `confusions_LABEL.png` of every other
  group.
  """
  from asmjax.analysis import curves, lookahead, predictions, runs
  from asmjax.analysis.comparison import compare
  from asmjax.utils.files import atomic_write

  values = flags.FLAGS
  groups = [runs.Group.parse(text) for text in values.group]
  baseline, others = _split_baseline(groups, values.baseline)
  metrics = values.metrics or runs.select_main_metrics(groups)
  comparison = compare(groups, metrics, baseline=values.baseline)
  out = pathlib.Path(values.out)
  out.mkdir(parents=True, exist_ok=True)
  tables: list[str] = []

  def show(text: str) -> None:
    print(f"{text}\n", flush=True)
    tables.append(text)
    # Each time anew: what comes later may need data that are gone.
    with atomic_write(out / "tables.md") as path:
      path.write_text("\n\n".join(tables) + "\n")

  show(f"{comparison.to_markdown()}\n\n{comparison.caption()}")
  styles = curves.number_styles(groups)
  with _drawing("learning curves", out):
    curves.save_charts(curves.read_learning_curves(groups, metrics[:1], styles), out / "curves.png")
  with _drawing("critics' health", out):
    curves.save_charts(curves.read_critic_health(groups, styles), out / "health.png")
  with _drawing("predictions", out):
    predictions.save_predictions(groups, out, count=values.count, data_root=values.data_root)
  if lookahead_groups := [group for group in groups if lookahead.is_lookahead(group)]:
    _show_cycles(lookahead_groups, out, show)
  if baseline:
    _show_classes(baseline, others, out, show)
  for group in groups:
    _show_analyzer(group, out, show)
  _show_kernel_sizes(groups, out, show)


@contextlib.contextmanager
def _drawing(title: str, out: pathlib.Path) -> Iterator[None]:
  """Prints what is drawn, and in the end the figures that are new or drawn again."""
  print(f"{title}: ", end="", flush=True)
  start = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
  yield
  paths = (path for path in sorted(out.glob("*.png")) if start.get(path) != path.stat().st_mtime_ns)
  print(", ".join(map(str, paths)) or "none", end="\n\n", flush=True)


def _split_baseline(
  groups: "Sequence[Group]", label: str | None
) -> "tuple[Group | None, list[Group]]":
  """Returns the baseline and the groups to hold against it; nothing without a label."""
  if label is None:
    return None, []
  by_label = {group.label: group for group in groups}
  if label not in by_label:
    raise ValueError(f"--baseline={label} is none of the groups: {', '.join(by_label)}")
  return by_label.pop(label), list(by_label.values())


def _show_cycles(groups: "Sequence[Group]", out: pathlib.Path, show: Show) -> None:
  from asmjax.analysis import lookahead, lookahead_figures

  for group in groups:
    for workdir in group.workdirs:
      history = lookahead.History.read(workdir)
      show(f"{group.label}, {workdir}\n\n{lookahead.format_cycle_table(history)}")
  show(lookahead.format_stability_table(groups))
  with _drawing("cycles", out):
    lookahead_figures.save_convergence(groups, out / "convergence.png")
    lookahead_figures.save_album(groups, out / "album.png", count=flags.FLAGS.count)


def _show_classes(
  baseline: "Group", others: "Sequence[Group]", out: pathlib.Path, show: Show
) -> None:
  from asmjax.analysis import classes

  if not others:
    return
  groups = [baseline, *others]
  metrics = flags.FLAGS.classes or classes.select_class_metrics(groups)
  if not metrics:  # Of depth or normals, for example.
    return
  for metric in metrics:
    for group in others:
      show(classes.format_class_table(baseline, group, metric))
  scores = [classes.read_class_scores(groups, metric) for metric in metrics]
  with _drawing("changes by class", out):
    classes.save_changes(scores, baseline.label, out / "classes.png")
  if all("segmentation/mean_iou" in group.read_results()[0]["metrics"] for group in groups):
    with _drawing("confusions", out):
      _show_confusions(baseline, others, out)


def _show_confusions(baseline: "Group", others: "Sequence[Group]", out: pathlib.Path) -> None:
  from asmjax.analysis import confusions, runs

  data_root = flags.FLAGS.data_root
  expected, names = confusions.count_confusions(baseline.workdirs[0], data_root)
  for group in others:
    matrix, group_names = confusions.count_confusions(group.workdirs[0], data_root)
    if group_names != names:
      raise ValueError(f"{group.label} has classes {group_names}; expected those of the baseline")
    matrices = {baseline.label: expected, group.label: matrix}
    confusions.save_matrices(
      matrices, names, out / f"confusions_{runs.make_file_name(group.label)}.png"
    )


def _show_analyzer(group: "Group", out: pathlib.Path, show: Show) -> None:
  from asmjax.analysis import analyzer, filters, patches, runs

  workdir, name, count = group.workdirs[0], runs.make_file_name(group.label), flags.FLAGS.count
  if not analyzer.read_term_sections(workdir, "structure"):
    return
  with _drawing(f"what the analyzer of {group.label} looks at", out):
    run = analyzer.AnalyzerRun.reopen(workdir, flags.FLAGS.data_root)
    analyzer.save_loss_maps(run, out / f"losses_{name}.png", count=count)
    patches.save_patches(run, out / f"patches_{name}.png")
    if all(term.reconstruction_weight for term in run.terms.values()):
      analyzer.save_error_maps(run, out / f"errors_{name}.png", count=count)
  table = filters.format_table(filters.measure_analyzers(run))
  show(f"directions of the filters of {group.label}'s analyzer\n\n{table}")


def _show_kernel_sizes(groups: "Sequence[Group]", out: pathlib.Path, show: Show) -> None:
  from asmjax.analysis import analyzer, kernels

  is_adaptive = lambda workdir: any(
    section["adaptive"] for section in analyzer.read_term_sections(workdir, "affinity").values()
  )
  adaptive = [group for group in groups if is_adaptive(group.workdirs[0])]
  if not adaptive:
    return
  with _drawing("sizes of affinity fields", out):
    sizes = {
      group.label: [
        kernels.compute_kernel_sizes(workdir, flags.FLAGS.data_root) for workdir in group.workdirs
      ]
      for group in adaptive
    }
    kernels.save_bars(sizes, out / "sizes.png")
  show(kernels.format_table(sizes))
