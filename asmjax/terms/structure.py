"""Adversarial structure matching (Hwang et al. 2019)."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax.gradients import reverse_gradient
from asmjax.losses.matching import (
  EPSILON,
  NORMALIZATIONS,
  layer_distances,
  matching_hinge,
  min_norm,
)
from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.tasks.base import Task
from asmjax.terms.base import LossTerm, Scalar, Term, TermContext, TermOutput
from asmjax.terms.structures import MaskedStructures, select_tasks
from asmjax.terms.weight import Weight, evaluate_weight
from asmjax.utils.ranges import NonNegative

Features = Mapping[str, Float[Array, "n _ _ c"]]
Masks = Mapping[str, Float[Array, "n _ _ 1"]]

# Growth of V, or of the analyzer's gradient, over its value at the start (or 1) that is reported as
# an explosion; our choice.
_EXPLODED = 100


@dataclasses.dataclass(frozen=True)
class Structure(Term):
  """Structure matching: V(S, A) = E[1/2 ||A(S(x)) - A(y)||^2], which S descends and A ascends.

  V is a sum over layers of the analyzer A. A also descends `reconstruction_weight` *
  IID(y, R(A(y))), which keeps its filters a basis of structures (Eq. 3). The defaults are the
  paper's settings for the horses; those of the authors' code are `RELEASED` in
  `asmjax/config/methods.py`.

  Attributes:
    weight: Factor of V in the predictor's objective.
    critic_weight: Factor of V that the analyzer ascends; 0 is the paper's ablation "w/o adv.".
      Without a reconstruction Adam divides it out: there the analyzer's learning rate is what to
      change.
    reconstruction_weight: Factor lambda of the reconstruction; 0 is the ablation "w/o rec.".
    layers: Layers whose features enter V, each with the mean over its pixels.
    normalize: Norm by which features are divided, "none", "pixel" or "image"; see
      `asmjax.losses.matching_distance`. Without it the analyzer can enlarge V by its weights alone.
    margin: Distance of a pixel at which the analyzer stops to ascend, through a hinge; 0 for none.
    binarize: Whether the analyzer ascends on the winner-take-all prediction, without gradient.
      Otherwise it learns to tell soft maps from one-hot ones, where there is no error too.
    count_partial_cells: Whether features of cells with any labeled pixel count, or only those of
      cells that are labeled entirely.
    tasks: Names of the tasks whose structures are judged jointly; empty for all. One such term for
      each task gives each a critic of its own.
    critic: The autoencoder A, R.

  Raises:
    ValueError: An unknown layer or normalization, or no layer.
  """

  weight: Weight = 1.0
  critic_weight: Weight = 1.0
  reconstruction_weight: NonNegative = 2.0
  layers: tuple[str, ...] = ("conv1", "conv2")
  normalize: str = "none"
  margin: NonNegative = 0.0
  binarize: bool = False
  count_partial_cells: bool = True
  tasks: tuple[str, ...] = ()
  critic: StructureAutoencoder = StructureAutoencoder()

  def __post_init__(self):
    super().__post_init__()
    unknown = [layer for layer in self.layers if layer not in self.critic.layers]
    if unknown or not self.layers:
      raise ValueError(f"unknown layers {unknown} in {self.layers}; known: {self.critic.layers}")
    if self.normalize not in NORMALIZATIONS:
      raise ValueError(f"unknown normalize {self.normalize!r}; known: {', '.join(NORMALIZATIONS)}")

  @property
  def critic_scale(self) -> Weight:
    """Factor of V that the analyzer ascends, unless it has a reconstruction to weigh against."""
    return 1.0 if self.reconstruction_weight else self.critic_weight

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError if a task that is to be judged is not trained."""
    select_tasks(tasks, self.tasks)

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """Initializes the autoencoder's variables."""
    selected = select_tasks(tasks, self.tasks).values()
    return self.critic.init(rng, *(jnp.zeros((1, *size, task.channels)) for task in selected))

  def diagnose(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """Reports a V or gradient of the analyzer that explodes, a saturated V, vanishing features."""
    problems = {}
    value, start = (sum(means[layer] for layer in self.layers) for means in (now, first))
    advice = (
      "normalize features, or give the analyzer a margin, filters of bounded length "
      "(critic.max_norm), less weight or a smaller rate"
    )
    if value > _EXPLODED * max(start, 1):
      problems["explodes"] = f"V explodes: {value:.3g} after {start:.3g} at the start; {advice}"
    norm, before = now.get("gradient_norm", 0.0), first.get("gradient_norm", 0.0)
    if norm > _EXPLODED * max(before, 1):
      problems["gradient"] = (
        f"the analyzer's gradient explodes: its norm is {norm:.3g} after {before:.3g} at the "
        f"start; {advice}"
      )
    orthogonal = NORMALIZATIONS[self.normalize]
    saturated = [layer for layer in self.layers if orthogonal and now[layer] > 0.9 * orthogonal]
    if saturated:
      problems["saturated"] = (
        f"the features of prediction and truth at {', '.join(saturated)} have little in common "
        f"(distance {now[saturated[0]]:.3g}, {orthogonal} if orthogonal): the analyzer tells them "
        "apart by more than their errors; binarize what it ascends on, or give it a margin"
      )
    near_zero = [layer for layer in self.layers if 0 < now[f"smallest_norm_{layer}"] < EPSILON**0.5]
    if near_zero:
      problems["vanishing"] = (
        f"features vanish: the shortest of an image at {', '.join(near_zero)} has the length "
        f"{now[f'smallest_norm_{near_zero[0]}']:.3g} on average, and hardly a direction; "
        "binarize what the analyzer ascends on, or give it more reconstruction"
      )
    return problems

  def __call__(self, context: TermContext) -> TermOutput:
    """Computes V by layer, the analyzer's part where it is not V, and the reconstruction."""
    structures = MaskedStructures(
      select_tasks(context.tasks, self.tasks), context.outputs, context.truth
    )
    params = context.critic["params"]
    weight = evaluate_weight(self.weight, context.progress)
    critic_weight = evaluate_weight(self.critic_weight, context.progress)
    predicted = structures.predicted
    features, *rebuilt = self._encode(params, structures.true)
    masks = {
      layer: structures.mask(
        features[layer].shape[1:3], count_partial_cells=self.count_partial_cells
      )
      for layer in self.layers
    }
    if self.margin or self.binarize or not self.critic_weight:
      inputs = structures.hard if self.binarize else predicted
      losses = self._predictor_objective(params, predicted, features, masks, weight)
      if self.critic_weight:
        losses |= self._critic_objective(params, inputs, features, masks, critic_weight)
    else:
      losses = self._joint_objective(params, predicted, features, masks, weight, critic_weight)
    if self.reconstruction_weight:
      losses |= self._reconstruction(rebuilt, structures.tasks, context.truth)
    return TermOutput(
      losses
      | {
        f"smallest_norm_{layer}": LossTerm(min_norm(features[layer], mask=masks[layer]))
        for layer in self.layers
      }
    )

  def _joint_objective(
    self,
    params: PyTree,
    predicted: Sequence[Array],
    features: Features,
    masks: Masks,
    weight: Scalar,
    critic_weight: Scalar,
  ) -> dict[str, LossTerm]:
    """Computes one value for both players, with a sign and a weight for each one's gradient.

    The true features are reversed themselves: their parameters also serve the reconstruction.
    """
    distances = self._distances(
      reverse_gradient(params, critic_weight),
      reverse_gradient(predicted, -weight),
      reverse_gradient(features, critic_weight),
      masks,
    )
    return {
      layer: LossTerm(value, weight, -critic_weight, joint_weight=1.0)
      for layer, value in distances.items()
    }

  def _predictor_objective(
    self,
    params: PyTree,
    predicted: Sequence[Array],
    features: Features,
    masks: Masks,
    weight: Scalar,
  ) -> dict[str, LossTerm]:
    """Computes V for the predictor, with the analyzer constant."""
    params, features = jax.lax.stop_gradient((params, features))
    distances = self._distances(params, predicted, features, masks)
    return {layer: LossTerm(value, predictor_weight=weight) for layer, value in distances.items()}

  def _critic_objective(
    self,
    params: PyTree,
    inputs: Sequence[Array],
    features: Features,
    masks: Masks,
    critic_weight: Scalar,
  ) -> dict[str, LossTerm]:
    """Computes V for the analyzer, or with a margin the hinge on it, with the predictor constant.

    The compiler merges the forward passes of both objectives.
    """
    inputs = jax.lax.stop_gradient(inputs)
    if not self.margin:
      distances = self._distances(params, inputs, features, masks)
      return {
        f"analyzer_{layer}": LossTerm(value, critic_weight=-critic_weight)
        for layer, value in distances.items()
      }
    predicted_features, *_ = self._encode(params, inputs)
    hinges = {
      layer: matching_hinge(
        predicted_features[layer],
        features[layer],
        margin=self.margin,
        mask=masks[layer],
        normalize=self.normalize,
      )
      for layer in self.layers
    }
    return {
      f"analyzer_{layer}": LossTerm(value, critic_weight=critic_weight)
      for layer, value in hinges.items()
    }

  def _encode(
    self, params: PyTree, structures: Sequence[Array]
  ) -> tuple[Features, *tuple[Array, ...]]:
    """Computes features by layer, and the reconstruction of each structure."""
    return jax.tree.map(promote_to_float32, self.critic.apply({"params": params}, *structures))

  def _distances(
    self, params: PyTree, predicted: Sequence[Array], features: Features, masks: Masks
  ) -> dict[str, MaskedMean]:
    predicted_features, *_ = self._encode(params, predicted)
    return layer_distances(
      predicted_features, features, self.layers, masks=masks, normalize=self.normalize
    )

  def _reconstruction(
    self, rebuilt: Sequence[Array], tasks: Mapping[str, Task], truth: Mapping[str, ArrayLike]
  ) -> dict[str, LossTerm]:
    return {
      f"reconstruction_{name}": LossTerm(
        task.reconstruction_loss(reconstruction, truth),
        critic_weight=self.reconstruction_weight * task.weight,
      )
      for (name, task), reconstruction in zip(tasks.items(), rebuilt, strict=True)
    }
