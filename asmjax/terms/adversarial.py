"""A discriminator of true and predicted structures (Luc et al. 2016)."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from asmjax.losses.adversarial import (
  class_color_product,
  discriminator_accuracy,
  discriminator_loss,
  generator_loss,
  gradient_penalty,
  soften_one_hot,
)
from asmjax.models.critics.discriminators import LucNet, PatchNet, TwoBranchNet
from asmjax.models.critics.mobilenet import MobileNetCritic
from asmjax.models.input_transform import IMAGENET, normalize_locally
from asmjax.ops import avg_pool
from asmjax.ops.masked_mean import MaskedMean, promote_to_float32
from asmjax.tasks.base import Task
from asmjax.terms.base import LossTerm, Term, TermContext, TermOutput
from asmjax.terms.structures import MaskedStructures, select_tasks
from asmjax.terms.weight import Weight, evaluate_weight
from asmjax.utils.ranges import BelowOne, NonNegative, PositiveInt

Inputs = tuple[Array, ...]

# From (truth, prediction, image) to the discriminator's inputs for the truth and for the
# prediction.
INPUTS: Mapping[str, Callable[[Array, Array, Array], tuple[Inputs, Inputs]]] = {
  "basic": lambda truth, predicted, image: ((truth,), (predicted,)),
  "product": lambda truth, predicted, image: (
    (class_color_product(truth, image),),
    (class_color_product(predicted, image),),
  ),
  "scaling": lambda truth, predicted, image: ((soften_one_hot(truth, predicted),), (predicted,)),
  "concatenated": lambda truth, predicted, image: (
    (jnp.concatenate([truth, image], -1),),
    (jnp.concatenate([predicted, image], -1),),
  ),
  "branches": lambda truth, predicted, image: ((truth, image), (predicted, image)),
}


@dataclasses.dataclass(frozen=True)
class Adversarial(Term):
  """Adversarial loss: a discriminator learns to tell predicted structures from true ones.

  Attributes:
    weight: Factor lambda of the generator loss, which the predictor descends.
    critic_weight: Factor of the discriminator's loss. Adam divides it out: there the learning rate
      (`optimizer.critic`) is what to change.
    inputs: Inputs of the discriminator: "basic" structures, their "product" with the image,
      "scaling" (the truth made as soft as the prediction; segmentation only), structure and image
      "concatenated", or both for a network of two "branches". Images have ImageNet's mean and
      deviation, those of "branches" are also normalized locally (Luc et al. 2016, supplement).
    saturating: Whether the predictor descends log(1 - a) rather than -log(a).
    label_smoothing: Distance below 1 of the discriminator's target for the truth.
    r1_weight: Factor gamma of the R1 gradient penalty on the discriminator.
    downsample: Side in pixels of the cells whose means the discriminator gets; 1 for every pixel.
      Luc et al. have a network of stride 8.
    joint_batch: Whether truth and prediction go through the discriminator in one batch, so that
      they share its statistics.
    hard: Whether the discriminator gets hard predictions, for classes the winner-take-all one-hot;
      the predictor's gradient is that of the probabilities, taken there (straight-through).
    tasks: Names of the tasks whose structures are judged jointly; empty for all.
    critic: The discriminator.

  Raises:
    ValueError: Unknown inputs, inputs of two branches for a critic of one or the reverse, a truth
      that is to be as soft as a hard prediction, or a number out of range.
  """

  weight: Weight = 1.0
  critic_weight: NonNegative = 1.0
  inputs: str = "basic"
  saturating: bool = False
  label_smoothing: BelowOne = 0.0
  r1_weight: NonNegative = 0.0
  downsample: PositiveInt = 1
  joint_batch: bool = False
  hard: bool = False
  tasks: tuple[str, ...] = ()
  critic: LucNet | MobileNetCritic | PatchNet | TwoBranchNet = LucNet()

  def __post_init__(self):
    super().__post_init__()
    if self.inputs not in INPUTS:
      raise ValueError(f"unknown inputs {self.inputs!r}; known: {', '.join(INPUTS)}")
    if self.hard and self.inputs == "scaling":
      raise ValueError(
        "inputs 'scaling' make the truth as soft as the prediction, which hard=True makes one-hot; "
        "expected one of them"
      )
    if (self.inputs == "branches") != isinstance(self.critic, TwoBranchNet):
      raise ValueError(
        f"inputs {self.inputs!r} for {type(self.critic).__name__}; a network of two branches takes "
        "'branches', and no other does"
      )

  @property
  def critic_scale(self) -> float:
    """The critic's weight, which multiplies the gradient penalty too."""
    return self.critic_weight

  def check(self, tasks: Mapping[str, Task]) -> None:
    """Raises ValueError if a task is not trained, or its structure cannot be softened."""
    lacking = [name for name in select_tasks(tasks, self.tasks) if name != "segmentation"]
    if self.inputs == "scaling" and lacking:
      raise ValueError(f"inputs 'scaling' need class probabilities; {', '.join(lacking)} have none")

  def init(self, rng: Array, tasks: Mapping[str, Task], size: tuple[int, int]) -> PyTree:
    """Initializes the discriminator's variables."""
    selected = select_tasks(tasks, self.tasks).values()
    structure = jnp.zeros((1, *size, sum(task.channels for task in selected)))
    inputs, _ = self._encode(structure, structure, jnp.zeros((1, *size, 3)))
    return self.critic.init(rng, *inputs, train=False)

  def diagnose(self, now: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    """Reports a discriminator that has collapsed, or that is sure of everything."""
    del first
    real, fake = now["accuracy_real"], now["accuracy_fake"]
    loss = now["discriminator_loss_real"] + now["discriminator_loss_fake"]
    if not (real or fake or loss):
      return {}  # No pixel had a truth.
    figures = f"accuracy on truth {real:.3f}, on predictions {fake:.3f}, loss {loss:.3g}"
    if real + fake < 1.1:
      return {
        "collapsed": (
          f"the discriminator has collapsed: it tells nothing apart ({figures}); give it a larger "
          "learning rate, more steps or a warm-up"
        )
      }
    if real + fake > 1.98 and loss - _least_loss(self.label_smoothing) < 0.05:
      return {
        "saturated": (
          f"the discriminator is saturated: it is sure of everything ({figures}) and teaches "
          "little; give it a smaller learning rate, label smoothing, a gradient penalty or other "
          "inputs"
        )
      }
    return {}

  def __call__(self, context: TermContext) -> TermOutput:
    """Computes what each side descends, and the discriminator's accuracy."""
    structures = MaskedStructures(
      select_tasks(context.tasks, self.tasks), context.outputs, context.truth
    )
    real, fake = self._inputs(structures, context.truth["image"])
    fixed_real, fixed_fake = jax.lax.stop_gradient((real, fake))
    # Two halves of the scalar, each with the other side constant; the compiler merges their
    # forward passes.
    logits, stats = self._logits(context.critic, fixed_real, fixed_fake, context.rng)
    fixed_critic = {**context.critic, "params": jax.lax.stop_gradient(context.critic["params"])}
    (_, logits_for_predictor), _ = self._logits(fixed_critic, fixed_real, fake, context.rng)

    mask = structures.mask(logits_for_predictor.shape[1:3], count_partial_cells=True)
    losses = {
      "generator_loss": LossTerm(
        generator_loss(logits_for_predictor, saturating=self.saturating, mask=mask),
        predictor_weight=evaluate_weight(self.weight, context.progress),
      )
    }
    for name, x in zip(("real", "fake"), logits, strict=True):
      is_real = name == "real"
      loss = discriminator_loss(x, real=is_real, label_smoothing=self.label_smoothing, mask=mask)
      losses[f"discriminator_loss_{name}"] = LossTerm(loss, critic_weight=self.critic_weight)
      losses[f"accuracy_{name}"] = LossTerm(discriminator_accuracy(x, real=is_real, mask=mask))
    if self.r1_weight:
      losses["r1_penalty"] = LossTerm(
        self._r1_penalty(context.critic, fixed_real, structures, context.rng),
        critic_weight=self.critic_weight * self.r1_weight,
      )
    return TermOutput(losses, stats)

  def _inputs(self, structures: MaskedStructures, image: ArrayLike) -> tuple[Inputs, Inputs]:
    """Computes the discriminator's inputs for the truth and for the prediction."""
    predicted = structures.straight_through if self.hard else structures.predicted
    truth, predicted = (jnp.concatenate(maps, axis=-1) for maps in (structures.true, predicted))
    shape = (*predicted.shape[:3], 3)
    # Luc et al. (2016, supplement) center images on the mean, and normalize those of "branches"
    # locally. That centered ones are divided by the deviation is ours.
    colors = IMAGENET(image)
    if self.inputs == "branches":
      colors = normalize_locally(colors)
    colors = jax.image.resize(colors, shape, "bilinear", antialias=True)
    return self._encode(truth, predicted, colors)

  def _encode(self, truth: Array, predicted: Array, image: Array) -> tuple[Inputs, Inputs]:
    inputs = INPUTS[self.inputs](truth, predicted, image)
    return jax.tree.map(lambda x: avg_pool(x, self.downsample), inputs)

  def _apply(
    self, critic: Mapping[str, PyTree], inputs: Inputs, rng: Array
  ) -> tuple[Array, PyTree]:
    logits, updated = self.critic.apply(
      critic, *inputs, train=True, mutable=["batch_stats"], rngs={"dropout": rng}
    )
    return promote_to_float32(logits), updated.get("batch_stats", {})

  def _logits(
    self, critic: Mapping[str, PyTree], real: Inputs, fake: Inputs, rng: Array
  ) -> tuple[tuple[Float[Array, "n h w 1"], Float[Array, "n h w 1"]], PyTree]:
    """Computes logits of the truth and of the prediction, and the statistics after both."""
    if self.joint_batch:
      both = tuple(jnp.concatenate(pair) for pair in zip(real, fake, strict=True))
      logits, stats = self._apply(critic, both, rng)
      logits_real, logits_fake = jnp.split(logits, 2)
      return (logits_real, logits_fake), stats
    logits_real, stats = self._apply(critic, real, rng)
    logits_fake, stats = self._apply({**critic, "batch_stats": stats}, fake, rng)
    return (logits_real, logits_fake), stats

  def _r1_penalty(
    self, critic: Mapping[str, PyTree], real: Inputs, structures: MaskedStructures, rng: Array
  ) -> MaskedMean:
    """Computes R1 at the true structure, in the form in which the discriminator gets it."""
    logits = lambda structure: self._apply(critic, (structure, *real[1:]), rng)[0]
    mask = structures.mask(real[0].shape[1:3], count_partial_cells=True)
    return gradient_penalty(logits, real[0], mask=mask)


def _least_loss(label_smoothing: float) -> float:
  """Entropy of the smoothed target, in nats: the loss of a discriminator that is always right."""
  probabilities = (label_smoothing, 1 - label_smoothing)
  return -sum(p * math.log(p) for p in probabilities if p > 0)
