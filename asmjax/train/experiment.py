"""Everything that a run consists of, as data that is checked before anything is compiled."""

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
from asmjax.train.batch_size import check_batch_size
from asmjax.train.nonfinite import POLICIES
from asmjax.train.optim import Optimizer, check_critic_lr
from asmjax.train.parallel import check_divisible
from asmjax.train.state import TrainState, Transformations, init_state
from asmjax.train.updates import JOINT, UpdateSchedule
from asmjax.utils.ranges import Count, PositiveInt, check_ranges

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Training:
  """Settings of the training loop: its length, batches and order of updates.

  Attributes:
    steps: Number T of the predictor's updates; steps that update critics alone come on top. Each
      step takes one minibatch, whichever players it updates. 0 evaluates the initial weights.
    batch_size: Number of examples in the global batch, over all devices of all processes.
    updates: Order of the players' updates: "joint", the default, "alternate" or "alternate(c, p)";
      see `asmjax.train.updates.UpdateSchedule`.
    critic_warmup_steps: Number of steps that update the critics alone before the predictor's first.
    grad_accum_steps: Number of microbatches that a device's share of the batch is cut into.
    dtype: Type in which the networks compute: "float32", the default, or "bfloat16".
    log_every: Number of steps, of all players, between logged means of the training metrics.
    steps_per_call: Number of steps that one call of the compiled program takes where nothing is to
      do between them: more than 1, the default, where a step takes no longer than its dispatch.
      The numbers stay those of single steps, up to rounding.
    on_nonfinite: What to do about a step at which a loss, a gradient or an updated player is not
      finite, and which therefore changes none: "stop", the default, ends the run, and "skip" goes
      on with the next batch, unless 10 steps in a row are not finite.
    allow_fast_critic: Whether a critic may have a larger learning rate than the predictor; see
      `asmjax.train.optim.check_critic_lr`.

  Raises:
    ValueError: A number is too small, the devices and microbatches cannot share the batch evenly,
      or the order of updates, the type or the policy is unknown.
  """

  steps: Count
  batch_size: PositiveInt
  updates: str = "joint"
  critic_warmup_steps: Count = 0
  grad_accum_steps: PositiveInt = 1
  dtype: str = "float32"
  log_every: PositiveInt = 50
  steps_per_call: PositiveInt = 1
  on_nonfinite: str = "stop"
  allow_fast_critic: bool = False

  def __post_init__(self):
    check_ranges(self)
    UpdateSchedule.parse(self.updates, self.critic_warmup_steps)
    check_divisible(self.batch_size, name="train.batch_size", parts=self.grad_accum_steps)
    for name, known in (("dtype", DTYPES), ("on_nonfinite", tuple(POLICIES))):
      if getattr(self, name) not in known:
        raise ValueError(f"unknown train.{name} {getattr(self, name)!r}; known: {known}")


@dataclasses.dataclass(frozen=True)
class Init:
  """Weights that the predictor starts from: published ones, or those of an earlier run.

  Attributes:
    path: Path of the weights: a file, a checkpoint or a run's folder; empty for random weights.
    format: Format of the weights: "safetensors", "torch", "tensorflow" or "orbax"; see
      `asmjax.pretrained.load`.
    part: Module of the predictor that the weights belong to, such as "backbone"; empty for the
      complete predictor.
    strict: Whether every variable must get a value and every array must be used.
    reinitialize: Patterns of variables that stay random, such as "*/conv1/*".
    ignore: Patterns of names in the file that have no place in the predictor.
    required: Whether a training without a path is refused, as those of configs that are meant to
      start from published weights or from a trained predictor.
  """

  path: str = ""
  format: str = "safetensors"
  part: str = ""
  strict: bool = True
  reinitialize: tuple[str, ...] = ()
  ignore: tuple[str, ...] = ()
  required: bool = False

  def check(self) -> None:
    """Raises ValueError if weights are required and none are given."""
    if self.required and not self.path:
      raise ValueError(
        "init.path is empty, but this config starts from a trained network: "
        "--config.init.path=FILE with published weights, which `asmjax weights` lists, or "
        "--config.init.path=WORKDIR --config.init.format=orbax with those of a run; "
        "--config.init.required=False trains from random weights"
      )

  def variables(
    self, predictor: nn.Module, variables: PyTree, report: Callable[[str], None]
  ) -> PyTree:
    """Returns the predictor's variables, with the weights of the file in place of random ones.

    Args:
      predictor: Module that the variables belong to.
      variables: Freshly initialized variables of the predictor, collections first.
      report: Function that is called with a description of what was loaded and what was not.

    Raises:
      ValueError: The weights do not fit; see `asmjax.pretrained.load`.
      FileNotFoundError: There is no such file.
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
    """Finds the input transform that the weights were trained under; ImageNet's for random ones.

    Raises:
      ValueError: The format is unknown, or the weights do not say which transform they expect; see
        `asmjax.pretrained.input_transform`.
      FileNotFoundError: There is no `config.json` of a run at the path.
    """
    return input_transform(self.path, self.format, predictor) if self.path else IMAGENET


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Settings of the evaluation: how often, and on which examples.

  Attributes:
    every: Number of the predictor's steps between evaluations; 0 evaluates at the end only.
    batch_size: Number of examples in the global batch, over all devices of all processes.
    split: Split of the data set, "val" by default, or a part of one, as in "train[80%:]".
    patience: Number of evaluations in a row without a better `checkpoint.metric` after which the
      training ends; 0, the default, takes all steps.

  Raises:
    ValueError: The devices cannot share the batch evenly, or there is patience without evaluations.
  """

  every: Count = 0
  batch_size: PositiveInt = 8
  split: str = "val"
  patience: Count = 0

  def __post_init__(self):
    check_ranges(self)
    check_divisible(self.batch_size, name="eval.batch_size")
    if self.patience and not self.every:
      raise ValueError(
        f"eval.patience={self.patience} counts evaluations, and eval.every=0 has none before the "
        "end; expected eval.every of at least 1"
      )


@dataclasses.dataclass(frozen=True)
class Checkpointing:
  """Settings of checkpoints, which every evaluation and the end of a run write in any case.

  Attributes:
    every: Number of steps, of all players, between further checkpoints; 0 writes none.
    keep: Number of the latest checkpoints to keep, and as many of the best. With the default, 2, a
      run goes on if the last one is damaged.
    metric: Name of the metric, as in `results.json`, by which checkpoints are ranked; larger is
      better.

  Raises:
    ValueError: A number is out of its range.
  """

  every: Count = 0
  keep: PositiveInt = 2
  metric: str = "segmentation/mean_iou"

  def __post_init__(self):
    check_ranges(self)


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Description of a run, which `asmjax.config.build.build_experiment` reads from a config.

  Attributes:
    seed: Seed of the parameters, the order of examples, the augmentation and dropout.
    game: Predictor, tasks and terms to optimize.
    init: Weights that the predictor starts from.
    optimizers: Settings of the optimizers by player: "predictor" and the term of each critic.
    source: Source of the training examples.
    augment: Transform of the training examples, with randomness.
    validation: Source of the validation examples.
    prepare: Transform of the validation examples, without randomness.
    loader_options: Options of reading and batching the examples of both sources.
    image_size: Height and width in pixels of the examples that both transforms return.
    training: Settings of the training loop.
    evaluation: Settings of the evaluation.
    checkpointing: Settings of checkpoints.
    copy_paste: Probability with which instances are pasted onto a training example.

  Raises:
    ValueError: A critic learns faster than the predictor, and `training` does not allow it; the
      rate of a player without a backbone is to decay over its layers; or a batch is far larger than
      the data set, or cannot fit into the memory.
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
  copy_paste: float = 0.0

  def __post_init__(self):
    if not self.training.allow_fast_critic:
      critics = dict(self.optimizers)
      num_groups = len(self.layer_groups(PREDICTOR))
      check_critic_lr(critics.pop(PREDICTOR), critics, self.training.steps, num_groups)
    for name, optimizer in self.optimizers.items():
      if optimizer.layer_decay != 1 and not self.layer_groups(name):
        raise ValueError(
          f"optimizer.{name}.layer_decay={optimizer.layer_decay}: only a backbone says how deep "
          "its layers are, and here is none that does; expected 1"
        )
    check_batch_size(self.training.batch_size, len(self.source), self.image_size, "train")
    check_batch_size(self.evaluation.batch_size, len(self.validation), self.image_size, "eval")

  @property
  def descriptor(self) -> Descriptor:
    """Descriptor of the data set."""
    return self.validation.descriptor

  @property
  def class_colors(self) -> dict[str, tuple[int, int, int]]:
    """Color of each class by its name; empty if none are predicted."""
    return self.descriptor.class_colors if "segmentation" in self.game.tasks else {}

  @property
  def updates(self) -> UpdateSchedule:
    """Order of the players' updates; a game without critics updates the predictor every step."""
    updates = UpdateSchedule.parse(self.training.updates, self.training.critic_warmup_steps)
    return updates if self.game.critics else JOINT

  def warnings(self) -> list[str]:
    """Describes settings without effect: critics' weights that their optimizers divide out."""
    scales = {name: self.game.terms[name].critic_scale for name in self.game.critics}
    return [
      f"{name}: all that its critic descends is multiplied by {scale}, which Adam divides out; it "
      "is the learning rate of its optimizer that says how fast it moves"
      for name, scale in scales.items()
      if scale not in (0, 1) and self.optimizers[name].name in ("adam", "adamw")
    ]

  def describe_progress(self, batches: int, steps: Mapping[str, int]) -> dict[str, float]:
    """Describes how far a run is: "epoch" and, by player, "learning_rate/PLAYER".

    Epochs are passes over the training examples; rates are those of the last step, before the
    multipliers.

    Args:
      batches: Number of training batches taken so far.
      steps: By player, the number of steps that its schedule has counted.
    """
    rate = lambda name, optimizer: optimizer.learning_rate_at(
      self.updates.count_predictor_steps(max(steps[name] - 1, 0)), self.training.steps
    )
    return {"epoch": batches * self.training.batch_size / len(self.source)} | {
      f"learning_rate/{name}": float(rate(name, optimizer))
      for name, optimizer in self.optimizers.items()
    }

  def layer_groups(self, player: str) -> tuple[str, ...]:
    """Lists the beginnings of a player's parameters by depth: those of a predictor's backbone."""
    backbone = getattr(self.game.predictor, "backbone", None) if player == PREDICTOR else None
    return tuple(f"backbone/{name}" for name in backbone.layer_groups()) if backbone else ()

  def make_transformations(self) -> Transformations:
    """Builds the optax transformation of each player."""
    return {
      name: optimizer.make_transformation(self.training.steps, self.layer_groups(name))
      for name, optimizer in self.optimizers.items()
    }

  def stop_frozen(self, player: str, params: PyTree) -> PyTree:
    """Returns a player's parameters, under `stop_gradient` where their learning rate is 0."""
    return self.optimizers[player].stop_frozen(params)

  def random_state(self) -> TrainState:
    """Initializes the state at step 0 without loading weights: the structure of checkpoints."""
    return self._state(lambda variables: variables)

  def init_state(self, report: Callable[[str], None] = print) -> TrainState:
    """Initializes the state at step 0, and reports the weights that the predictor starts from."""
    load = lambda variables: self.init.variables(self.game.predictor, variables, report)
    return self._state(load)

  def _state(self, load: Callable[[PyTree], PyTree]) -> TrainState:
    state = init_state(
      self.game, self.make_transformations(), seed=self.seed, image_size=self.image_size, load=load
    )
    for name, optimizer in self.optimizers.items():
      sharing = {
        key: state.params[key] for key in state.params if self.optimizers[key] is optimizer
      }
      optimizer.check_multipliers(sharing, f"optimizer.{name}")
    return state

  def sampler(self) -> EpochSampler:
    """Makes the endless sequence of training examples, shuffled and augmented anew each epoch."""
    return EpochSampler(self.source, self.augment, self.seed, copy_paste=self.copy_paste)

  def train_batches(self, start: int, on_skip: Callable[[str], None] = print) -> Batches:
    """Yields this process's share of the training batches, up to the last step.

    Args:
      start: Step of the first batch, counted from 0 over all players.
      on_skip: See `batches`.
    """
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
    """Yields this process's share of the batches `start` to `stop` - 1 of any examples.

    Args:
      sampler: Sequence of examples of one size.
      batch_size: Number of examples in the global batch, over all devices of all processes.
      start: Number of the first batch.
      stop: Number behind that of the last batch.
      on_skip: Function that is called with a description of an unreadable example, each time that
        it is skipped.
    """
    batches = train_batches(
      sampler, batch_size=batch_size, start=start, on_skip=on_skip, **self._options()
    )
    with contextlib.closing(batches):
      yield from itertools.islice(batches, stop - start)

  def eval_batches(
    self, on_skip: Callable[[str], None] = print, source: Source | None = None
  ) -> Batches:
    """Yields this process's share of one pass over the validation examples, padded with weight 0.

    Args:
      on_skip: Function that is called with a description of each unreadable example.
      source: Source of the examples; None, the default, for `validation`.
    """
    return eval_batches(
      self.validation if source is None else source,
      self.prepare,
      batch_size=self.evaluation.batch_size,
      on_skip=on_skip,
      **self._options(),
    )

  def _options(self) -> dict[str, Any]:
    return {
      "options": self.loader_options,
      "process": jax.process_index(),
      "processes": jax.process_count(),
    }
