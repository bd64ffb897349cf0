"""Means and standard deviations of values that come in parts."""

import functools
import operator

import numpy as np
import pytest
from scipy import stats

from asmjax.metrics.moments import RunningMoments


def test_running_moments_are_accurate_where_sums_of_squares_are_not():
  values = 1e8 + np.random.default_rng(0).random(1000)
  parts = [RunningMoments.from_values(part) for part in np.split(values, [1, 3, 400, 400])]
  merged = functools.reduce(operator.add, parts)
  assert merged.mean() == pytest.approx(values.mean(), rel=1e-15)
  assert merged.std() == pytest.approx(stats.tstd(values, ddof=0), rel=1e-7)
