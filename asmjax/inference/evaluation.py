"""Evaluation of predictions over views: scales, flipped images, windows, and a dense CRF."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from asmjax.batch import ESTIMATE
from asmjax.inference.multiscale import make_predict
from asmjax.inference.outputs import make_crf_refinement, tasks_with_probabilities
from asmjax.inference.trained import TrainedPredictor
from asmjax.inference.views import Inference, SoftPredictions
from asmjax.train.experiment import Experiment
from asmjax.train.state import TrainState
from asmjax.utils.prefetch import prefetch

_NUM_THREADS = 4

Example = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class InferenceViews:
  """Validation examples of a run, with soft predictions as `asmjax predict` makes them.

  The truth is that of the run's evaluation, and the soft predictions have its size, so that a
  single view of each image gives the metrics of the evaluation itself. Several processes are not
  supported.

  Attributes:
    experiment: Description of the run, with the validation examples.
    inference: Views of each image.
    crf: Whether the classes' probabilities are refined with a dense CRF.

  Raises:
    ValueError: The CRF has no class probabilities to refine, or tasks are left out.
  """

  experiment: Experiment
  inference: Inference
  crf: bool = False

  def __post_init__(self):
    tasks = self.experiment.game.tasks
    if self.crf:
      tasks_with_probabilities(tasks, "crf")
    if set(self.inference.select_tasks(tasks)) != set(tasks):
      raise ValueError(f"tasks={self.inference.tasks}; expected all: {', '.join(tasks)}")

  @property
  def protocol(self) -> str:
    """Description of the views and of the refinement."""
    return self.inference.protocol + ("; refined by a dense CRF" if self.crf else "")

  def batches(
    self, state: TrainState, on_skip: Callable[[str], None]
  ) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields batches for `make_evaluate`, in any order; the last one is padded.

    Args:
      state: State with the predictor's variables.
      on_skip: Function that is called with the reason why an example is left out.
    """
    trained = TrainedPredictor.from_state(self.experiment, state)
    predict = make_predict(trained, self.inference, own_size=False)
    refine = make_crf_refinement() if self.crf else None
    size, rows = self.experiment.evaluation.batch_size, []
    for example, soft_predictions in predict(self._examples(on_skip)):
      if refine:
        image = trained.resize(example["image"])
        for name in tasks_with_probabilities(trained.game.tasks, "crf"):
          soft_predictions[name] = refine(soft_predictions[name], image)
      rows.append(self._prepare_row(example, soft_predictions))
      if len(rows) == size:
        yield _stack(rows)
        rows = []
    if rows:
      padding = {**rows[-1], "weight": np.float32(0)}
      yield _stack(rows + [padding] * (size - len(rows)))

  def _examples(self, on_skip: Callable[[str], None]) -> Iterator[tuple[Example, np.ndarray]]:
    """Yields examples, as the keys of their images, and images; may skip unreadable ones."""
    source, options = self.experiment.validation, self.experiment.loader_options
    ahead = 2 * self.inference.batch_size
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
      examples = (pool.submit(source.__getitem__, index) for index in range(len(source)))
      for future in prefetch(examples, ahead):
        try:
          example = future.result()
        except (OSError, ValueError) as error:
          if options.on_error == "raise":
            raise
          on_skip(str(error))
        else:
          yield example, example["image"]

  def _prepare_row(self, example: Example, soft_predictions: SoftPredictions) -> Example:
    """Prepares an example as evaluation does, and pads its soft predictions to the same size."""
    prepare, tasks = self.experiment.prepare, self.experiment.game.tasks
    row = {**prepare(example, np.random.default_rng(0)), "weight": np.float32(1)}
    for name, values in soft_predictions.items():
      height, width = (new - old for new, old in zip(prepare.size, values.shape, strict=False))
      padded = np.pad(values, ((0, height), (0, width), (0, 0)))
      row[ESTIMATE + tasks[name].truth_key] = padded.astype(np.float32)
    return row


def _stack(rows: list[Example]) -> Example:
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
