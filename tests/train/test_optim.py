"""Update rules, schedules of the rate, and its multipliers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asmjax.game import PREDICTOR
from asmjax.train.optim import Optimizer
from asmjax.train.state import Player, TrainState


def descend(optimizer, gradients, params, steps=10, **options):
  """The parameters after gradients that are the same everywhere."""
  return descend_with_state(optimizer, gradients, params, steps, **options)[0]


def descend_with_state(optimizer, gradients, params, steps=10, **options):
  """The parameters and the state of the optimizer after the gradients."""
  tx = optimizer.make_transformation(steps, **options)
  state = tx.init(params)
  for t, g in enumerate(gradients):
    updates, state = tx.update(
      jax.tree.map(lambda p, g=g: g * jnp.ones_like(p), params), state, params, step=jnp.array(t)
    )
    params = optax.apply_updates(params, updates)
  return params, state


def numpy_adamw(gradients, rate, decay):
  """AdamW (Loshchilov and Hutter 2019, Alg. 2) for a scalar parameter of value 1."""
  p, m, v = 1.0, 0.0, 0.0
  for t, g in enumerate(gradients, 1):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    p -= rate(t - 1) * (step + decay * p)
  return p


@pytest.mark.parametrize("decay_all", [False, True])
def test_optimizer_adamw_decays_apart_from_the_gradient(decay_all):
  gradients = [0.5, -0.2, 1.0, 0.3]
  optimizer = Optimizer(
    "adamw", learning_rate=0.1, weight_decay=0.3, schedule="cosine", decay_all=decay_all
  )
  rate = lambda t: 0.05 * (1 + np.cos(np.pi * t / 10))
  params = {"norm": {"scale": jnp.ones(1)}, "fc": {"kernel": jnp.ones(1), "bias": jnp.ones(1)}}
  after = descend(optimizer, gradients, params)
  decayed, free = (numpy_adamw(gradients, rate, decay) for decay in (0.3, 0.0))
  np.testing.assert_allclose(after["fc"]["kernel"], decayed, rtol=1e-5)
  for value in (after["fc"]["bias"], after["norm"]["scale"]):
    np.testing.assert_allclose(value, decayed if decay_all else free, rtol=1e-5)
  assert abs(decayed - free) > 0.05


@pytest.mark.parametrize(
  "momentum, b2, power, clip_norm", [(0.9, 0.999, 0.9, 0.0), (0.5, 0.9, 2.0, 0.8)]
)
def test_optimizer_adam_clips_the_gradient_and_then_adds_the_penalty(
  momentum, b2, power, clip_norm
):
  gradients, rate = [0.5, -3.0, 1.0, 0.3], lambda t: 0.1 * (1 - t / 10) ** power
  p, m, v = 1.0, 0.0, 0.0
  for t, g in enumerate(gradients, 1):
    g = np.clip(g, -clip_norm, clip_norm) + 0.3 * p if clip_norm else g + 0.3 * p
    m, v = momentum * m + (1 - momentum) * g, b2 * v + (1 - b2) * g * g
    p -= rate(t - 1) * m / (1 - momentum**t) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
  settings = {"learning_rate": 0.1, "momentum": momentum, "b2": b2, "power": power}
  optimizer = Optimizer("adam", **settings, weight_decay=0.3, clip_norm=clip_norm)
  after = descend(optimizer, gradients, {"fc": {"kernel": jnp.ones(1)}})
  np.testing.assert_allclose(after["fc"]["kernel"], p, rtol=1e-5)


def test_optimizer_adamw_agrees_with_torch():
  torch = pytest.importorskip("torch")
  parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
  reference = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.3)
  gradients = [0.5, -0.2, 1.0, 0.3]
  for g in gradients:
    parameter.grad = torch.full((1,), g, dtype=torch.float64)
    reference.step()
  optimizer = Optimizer("adamw", learning_rate=0.1, weight_decay=0.3, schedule="constant")
  after = descend(optimizer, gradients, {"fc": {"kernel": jnp.ones(1)}})
  np.testing.assert_allclose(after["fc"]["kernel"], parameter.detach().numpy(), rtol=1e-5)


def test_learning_rate_at_falls_by_a_cosine_from_the_end_of_its_warmup():
  optimizer = Optimizer(learning_rate=2.0, schedule="cosine", warmup_steps=4)
  t = np.arange(101)
  expected = (1 + np.cos(np.pi * t / 100)) * np.minimum(1, (t + 1) / 5)
  np.testing.assert_allclose(optimizer.learning_rate_at(t, 100), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "poly", "cosine", "step"])
def test_learning_rate_at_is_the_same_outside_of_a_program_as_inside(schedule):
  optimizer = Optimizer(learning_rate=0.3, schedule=schedule, warmup_steps=4)
  steps = np.arange(101)
  outside = optimizer.learning_rate_at(steps, 100)
  assert isinstance(outside, np.ndarray) and outside.dtype == np.float32
  inside = jax.jit(lambda step: optimizer.learning_rate_at(step, 100))(steps)
  np.testing.assert_allclose(outside, inside, rtol=1e-6, atol=1e-7)
  assert optimizer.learning_rate_at(7, 100) == outside[7]


def test_learning_rate_at_falls_by_a_factor_at_each_milestone():
  optimizer = Optimizer(learning_rate=1.0, schedule="step", warmup_steps=1)
  rates = np.asarray(optimizer.learning_rate_at(np.arange(12), 12))
  np.testing.assert_allclose(rates, [0.5] + 7 * [1.0] + 3 * [0.1] + [0.01], rtol=1e-6)
  three = Optimizer(schedule="step", milestones=(0.25, 0.5, 0.5), step_factor=0.5, learning_rate=1)
  np.testing.assert_allclose(three.learning_rate_at(np.arange(4), 4), [1, 0.5, 0.125, 0.125])
  with pytest.raises(ValueError, match=r"milestones=\(0\.5, 0\.2\); expected rising shares"):
    Optimizer(schedule="step", milestones=(0.5, 0.2))


def test_optimizer_decays_kernels_alone():
  optimizer = Optimizer("sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.5)
  after = descend(optimizer, [0.0], {"kernel": jnp.ones(1), "bias": jnp.ones(1)})
  np.testing.assert_allclose([after["kernel"][0], after["bias"][0]], [0.95, 1.0])


@pytest.mark.parametrize(
  "gradients, expected, settings",
  [
    ([1.0, 1.0], 1 - 0.1 - 0.19, {"name": "sgd"}),
    ([2.0], 1 - 0.1 * 2 / np.sqrt(4.1), {"name": "adagrad"}),
    # The norm of two parameters' gradients.
    ([3.0], 1 - 0.1 * 0.5 / np.sqrt(2), {"name": "sgd", "clip_norm": 0.5}),
  ],
)
def test_optimizer_agrees_with_formulas(gradients, expected, settings):
  optimizer = Optimizer(**settings, learning_rate=0.1, schedule="constant")
  after = descend(optimizer, gradients, {"head": jnp.ones(1), "body": jnp.ones(1)})
  np.testing.assert_allclose([after["head"][0], after["body"][0]], 2 * [expected], rtol=1e-5)


def test_optimizer_multiplies_the_rate_of_parameters_by_their_names():
  settings = {"learning_rate": 0.01, "schedule": "constant", "lr_multipliers": {"^head": 10.0}}
  after = descend(Optimizer("sgd", **settings), [1.0], {"head_a": jnp.ones(1), "body": jnp.ones(1)})
  np.testing.assert_allclose([after["head_a"][0], after["body"][0]], [0.9, 0.99], rtol=1e-6)


def test_learning_rate_at_warms_up_linearly_and_ends_at_zero():
  optimizer = Optimizer(learning_rate=1.0, warmup_steps=4)
  rates = np.array([optimizer.learning_rate_at(step, 100) for step in range(101)])
  poly = (1 - np.arange(101) / 100) ** 0.9
  np.testing.assert_allclose(rates[:4], poly[:4] * [0.2, 0.4, 0.6, 0.8], rtol=1e-5)
  np.testing.assert_allclose(rates[4:], poly[4:], rtol=1e-5)


def test_variables_are_the_moving_average_where_one_is_kept():
  optimizer = Optimizer("sgd", learning_rate=0.1, momentum=0.0, schedule="constant", ema_decay=0.5)
  params, opt_state = descend_with_state(optimizer, [1.0, 1.0], {"kernel": jnp.ones(1)})
  state = TrainState(jnp.array(2), {PREDICTOR: Player(params, {}, opt_state)}, jnp.zeros(2))
  keep = [1 / 10, 2 / 11]
  first = keep[0] * 1 + (1 - keep[0]) * 0.9
  expected = keep[1] * first + (1 - keep[1]) * 0.8
  np.testing.assert_allclose(state.variables()["params"]["kernel"], expected, rtol=1e-6)
  params, opt_state = descend_with_state(Optimizer(), [1.0], {"kernel": jnp.ones(1)})
  state = TrainState(jnp.array(1), {PREDICTOR: Player(params, {}, opt_state)}, jnp.zeros(2))
  assert state.variables()["params"] is params


@pytest.mark.parametrize("field", ["name", "schedule"])
def test_optimizer_refuses_unknown_rules_and_schedules(field):
  with pytest.raises(ValueError, match=f"unknown {field} 'lion'; known"):
    Optimizer(**{field: "lion"})
