"""The discriminator and its opponent: signs, gradients, masks, and inputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.game import PREDICTOR
from asmjax.losses.matching import pool_mask
from asmjax.models.critics import PatchNet
from asmjax.models.input_transform import IMAGENET, normalize_locally
from asmjax.models.layers import Conv, Norm
from asmjax.terms import Adversarial
from tests.helpers import tiny_games as games

METHODS = games.with_term("adversarial")


def softened(truth, predicted):
  """At least 0.9 on the true class, the rest in the proportions of the prediction."""
  of_true = np.float64(0.9) + jax.nn.relu(jnp.sum(truth * predicted, -1, keepdims=True) - 0.9)
  others = predicted * (1 - truth)
  total = jnp.sum(others, -1, keepdims=True)
  rest = others * (1 - of_true) / jnp.where(total > 0, total, 1)
  return jnp.where(jnp.any(truth > 0, -1, keepdims=True), truth * of_true + rest, 0)


def pooled(x, cell):
  """Means of `cell` x `cell` pixels."""
  n, h, w, c = x.shape
  return x.reshape(n, h // cell, cell, w // cell, cell, c).mean((2, 4))


def own_values(players, params, stats, examples):
  """What predictor and discriminator descend, each written down by itself."""
  term, tasks = players.terms["adversarial"], players.tasks
  outputs, _ = players.predictor.apply(
    {"params": params[PREDICTOR], "batch_stats": stats[PREDICTOR]},
    IMAGENET(examples["image"]),
    train=True,
    mutable=["batch_stats"],
  )
  image = IMAGENET(examples["image"])
  image = normalize_locally(image) if term.inputs == "branches" else image
  valid = {name: task.mask(examples) for name, task in tasks.items()}
  concatenate = lambda of: jnp.concatenate([of(n, t) * valid[n] for n, t in tasks.items()], -1)
  truth = concatenate(lambda name, task: task.true_structure(examples))
  predicted = concatenate(lambda name, task: task.structure(outputs[name]))
  if term.hard:
    winner = jax.nn.one_hot(jnp.argmax(predicted, -1), predicted.shape[-1])
    predicted += jax.lax.stop_gradient(winner * valid["segmentation"] - predicted)
  known = jnp.max(jnp.stack(list(valid.values())), axis=0)

  def encode(structure):
    if term.inputs == "product":
      return [(structure[..., None] * image[..., None, :]).reshape(*structure.shape[:3], -1)]
    if term.inputs == "concatenated":
      return [jnp.concatenate([structure, image], -1)]
    return [structure, image] if term.inputs == "branches" else [structure]

  real = encode(softened(truth, predicted) if term.inputs == "scaling" else truth)
  real, fake = (
    [pooled(x, term.downsample) for x in inputs] for inputs in (real, encode(predicted))
  )

  def apply(*inputs):
    variables = {"params": params["adversarial"], "batch_stats": stats["adversarial"]}
    return term.critic.apply(variables, *inputs, train=True, mutable=["batch_stats"])[0]

  def logits(real, fake):
    if not term.joint_batch:
      return apply(*real), apply(*fake)
    return jnp.split(apply(*(jnp.concatenate(pair) for pair in zip(real, fake, strict=True))), 2)

  def mean(values):
    counts = pool_mask(known, values.shape[1:3], count_partial_cells=True)
    return jnp.sum(values * counts) / jnp.sum(counts)

  fixed = jax.lax.stop_gradient
  log, log_not = jax.nn.log_sigmoid, lambda z: jax.nn.log_sigmoid(-z)
  _, of_fake = logits(fixed(real), fake)
  deceived = mean(log_not(of_fake)) if term.saturating else -mean(log(of_fake))
  of_real, of_fake = logits(fixed(real), fixed(fake))
  kept = 1 - term.label_smoothing
  judged = -mean(kept * log(of_real) + (1 - kept) * log_not(of_real)) - mean(log_not(of_fake))
  if term.r1_weight:
    # Every logit of an example sees that example alone. Only the structure's slope counts; here
    # it comes first in the concatenation.
    slopes = jax.grad(lambda x: jnp.sum(apply(x, *real[1:])))(fixed(real[0]))
    mask = pool_mask(known, slopes.shape[1:3], count_partial_cells=True)
    judged += term.r1_weight / 2 * jnp.sum((slopes * mask) ** 2) / len(slopes)
  iid = sum(task.pixel_loss(outputs[name], examples).mean() for name, task in tasks.items())
  return {
    PREDICTOR: players.terms["pixel"].weight * iid + term.weight * deceived,
    "adversarial": term.critic_weight * judged,
  }


@pytest.mark.parametrize("method", METHODS)
def test_adversarial_gives_each_player_the_gradient_of_its_objective(method, float64):
  players = games.of_method(method, levels=1, norm="none")
  games.assert_joint_gradients_are_own(*games.compile_players_alone(players, own_values))


# The inputs and masks of those that are left out are among those of the others.
@pytest.mark.parametrize(
  "method", [m for m in METHODS if m not in ("gan_basic", "gan_joint_batch", "gan_depth")]
)
def test_adversarial_ignores_missing_pixels(method):
  games.assert_missing_pixels_are_ignored(games.of_method(method, levels=1), "adversarial")


INPUTS = []


class Spy(PatchNet):
  """Keeps its inputs."""

  @nn.compact
  def __call__(self, structure, *, train):
    INPUTS.append(structure)
    return Conv(1, 1)(structure)


def evaluate(term, outputs, examples, rng=0, tasks=None):
  """Output of a term whose critic has fresh parameters."""
  tasks = tasks or {"segmentation": games.TASK}
  critic = term.init(jax.random.key(3), tasks, games.SIZE)
  INPUTS.clear()
  return games.evaluate(term, tasks, outputs, examples, critic=critic, rng=rng)


def logits(sharpness=1.0, n=4):
  """Random ones; with a large `sharpness` the softmax is almost sure, often wrongly."""
  rng = np.random.default_rng(4)
  return {"segmentation": jnp.array(sharpness * rng.normal(size=(n, *games.SIZE, 3)), jnp.float32)}


@pytest.mark.parametrize("sharpness", [0.1, 3.0, 100.0])
def test_inputs_scaling_are_distributions_with_most_on_the_truth(sharpness):
  outputs, examples = logits(sharpness), games.batch(4)
  evaluate(Adversarial(inputs="scaling", critic=Spy()), outputs, examples)
  real, fake = INPUTS[:2]
  label = examples["label"]
  labeled = label != 255
  np.testing.assert_allclose(real.sum(-1)[labeled], 1, rtol=1e-5)
  assert np.all(real >= 0) and np.all(real[~labeled] == 0) and np.all(fake[~labeled] == 0)
  on_truth = np.take_along_axis(real, (label * labeled)[..., None], -1)[..., 0][labeled]
  assert np.all(on_truth >= 0.9 - 1e-6) and np.all(real < 1.0 + 1e-6)
  np.testing.assert_allclose(
    fake[labeled], jax.nn.softmax(outputs["segmentation"])[labeled], rtol=1e-5, atol=1e-7
  )


@pytest.mark.parametrize("method", ["gan_scaling", "gan_joint_batch", "gan_penalty", "gan_hard"])
def test_adversarial_losses_reach_one_player_alone(method):
  players = games.of_method(method)
  term, tasks, examples = players.terms["adversarial"], players.tasks, games.batch(4)
  critic = term.init(jax.random.key(3), tasks, games.SIZE)

  def means(params, outputs):
    parts = games.evaluate(
      term, tasks, outputs, examples, critic={**critic, "params": params}
    ).losses
    return {name: parts[name].value.mean() for name in parts if "accuracy" not in name}

  slopes = jax.jit(jax.jacrev(means, (0, 1)))(critic["params"], logits())
  for name, (of_critic, of_outputs) in slopes.items():
    reached = [any(np.any(x != 0) for x in jax.tree.leaves(g)) for g in (of_critic, of_outputs)]
    assert reached == ([False, True] if name == "generator_loss" else [True, False]), name


@pytest.mark.parametrize("norm, alike", [("none", True), ("batch", False)])
def test_joint_batch_shares_the_statistics_of_a_batch_norm(norm, alike):
  examples, outputs = games.batch(4), {}
  for together in (False, True):
    term = games.adversarial(norm, joint_batch=together)
    outputs[together] = evaluate(term, logits(), examples)
  for name in ("generator_loss", "discriminator_loss_real", "discriminator_loss_fake"):
    separate, joint = (float(outputs[key].losses[name].value.mean()) for key in (False, True))
    assert (separate == pytest.approx(joint, rel=1e-5)) == alike
  if not alike:
    # Running statistics of the first layer, from 0: two batches one after the other, or one.
    mean = lambda output: output.batch_stats["conv1_norm"]["mean"]
    of_real = evaluate(
      games.adversarial(norm),
      {
        "segmentation": 100.0
        * jax.nn.one_hot(np.where(examples["label"] == 255, 0, examples["label"]), 3)
      },
      examples,
    )
    truth = mean(of_real) / (0.01 * 1.99)
    predicted = (mean(outputs[False]) - 0.99 * 0.01 * truth) / 0.01
    np.testing.assert_allclose(mean(outputs[True]), 0.01 * (truth + predicted) / 2, rtol=1e-3)


class Pointwise(PatchNet):
  """Sees pixels one by one, normalized."""

  @nn.compact
  def __call__(self, structure, *, train):
    x = self.conv_block(train=train)(structure, features=8, kernel=1, name="conv1")
    return Conv(1, 1, name="logit")(x)


@pytest.mark.parametrize("together", [False, True])
def test_separate_batches_leave_a_batch_norm_at_chance(together):
  tasks, examples = {"segmentation": games.TASK}, games.batch(4)
  examples["label"] = np.zeros_like(examples["label"])
  wrong = {"segmentation": jnp.full((4, *games.SIZE, 3), jnp.array([0.0, 0.0, 1e4]))}
  # A tiny epsilon would blow up the rounding of the means.
  term = Adversarial(joint_batch=together, critic=Pointwise(norm=Norm(epsilon=0.1)))
  critic = term.init(jax.random.key(3), tasks, games.SIZE)

  def judged(params):
    variables = {**critic, "params": params}
    losses = games.evaluate(term, tasks, wrong, examples, critic=variables).losses
    return sum(losses[f"discriminator_loss_{name}"].value.mean() for name in ("real", "fake"))

  params, step = critic["params"], jax.jit(jax.value_and_grad(judged))
  for _ in range(100):
    loss, slope = step(params)
    params = jax.tree.map(lambda p, g: p - 0.5 * g, params, slope)
  assert loss < 0.1 if together else abs(loss - 2 * np.log(2)) < 1e-3


def slopes_of_deceiving(term, outputs, examples):
  """By the outputs."""
  of = lambda outputs: evaluate(term, outputs, examples).losses["generator_loss"].value.mean()
  return np.asarray(jax.grad(of)(outputs)["segmentation"])


def test_hard_inputs_are_winners_with_the_gradient_of_probabilities():
  outputs, examples = logits(), games.batch(4)
  hard, soft = (Adversarial(hard=hard, critic=Spy()) for hard in (True, False))
  labeled = examples["label"][..., None] != 255
  winners = np.eye(3)[np.argmax(outputs["segmentation"], -1)] * labeled
  slopes = slopes_of_deceiving(hard, outputs, examples)
  np.testing.assert_array_equal(evaluate(hard, outputs, examples) and INPUTS[1], winners)

  # The critic's slope where the winners lie, times that of the softmax where the outputs lie.
  decided = {"segmentation": 1e4 * jnp.asarray(np.eye(3)[np.argmax(outputs["segmentation"], -1)])}
  critic = hard.init(jax.random.key(3), {"segmentation": games.TASK}, games.SIZE)

  def deceived(structure):
    z = hard.critic.apply(critic, structure, train=True)
    valid = pool_mask(jnp.float32(labeled), z.shape[1:3], count_partial_cells=True)
    return jnp.sum(jax.nn.softplus(-z) * valid) / jnp.sum(valid)

  slope = jax.grad(deceived)(jnp.float32(winners)) * labeled
  _, pull = jax.vjp(jax.nn.softmax, outputs["segmentation"])
  np.testing.assert_allclose(slopes, pull(slope)[0], rtol=1e-4, atol=1e-9)
  assert np.any(slopes != 0)

  # A decided prediction has the same input, but a softmax that is sure lets nothing through.
  np.testing.assert_array_equal(evaluate(hard, decided, examples) and INPUTS[1], winners)
  np.testing.assert_array_equal(evaluate(soft, decided, examples) and INPUTS[1], winners)
  assert not np.any(slopes_of_deceiving(hard, decided, examples))
  assert np.any(np.abs(slopes_of_deceiving(soft, outputs, examples) - slopes) > 1e-6)


class Forgetful(PatchNet):
  """Drops half of its inputs."""

  @nn.compact
  def __call__(self, structure, *, train):
    return Conv(1, 1)(nn.Dropout(0.5, deterministic=not train)(structure))


def test_adversarial_gives_dropout_a_key():
  term = Adversarial(critic=Forgetful())
  losses = [
    float(evaluate(term, logits(), games.batch(4), rng=rng).losses["generator_loss"].value.mean())
    for rng in (0, 0, 1)
  ]
  assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"inputs": "both"}, "unknown inputs 'both'; known: basic, product, scaling"),
    ({"inputs": "scaling", "hard": True}, "which hard=True makes one-hot"),
    ({"inputs": "branches"}, "inputs 'branches' for PatchNet; a network of two branches takes"),
  ],
)
def test_adversarial_refuses_inputs_that_do_not_fit(settings, message):
  with pytest.raises(ValueError, match=message):
    games.adversarial(**settings)


def test_inputs_scaling_refuse_tasks_without_probabilities():
  term = games.adversarial(inputs="scaling")
  with pytest.raises(ValueError, match="need class probabilities; depth, normals have none"):
    term.check(games.TASKS)
  alone = games.adversarial(inputs="scaling", tasks=("segmentation",))
  alone.check(games.TASKS)
  assert "params" in alone.init(jax.random.key(0), games.TASKS, games.SIZE)
