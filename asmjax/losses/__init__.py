"""Losses: pure functions on arrays, usable in any training loop.

Each returns `MaskedMean(total, count)`; `.mean()` divides, and gives 0 where nothing counts.
"""

from asmjax.losses.adversarial import accuracy, deceive, gradient_penalty, judge, product, soften
from asmjax.losses.affinity import SizeWeights, affinity
from asmjax.losses.embedding import contrastive
from asmjax.losses.matching import layer_distances, matching_distance, matching_hinge
from asmjax.losses.pixel import class_balance, cross_entropy, negative_cosine, squared_error

__all__ = [
  "SizeWeights",
  "accuracy",
  "affinity",
  "class_balance",
  "contrastive",
  "cross_entropy",
  "deceive",
  "gradient_penalty",
  "judge",
  "layer_distances",
  "matching_distance",
  "matching_hinge",
  "negative_cosine",
  "product",
  "soften",
  "squared_error",
]
