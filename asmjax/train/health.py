"""Whether the game is still one: critics that have collapsed, saturated or run away."""

from collections.abc import Mapping, Sequence

from asmjax.minimax import Term


class Health:
  """Holds the metrics of a run against what each term knows of its own troubles."""

  def __init__(self, terms: Mapping[str, Term], logged: Sequence[Mapping[str, float]] = ()):
    """Knows nothing wrong, or what the last log interval shows.

    Args:
      terms: by name.
      logged: the means of all log intervals so far, if the run goes on from a checkpoint.
    """
    self._terms = terms
    self._first: Mapping[str, float] = {}
    self._known: set[tuple[str, str]] = set()
    for means in (*logged[:1], *logged[-1:]):
      self.check(means)

  def check(self, means: Mapping[str, float]) -> list[str]:
    """In words, each trouble that was not there at the last check.

    Args:
      means: of a log interval, as `term/summand`.
    """
    self._first = self._first or means
    found = {
      (name, symptom): f"{name}: {words}"
      for name, term in self._terms.items()
      for symptom, words in term.symptoms(_of(name, means), _of(name, self._first)).items()
    }
    news = found.keys() - self._known
    self._known = set(found)
    return [words for symptom, words in found.items() if symptom in news]


def _of(name: str, means: Mapping[str, float]) -> dict[str, float]:
  return {
    key.removeprefix(f"{name}/"): value for key, value in means.items()
    if key.startswith(f"{name}/")
  }
