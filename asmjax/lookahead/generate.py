"""Maps that a model predicts for a data set, by the evaluation network."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, PyTree

from asmjax.data.descriptor import Source
from asmjax.data.wrappers import SelectKeys, Subset
from asmjax.lookahead.maps import Predictions
from asmjax.train.experiment import Experiment
from asmjax.train.parallel import pmap_step, prefetch_to_device
from asmjax.utils.prefetch import prefetch

Generate = Callable[[PyTree, Source, Sequence[int]], Predictions]


def make_generate(experiment: Experiment, on_skip: Callable[[str], None]) -> Generate:
  """Compiles the prediction of many examples; those that cannot be read go to `on_skip`.

  Returns:
    `generate(variables, source, indices)`, which yields this process's share of those examples as
    `asmjax.lookahead.maps.MapStore.write` takes them, at the evaluation's size. While some are
    being written, the devices predict the next ones.
  """
  game, size = experiment.game, experiment.evaluation.batch_size

  def predict(variables: PyTree, batch: Mapping[str, Array]) -> dict[str, Array]:
    outputs = game.predict(variables, batch["image"])
    height, width = batch["image"].shape[1:3]
    return {
      task.truth_key: task.predict(outputs[name], (height, width), align_corners=game.align_corners)
      for name, task in game.tasks.items()
    }

  predict_on_devices = pmap_step(predict, out_axes=0)

  def generate(variables: PyTree, source: Source, indices: Sequence[int]) -> Predictions:
    images = Subset(SelectKeys(source, ()), indices)
    batches = prefetch_to_device(experiment.eval_batches(on_skip, images))
    predicted = ((batch["weight"], predict_on_devices(variables, batch)) for batch in batches)
    for number, (weight, maps) in enumerate(prefetch(predicted, ahead=1)):
      rows = range(number * size + jax.process_index(), len(images), jax.process_count())
      share = rows[: size // jax.process_count()]
      yield from _unbatch(weight, maps, [indices[row] for row in share])

  return generate


def _unbatch(
  weight: Array, maps: Mapping[str, Array], indices: Sequence[int]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
  """Yields (index, maps) of the examples of a batch, without those that only pad it."""
  flatten = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])
  is_real, rows = flatten(weight) > 0, {key: flatten(value) for key, value in maps.items()}
  for row, index in enumerate(indices):
    if is_real[row]:
      yield index, {key: value[row] for key, value in rows.items()}
