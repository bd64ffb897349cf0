"""State of a run: one pytree, so that saving and rolling back is copying it."""

from collections.abc import Callable, Mapping

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from asmjax.game import PREDICTOR, Game
from asmjax.train.optim import ema_params


@flax.struct.dataclass
class Player:
  """State of one player.

  Attributes:
    params: Parameters of the player's network.
    batch_stats: Running statistics of batch norms; empty without any.
    opt_state: State of the player's optax transformation.
  """

  params: PyTree
  batch_stats: PyTree
  opt_state: PyTree


@flax.struct.dataclass
class TrainState:
  """State of all players between two training steps.

  Attributes:
    step: Number of steps done, of all players. With the seed it determines the batch and the
      randomness of the next step, and with `asmjax.train.updates.UpdateSchedule` the number of the
      predictor's steps so far.
    players: State of "predictor" and, by the name of its term, of every critic.
    rng: Data of the run's random key, constant; see `jax.random.key_data`.
  """

  step: Int[Array, ""]
  players: dict[str, Player]
  rng: Array

  @property
  def params(self) -> dict[str, PyTree]:
    """Parameters by player."""
    return {name: player.params for name, player in self.players.items()}

  @property
  def batch_stats(self) -> dict[str, PyTree]:
    """Running statistics by player."""
    return {name: player.batch_stats for name, player in self.players.items()}

  def key(self) -> Array:
    """Derives the random key of the coming step."""
    return jax.random.fold_in(jax.random.wrap_key_data(self.rng), self.step)

  def variables(self) -> dict[str, PyTree]:
    """Returns the predictor's variables for evaluation: averaged parameters if it keeps them."""
    player = self.players[PREDICTOR]
    params = ema_params(player.params, player.opt_state)
    return {"params": params, "batch_stats": player.batch_stats}


Transformations = Mapping[str, optax.GradientTransformationExtraArgs]


def init_state(
  game: Game,
  transformations: Transformations,
  *,
  seed: int,
  image_size: tuple[int, int],
  load: Callable[[PyTree], PyTree] = lambda variables: variables,
) -> TrainState:
  """Initializes the state at step 0, a function of the seed and of loaded weights.

  Args:
    game: Game whose players to initialize.
    transformations: Optax transformation by player; a critic has its term's name.
    seed: Seed of the parameters and of every later step's randomness.
    image_size: Height and width of the training images in pixels.
    load: Function from the predictor's random variables to those that it starts from; by default
      the identity.
  """
  params_key, rng = jax.random.split(jax.random.key(seed))
  variables = _compile_once(lambda key: game.init(key, image_size))(params_key)
  variables[PREDICTOR] = load(variables[PREDICTOR])
  params = {name: of_player["params"] for name, of_player in variables.items()}
  # In one program: by itself every shape's zeros would be one, too small to be kept in a cache.
  opt_states = _compile_once(
    lambda params: {name: transformations[name].init(x) for name, x in params.items()}
  )(params)
  players = {
    name: Player(params[name], of_player.get("batch_stats", {}), opt_states[name])
    for name, of_player in variables.items()
  }
  return TrainState(jnp.zeros((), jnp.int32), players, jax.random.key_data(rng))


def _compile_once(function: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
  """Compiles what runs once: to optimize its code would take most of the start-up."""
  return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
