"""A report as one HTML page: strings from what it says, and nothing else."""

import importlib.resources
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from asmjax.analysis.classes import ByClass
from asmjax.analysis.lookahead import cycle_table
from asmjax.analysis.report import charts
from asmjax.analysis.report.contents import MOST_POINTS, Report, Scores
from asmjax.analysis.report.pictures import Gallery
from asmjax.analysis.report.published import Compared
from asmjax.analysis.report.repeat import repeating
from asmjax.analysis.report.summary import summary
from asmjax.analysis.report.tables import table
from asmjax.analysis.report.words import number, signed, spelled
from asmjax.analysis.runs import better, scale

# No request leaves the page, even if what it shows should ask for one.
_POLICY = (
  "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
  "base-uri 'none'; form-action 'none'"
)

# The parts of a LoAd run's evaluation.
_PARTS = {"hold_out": "by which everything was decided", "rest": "that nothing was decided by"}


def render(report: Report) -> str:
  """The whole page."""
  parts = {
    "Results": _results(report),
    "Pictures": _pictures(report.gallery, report.baseline),
    "Classes": _classes(report),
    "Learning curves": _charts(report.curves, "curves"),
    "Critics": _critics(report),
    "Cycles of LoAd": _cycles(report),
    "Settings": _settings(report),
    "How to reproduce": repeating(report),
    "Missing": _notes(report.notes),
  }
  parts = {f"section{i}": part for i, part in enumerate(parts.items()) if part[1]}
  links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, (title, _) in parts.items())
  sections = "".join(
    f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{body}</section>\n'
    for name, (title, body) in parts.items()
  )
  return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(report.title)}</title>
<style>
{_file("style.css")}</style>
</head>
<body>
<header>
<h1>{escape(report.title)}</h1>
<p class="summary">{escape(summary(report))}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{sections}</main>
<script>
{_file("script.js")}</script>
</body>
</html>
"""


def _results(report: Report) -> str:
  said = "".join(_score_table(each, report) for each in report.scores)
  rules = "".join(
    f"<dt>{escape(name)}</dt><dd>{escape(str(rule))}</dd>"
    for name, rule in report.protocols.items()
  )
  how = f"<details><summary>How this was measured</summary><dl>{rules}</dl></details>"
  return said + (how if rules else "")


def _score_table(scores: Scores, report: Report) -> str:
  arrows = {1: "\N{NO-BREAK SPACE}↑", -1: "\N{NO-BREAK SPACE}↓", 0: ""}
  head = [
    "runs",
    *(
      f'<span title="{escape(name)}">{escape(spelled(name))}{arrows[better(name)]}</span>'
      for name in scores.metrics
    ),
  ]
  means = {
    name: np.array(
      [
        np.nanmean(own[name]) if np.isfinite(own[name]).any() else np.nan
        for own in scores.values.values()
      ]
    )
    for name in scores.metrics
  }
  rows, kinds = [], []
  labels = list(scores.values)
  base = labels.index(report.baseline)
  for place, (label, own) in enumerate(scores.values.items()):
    rows.append(
      [
        escape(label),
        *(_score(name, own[name], means[name], place, base) for name in scores.metrics),
      ]
    )
    kinds.append("")
    for each in scores.published.get(label, ()):
      rows.append(_published_row(each, scores.metrics))
      kinds.append("paper")
  caption = (
    f"{scores.task}: means over runs, the change against {report.baseline}, and the value of each "
    "run; parts of a whole in per cent; the best mean is bold"
  )
  return table(head, rows, caption, kinds=kinds)


def _score(name: str, values: np.ndarray, means: np.ndarray, place: int, base: int) -> str:
  """Of one group and metric: the mean, its change, and the value of every run."""
  mean = means[place]
  if np.isnan(mean):
    return "–"
  towards = better(name)
  several = np.isfinite(means).sum() > 1
  best = towards and several and mean == towards * np.nanmax(towards * means)
  written = number(name, mean)
  text = f"<b>{written}</b>" if best else f"<span>{written}</span>"
  if place != base and not np.isnan(means[base]):
    change = mean - means[base]
    kind = {1: "better", -1: "worse", 0: ""}[int(np.sign(change * towards))]
    text += f' <span class="change {kind}">{signed(name, change)}</span>'
  if len(values) > 1:
    text += f"<br><small>{', '.join(number(name, each) for each in values)}</small>"
  return text


def _published_row(each: Compared, metrics: Sequence[str]) -> list[str]:
  reasons = "; ".join(each.differences)
  mark = "paper, another protocol" if reasons else "paper"
  why = f"<details><summary>{mark}</summary>{escape(reasons)}</details>" if reasons else mark
  values = each.row.values
  return [
    f"{escape(each.row.source)} <small>{why}</small>",
    *(number(name, values[name]) if name in values else "" for name in metrics),
  ]


def _pictures(gallery: Gallery, baseline: str) -> str:
  if not gallery.photos:
    return ""
  predictions = [title for titles in gallery.predictions.values() for title in titles]
  left = gallery.predictions.get(baseline, ())[:1] or predictions[:1]
  right = predictions[-1:] if predictions[-1:] != left else ["truth"]
  photos = "".join(
    f'<article class="photo"><h3>Photo {index}</h3><div class="row">'
    + "".join(
      f"<figure class={'prediction' if each.title in predictions else 'known'}>"
      f'<img src="{each.uri}" width="{each.size[0]}" height="{each.size[1]}" '
      f'alt="Photo {index}: {escape(each.title)}"><figcaption>{escape(each.title)}</figcaption>'
      "</figure>"
      for each in row
    )
    + "</div></article>\n"
    for index, row in enumerate(gallery.photos, 1)
  )
  colors = "".join(
    f'<li><span class="color" style="background: rgb{tuple(color)}"></span>{escape(name)}</li>'
    for name, color in (*gallery.colors.items(), ("unlabeled", (255, 255, 255)))
  )
  legend = f'<ul class="legend" aria-label="Colors of the classes">{colors}</ul>'
  return (
    "<p>Held-out examples, and what the first run of each group predicts.</p>"
    f"{legend if colors else ''}"
    f'<div class="gallery" data-left="{escape(left[0])}" data-right="{escape(right[0])}">\n'
    f"{photos}</div>"
  )


def _classes(report: Report) -> str:
  """The first metric by class openly, the others to be opened."""
  parts = [
    _class_chart(each, report.baseline, f"classes{index}") + _class_table(each, report.baseline)
    for index, each in enumerate(report.classes)
  ]
  return "".join(
    part
    if index == 0
    else f"<details><summary>{escape(_of_classes(each))}</summary>{part}</details>"
    for index, (part, each) in enumerate(zip(parts, report.classes, strict=True))
  )


def _of_classes(found: ByClass) -> str:
  task = found.metric.partition("/")[0]
  return f"{spelled(found.metric)} of each class{f' ({task})' * (task != 'segmentation')}"


def _class_table(found: ByClass, base: str) -> str:
  labels = list(found.values)
  values = np.array([np.append(own, found.means[label]) for label, own in found.values.items()])
  rows = [
    [
      name,
      *(
        _score(found.metric, column[place : place + 1], column, place, labels.index(base))
        for place in range(len(labels))
      ),
    ]
    for name, column in zip((*map(escape, found.classes), "mean of classes"), values.T, strict=True)
  ]
  unit = " in per cent" if scale(found.metric) > 1 else ""
  caption = f"{_of_classes(found)}{unit}, means over runs, and the change against {base}"
  return table(["class", *map(escape, labels)], rows, caption)


def _class_chart(found: ByClass, base: str, prefix: str) -> str:
  if len(found.values) < 2:
    return ""
  title = f"{_of_classes(found)}: change against {base}"
  return (
    f'<figure class="wide"><figcaption>{escape(title)}</figcaption>'
    f"{charts.class_changes(found, base, prefix, title)}</figure>"
  )


def _charts(shown: Sequence[charts.Chart], prefix: str) -> str:
  if not shown:
    return ""
  styles = charts.legend([curve for chart in shown for curve in chart.curves])
  legend = "".join(
    f"<li>{charts.swatch(style, f'{prefix}-key{index}')}{escape(label)}</li>"
    for index, (label, style) in enumerate(styles.items())
  )
  drawn = "".join(
    f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>'
    f"{charts.draw(chart, f'{prefix}{index}')}{_numbers(chart)}</figure>\n"
    for index, chart in enumerate(shown)
  )
  return (
    f'<ul class="legend">{legend}</ul><div class="charts">{drawn}</div>'
    '<p class="aside">Lines are means over the runs of a group, shades their ranges; where runs '
    "logged at different steps each has a line. Curves of more than "
    f"{MOST_POINTS} points are smoothed.</p>"
  )


def _numbers(chart: charts.Chart) -> str:
  steps = sorted({step for curve in chart.curves for step in curve.steps.tolist()})
  columns = [
    dict(zip(curve.steps.tolist(), curve.values.mean(0), strict=True)) for curve in chart.curves
  ]
  rows = [
    [str(step), *(f"{each[step]:.4g}" if step in each else "" for each in columns)]
    for step in steps
  ]
  head = ["step", *(escape(curve.label) for curve in chart.curves)]
  body = table(head, rows, f"{chart.title}, means over runs")
  return f"<details><summary>Numbers</summary>{body}</details>"


def _critics(report: Report) -> str:
  said = _charts(report.health, "critics")
  if report.warnings:
    rows = [
      [escape(each.run), str(each.step), str(each.count), escape(each.warning)]
      for each in report.warnings
    ]
    said += table(
      ["run", "first at step", "times", "warning"],
      rows,
      "What looked wrong in training",
      words=True,
    )
  elif said:
    said += "<p>No run left a warning.</p>"
  return said


def _cycles(report: Report) -> str:
  parts = []
  for index, each in enumerate(report.cycles):
    said = "".join(
      f"<p>On the {part['examples']} examples {of}, mean IoU went from "
      f"{100 * part['start']:.2f} % at the start to {100 * part['end']:.2f} % at the end.</p>"
      for name, of in _PARTS.items()
      if (part := each.results.get(name))
    )
    head, _, *rows = (
      [escape(cell) for cell in line.strip("| ").split(" | ")] if line.strip("| -") else []
      for line in cycle_table(each.history).splitlines()
    )
    parts.append(
      f'<h3>{escape(each.run)}</h3>{said}<figure class="wide">'
      f"{charts.convergence(each.history, f'cycles{index}', each.run)}</figure>"
      + table(head, rows, f"Cycles of {each.run}; hold-out mean IoU in per cent")
    )
  return "".join(parts)


def _settings(report: Report) -> str:
  if not any(run.config for run in report.runs):
    return ""
  if not report.differences:
    return "<p>All runs have the same settings.</p>"
  everywhere = {
    key: own
    for key, own in report.differences.items()
    if all(all(values) for values in own.values())
  }
  partly = {key: own for key, own in report.differences.items() if key not in everywhere}
  said = ""
  if everywhere:
    said = _settings_table(everywhere, "Settings that are not the same in all runs")
  if partly:
    caption = "Settings that only some of the runs have; – where there is none"
    said += f"<details><summary>{len(partly)} settings that only some of the runs have</summary>"
    said += f"{_settings_table(partly, caption)}</details>"
  return said


def _settings_table(found: Mapping[str, Mapping[str, Sequence[str]]], caption: str) -> str:
  rows = [
    [
      f"<code>{escape(key)}</code>",
      *(
        f"<code>{escape(', '.join(each or '–' for each in values))}</code>"
        for values in own.values()
      ),
    ]
    for key, own in found.items()
  ]
  labels = next(iter(found.values()))
  return table(["setting", *map(escape, labels)], rows, caption, words=True)


def _notes(notes: Sequence[str]) -> str:
  if not notes:
    return ""
  return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in notes)}</ul>"


def _file(name: str) -> str:
  return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
