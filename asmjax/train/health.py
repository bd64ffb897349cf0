"""Warnings of predictors that do not learn, and of critics that collapse, saturate or explode."""

from collections.abc import Mapping, Sequence

from asmjax.game import PREDICTOR
from asmjax.terms.base import Term


class GameMonitor:
  """Reports new problems of a game, as it and its terms read them off the metrics of a run."""

  def __init__(self, terms: Mapping[str, Term], logged: Sequence[Mapping[str, float]] = ()):
    """Starts without known problems, or with those of the last of the intervals `logged` so far."""
    self._terms = terms
    self._first: dict[str, Mapping[str, float]] = {}
    self._known: set[tuple[str, str]] = set()
    self._loss: float | None = None
    intervals = [means for means in logged if any(select_term(name, means) for name in terms)]
    # The one before the last tells whether the loss was constant there.
    for means in (*intervals[:1], *intervals[max(1, len(intervals) - 2) :]):
      self.check(means)

  def check(self, means: Mapping[str, float]) -> list[str]:
    """Describes each problem that the last check did not find.

    Args:
      means: Metrics of a log interval, by "TERM/LOSS" and "gradient_norm/TERM"; terms without
        metrics are not checked.
    """
    problems = {(PREDICTOR, name): text for name, text in self._diagnose_predictor(means).items()}
    for name, term in self._terms.items():
      if now := select_term(name, means):
        first = self._first.setdefault(name, now)
        for problem, text in term.diagnose(now, first).items():
          problems[name, problem] = f"{name}: {text}"
    new = problems.keys() - self._known
    self._known = set(problems)
    return [text for problem, text in problems.items() if problem in new]

  def _diagnose_predictor(self, means: Mapping[str, float]) -> dict[str, str]:
    """Reads off the predictor's loss and gradient that it does not learn."""
    problems, loss, before = {}, means.get("loss"), self._loss
    self._loss = before if loss is None else loss
    if means.get(f"gradient_norm/{PREDICTOR}") == 0:
      problems["no gradient"] = (
        "the predictor does not learn: its gradient was 0 in a whole log interval; look for labels "
        "without known pixels, weights of 0 and frozen parameters (lr_multipliers)"
      )
    if loss is not None and loss == before:
      problems["constant loss"] = (
        f"the predictor does not learn: its loss was {loss:.6g} in two log intervals, to the last "
        "digit; look for a learning rate of 0 and labels that are all alike"
      )
    return problems


def select_term(name: str, means: Mapping[str, float]) -> dict[str, float]:
  """Selects a term's means by "LOSS", and "gradient_norm" if known; empty without losses."""
  prefix, norm = f"{name}/", f"gradient_norm/{name}"
  losses = {
    key.removeprefix(prefix): value for key, value in means.items() if key.startswith(prefix)
  }
  return losses | {"gradient_norm": means[norm]} if losses and norm in means else losses
