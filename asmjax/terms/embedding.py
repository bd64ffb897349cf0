"""Contrast of pixel embeddings."""

import dataclasses
from collections.abc import Mapping

from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax.game import FEATURES, Critique, Summand, Task, Term
from asmjax.losses.embedding import contrastive
from asmjax.losses.neighborhood import offsets
from asmjax.terms.weight import Weight, at


@dataclasses.dataclass(frozen=True)
class Embedding(Term):
  """Pulls features of neighbors of one class together and others apart (Ke et al. 2018, Eq. 9).

  The features are those that the predictor's heads see. For segmentation only.

  Attributes:
    weight: of the term.
    size: k of the k x k neighborhood.
    neighbors: see `asmjax.losses.contrastive`, as are `margin` and `sampled`.

  Raises:
    ValueError: unknown neighbors, an impossible size, or more sampled than there are.
  """

  weight: Weight = 1.0
  size: int = 3
  neighbors: str = "corners"
  margin: float = 0.2
  sampled: int = 0

  def __post_init__(self):
    directions = len(offsets(self.size, self.neighbors)) // 2
    if not 0 <= self.sampled <= directions:
      raise ValueError(f"sampled={self.sampled} of {directions} directions to neighbors")

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless segmentation is trained."""
    if "segmentation" not in tasks:
      raise ValueError(f"an embedding needs the task segmentation; trained: {', '.join(tasks)}")

  def __call__(
    self,
    critic: PyTree,
    tasks: Mapping[str, Task],
    outputs: Mapping[str, PyTree],
    truth: Mapping[str, ArrayLike],
    *,
    progress: Array | float,
    rng: Array,
  ) -> Critique:
    """The loss on pairs of the same class and on the others."""
    del critic
    if FEATURES not in outputs:
      raise ValueError(f"an embedding needs what the predictor's heads see, sown as {FEATURES!r}")
    contrast = contrastive(
      outputs[FEATURES],
      truth["label"],
      classes=tasks["segmentation"].channels,
      size=self.size,
      neighbors=self.neighbors,
      margin=self.margin,
      sampled=self.sampled,
      rng=rng,
    )
    weight = at(self.weight, progress)
    return Critique(
      {
        kind: Summand(weight, moments)
        for kind, moments in zip(contrast._fields, contrast, strict=True)
      }
    )
