"""Comparison of examples and batches, which are dicts of arrays."""

import numpy as np


def assert_examples_equal(actual, expected):
  """Compares keys, types and values."""
  assert actual.keys() == expected.keys()
  for key in expected:
    assert actual[key].dtype == expected[key].dtype
    np.testing.assert_array_equal(actual[key], expected[key])


def assert_all_equal(actual, expected):
  """Compares two sequences of examples or of batches, which are not empty."""
  assert len(actual) == len(expected) > 0
  for index in range(len(expected)):
    assert_examples_equal(actual[index], expected[index])
