"""The replay buffer of a run: maps of the models in it, written once and read as examples."""

import collections
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Array, PyTree

from asmjax.data.descriptor import Source
from asmjax.data.loader import Batches, EpochSampler
from asmjax.lookahead.generate import make_generate
from asmjax.lookahead.maps import AggregatedMaps, MapStore
from asmjax.lookahead.settings import Lookahead
from asmjax.train.experiment import Experiment
from asmjax.train.parallel import sync_processes
from asmjax.train.schedule import TrainingBatch, prefetch_batches

TRAIN, DECISION = "train", "decision"


class ReplayBuffer:
  """Examples of the critics: images, truths, and what the models of the buffer predict for them.

  Attributes:
    examples: Training examples with maps; set by `open`.
    max_steps: Number of steps after which a training on them ends; set by `open`.
    decision_batches: Batches of the decision split with maps, augmented once, on the devices; set
      by `open`.
  """

  examples: AggregatedMaps
  max_steps: int
  decision_batches: list[Mapping[str, Array]]

  def __init__(
    self,
    experiment: Experiment,
    settings: Lookahead,
    decision_source: Source,
    folder: pathlib.Path,
    on_skip: Callable[[str], None],
  ):
    """Prepares a buffer without opening it.

    Args:
      experiment: Experiment with the predictor and the training examples.
      settings: Settings of the buffer and of the critics' training.
      decision_source: Validation examples that the critics are evaluated on.
      folder: Folder of the maps, one for all processes.
      on_skip: Function that is called with a description of an unreadable example.
    """
    self._experiment, self._settings, self._on_skip = experiment, settings, on_skip
    self._sources = {TRAIN: experiment.source, DECISION: decision_source}
    self._store = MapStore(folder, cache_bytes=settings.cache_mib << 20)
    self._generate = make_generate(experiment, on_skip)
    # Checkpoints are written in the background: until one is complete, a killed run would go on
    # from the one before, and need its maps.
    self._recent_models: collections.deque[set[int]] = collections.deque(maxlen=3)

  def write(self, model: int, variables: PyTree) -> None:
    """Writes the maps that a model with these variables predicts for both parts of the data."""
    for part, source in self._sources.items():
      indices = self.train_indices(model) if part == TRAIN else range(len(source))
      self._store.write(model, part, self._generate(variables, source, indices))
    sync_processes(f"maps of model {model}")

  def train_indices(self, model: int) -> Sequence[int]:
    """Chooses the training examples that get a map of this model."""
    run, settings = self._experiment, self._settings
    sampler = run.sampler()
    indices, num_drawn = range(len(sampler.source)), model * run.training.batch_size
    if settings.only_seen and model and num_drawn < len(indices):
      indices = [sampler.locate(position)[1] for position in range(num_drawn)]
    if 0 < settings.maps_per_model < len(indices):
      random = np.random.default_rng((run.seed, model))
      indices = random.choice(indices, settings.maps_per_model, replace=False).tolist()
    return sorted(indices)

  def open(self, models: Sequence[int]) -> None:
    """Opens the maps of these models, and reads the batches of the decision split."""
    run, settings = self._experiment, self._settings.retraining
    self.examples = self._read(models, TRAIN)
    self.max_steps = settings.max_steps(len(self.examples))
    pairs = self._read(models, DECISION)
    sampler = EpochSampler(pairs, run.augment, run.seed, shuffle=False)
    num_batches = -(-len(pairs) // settings.batch_size)
    batches = run.batches(sampler, settings.batch_size, 0, num_batches, self._on_skip)
    self.decision_batches = list(prefetch_batches(run, batches))

  def train_batches(self, start: int, training: int) -> Batches:
    """Yields the batches from the step `start` of a training, in an order of its own."""
    sampler, batch_size, start = self.locate_batch(start, training)
    return self._experiment.batches(sampler, batch_size, start, self.max_steps, self._on_skip)

  def locate_batch(self, step: int, training: int) -> TrainingBatch:
    """Locates the batch of a step of a training."""
    run = self._experiment
    sampler = EpochSampler(self.examples, run.augment, run.seed + training)
    return TrainingBatch(sampler, self._settings.retraining.batch_size, step)

  def keep(self, models: set[int]) -> None:
    """Removes the maps of all models but these and those of the last two calls."""
    self._recent_models.append(models)
    self._store.keep(set.union(*self._recent_models))

  def _read(self, models: Sequence[int], part: str) -> AggregatedMaps:
    resize = self._experiment.prepare.resize_only
    return AggregatedMaps(self._sources[part], self._store.read(models, part), resize)
