"""All that a run is made of, checked before anything is compiled."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import PyTree

from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.loader import (
  Batches,
  EpochSampler,
  LoaderOptions,
  Transform,
  eval_batches,
  train_batches,
)
from asmjax.data.transforms import Augment
from asmjax.game import PREDICTOR, Game
from asmjax.models.input_transform import IMAGENET, InputTransform
from asmjax.pretrained import input_transform, load
from asmjax.train.optim import Optimizer, check_critic_lr
from asmjax.train.parallel import check_divisible
from asmjax.train.state import TrainState, Transformations, init_state
from asmjax.train.updates import JOINT, UpdateSchedule

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Training:
  """How long and in what portions.

  Attributes:
    steps: T, of the predictor; the critics' steps between them and before them come on top. Each
      takes one minibatch, whoever moves. With 0 the initial weights are evaluated.
    batch_size: examples of the global batch.
    updates: Order of the players' updates, "joint", "alternate" or "alternate(c, p)"; see
      `asmjax.train.updates.UpdateSchedule`.
    critic_warmup_steps: Steps of the critics alone before the first of the predictor.
    grad_accum_steps: microbatches that a device's share of the batch is cut into.
    dtype: of the networks' computations: "float32" or "bfloat16".
    log_every: steps, of all players, between logged means.
    allow_fast_critic: allow a critic a larger learning rate than the predictor's.
  """

  steps: int
  batch_size: int
  updates: str = "joint"
  critic_warmup_steps: int = 0
  grad_accum_steps: int = 1
  dtype: str = "float32"
  log_every: int = 50
  allow_fast_critic: bool = False

  def __post_init__(self):
    UpdateSchedule.parse(self.updates, self.critic_warmup_steps)
    check_divisible(self.batch_size, name="train.batch_size", parts=self.grad_accum_steps)
    if self.dtype not in DTYPES:
      raise ValueError(f"unknown train.dtype {self.dtype!r}; known: {DTYPES}")
    for name, least in (("steps", 0), ("log_every", 1)):
      if getattr(self, name) < least:
        raise ValueError(f"train.{name}={getattr(self, name)}; expected at least {least}")


@dataclasses.dataclass(frozen=True)
class Init:
  """Published or earlier weights that the predictor starts from.

  Attributes:
    path: of the file, the checkpoint or the run's folder; empty for random weights.
    format: see `asmjax.pretrained.read`.
    part: the part of the predictor that they are of, such as "backbone"; empty for all of it.
    strict: see `asmjax.pretrained.transfer`, as are `reinitialize` and `ignore`.
    reinitialize: patterns of parameters that stay random.
    ignore: patterns of names in the file that have no place in the predictor.
  """

  path: str = ""
  format: str = "safetensors"
  part: str = ""
  strict: bool = True
  reinitialize: tuple[str, ...] = ()
  ignore: tuple[str, ...] = ()

  def variables(
    self, predictor: nn.Module, variables: PyTree, report: Callable[[str], None]
  ) -> PyTree:
    """The predictor's variables with the weights that the file has for them.

    Args:
      predictor: the module.
      variables: freshly initialized.
      report: is told what was loaded and what was not.
    """
    if not self.path:
      return variables
    loaded, coverage = load(
      self.path,
      self.format,
      predictor,
      variables,
      part=self.part,
      strict=self.strict,
      reinitialize=self.reinitialize,
      ignore=self.ignore,
    )
    report(f"{self.path}: {coverage}")
    return loaded

  def input_transform(self, predictor: nn.Module) -> InputTransform:
    """The input transform that the weights were trained under; ImageNet's for random ones.

    Args:
      predictor: the module.

    Raises:
      ValueError: see `asmjax.pretrained.input_transform`, as for FileNotFoundError.
    """
    return input_transform(self.path, self.format, predictor) if self.path else IMAGENET


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """When and on what the predictor is evaluated.

  Attributes:
    every: steps of the predictor between evaluations; 0 evaluates at the end only.
    batch_size: examples of the global batch.
    split: of the data set, or a part of one as "train[80%:]".
  """

  every: int = 0
  batch_size: int = 8
  split: str = "val"

  def __post_init__(self):
    check_divisible(self.batch_size, name="eval.batch_size")


@dataclasses.dataclass(frozen=True)
class Checkpointing:
  """When the state is saved; it is saved after each evaluation and at the end in any case.

  Attributes:
    every: steps, of all players, between checkpoints; 0 for none in between.
    keep: how many of the last are kept, and how many of the best.
    metric: what the best is measured by; larger is better.
  """

  every: int = 0
  keep: int = 1
  metric: str = "segmentation/mean_iou"


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A run, as data: `asmjax.config.build.build_experiment` reads it from a config.

  Attributes:
    seed: of parameters, order, augmentation and dropout.
    game: what is optimized.
    init: what the predictor starts from.
    optimizers: by player.
    source: of the training examples.
    augment: their transform.
    validation: source of the evaluation's examples.
    prepare: their transform.
    loader_options: how examples of both are read.
    image_size: (h, w) that both transforms give.
    training: settings of the loop.
    evaluation: likewise.
    checkpointing: likewise.
  """

  seed: int
  game: Game
  init: Init
  optimizers: Mapping[str, Optimizer]
  source: Source
  augment: Transform
  validation: Source
  prepare: Augment
  loader_options: LoaderOptions
  image_size: tuple[int, int]
  training: Training
  evaluation: Evaluation
  checkpointing: Checkpointing

  def __post_init__(self):
    critics = {name: each for name, each in self.optimizers.items() if name != PREDICTOR}
    if not self.training.allow_fast_critic:
      check_critic_lr(self.optimizers[PREDICTOR], critics, self.training.steps)

  @property
  def descriptor(self) -> Descriptor:
    """Of the data set."""
    return self.validation.descriptor

  @property
  def updates(self) -> UpdateSchedule:
    """Order of the players' updates; in a game without critics the predictor never waits."""
    updates = UpdateSchedule.parse(self.training.updates, self.training.critic_warmup_steps)
    return updates if self.game.critics else JOINT

  def warnings(self) -> list[str]:
    """Settings without effect, in words: weights of critics that their optimizer divides out."""
    scales = {name: self.game.terms[name].critic_scale for name in self.game.critics}
    return [
      f"{name}: all that its critic descends is multiplied by {scale}, which Adam divides out; it "
      "is the learning rate of its optimizer that says how fast it moves"
      for name, scale in scales.items()
      if scale not in (0, 1) and self.optimizers[name].name == "adam"
    ]

  def make_transformations(self) -> Transformations:
    """The optax transformation of each player."""
    steps = self.training.steps
    return {name: each.make_transformation(steps) for name, each in self.optimizers.items()}

  def stop_frozen(self, player: str, params: PyTree) -> PyTree:
    """The parameters of a player, of which those that never move are not differentiated."""
    return self.optimizers[player].stop_frozen(params)

  def random_state(self) -> TrainState:
    """The state at step 0 if nothing is loaded: what checkpoints look like."""
    return self._state(lambda variables: variables)

  def init_state(self, report: Callable[[str], None] = print) -> TrainState:
    """The state at step 0.

    Args:
      report: is told what was loaded of the weights that the predictor starts from.
    """
    return self._state(
      lambda variables: self.init.variables(self.game.predictor, variables, report)
    )

  def _state(self, load: Callable[[PyTree], PyTree]) -> TrainState:
    return init_state(
      self.game, self.make_transformations(), seed=self.seed, image_size=self.image_size, load=load
    )

  def sampler(self) -> EpochSampler:
    """The training examples as they are shown, epoch after epoch."""
    return EpochSampler(self.source, self.augment, self.seed)

  def train_batches(self, start: int, on_skip: Callable[[str], None] = print) -> Batches:
    """Training batches from step `start` of all players to the last; this process's share."""
    stop = self.updates.total_steps(self.training.steps)
    return self.batches(self.sampler(), self.training.batch_size, start, stop, on_skip)

  def batches(
    self,
    sampler: EpochSampler,
    batch_size: int,
    start: int,
    stop: int,
    on_skip: Callable[[str], None] = print,
  ) -> Batches:
    """Batches `start` to `stop` - 1 of any examples; this process's share."""
    batches = train_batches(
      sampler, batch_size=batch_size, start=start, on_skip=on_skip, **self._options()
    )
    with contextlib.closing(batches):
      yield from itertools.islice(batches, stop - start)

  def eval_batches(
    self, on_skip: Callable[[str], None] = print, source: Source | None = None
  ) -> Batches:
    """One pass over the held-out examples, or over those of `source`; this process's share."""
    return eval_batches(
      self.validation if source is None else source,
      self.prepare,
      batch_size=self.evaluation.batch_size,
      on_skip=on_skip,
      **self._options(),
    )

  def _options(self) -> dict[str, Any]:
    where = {"process": jax.process_index(), "processes": jax.process_count()}
    return {"options": self.loader_options, **where}
