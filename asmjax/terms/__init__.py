"""Terms: losses on the predictor's outputs, each with the critic it needs."""

from asmjax.terms.adversarial import Adversarial
from asmjax.terms.affinity import Affinity
from asmjax.terms.embedding import Embedding
from asmjax.terms.geometry import SSIM, GradientMatching, ScaleInvariantLog, Smoothness
from asmjax.terms.pixel import Pixel
from asmjax.terms.region import (
  Boundary,
  ClDice,
  Dice,
  GeneralizedDice,
  Lovasz,
  RegionMutualInformation,
  Tversky,
)
from asmjax.terms.structure import Structure

TERMS = {
  "adversarial": Adversarial,
  "affinity": Affinity,
  "boundary": Boundary,
  "cl_dice": ClDice,
  "dice": Dice,
  "embedding": Embedding,
  "generalized_dice": GeneralizedDice,
  "gradient_matching": GradientMatching,
  "lovasz": Lovasz,
  "pixel": Pixel,
  "region_mutual_information": RegionMutualInformation,
  "scale_invariant_log": ScaleInvariantLog,
  "smoothness": Smoothness,
  "ssim": SSIM,
  "structure": Structure,
  "tversky": Tversky,
}
