"""Whether the game is still one: critics that have collapsed, saturated or run away."""

from collections.abc import Mapping, Sequence

from asmjax.game import Term


class Health:
  """Holds the metrics of a run against what each term knows of its own troubles."""

  def __init__(self, terms: Mapping[str, Term], logged: Sequence[Mapping[str, float]] = ()):
    """Knows nothing wrong, or what the last log interval shows.

    Args:
      terms: by name.
      logged: the means of all log intervals so far, if the run goes on from a checkpoint.
    """
    self._terms = terms
    self._first: dict[str, Mapping[str, float]] = {}
    self._known: set[tuple[str, str]] = set()
    played = [means for means in logged if any(of_term(name, means) for name in terms)]
    for means in (*played[:1], *played[-1:]):
      self.check(means)

  def check(self, means: Mapping[str, float]) -> list[str]:
    """In words, each trouble that was not there at the last check.

    Args:
      means: of a log interval, as `term/summand`; of some terms there may be none.
    """
    found = {}
    for name, term in self._terms.items():
      if now := of_term(name, means):
        symptoms = term.symptoms(now, self._first.setdefault(name, now))
        found |= {(name, symptom): f"{name}: {words}" for symptom, words in symptoms.items()}
    news = found.keys() - self._known
    self._known = set(found)
    return [words for symptom, words in found.items() if symptom in news]


def of_term(name: str, means: Mapping[str, float]) -> dict[str, float]:
  """The means of a term's summands by their own names, and its critic's "gradient"."""
  found = {
    key.removeprefix(f"{name}/"): value
    for key, value in means.items()
    if key.startswith(f"{name}/")
  }
  gradient = f"gradient/{name}"
  return found | {"gradient": means[gradient]} if found and gradient in means else found
