"""Contrastive loss of pixel embeddings."""

import dataclasses
from collections.abc import Mapping

from asmjax.losses.embedding import contrastive_loss
from asmjax.losses.neighborhood import offsets
from asmjax.tasks.base import Task
from asmjax.terms.base import FEATURES, LossTerm, Term, TermContext, TermOutput
from asmjax.terms.weight import Weight, evaluate_weight
from asmjax.utils.ranges import NonNegative


@dataclasses.dataclass(frozen=True)
class Embedding(Term):
  """Contrastive loss of the features of neighboring pixels (Ke et al. 2018, Eq. 9).

  It pulls neighbors of one class together and others apart. The features are those that the
  predictor's heads are applied to. For segmentation only.

  Attributes:
    weight: Factor of the loss.
    size: Odd k of the k x k neighborhood.
    neighbors: "corners" or "full"; see `asmjax.losses.neighborhood.offsets`.
    margin: Distance from which pairs of two classes cost nothing.

  Raises:
    ValueError: Unknown neighbors, or an impossible size.
  """

  weight: Weight = 1.0
  size: int = 3
  neighbors: str = "corners"
  margin: NonNegative = 0.2

  def __post_init__(self):
    super().__post_init__()
    offsets(self.size, self.neighbors)  # Refuses what it cannot list.

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError unless segmentation is trained."""
    if "segmentation" not in tasks:
      raise ValueError(f"an embedding needs the task segmentation; trained: {', '.join(tasks)}")

  def __call__(self, context: TermContext) -> TermOutput:
    """Computes the loss on pairs of the same class and on the others."""
    if FEATURES not in context.outputs:
      raise ValueError(
        f"an embedding needs the features of the predictor's heads, sown as {FEATURES!r}"
      )
    loss = contrastive_loss(
      context.outputs[FEATURES],
      context.truth["label"],
      classes=context.tasks["segmentation"].channels,
      size=self.size,
      neighbors=self.neighbors,
      margin=self.margin,
    )
    weight = evaluate_weight(self.weight, context.progress)
    return TermOutput(
      {kind: LossTerm(value, predictor_weight=weight) for kind, value in loss._asdict().items()}
    )
