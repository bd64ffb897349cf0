"""A discriminator of true and predicted structures (Luc et al. 2016)."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax.game import Critique, Summand, Task, Term
from asmjax.losses.adversarial import accuracy, deceive, gradient_penalty, judge, product, soften
from asmjax.models.critics.discriminators import LucNet, PatchNet, TwoBranchNet
from asmjax.models.critics.mobilenet import MobileNetCritic
from asmjax.models.input_transform import IMAGENET
from asmjax.ops import avg_pool
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.terms.structures import MaskedStructures, select_tasks
from asmjax.terms.weight import Weight, at

Inputs = tuple[Array, ...]

# From (truth, prediction, image) to what the discriminator is shown of the truth and of the
# prediction.
INPUTS: Mapping[str, Callable[[Array, Array, Array], tuple[Inputs, Inputs]]] = {
  "basic": lambda truth, predicted, image: ((truth,), (predicted,)),
  "product": lambda truth, predicted, image: (
    (product(truth, image),),
    (product(predicted, image),),
  ),
  "scaling": lambda truth, predicted, image: ((soften(truth, predicted),), (predicted,)),
  "concatenated": lambda truth, predicted, image: tuple(
    (jnp.concatenate([structure, image], -1),) for structure in (truth, predicted)
  ),
  "branches": lambda truth, predicted, image: ((truth, image), (predicted, image)),
}


@dataclasses.dataclass(frozen=True)
class Adversarial(Term):
  """A discriminator learns to tell predicted structures from true ones; the predictor deceives it.

  Attributes:
    weight: lambda, of what the predictor descends.
    critic_weight: of what the discriminator descends. Adam divides it out: there its learning rate
      (`optimizer.critic`) is what to change.
    inputs: what it is shown: "basic" structures, their "product" with the image, "scaling" (the
      truth made as soft as the prediction; segmentation only), structure and image
      "concatenated", or both for a network of two "branches".
    saturating: the predictor descends log(1 - a) rather than -log(a).
    smoothing: how far the discriminator's target for the truth is below 1.
    penalty: gamma of the R1 gradient penalty on the discriminator.
    shrink: judge cells of that many pixels a side, by their means. Luc et al. judge the maps of a
      network of stride 8.
    together: show truth and prediction in one batch, so that they share its statistics.
    hard: show what is predicted once it is decided, for classes the winner-take-all one-hot; the
      predictor's gradient is that of the probabilities, taken there (straight-through).
    tasks: names of those whose structures are judged together; empty for all.
    critic: the discriminator.

  Raises:
    ValueError: unknown inputs, inputs of two branches for a critic of one or the reverse, a truth
      that is to be as soft as a hard prediction, or a number out of range.
  """

  weight: Weight = 1.0
  critic_weight: float = 1.0
  inputs: str = "basic"
  saturating: bool = False
  smoothing: float = 0.0
  penalty: float = 0.0
  shrink: int = 1
  together: bool = False
  hard: bool = False
  tasks: tuple[str, ...] = ()
  critic: LucNet | MobileNetCritic | PatchNet | TwoBranchNet = LucNet()

  def __post_init__(self):
    if self.inputs not in INPUTS:
      raise ValueError(f"unknown inputs {self.inputs!r}; known: {', '.join(INPUTS)}")
    if self.shrink < 1 or not 0 <= self.smoothing < 1:
      raise ValueError(
        f"shrink={self.shrink}, smoothing={self.smoothing}; expected at least 1, and from 0 to "
        "below 1"
      )
    if self.hard and self.inputs == "scaling":
      raise ValueError(
        "inputs 'scaling' make the truth as soft as the prediction, which hard=True shows decided; "
        "expected one of them"
      )
    if (self.inputs == "branches") != isinstance(self.critic, TwoBranchNet):
      raise ValueError(
        f"inputs {self.inputs!r} for {type(self.critic).__name__}; a network of two branches takes "
        "'branches', and no other does"
      )

  @property
  def critic_scale(self) -> float:
    """The critic's weight, which the penalty is multiplied by too."""
    return self.critic_weight

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError if a task is not trained, or its structure cannot be softened."""
    hard = [name for name in select_tasks(tasks, self.tasks) if name != "segmentation"]
    if self.inputs == "scaling" and hard:
      raise ValueError(f"inputs 'scaling' need class probabilities; {', '.join(hard)} have none")

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """The discriminator's variables."""
    judged = select_tasks(tasks, self.tasks)
    structure = jnp.zeros((1, *size, sum(task.channels for task in judged.values())))
    shown, _ = self._encoded(structure, structure, jnp.zeros((1, *size, 3)))
    return self.critic.init(rng, *shown, train=False)

  def symptoms(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """The discriminator has collapsed, or it is sure of everything."""
    del first
    real, fake = now["accuracy_real"], now["accuracy_fake"]
    loss = now["judge_real"] + now["judge_fake"]
    if not (real or fake or loss):
      return {}  # There was nothing to judge.
    found = f"accuracy on truth {real:.3f}, on predictions {fake:.3f}, loss {loss:.3g}"
    if real + fake < 1.1:
      return {
        "collapsed": (
          f"the discriminator has collapsed: it tells nothing apart ({found}); give it a larger "
          "learning rate, more turns or pretraining"
        )
      }
    if real + fake > 1.98 and loss - _least_loss(self.smoothing) < 0.05:
      return {
        "saturated": (
          f"the discriminator is saturated: it is sure of everything ({found}) and teaches little; "
          "give it a smaller learning rate, label smoothing, a gradient penalty or other inputs"
        )
      }
    return {}

  def critic_loss(
    self, means: Mapping[str, Array | float], tasks: Mapping[str, Task]
  ) -> Array | float:
    """The discriminator's loss on truths and predictions, with the penalty on it."""
    del tasks
    penalty = self.penalty * means["penalty"] if self.penalty else 0.0
    return self.critic_weight * (means["judge_real"] + means["judge_fake"] + penalty)

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
    """What each side descends, and the discriminator's accuracy."""
    judged = MaskedStructures(select_tasks(tasks, self.tasks), outputs, truth)
    real, fake = self._shown(judged, truth["image"])
    fixed_real, fixed_fake = jax.lax.stop_gradient((real, fake))
    # Two halves of the scalar, each with the other side held constant; the compiler merges their
    # forward passes.
    logits, stats = self._logits(critic, fixed_real, fixed_fake, rng)
    fixed = {**critic, "params": jax.lax.stop_gradient(critic["params"])}
    (_, deceiving), _ = self._logits(fixed, fixed_real, fake, rng)

    valid = judged.valid(deceiving.shape[1:3], partly=True)
    summands = {
      "deceive": Summand(
        at(self.weight, progress), deceive(deceiving, saturating=self.saturating, valid=valid)
      )
    }
    for name, each in zip(("real", "fake"), logits, strict=True):
      is_real = name == "real"
      summands[f"judge_{name}"] = Summand(
        self.critic_weight, judge(each, real=is_real, smoothing=self.smoothing, valid=valid)
      )
      summands[f"accuracy_{name}"] = Summand(0.0, accuracy(each, real=is_real, valid=valid))
    if self.penalty:
      summands["penalty"] = Summand(
        self.critic_weight * self.penalty, self._penalty(critic, fixed_real, judged, rng)
      )
    return Critique(summands, stats)

  def _shown(self, judged: MaskedStructures, image: ArrayLike) -> tuple[Inputs, Inputs]:
    predicted = judged.straight_through if self.hard else judged.predicted
    truth, predicted = (jnp.concatenate(each, axis=-1) for each in (judged.true, predicted))
    shape = (*predicted.shape[:3], 3)
    # Centered on the mean (Luc et al. 2016, Sec. 3.2), whatever the predictor is shown.
    image = jax.image.resize(IMAGENET(image), shape, "bilinear", antialias=True)
    return self._encoded(truth, predicted, image)

  def _encoded(self, truth: Array, predicted: Array, image: Array) -> tuple[Inputs, Inputs]:
    inputs = INPUTS[self.inputs](truth, predicted, image)
    return jax.tree.map(lambda x: avg_pool(x, self.shrink), inputs)

  def _apply(self, critic: PyTree, inputs: Inputs, rng: Array) -> tuple[Array, PyTree]:
    logits, updated = self.critic.apply(
      critic, *inputs, train=True, mutable=["batch_stats"], rngs={"dropout": rng}
    )
    return promote_to_float32(logits), updated.get("batch_stats", {})

  def _logits(
    self, critic: PyTree, real: Inputs, fake: Inputs, rng: Array
  ) -> tuple[tuple[Float[Array, "n h w 1"], Float[Array, "n h w 1"]], PyTree]:
    """Of the truth and of the prediction, and the statistics after both."""
    if self.together:
      both = tuple(jnp.concatenate(pair) for pair in zip(real, fake, strict=True))
      logits, stats = self._apply(critic, both, rng)
      return tuple(jnp.split(logits, 2)), stats
    of_real, stats = self._apply(critic, real, rng)
    of_fake, stats = self._apply({**critic, "batch_stats": stats}, fake, rng)
    return (of_real, of_fake), stats

  def _penalty(
    self, critic: PyTree, real: Inputs, judged: MaskedStructures, rng: Array
  ) -> MaskedMean:
    """R1 at the true structure, in the form in which it is shown."""
    logits = lambda structure: self._apply(critic, (structure, *real[1:]), rng)[0]
    size = real[0].shape[1:3]
    return gradient_penalty(logits, real[0], valid=judged.valid(size, partly=True))


def _least_loss(smoothing: float) -> float:
  """Loss of a discriminator that is as sure of everything as its targets are, in nats."""
  parts = (smoothing, 1 - smoothing)
  return -sum(part * math.log(part) for part in parts if part > 0)
