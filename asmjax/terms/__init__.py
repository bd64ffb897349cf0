"""Terms: losses on the predictor's outputs, each with the critic it needs."""

from asmjax.terms.adversarial import Adversarial
from asmjax.terms.affinity import Affinity
from asmjax.terms.embedding import Embedding
from asmjax.terms.pixel import Pixel
from asmjax.terms.structure import Structure

TERMS = {
  "adversarial": Adversarial,
  "affinity": Affinity,
  "embedding": Embedding,
  "pixel": Pixel,
  "structure": Structure,
}
