"""A paragraph on what was compared."""

import numpy as np

from asmjax.analysis.report.contents import Report
from asmjax.analysis.report.words import number, signed, spelled
from asmjax.analysis.runs import better


def summary(report: Report) -> str:
  """What was compared, on what, and how it ended by one metric."""
  data_set, split, examples = report.examples
  runs = len(report.runs)
  what = (
    f"{len(report.groups)} groups, {runs} runs in all"
    if len(report.groups) > 1
    else (f"{runs} run{'s' * (runs > 1)}")
  )
  said = f"{what}, evaluated on the {examples} examples of {data_set} {split}{_training(report)}."
  return " ".join(filter(None, (said, _verdict(report))))


def _training(report: Report) -> str:
  """Steps and batches, where all are alike."""
  found = {
    (run.config["train"]["steps"], run.config["train"]["batch_size"])
    for run in report.runs
    if run.config is not None
  }
  if len(found) != 1:
    return ""
  ((steps, batch),) = found
  return f" after {steps} training steps on batches of {batch}"


def _verdict(report: Report) -> str:
  scores = next(each for each in report.scores if report.metric in each.metrics)
  values = {label: own[report.metric] for label, own in scores.values.items()}
  towards = better(report.metric)
  known = {label: own for label, own in values.items() if not np.isnan(own).any()}
  if len(known) < 2 or not towards or report.baseline not in known:
    return ""
  name, base = spelled(report.metric), known[report.baseline]
  best = max(known, key=lambda label: towards * known[label].mean())
  against = number(report.metric, base.mean())
  if best == report.baseline:
    return f"By {name} none is better than {best}, at {against}."
  found, change = known[best], known[best].mean() - base.mean()
  apart = towards * found > np.max(towards * base)
  if len(found) == len(base) == 1:
    seeds = "With a single run of each, chance is not ruled out."
  elif apart.all():
    seeds = f"Every run of {best} is better than every run of {report.baseline}."
  else:
    seeds = "The ranges of their runs overlap."
  return (
    f"By {name} {best} is best: {number(report.metric, found.mean())} against {against} of "
    f"{report.baseline} ({signed(report.metric, change)}). {seeds}"
  )
