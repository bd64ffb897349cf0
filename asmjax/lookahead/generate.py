"""Maps of a whole data set, by the evaluation network."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, PyTree

from asmjax.data.descriptor import Source
from asmjax.data.wrappers import Selected, Subset
from asmjax.lookahead.maps import Predictions
from asmjax.train.experiment import Experiment
from asmjax.train.parallel import placed, spread
from asmjax.utils.prefetch import prefetch

Generate = Callable[[PyTree, Source, Sequence[int]], Predictions]


def make_generate(experiment: Experiment, on_skip: Callable[[str], None]) -> Generate:
  """Prediction of many examples, compiled once.

  Args:
    experiment: whose predictor and tasks.
    on_skip: is told of examples that cannot be read; they get no map.

  Returns:
    `generate(variables, source, indices)`: this process's share of those examples, as
    `asmjax.lookahead.maps.MapStore.write` takes them, at the evaluation's size. While some are
    being written, the devices predict the next ones.
  """
  game, size = experiment.game, experiment.evaluation.batch_size

  def predict(variables: PyTree, batch: Mapping[str, Array]) -> dict[str, Array]:
    outputs = game.predict(variables, batch["image"])
    sides = batch["image"].shape[1:3]
    return {
      task.truth_key: task.predict(outputs[name], sides, align_corners=game.align_corners)
      for name, task in game.tasks.items()
    }

  predict_on_devices = spread(predict, out_axes=0)

  def generate(variables: PyTree, source: Source, indices: Sequence[int]) -> Predictions:
    images = Subset(Selected(source, ()), indices)
    batches = placed(experiment.eval_batches(on_skip, images))
    predicted = ((batch["weight"], predict_on_devices(variables, batch)) for batch in batches)
    for number, (weight, maps) in enumerate(prefetch(predicted, ahead=1)):
      places = range(number * size + jax.process_index(), len(images), jax.process_count())
      yield from _rows(places, weight, maps, indices)

  return generate


def _rows(
  places: range, weight: Array, maps: Mapping[str, Array], indices: Sequence[int]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
  """The examples of a batch, but for those that only pad."""
  flat = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])
  real, rows = flat(weight) > 0, {key: flat(value) for key, value in maps.items()}
  for row, place in enumerate(places[: len(real)]):
    if real[row]:
      yield indices[place], {key: value[row] for key, value in rows.items()}
