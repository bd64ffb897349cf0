"""Adversarial structure matching (Hwang et al. 2019)."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from asmjax.losses.matching import layer_distances, matching_hinge
from asmjax.minimax import Critique, Summand, Task, Term, ascend
from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.moments import Moments
from asmjax.terms.judged import Judged, choose_tasks
from asmjax.terms.weight import Weight, at


@dataclasses.dataclass(frozen=True)
class Structure(Term):
  """V(S, A) = E[1/2 ||A(S(x)) - A(y)||^2] over chosen layers; S descends it, A climbs it.

  A also descends `reconstruction` * IID(y, R(A(y))), which keeps its filters a basis of
  structures (Eq. 3). The defaults are the paper's settings for the horses; those of the authors'
  code are `RELEASED` in `configs/common.py`.

  Attributes:
    weight: of V for the predictor.
    ascent: of V for the analyzer; 0 is the paper's ablation "w/o adv.". Without a reconstruction
      Adam divides it out: there the analyzer's learning rate is what to change.
    reconstruction: lambda; 0 is the ablation "w/o rec.".
    layers: whose features enter V, each with the mean over its pixels.
    normalise: L2-normalise features over channels (and leave out the 1/2).
    margin: if positive, the analyzer climbs through a hinge and stops where the distance of a
      pixel has reached this margin.
    binarise: show the analyzer the winner-take-all prediction when it is the analyzer's turn.
    partly: count features that see any labelled pixel; otherwise only those whose cell is all
      labelled.
    tasks: names of those whose structures are judged together; empty for all. One such term for
      each task gives each a critic of its own.
    critic: the autoencoder A, R.

  Raises:
    ValueError: an unknown layer, or no layer.
  """

  weight: Weight = 1.0
  ascent: Weight = 1.0
  reconstruction: float = 2.0
  layers: tuple[str, ...] = ("conv1", "conv2")
  normalise: bool = False
  margin: float = 0.0
  binarise: bool = False
  partly: bool = True
  tasks: tuple[str, ...] = ()
  critic: StructureAutoencoder = StructureAutoencoder()

  def __post_init__(self):
    unknown = [layer for layer in self.layers if layer not in self.critic.layers]
    if unknown or not self.layers:
      raise ValueError(f"unknown layers {unknown} in {self.layers}; known: {self.critic.layers}")

  @property
  def critic_scale(self) -> Weight:
    """The ascent, unless it is held against a reconstruction."""
    return 1.0 if self.reconstruction else self.ascent

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError if a task that is to be judged is not trained."""
    choose_tasks(tasks, self.tasks)

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """The autoencoder's variables."""
    judged = choose_tasks(tasks, self.tasks).values()
    return self.critic.init(rng, *(jnp.zeros((1, *size, task.channels)) for task in judged))

  def symptoms(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """V explodes: the analyzer has outgrown the predictor."""
    value, start = (sum(figures[layer] for layer in self.layers) for figures in (now, first))
    if value <= 100 * max(start, 1):
      return {}
    return {"explodes": (
      f"V explodes: {value:.3g} after {start:.3g} at the start; give the analyzer a margin, less "
      "ascent, a smaller learning rate or a gradient clip"
    )}

  def critic_loss(
    self, means: Mapping[str, Array | float], tasks: Mapping[str, Task]
  ) -> Array | float:
    """The reconstruction, and V with the opposite sign, or with a margin the hinge on it."""
    prefix = "climb_" if self.margin or self.binarise else ""
    climbed = sum(means[f"{prefix}{layer}"] for layer in self.layers) if self.ascent else 0.0
    rebuilt = sum(
      task.weight * means[f"reconstruction_{name}"]
      for name, task in choose_tasks(tasks, self.tasks).items()
    ) if self.reconstruction else 0.0
    sign = 1 if self.margin else -1
    return sign * at(self.ascent, 0.0) * climbed + self.reconstruction * rebuilt

  def __call__(
    self, critic: PyTree, tasks: Mapping[str, Task], outputs: Mapping[str, PyTree],
    truth: Mapping[str, ArrayLike], *, progress: Array | float, rng: Array,
  ) -> Critique:
    """V by layer, what the analyzer climbs where that differs from V, and the reconstruction."""
    del rng
    params = critic["params"]
    judged = Judged(choose_tasks(tasks, self.tasks), outputs, truth)
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
    return Critique(summands)

  def _shared(self, params, predicted, features, valid, weight, ascent) -> dict[str, Summand]:
    """One value for both players, each one's gradient with its own sign and weight.

    The true features are reversed themselves: their parameters also serve the reconstruction.
    """
    value = self._value(
      ascend(params, ascent), ascend(predicted, -weight), ascend(features, ascent), valid
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
    return self.critic.apply({"params": params}, *structures)

  def _value(
    self, params: PyTree, predicted: Sequence[Array], features: Mapping[str, Array],
    valid: Mapping[str, Array],
  ) -> dict[str, Moments]:
    shown, *_ = self._features(params, predicted)
    return layer_distances(shown, features, self.layers, valid=valid, normalise=self.normalise)

  def _climbed(
    self, params: PyTree, shown: Sequence[Array], features: Mapping[str, Array],
    valid: Mapping[str, Array],
  ) -> dict[str, Moments]:
    """What the analyzer climbs, V, or with a margin descends, the hinge on it."""
    if not self.margin:
      return self._value(params, shown, features, valid)
    seen, *_ = self._features(params, shown)
    return {
      layer: matching_hinge(
        seen[layer], features[layer], margin=self.margin, valid=valid[layer],
        normalise=self.normalise,
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
