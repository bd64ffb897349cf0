"""A paragraph on what was compared."""

import numpy as np

from asmjax.analysis.formatting import format_change, format_metric, format_value
from asmjax.analysis.report.contents import RunReport
from asmjax.metrics.names import metric_direction


def summarize_report(report: RunReport) -> str:
  """Describes what was compared, on what, and which group is best by the report's metric."""
  data_set, split, examples = report.examples
  num_runs = len(report.runs)
  if len(report.groups) > 1:
    subject = f"{len(report.groups)} groups, {num_runs} runs in all"
  else:
    subject = f"{num_runs} run{'s' * (num_runs > 1)}"
  evaluation = f"evaluated on the {examples} examples of {data_set} {split}"
  setting = f"{subject}, {evaluation}{_describe_training(report)}."
  return " ".join(filter(None, (setting, _describe_best(report))))


def _describe_training(report: RunReport) -> str:
  """Describes the length of the training if all runs have the same."""
  lengths = {
    (run.steps, run.config["train"]["batch_size"]) for run in report.runs if run.config is not None
  }
  if len(lengths) != 1:
    return ""
  ((steps, batch_size),) = lengths
  return f" after {steps} training steps on batches of {batch_size}"


def _describe_best(report: RunReport) -> str:
  """Names the best group, and tells whether all its runs are better than the baseline's."""
  metric, direction = report.metric, metric_direction(report.metric)
  scores = next(scores for scores in report.scores if metric in scores.metrics)
  values = {label: by_metric[metric] for label, by_metric in scores.values.items()}
  complete = {label: runs for label, runs in values.items() if not np.isnan(runs).any()}
  if len(complete) < 2 or not direction or report.baseline not in complete:
    return ""
  name, base = format_metric(metric), complete[report.baseline]
  best_label = max(complete, key=lambda label: direction * complete[label].mean())
  base_mean = format_value(metric, base.mean())
  if best_label == report.baseline:
    return f"By {name} none is better than {best_label}, at {base_mean}."
  best = complete[best_label]
  if len(best) == len(base) == 1:
    certainty = "With a single run of each, chance is not ruled out."
  elif (direction * best).min() > (direction * base).max():
    certainty = f"Every run of {best_label} is better than every run of {report.baseline}."
  else:
    certainty = "The ranges of their runs overlap."
  return (
    f"By {name} {best_label} is best: {format_value(metric, best.mean())} against {base_mean} of "
    f"{report.baseline} ({format_change(metric, best.mean() - base.mean())}). {certainty}"
  )
