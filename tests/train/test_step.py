"""The step: the same numbers however it is spread; only active_players move."""

import dataclasses
import functools
import re

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asmjax.game import PREDICTOR, joint_objective
from asmjax.models.input_transform import IMAGENET
from asmjax.ops.masked_mean import MaskedMean
from asmjax.terms import Pixel
from asmjax.terms.base import FEATURES, LossTerm, Term, TermOutput
from asmjax.train.optim import Optimizer
from asmjax.train.parallel import pmap_step, shard_batch
from asmjax.train.state import init_state
from asmjax.train.step import make_step
from asmjax.train.updates import UpdateSchedule
from tests.helpers import tiny_games as games

OPTIMIZER = Optimizer(name="adam", learning_rate=1e-2, weight_decay=1e-3, clip_norm=5.0)
STEPS = 40


@functools.cache
def initial(method, norm, levels):
  """A game, its optimizers, and its initial state, which compiles as long as a small step."""
  players = games.of_method(method, norm=norm, levels=levels)
  tx = dict.fromkeys((PREDICTOR, *players.critics), OPTIMIZER.make_transformation(STEPS))
  return players, tx, jax.device_get(init_state(players, tx, seed=0, image_size=games.SIZE))


@functools.cache
def take_step(
  devices, active_players, method="asm", norm="sync_batch", grad_accum_steps=1, wide=False, levels=1
):
  """A compiled step on the first `devices` devices, and the game's initial state.

  `wide` is double precision, which the fixture `float64` must have turned on.
  """
  players, tx, state = initial(method, norm, levels)
  step = make_step(
    players, tx, active_players=active_players, steps=STEPS, grad_accum_steps=grad_accum_steps
  )
  where = jax.local_devices()[:devices]
  spread_step = pmap_step(step, devices=where)
  return (
    lambda state, batch: spread_step(state, shard_batch(batch, devices=where)),
    games.double(state) if wide else state,
  )


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad"])
def test_init_state_starts_optimizers_as_their_own_init_does(name):
  players = games.of_method("asm")
  tx = Optimizer(name=name, ema_decay=0.9).make_transformation(STEPS)
  state = init_state(
    players,
    dict.fromkeys((PREDICTOR, *players.critics), tx),
    seed=0,
    image_size=games.SIZE,
    load=lambda variables: jax.tree.map(lambda x: x + 1, variables),
  )
  for player in state.players.values():
    jax.tree.map(np.testing.assert_array_equal, player.opt_state, tx.init(player.params))


def run(steps, devices, updates="joint", **options):
  """The state and the last metrics after some steps, each on its own batch."""
  active_players = UpdateSchedule.parse(updates).active_players
  players = (PREDICTOR, "structure")
  _, state = take_step(devices, active_players(0, players), **options)
  for i in range(steps):
    step, _ = take_step(devices, active_players(i, players), **options)
    state, metrics = step(state, games.batch(seed=i))
  return jax.device_get(state), jax.device_get(metrics)


def assert_close(actual, expected, rtol):
  """Relative to the size of each array."""
  compare = lambda a, b: np.testing.assert_allclose(
    a, b, rtol=rtol, atol=rtol * max(float(np.max(np.abs(b), initial=0)), 1e-12)
  )
  jax.tree.map(compare, actual, expected)


@pytest.mark.parametrize("updates, devices", [("joint", 8), ("alternate", 2)])
def test_step_gives_the_same_numbers_on_any_number_of_devices(updates, devices, float64):
  expected = run(20, 1, updates, wide=True)
  assert_close(run(20, devices, updates, wide=True), expected, 1e-9)


def test_step_balances_terms_alike_on_any_number_of_devices(float64):
  options = {"method": "iid_asm_balanced", "wide": True}
  expected, metrics = run(2, 1, **options)
  assert_close(run(2, 2, **options), (expected, metrics), 1e-9)
  np.testing.assert_allclose(
    metrics["gradient_norm_from/structure"], 0.3 * metrics["gradient_norm_from/pixel"], rtol=1e-9
  )
  assert 0 < metrics["gradient_scale/structure"] < 1 and "gradient_scale/pixel" not in metrics


def test_step_of_microbatches_gives_the_numbers_of_the_batch(float64):
  options = {"norm": "none", "wide": True}
  complete, parts = run(3, 1, **options), run(3, 2, grad_accum_steps=4, **options)
  assert_close(parts, complete, 1e-9)


class Draw(Term):
  """Reports the first two moments of what a key gives."""

  def __call__(self, context):
    drawn = jax.random.uniform(context.rng, ())
    moment = lambda power: LossTerm(MaskedMean(drawn**power, jnp.ones(())))
    return TermOutput({"first": moment(1), "second": moment(2)})


def test_step_of_microbatches_counts_the_pixels_that_are_hard_for_each():
  """With the statistics of a microbatch other pixels are hard than with those of the batch."""
  pixel = Pixel(hard_threshold=0.33)
  players = games.game(levels=1, norm="batch", pixel=pixel)
  tx = {PREDICTOR: Optimizer("sgd", learning_rate=1.0, momentum=0.0).make_transformation(STEPS)}
  state = init_state(players, tx, seed=0, image_size=games.SIZE)
  options = {"active_players": (PREDICTOR,), "steps": STEPS, "grad_accum_steps": 2}
  where = jax.local_devices()[:1]
  step = pmap_step(make_step(players, tx, **options), devices=where)
  after, _ = step(state, shard_batch(games.batch(), devices=where))

  @jax.jit
  def hard(params, part):
    compute = lambda params: (
      players.compute_losses({PREDICTOR: params}, state.batch_stats, part, rng=jax.random.key(0))
      .losses["pixel/segmentation"]
      .value
    )
    return jax.grad(lambda params: compute(params).total.sum())(params), compute(params).count.sum()

  params = state.params[PREDICTOR]
  halves = [jax.tree.map(lambda x, k=k: np.split(x, 2)[k], games.batch()) for k in range(2)]
  (first, n), (second, m) = (hard(params, half) for half in halves)
  assert n + m != hard(params, games.batch())[1]
  expected = jax.tree.map(lambda p, a, b: p - (a + b) / (n + m), params, first, second)
  assert_close(jax.device_get(after).params[PREDICTOR], expected, 1e-4)


def test_step_of_microbatches_draws_anew_for_each():
  players = games.game(levels=1, norm="none", pixel=Pixel(), draw=Draw())
  tx = {PREDICTOR: OPTIMIZER.make_transformation(STEPS)}
  state = init_state(players, tx, seed=0, image_size=games.SIZE)
  options = {"active_players": (PREDICTOR,), "steps": STEPS, "grad_accum_steps": 4}
  where = jax.local_devices()[:1]
  step = pmap_step(make_step(players, tx, **options), devices=where)
  _, metrics = step(state, shard_batch(games.batch(), devices=where))
  assert metrics["draw/second"] - metrics["draw/first"] ** 2 > 0.01


def test_step_draws_anew_in_every_step_and_on_every_device():
  players = games.game(levels=1, norm="none", pixel=Pixel(), draw=Draw())
  tx = {PREDICTOR: OPTIMIZER.make_transformation(STEPS)}
  state = init_state(players, tx, seed=0, image_size=games.SIZE)
  where, drawn = jax.local_devices()[:2], []
  step = pmap_step(make_step(players, tx, active_players=(PREDICTOR,), steps=STEPS), devices=where)
  for _ in range(2):
    state, metrics = step(state, shard_batch(games.batch(), devices=where))
    drawn.append(float(metrics["draw/first"]))
    assert metrics["draw/second"] - metrics["draw/first"] ** 2 > 1e-4
  assert abs(drawn[1] - drawn[0]) > 1e-4


def test_step_of_microbatches_updates_running_statistics_with_each():
  options = {"method": "iid", "norm": "batch", "grad_accum_steps": 2}
  players, _, _ = initial("iid", "batch", 1)
  step, state = take_step(1, (PREDICTOR,), **options)
  examples = games.batch()
  after, _ = step(state, examples)
  variables = state.params[PREDICTOR], state.batch_stats[PREDICTOR]
  for part in np.split(IMAGENET(examples["image"]), 2):
    _, updated = players.predictor.apply(
      {"params": variables[0], "batch_stats": variables[1]},
      part,
      train=True,
      mutable=["batch_stats"],
    )
    variables = variables[0], updated["batch_stats"]
  assert_close(jax.device_get(after).batch_stats[PREDICTOR], variables[1], 1e-5)


class Clock(Term):
  """Reports the progress, and has a critic, which is never updated."""

  critic = nn.Dense(1)

  def init(self, rng, tasks, size):
    return self.critic.init(rng, jnp.zeros((1, 1)))

  def __call__(self, context):
    progress = MaskedMean(jnp.asarray(context.progress, jnp.float32), jnp.ones(()))
    return TermOutput({"progress": LossTerm(progress)})


def keep_step():
  """An optimizer that moves nothing, and whose state is the last step that it was given."""
  update = lambda updates, state, params=None, *, step: (
    jax.tree.map(jnp.zeros_like, updates),
    jnp.asarray(step),
  )
  return optax.GradientTransformationExtraArgs(lambda params: jnp.int32(-1), update)


def test_step_counts_the_predictors_steps_in_every_order_of_updates():
  """Its T updates are at 0 .. T-1 of T, and the critics' at those of the predictor's next one."""
  players, steps = games.game(levels=1, pixel=Pixel(), clock=Clock()), 5
  names = (PREDICTOR, "clock")
  tx = dict.fromkeys(names, keep_step())
  state = init_state(players, tx, seed=0, image_size=games.SIZE)
  take = {}
  for updates in (
    UpdateSchedule(),
    UpdateSchedule(0, 0, 3),
    UpdateSchedule(1, 1),
    UpdateSchedule(3, 2, 1),
  ):
    now, counts = state, []
    for i in range(updates.total_steps(steps)):
      active_players = updates.active_players(i, names)
      if (updates, active_players) not in take:
        step = make_step(players, tx, active_players=active_players, steps=steps, updates=updates)
        take[updates, active_players] = pmap_step(step, devices=jax.local_devices()[:1])
      batch = shard_batch(games.batch(2), devices=jax.local_devices()[:1])
      now, metrics = take[updates, active_players](now, batch)
      clocks = {int(now.players[name].opt_state) for name in active_players}
      assert clocks == {updates.count_predictor_steps(i)}
      assert metrics["clock/progress"] == np.float32(updates.count_predictor_steps(i) / steps)
      counts += [clocks.pop()] if PREDICTOR in active_players else []
    assert counts == list(range(steps)) and now.step == updates.total_steps(steps)


@pytest.mark.parametrize("mover, waiter", [(PREDICTOR, "structure"), ("structure", PREDICTOR)])
def test_step_leaves_inactive_players_bit_for_bit(mover, waiter, float64):
  step, before = take_step(2, (mover,), wide=True)
  after, metrics = step(before, games.batch())
  after = jax.device_get(after)
  jax.tree.map(np.testing.assert_array_equal, after.players[waiter], before.players[waiter])
  assert f"gradient_norm/{mover}" in metrics and f"gradient_norm/{waiter}" not in metrics
  assert not np.array_equal(
    jax.tree.leaves(after.players[mover].params)[0],
    jax.tree.leaves(before.players[mover].params)[0],
  )
  assert after.step == before.step + 1


def test_step_on_an_unlabeled_batch_has_no_gradient(float64):
  step, state = take_step(8, (PREDICTOR, "structure"), wide=True)
  blank = {**games.batch(), "label": np.full((8, *games.SIZE), 255, np.int32)}
  after, metrics = step(state, blank)
  assert metrics["gradient_norm/predictor"] == 0 and metrics["gradient_norm/structure"] == 0
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(after)))


def test_step_does_not_differentiate_frozen_parameters():
  players, frozen = games.of_method("asm"), re.compile("^down1")
  optimizer = dataclasses.replace(OPTIMIZER, lr_multipliers={frozen.pattern: 0.0})
  tx = dict.fromkeys((PREDICTOR, "structure"), optimizer.make_transformation(STEPS))
  make = functools.partial(make_step, players, tx, active_players=(PREDICTOR,), steps=STEPS)
  state = jax.device_get(init_state(players, tx, seed=0, image_size=games.SIZE))
  batch, stop_frozen = (
    shard_batch(games.batch(), devices=jax.local_devices()[:1]),
    optimizer.stop_frozen,
  )
  steps = [
    pmap_step(make(stop_frozen=each), devices=jax.local_devices()[:1])
    for each in (lambda _, params: params, lambda _, params: stop_frozen(params))
  ]
  moved = [jax.device_get(step(state, batch)) for step in steps]
  costs = [step.lower(state, batch).compile().cost_analysis()["flops"] for step in steps]
  assert costs[1] < costs[0]
  before = flax.traverse_util.flatten_dict(state.players[PREDICTOR].params, sep="/")
  for after, _ in moved:
    now = flax.traverse_util.flatten_dict(after.players[PREDICTOR].params, sep="/")
    assert {path for path in now if np.array_equal(now[path], before[path])} == {
      path for path in now if frozen.search(path)
    }
  assert moved[1][1]["gradient_norm/predictor"] < moved[0][1]["gradient_norm/predictor"]


MEDLEY = ("structure", "adversarial")


def take_medley(devices, grad_accum_steps=1):
  """The joint step of all terms together, in double precision."""
  return take_step(
    devices,
    (PREDICTOR, *MEDLEY),
    method="medley",
    norm="none",
    grad_accum_steps=grad_accum_steps,
    wide=True,
  )


@functools.cache
def sent_by_definition():
  """The predictor's loss, and by term the norm of its gradient by the predictor's outputs."""
  players = games.of_method("medley", norm="none", levels=1)
  _, state = take_medley(1)
  params, stats = state.params, state.batch_stats
  examples = games.batch()

  def share(name, outputs):
    critic = {"params": params.get(name, {}), "batch_stats": stats.get(name, {})}
    losses = games.evaluate(
      players.terms[name], players.tasks, outputs, examples, critic=critic
    ).losses
    descended = sum(loss.predictor_weight * loss.value.mean() for loss in losses.values())
    return joint_objective(losses), descended

  @jax.jit
  def shares():
    outputs, state = players.predictor.apply(
      {"params": params[PREDICTOR]},
      IMAGENET(examples["image"]),
      train=True,
      mutable=["intermediates"],
    )
    outputs = {**outputs, FEATURES: state["intermediates"][FEATURES][0]}
    return {name: jax.grad(share, 1, has_aux=True)(name, outputs) for name in players.terms}

  shares = shares()
  total = sum(float(descended) for _, descended in shares.values())
  return total, {name: float(optax.tree.norm(gradient)) for name, (gradient, _) in shares.items()}


@pytest.mark.parametrize("devices, grad_accum_steps", [(1, 1), (2, 2)])
def test_step_measures_each_terms_gradient_by_the_outputs(devices, grad_accum_steps, float64):
  loss, expected = sent_by_definition()
  assert len(expected) == 5 and min(expected.values()) > 1e-3
  step, state = take_medley(devices, grad_accum_steps)
  _, metrics = jax.device_get(step(state, games.batch()))
  for name, norm in expected.items():
    np.testing.assert_allclose(metrics[f"gradient_norm_from/{name}"], norm, rtol=1e-9)
  np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-9)
  step, state = take_medley(1)
  assert_close(metrics, jax.device_get(step(state, games.batch()))[1], 1e-9)


def test_step_without_truth_measures_zero_everywhere(float64):
  step, state = take_medley(2, 2)
  blank = {**games.batch(), "label": np.full((8, *games.SIZE), 255, np.int32)}
  _, metrics = jax.device_get(step(state, blank))
  kinds = {name.split("/")[0] for name in metrics}
  norms, terms = {"gradient_norm_from", "gradient_norm"}, {"pixel", "embedding", "affinity"}
  assert kinds == {"loss", *norms, *MEDLEY, *terms}
  assert all(value == 0 for value in metrics.values())


def test_step_measures_no_gradient_of_an_inactive_predictor(float64):
  names = {}
  for mover in (PREDICTOR, "structure"):
    step, state = take_step(2, (mover,), wide=True)
    _, metrics = step(state, games.batch())
    names[mover] = {name for name in metrics if name.startswith("gradient_norm_from/")}
  assert names == {PREDICTOR: {"gradient_norm_from/structure"}, "structure": set()}


@pytest.mark.parametrize("mover", [PREDICTOR, "adversarial"])
def test_step_updates_statistics_of_active_critics_alone(mover):
  step, before = take_step(2, (mover,), method="cgan", norm="none")
  after, _ = step(before, games.batch())
  critics = [jax.device_get(state).players["adversarial"] for state in (before, after)]
  same = jax.tree.map(np.array_equal, *((each.params, each.batch_stats) for each in critics))
  leaves = jax.tree.leaves(same)
  assert len(leaves) > 8 and set(leaves) == {mover == PREDICTOR}


# What is special about them is so about one of the others too.
COVERED = {"gan_basic", "gan_product", "gan_joint_batch", "gan_depth", "affinity", "aaf_released"}
NEW = [
  method
  for method in games.METHODS
  if set(games.METHODS[method]) & {"adversarial", "affinity", "embedding"}
  and method not in COVERED | {"medley"}
]


@pytest.mark.parametrize("method", NEW)
def test_joint_gradients_of_every_method_are_finite_in_half_precision(method):
  players = games.with_compute_dtype(jnp.bfloat16, games.of_method(method, levels=1))
  params, stats = games.variables(players)

  def descend(params):
    grads = games.joint_gradients(players, params, stats, games.batch(4))
    return jax.tree.map(lambda p, g: p - 1e-2 * g, params, grads)

  after = jax.jit(descend)(params)
  for name in params:
    pairs = list(zip(jax.tree.leaves(params[name]), jax.tree.leaves(after[name]), strict=True))
    assert all(b.dtype == jnp.float32 and np.isfinite(b).all() for _, b in pairs)
    assert any(np.any(a != b) for a, b in pairs)


def test_step_learns_against_the_analyzer(float64):
  rng = np.random.default_rng(0)
  label = rng.integers(0, 3, (8, 2, 3)).repeat(4, 1).repeat(4, 2).astype(np.int32)
  image = np.stack([label * 100, 255 - label * 60, label * 10], -1).astype(np.uint8)
  examples = {"image": image, "label": label, "weight": np.ones(8, np.float32)}
  step, state = take_step(1, (PREDICTOR, "structure"), norm="none", wide=True)
  players, *_ = initial("asm", "none", 1)
  predict = jax.jit(players.predict)
  accuracy = lambda state: np.mean(
    np.argmax(predict(jax.device_get(state.variables()), image)["segmentation"], -1) == label
  )
  before = accuracy(state)
  for _ in range(STEPS):
    state, _ = step(state, examples)
  assert before < 0.4 and accuracy(state) > 0.5
