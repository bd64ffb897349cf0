"""The program of a training step, from the shapes of its arguments alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.config.build import build_game, build_optimizers
from asmjax.config.data import Data, find_descriptor
from asmjax.config.presets import Config
from asmjax.config.schema import construct
from asmjax.game import PREDICTOR, Game
from asmjax.train.experiment import Training
from asmjax.train.nonfinite import guard_step
from asmjax.train.parallel import pmap_step, replicate, shard_batch
from asmjax.train.state import Player, TrainState, Transformations, init_state
from asmjax.train.step import make_step

_TRUTHS = {"label": ((), jnp.int32), "depth": ((), jnp.float32), "normals": ((3,), jnp.float32)}


class AbstractStep(NamedTuple):
  """A step that can be compiled and read without data; only `draw_inputs` computes anything.

  Attributes:
    game: Predictor and critics.
    transformations: Optax transformation by player.
    state: Shapes of all players.
    size: Size (h, w) of the images.
    batch_size: Images a step, on all devices.
    lowered: Program on all devices; the state is donated, as in a training.
  """

  game: Game
  transformations: Transformations
  state: TrainState
  size: tuple[int, int]
  batch_size: int
  lowered: jax.stages.Lowered

  def draw_inputs(self) -> tuple[Any, dict[str, Any]]:
    """Draws what the program takes: the initial state and count of faults, and a batch of noise."""
    state = init_state(self.game, self.transformations, seed=0, image_size=self.size)
    rng = np.random.default_rng(0)
    classes = {task.truth_key: task.channels for task in self.game.tasks.values()}

    def draw(key: str, array: jax.ShapeDtypeStruct) -> np.ndarray:
      shape = (self.batch_size, *array.shape[2:])
      if key == "weight":
        return np.ones(shape, array.dtype)
      if np.issubdtype(array.dtype, np.integer):
        return rng.integers(0, classes.get(key, 256), shape, array.dtype)
      numbers = rng.random(shape, array.dtype)
      if key == "normals":
        numbers /= np.linalg.norm(numbers, axis=-1, keepdims=True)
      return numbers

    shapes = _make_batch(self.game, self.batch_size, self.size)
    return replicate((state, jnp.int32(0))), shard_batch({k: draw(k, v) for k, v in shapes.items()})


def lower_step(config: Config) -> AbstractStep:
  """Traces the step of a config with all players; no data is read.

  A batch smaller than the number of devices gets an image for each.
  """
  training = construct(Training, config.train, "train")
  data = construct(Data, config.data, "data")
  game = build_game(config, find_descriptor(data), training.dtype)
  optimizers = build_optimizers(config.optimizer, game)
  transformations = {k: v.make_transformation(training.steps) for k, v in optimizers.items()}
  step = make_step(
    game,
    transformations,
    active_players=(PREDICTOR, *game.critics),
    steps=training.steps,
    grad_accum_steps=training.grad_accum_steps,
    stop_frozen=lambda name, params: optimizers[name].stop_frozen(params),
  )
  state = _make_state(game, transformations, data.size)
  batch_size = max(training.batch_size, jax.device_count())
  carry = state, jax.ShapeDtypeStruct((), jnp.int32)
  guarded = pmap_step(guard_step(step, limit=1), donate=True)
  batch = _make_batch(game, batch_size, data.size)
  lowered = guarded.lower(carry, batch)  # pyright: ignore[reportFunctionMemberAccess]
  return AbstractStep(game, transformations, state, data.size, batch_size, lowered)


def _make_state(game: Game, transformations: Transformations, size: tuple[int, int]) -> TrainState:
  """Returns the shapes of a state, which `init_state` compiles and computes."""
  variables = jax.eval_shape(lambda: game.init(jax.random.key(0), size))
  players = {
    name: Player(
      params=of_player["params"],
      batch_stats=of_player.get("batch_stats", {}),
      opt_state=jax.eval_shape(transformations[name].init, of_player["params"]),
    )
    for name, of_player in variables.items()
  }
  key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
  return TrainState(jax.ShapeDtypeStruct((), jnp.int32), players, key)


def _make_batch(game: Game, batch_size: int, size: tuple[int, int]) -> dict[str, Any]:
  """Returns the shapes of a batch on all devices."""
  n = (jax.device_count(), batch_size // jax.device_count())
  batch = {
    "image": jax.ShapeDtypeStruct((*n, *size, 3), jnp.uint8),
    "weight": jax.ShapeDtypeStruct(n, jnp.float32),
  }
  for task in game.tasks.values():
    channels, dtype = _TRUTHS[task.truth_key]
    batch[task.truth_key] = jax.ShapeDtypeStruct((*n, *size, *channels), dtype)
  return batch
