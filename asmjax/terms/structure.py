"""Adversarial structure matching (Hwang et al. 2019)."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax.game import Critique, Summand, Task, Term
from asmjax.gradients import reverse_gradient
from asmjax.losses.matching import (
  EPSILON,
  NORMALIZATIONS,
  layer_distances,
  matching_hinge,
  smallest_norm,
)
from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.terms.structures import MaskedStructures, select_tasks
from asmjax.terms.weight import Weight, at

# How many times its value at the start, or 1, a quantity must have grown to be a warning.
_EXPLODED = 100


@dataclasses.dataclass(frozen=True)
class Structure(Term):
  """V(S, A) = E[1/2 ||A(S(x)) - A(y)||^2] over chosen layers; S descends it, A climbs it.

  A also descends `reconstruction` * IID(y, R(A(y))), which keeps its filters a basis of
  structures (Eq. 3). The defaults are the paper's settings for the horses; those of the authors'
  code are `RELEASED` in `asmjax/config/presets.py`.

  Attributes:
    weight: of V for the predictor.
    ascent: of V for the analyzer; 0 is the paper's ablation "w/o adv.". Without a reconstruction
      Adam divides it out: there the analyzer's learning rate is what to change.
    reconstruction: lambda; 0 is the ablation "w/o rec.".
    layers: whose features enter V, each with the mean over its pixels.
    normalize: what features are divided by, "none", "pixel" or "image"; see
      `asmjax.losses.matching_distance`. Without it the analyzer can enlarge V by its weights alone.
    margin: if positive, the analyzer climbs through a hinge and stops where the distance of a
      pixel has reached this margin.
    binarise: the analyzer climbs on the winner-take-all prediction, without gradient. Otherwise
      it learns to tell soft maps from one-hot ones, where there is no error too.
    partly: count features that see any labeled pixel; otherwise only those whose cell is all
      labeled.
    tasks: names of those whose structures are judged together; empty for all. One such term for
      each task gives each a critic of its own.
    critic: the autoencoder A, R.

  Raises:
    ValueError: an unknown layer or normalization, or no layer.
  """

  weight: Weight = 1.0
  ascent: Weight = 1.0
  reconstruction: float = 2.0
  layers: tuple[str, ...] = ("conv1", "conv2")
  normalize: str = "none"
  margin: float = 0.0
  binarise: bool = False
  partly: bool = True
  tasks: tuple[str, ...] = ()
  critic: StructureAutoencoder = StructureAutoencoder()

  def __post_init__(self):
    unknown = [layer for layer in self.layers if layer not in self.critic.layers]
    if unknown or not self.layers:
      raise ValueError(f"unknown layers {unknown} in {self.layers}; known: {self.critic.layers}")
    if self.normalize not in NORMALIZATIONS:
      raise ValueError(f"unknown normalize {self.normalize!r}; known: {', '.join(NORMALIZATIONS)}")

  @property
  def critic_scale(self) -> Weight:
    """The ascent, unless it is held against a reconstruction."""
    return 1.0 if self.reconstruction else self.ascent

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError if a task that is to be judged is not trained."""
    select_tasks(tasks, self.tasks)

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """The autoencoder's variables."""
    judged = select_tasks(tasks, self.tasks).values()
    return self.critic.init(rng, *(jnp.zeros((1, *size, task.channels)) for task in judged))

  def symptoms(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """V or the analyzer's gradient explodes, V is saturated, or features vanish."""
    found = {}
    value, start = (sum(means[layer] for layer in self.layers) for means in (now, first))
    advice = "normalize features, or give the analyzer a margin, less ascent or a smaller rate"
    if value > _EXPLODED * max(start, 1):
      found["explodes"] = f"V explodes: {value:.3g} after {start:.3g} at the start; {advice}"
    gradient, before = now.get("gradient", 0.0), first.get("gradient", 0.0)
    if gradient > _EXPLODED * max(before, 1):
      found["gradient"] = (
        f"the analyzer's gradient explodes: its norm is {gradient:.3g} after {before:.3g} at the "
        f"start; {advice}"
      )
    orthogonal = NORMALIZATIONS[self.normalize]
    far = [layer for layer in self.layers if orthogonal and now[layer] > 0.9 * orthogonal]
    if far:
      found["saturated"] = (
        f"the features of prediction and truth at {', '.join(far)} have little in common "
        f"(distance {now[far[0]]:.3g}, {orthogonal} if orthogonal): the analyzer tells them apart "
        "by more than their errors; binarise what it climbs on, or give it a margin"
      )
    near_zero = [layer for layer in self.layers if 0 < now[f"smallest_{layer}"] < EPSILON**0.5]
    if near_zero:
      found["vanishing"] = (
        f"features vanish: the shortest of an image at {', '.join(near_zero)} has the length "
        f"{now[f'smallest_{near_zero[0]}']:.3g} on average, and no direction to speak of; binarise "
        "what the analyzer climbs on, or give it more reconstruction"
      )
    return found

  def critic_loss(
    self, means: Mapping[str, Array | float], tasks: Mapping[str, Task]
  ) -> Array | float:
    """The reconstruction, and V with the opposite sign, or with a margin the hinge on it."""
    prefix = "climb_" if self.margin or self.binarise else ""
    climbed = sum(means[f"{prefix}{layer}"] for layer in self.layers) if self.ascent else 0.0
    rebuilt = (
      sum(
        task.weight * means[f"reconstruction_{name}"]
        for name, task in select_tasks(tasks, self.tasks).items()
      )
      if self.reconstruction
      else 0.0
    )
    sign = 1 if self.margin else -1
    return sign * at(self.ascent, 0.0) * climbed + self.reconstruction * rebuilt

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
    """V by layer, what the analyzer climbs where that differs from V, and the reconstruction."""
    del rng
    params = critic["params"]
    judged = MaskedStructures(select_tasks(tasks, self.tasks), outputs, truth)
    weight, ascent = at(self.weight, progress), at(self.ascent, progress)
    predicted = judged.predicted
    features, *rebuilt = self._features(params, judged.true)
    valid = {
      layer: judged.valid(features[layer].shape[1:3], partly=self.partly) for layer in self.layers
    }
    if self.margin or self.binarise or not self.ascent:
      shown = judged.binarised if self.binarise else predicted
      summands = self._halves(params, predicted, shown, features, valid, weight, ascent)
    else:
      summands = self._shared(params, predicted, features, valid, weight, ascent)
    if self.reconstruction:
      summands |= self._reconstruction(rebuilt, judged.tasks, truth)
    return Critique(
      summands
      | {
        f"smallest_{layer}": Summand(0.0, smallest_norm(features[layer], valid=valid[layer]))
        for layer in self.layers
      }
    )

  def _shared(self, params, predicted, features, valid, weight, ascent) -> dict[str, Summand]:
    """One value for both players, each one's gradient with its own sign and weight.

    The true features are reversed themselves: their parameters also serve the reconstruction.
    """
    value = self._value(
      reverse_gradient(params, ascent),
      reverse_gradient(predicted, -weight),
      reverse_gradient(features, ascent),
      valid,
    )
    return {layer: Summand(1.0, moments) for layer, moments in value.items()}

  def _halves(self, params, predicted, shown, features, valid, weight, ascent):
    """A value for each player, with the other side held constant; forward passes are merged."""
    fixed_params, fixed_features = jax.lax.stop_gradient((params, features))
    value = self._value(fixed_params, predicted, fixed_features, valid)
    summands = {layer: Summand(weight, moments) for layer, moments in value.items()}
    if self.ascent:
      climbed = self._climbed(params, jax.lax.stop_gradient(shown), features, valid)
      sign = 1 if self.margin else -1
      summands |= {
        f"climb_{layer}": Summand(sign * ascent, moments) for layer, moments in climbed.items()
      }
    return summands

  def _features(
    self, params: PyTree, structures: Sequence[Array]
  ) -> tuple[dict[str, Array], *tuple[Array, ...]]:
    return jax.tree.map(promote_to_float32, self.critic.apply({"params": params}, *structures))

  def _value(
    self,
    params: PyTree,
    predicted: Sequence[Array],
    features: Mapping[str, Array],
    valid: Mapping[str, Array],
  ) -> dict[str, MaskedMean]:
    shown, *_ = self._features(params, predicted)
    return layer_distances(shown, features, self.layers, valid=valid, normalize=self.normalize)

  def _climbed(
    self,
    params: PyTree,
    shown: Sequence[Array],
    features: Mapping[str, Array],
    valid: Mapping[str, Array],
  ) -> dict[str, MaskedMean]:
    """What the analyzer climbs, V, or with a margin descends, the hinge on it."""
    if not self.margin:
      return self._value(params, shown, features, valid)
    seen, *_ = self._features(params, shown)
    return {
      layer: matching_hinge(
        seen[layer],
        features[layer],
        margin=self.margin,
        valid=valid[layer],
        normalize=self.normalize,
      )
      for layer in self.layers
    }

  def _reconstruction(
    self, rebuilt: Sequence[Array], tasks: Mapping[str, Task], truth: Mapping[str, ArrayLike]
  ) -> dict[str, Summand]:
    return {
      f"reconstruction_{name}": Summand(
        self.reconstruction * task.weight, task.reconstruction_loss(part, truth)
      )
      for (name, task), part in zip(tasks.items(), rebuilt, strict=True)
    }
