"""Directions of an analyzer's filters, of kernels whose singular values are known."""

import numpy as np
import pytest

from asmjax.analysis.analyzer import AnalyzerRun
from asmjax.analysis.filters import format_table, measure_analyzers, measure_directions
from tests.helpers.finished_runs import save_untrained


def test_measure_directions_counts_equal_ones_and_one_alone():
  basis = np.linalg.qr(np.random.default_rng(0).normal(size=(18, 5)))[0].reshape(3, 3, 2, 5)
  equal = measure_directions(3 * basis, "conv1")
  assert equal == ("conv1", 5, pytest.approx(5), pytest.approx(1 / 5))
  same = measure_directions(basis[..., :1] * np.arange(1, 6), "conv1")
  assert same == ("conv1", 5, pytest.approx(1), pytest.approx(1))
  # Lengths of 3 and 1: parts 3/4 and 1/4 of their sum, 9/10 and 1/10 of their squares.
  two = measure_directions(basis[..., :2] * [3, 1], "conv1")
  assert two.effective_rank == pytest.approx(4 / 3**0.75) and two.first_share == pytest.approx(0.9)


def test_measure_analyzers_lists_the_layers_of_v(tmp_path):
  save_untrained(tmp_path, "asm_conv1_3,depth+normals,apart")
  layers = measure_analyzers(AnalyzerRun.reopen(tmp_path))
  assert [layer.layer for layer in layers] == [
    f"structure_{task}/conv{i}" for task in ("depth", "normals") for i in (1, 2, 3)
  ]
  assert all(1 < layer.effective_rank <= layer.most for layer in layers)
  assert len(format_table(layers).splitlines()) == 2 + len(layers)
