"""Losses: pure functions on arrays, usable in any training loop.

Each returns a `MaskedMean(total, count)`; `.mean()` divides, and gives 0 where nothing counts.
"""

from asmjax.losses.adversarial import (
  class_color_product,
  discriminator_accuracy,
  discriminator_loss,
  generator_loss,
  gradient_penalty,
  soften_one_hot,
)
from asmjax.losses.affinity import AffinityLoss, SizeWeights, affinity_loss
from asmjax.losses.embedding import ContrastiveLoss, contrastive_loss
from asmjax.losses.matching import layer_distances, matching_distance, matching_hinge
from asmjax.losses.pixel import class_balance_weights, cross_entropy, negative_cosine, squared_error

__all__ = [
  "AffinityLoss",
  "ContrastiveLoss",
  "SizeWeights",
  "affinity_loss",
  "class_balance_weights",
  "class_color_product",
  "contrastive_loss",
  "cross_entropy",
  "discriminator_accuracy",
  "discriminator_loss",
  "generator_loss",
  "gradient_penalty",
  "layer_distances",
  "matching_distance",
  "matching_hinge",
  "negative_cosine",
  "soften_one_hot",
  "squared_error",
]
