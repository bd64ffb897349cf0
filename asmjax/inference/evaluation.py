"""Evaluation as predictions look at images: scales, flipped images, windows, and a dense CRF."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from asmjax.batch import ESTIMATE
from asmjax.inference.multiscale import Estimates, Inference, make_predict
from asmjax.inference.outputs import SEGMENTATION, dense_crf
from asmjax.inference.trained import Trained
from asmjax.train.experiment import Experiment
from asmjax.train.state import TrainState
from asmjax.utils.prefetch import prefetch

_THREADS = 4

Example = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class InferenceViews:
  """The held-out examples of a run with estimates as `launch/predict.py` makes them.

  The truth is that of the run's evaluation, and the estimates have its size. So an image that is
  seen once and whole has the scores of the evaluation itself. For one process.

  Attributes:
    experiment: whose held-out examples.
    inference: how its predictor looks at them.
    crf: refine the classes' probabilities with a dense CRF.

  Raises:
    ValueError: a CRF without a segmentation, or tasks that are left out.
  """

  experiment: Experiment
  inference: Inference
  crf: bool = False

  def __post_init__(self):
    tasks = self.experiment.game.tasks
    if self.crf and SEGMENTATION not in tasks:
      raise ValueError(f"crf needs the task {SEGMENTATION}; trained: {', '.join(tasks)}")
    if set(self.inference.chosen(tasks)) != set(tasks):
      raise ValueError(f"tasks={self.inference.tasks}; expected all: {', '.join(tasks)}")

  @property
  def protocol(self) -> str:
    """How images are looked at, in words."""
    return self.inference.protocol + ("; refined by a dense CRF" if self.crf else "")

  def batches(
    self, state: TrainState, on_skip: Callable[[str], None]
  ) -> Iterator[Mapping[str, np.ndarray]]:
    """Batches for `asmjax.train.evaluate.make_evaluate`, in any order; the last one is padded."""
    trained = Trained.of(self.experiment, state)
    predict = make_predict(trained, self.inference, own_size=False)
    refine = dense_crf() if self.crf else None
    size, rows = self.experiment.evaluation.batch_size, []
    for example, estimates in predict(self._examples(on_skip)):
      if refine:
        image = trained.resized(example["image"])
        estimates[SEGMENTATION] = refine(estimates[SEGMENTATION], image)
      rows.append(self._row(example, estimates))
      if len(rows) == size:
        yield _stacked(rows)
        rows = []
    if rows:
      blank = {**rows[-1], "weight": np.float32(0)}
      yield _stacked(rows + [blank] * (size - len(rows)))

  def _examples(self, on_skip: Callable[[str], None]) -> Iterator[tuple[Example, np.ndarray]]:
    """Examples as their own keys, and their images; what cannot be read may be skipped."""
    source, reading = self.experiment.held_out, self.experiment.reading
    ahead = 2 * self.inference.batch_size
    with ThreadPoolExecutor(_THREADS) as pool:
      examples = (pool.submit(source.__getitem__, index) for index in range(len(source)))
      for future in prefetch(examples, ahead):
        try:
          example = future.result()
        except (OSError, ValueError) as error:
          if reading.on_error == "raise":
            raise
          on_skip(str(error))
        else:
          yield example, example["image"]

  def _row(self, example: Example, estimates: Estimates) -> Example:
    """An example as evaluation sees it, with its estimates padded to the same size."""
    prepare, tasks = self.experiment.prepare, self.experiment.game.tasks
    row = {**prepare(example, np.random.default_rng(0)), "weight": np.float32(1)}
    for name, estimate in estimates.items():
      height, width = (new - old for new, old in zip(prepare.size, estimate.shape, strict=False))
      padded = np.pad(estimate, ((0, height), (0, width), (0, 0)))
      row[ESTIMATE + tasks[name].truth_key] = padded.astype(np.float32)
    return row


def _stacked(rows: list[Example]) -> Example:
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
