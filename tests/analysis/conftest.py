"""Fixtures of several tests of figures."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def saved_figures(monkeypatch):
  """Figures that were to be saved, in their order; none is written."""
  figures = []
  monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: figures.append(figure))
  return figures
