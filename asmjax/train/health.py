"""Warnings of critics that have collapsed, saturated or exploded."""

from collections.abc import Mapping, Sequence

from asmjax.terms.base import Term


class CriticMonitor:
  """Reports new problems of a game, as its terms read them off the metrics of a run."""

  def __init__(self, terms: Mapping[str, Term], logged: Sequence[Mapping[str, float]] = ()):
    """Starts without known problems, or with those of the last of the intervals `logged` so far."""
    self._terms = terms
    self._first: dict[str, Mapping[str, float]] = {}
    self._known: set[tuple[str, str]] = set()
    intervals = [means for means in logged if any(select_term(name, means) for name in terms)]
    for means in (*intervals[:1], *intervals[-1:]):
      self.check(means)

  def check(self, means: Mapping[str, float]) -> list[str]:
    """Describes each problem that the last check did not find.

    Args:
      means: Metrics of a log interval, by "TERM/LOSS" and "gradient_norm/TERM"; terms without
        metrics are not checked.
    """
    problems = {}
    for name, term in self._terms.items():
      if now := select_term(name, means):
        first = self._first.setdefault(name, now)
        for problem, text in term.diagnose(now, first).items():
          problems[name, problem] = f"{name}: {text}"
    new = problems.keys() - self._known
    self._known = set(problems)
    return [text for problem, text in problems.items() if problem in new]


def select_term(name: str, means: Mapping[str, float]) -> dict[str, float]:
  """Selects a term's means by "LOSS", and "gradient_norm" if known; empty without losses."""
  prefix, norm = f"{name}/", f"gradient_norm/{name}"
  losses = {
    key.removeprefix(prefix): value for key, value in means.items() if key.startswith(prefix)
  }
  return losses | {"gradient_norm": means[norm]} if losses and norm in means else losses
