"""The state of a run: one pytree, so that saving and rolling back is copying it."""

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
  """What one player knows."""

  params: PyTree
  batch_stats: PyTree
  opt_state: PyTree


@flax.struct.dataclass
class TrainState:
  """Everything that changes from step to step.

  Attributes:
    step: steps done, of all players; with the seed it determines the batch and the randomness of
      the next one, and with `asmjax.game.Turns` how many of them the predictor has taken.
    players: "predictor" and, by the name of its term, every critic.
    rng: key data of the run, constant.
  """

  step: Int[Array, ""]
  players: dict[str, Player]
  rng: Array

  def key(self) -> Array:
    """The random key of the coming step."""
    return jax.random.fold_in(jax.random.wrap_key_data(self.rng), self.step)

  def variables(self) -> dict[str, PyTree]:
    """The predictor's variables for evaluation: the moving average where one is kept."""
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
  """The state at step 0, a function of the seed and of what is loaded.

  Args:
    game: whose players to initialize.
    transformations: by player; a critic is looked up by its term's name.
    seed: of parameters and of every later step's randomness.
    image_size: (h, w) of the training images.
    load: from the predictor's random variables to those that it starts from.
  """
  params_key, rng = jax.random.split(jax.random.key(seed))
  # It runs once: optimizing the code of its random numbers would take most of the start-up.
  init = jax.jit(
    lambda key: game.init(key, tuple(image_size)),
    compiler_options={"xla_backend_optimization_level": 0},
  )
  variables = init(params_key)
  variables[PREDICTOR] = load(variables[PREDICTOR])
  players = {
    name: Player(
      params=each["params"],
      batch_stats=each.get("batch_stats", {}),
      opt_state=transformations[name].init(each["params"]),
    )
    for name, each in variables.items()
  }
  return TrainState(jnp.zeros((), jnp.int32), players, jax.random.key_data(rng))
