"""A trained predictor, without critics, optimizers and data."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from asmjax.config.build import build_game
from asmjax.config.data import Data
from asmjax.config.run_dir import read_checkpoint, read_config, read_descriptor
from asmjax.config.schema import construct
from asmjax.data.descriptor import Descriptor
from asmjax.data.transforms import Augment
from asmjax.game import Game
from asmjax.models.adapters import merge_adapters
from asmjax.pretrained import read, transfer
from asmjax.pretrained.names import identity_map
from asmjax.train.experiment import Experiment
from asmjax.train.nonfinite import check_finite_arrays
from asmjax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class TrainedPredictor:
  """Trained predictor of a run, with its tasks and its input size.

  Attributes:
    game: Predictor and tasks, without terms.
    variables: Variables of the predictor, `{"params": ..., "batch_stats": ...}`, with the moving
      average of the parameters if the run kept one, and with low-rank adapters merged.
    descriptor: Description of the data set.
    prepare: Transform by which the run's evaluation brings images to the network's size.
    scale_depth: Whether all images are from one camera, so that enlarging an image means smaller
      depths; see `asmjax.data.transforms.rescale_depth_and_normals`.
  """

  game: Game
  variables: PyTree
  descriptor: Descriptor
  prepare: Augment
  scale_depth: bool = True

  @classmethod
  def open(cls, workdir: str | pathlib.Path, which: str = "best") -> "TrainedPredictor":
    """Reads the predictor of a run.

    Args:
      workdir: Folder of the run.
      which: Name of the checkpoint, "best", the default, or "last"; see
        `asmjax.config.run_dir.read_state`.

    Raises:
      FileNotFoundError: There is no run in `workdir`, or no such checkpoint.
      ValueError: The checkpoint does not fit the run's config, or is not finite, and the message
        names the arrays; or none is intact.
    """
    config = read_config(workdir)
    data = construct(Data, config["data"], "data")
    descriptor = read_descriptor(workdir)
    game = build_game(config, descriptor, config["train"].get("dtype", "float32"))
    read_variables = lambda folder: _read_variables(folder, game, data.size)
    variables = read_checkpoint(workdir, which, read_variables)
    predictor, variables = merge_adapters(game.predictor, variables)
    return cls(
      game=dataclasses.replace(game, predictor=predictor, terms={}),
      variables=variables,
      descriptor=descriptor,
      prepare=data.eval_transform(game.input_transform.fill),
      scale_depth=data.scale_depth,
    )

  @classmethod
  def from_state(cls, experiment: Experiment, state: TrainState) -> "TrainedPredictor":
    """Makes the trained predictor of an experiment from a training state.

    Args:
      experiment: Description of the run.
      state: State with the predictor's variables.
    """
    game, variables = experiment.game, jax.device_get(state.variables())
    predictor, variables = merge_adapters(game.predictor, variables)
    return cls(
      game=dataclasses.replace(game, predictor=predictor, terms={}),
      variables=variables,
      descriptor=experiment.descriptor,
      prepare=experiment.prepare,
      scale_depth=experiment.augment.scale_depth,
    )

  def resize(self, image: np.ndarray) -> np.ndarray:
    """Resizes an image uint8 (h, w, 3) as evaluation does, without the padding."""
    return self.prepare.resize_only({"image": image})["image"]


def _read_variables(folder: pathlib.Path, game: Game, size: tuple[int, int]) -> PyTree:
  """Reads the predictor's variables from a checkpoint, without those of other players."""
  image = jnp.zeros((1, *size, 3))
  expected = jax.eval_shape(
    lambda key: game.predictor.init(key, image, train=False), jax.random.key(0)
  )
  names = identity_map(expected)
  variables, coverage = transfer(expected, read(folder, "orbax"), names, strict=False, heads=())
  if faults := coverage.describe_faults():
    raise ValueError(f"{folder} is not of the predictor in the run's config:{faults}")
  check_finite_arrays(variables, f"checkpoint {folder}")
  return variables
