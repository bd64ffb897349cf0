"""Losses: pure functions on arrays, usable in any training loop.

Each returns `Moments(sum, count)`; `.mean()` divides, and gives 0 where nothing counts.
"""

from asmjax.losses.matching import layer_distances, matching_distance, matching_hinge
from asmjax.losses.pixel import cross_entropy, negative_cosine, squared_error

__all__ = [
  "cross_entropy", "layer_distances", "matching_distance", "matching_hinge", "negative_cosine",
  "squared_error",
]
