"""Losses: pure functions on arrays, usable in any training loop.

Most return a `MaskedMean(total, count)`; `.mean()` divides, and gives 0 where nothing counts. Those
of pairs of pixels have one for each of two kinds of pairs, and their `.mean()` adds both up.
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
from asmjax.losses.boundary import boundary_loss, signed_distance
from asmjax.losses.embedding import ContrastiveLoss, contrastive_loss
from asmjax.losses.geometry import (
  edge_aware_smoothness,
  gradient_matching_loss,
  scale_invariant_log_loss,
  ssim_loss,
)
from asmjax.losses.lovasz import lovasz_hinge, lovasz_softmax
from asmjax.losses.matching import layer_distances, matching_distance, matching_hinge
from asmjax.losses.mutual_information import region_mutual_information_loss
from asmjax.losses.overlap import dice_loss, generalized_dice_loss, tversky_loss
from asmjax.losses.pixel import (
  class_balance_weights,
  cross_entropy,
  effective_number_weights,
  focal_loss,
  inverse_frequency_weights,
  mark_hard_pixels,
  negative_cosine,
  squared_error,
  weigh_classes,
)
from asmjax.losses.skeleton import cl_dice_loss, soft_skeleton

__all__ = [
  "AffinityLoss",
  "ContrastiveLoss",
  "SizeWeights",
  "affinity_loss",
  "boundary_loss",
  "cl_dice_loss",
  "class_balance_weights",
  "class_color_product",
  "contrastive_loss",
  "cross_entropy",
  "dice_loss",
  "discriminator_accuracy",
  "discriminator_loss",
  "edge_aware_smoothness",
  "effective_number_weights",
  "focal_loss",
  "generalized_dice_loss",
  "generator_loss",
  "gradient_matching_loss",
  "gradient_penalty",
  "inverse_frequency_weights",
  "layer_distances",
  "lovasz_hinge",
  "lovasz_softmax",
  "mark_hard_pixels",
  "matching_distance",
  "matching_hinge",
  "negative_cosine",
  "region_mutual_information_loss",
  "scale_invariant_log_loss",
  "signed_distance",
  "soft_skeleton",
  "soften_one_hot",
  "squared_error",
  "ssim_loss",
  "tversky_loss",
  "weigh_classes",
]
