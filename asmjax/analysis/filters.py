"""How many directions the filters of a structure analyzer have, one or a basis."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from asmjax.analysis.analyzer import AnalyzerRun
from asmjax.analysis.formatting import markdown_table


class FilterDirections(NamedTuple):
  """Directions of the filters of one layer, whose features V compares.

  An analyzer whose features nothing normalizes may turn all filters into the direction along which
  the predictor's errors are largest, and then sees no other.

  Attributes:
    layer: Name of the convolution; of several structure terms TERM/NAME.
    most: Largest number of directions: that of filters, or of weights of each if there are fewer.
    effective_rank: Number of directions, from 1 to `most`: exp of the entropy of the singular
      values as parts of their sum (Roy and Vetterli 2007).
    first_share: Part of the filters' squared lengths that is along their first direction.
  """

  layer: str
  most: int
  effective_rank: float
  first_share: float


def measure_directions(kernel: Float[np.ndarray, "k k c f"], layer: str) -> FilterDirections:
  """Measures the directions of a convolution's filters by the singular values of its kernel."""
  values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]).astype(float), compute_uv=False)
  parts = values[values > 0] / values.sum()
  effective_rank = float(np.exp(-np.sum(parts * np.log(parts))))
  return FilterDirections(
    layer, len(values), effective_rank, float(values[0] ** 2 / np.sum(values**2))
  )


def measure_analyzers(run: AnalyzerRun) -> list[FilterDirections]:
  """Measures the layers that V compares, of every structure term of a run."""
  measured = []
  for name, term in run.terms.items():
    for module, variables in sorted(run.state.players[name].params.items()):
      if module.split("_")[0] in term.layers:  # The first one may have a part for each task.
        layer = f"{name}/{module}" if len(run.terms) > 1 else module
        measured.append(measure_directions(variables["kernel"], layer))
  return measured


def format_table(layers: Sequence[FilterDirections]) -> str:
  """Formats a Markdown table with a row for each layer."""
  rows = [[x.layer, str(x.most), f"{x.effective_rank:.1f}", f"{x.first_share:.2f}"] for x in layers]
  return markdown_table(["layer", "directions", "effective rank", "along the first one"], rows)
