"""Adversarial structure matching: signs, gradients, masks, and the theory in numbers."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asmjax.game import PREDICTOR, joint_objective
from asmjax.losses import layer_distances, matching_hinge
from asmjax.losses.matching import pool_mask
from asmjax.models.backbones.mix_transformer import MixTransformerBlock
from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.models.input_transform import IMAGENET
from asmjax.models.layers import ConvBlock, Norm
from asmjax.models.predictors.base import Predictor
from asmjax.models.transformer import gelu
from asmjax.ops import downsample
from asmjax.terms import Structure
from asmjax.terms.weight import Ramp
from tests.helpers import tiny_games as games

WITH_CRITIC = games.with_term("structure")
CLIMBING = [
  method for method in WITH_CRITIC if not games.METHODS[method]["structure"].reconstruction_weight
]


def own_values(players, params, stats, examples):
  """Each player's own value, without `reverse_gradient`, and V as the critic sees it."""
  term = players.terms["structure"]
  outputs, _ = players.predictor.apply(
    {"params": params[PREDICTOR], "batch_stats": stats[PREDICTOR]},
    IMAGENET(examples["image"]),
    train=True,
    mutable=["batch_stats"],
  )
  tasks, size = players.tasks, next(iter(outputs.values())).shape[1:3]
  examples = {
    key: downsample(x, size, align_corners=False) if x.ndim > 2 else x
    for key, x in examples.items()
  }
  valid = {name: task.mask(examples) for name, task in tasks.items()}

  def critic(of_task):
    structures = [of_task(name, task) * valid[name] for name, task in tasks.items()]
    return term.critic.apply({"params": params["structure"]}, *structures)

  truth, *rebuilt = critic(lambda name, task: task.true_structure(examples))
  soft, *_ = critic(lambda name, task: task.structure(outputs[name]))
  for_critic = soft
  if term.binarize:
    for_critic, *_ = critic(lambda name, task: task.hard_structure(outputs[name]))
  cells = {
    layer: functools.reduce(
      jnp.maximum,
      (
        pool_mask(mask, truth[layer].shape[1:3], count_partial_cells=term.count_partial_cells)
        for mask in valid.values()
      ),
    )
    for layer in term.layers
  }
  distance = lambda features: sum(
    moments.mean()
    for moments in layer_distances(
      features, truth, term.layers, masks=cells, normalize=term.normalize
    ).values()
  )
  hinge = sum(
    matching_hinge(
      for_critic[layer],
      truth[layer],
      margin=term.margin,
      mask=cells[layer],
      normalize=term.normalize,
    ).mean()
    for layer in term.layers
  )
  iid = sum(task.pixel_loss(outputs[name], examples).mean() for name, task in tasks.items())
  pixel = players.terms["pixel"].weight * iid if "pixel" in players.terms else 0.0
  rebuilding = sum(
    task.reconstruction_loss(reconstruction, examples).mean()
    for task, reconstruction in zip(tasks.values(), rebuilt, strict=True)
  )
  climbed = hinge if term.margin else -distance(for_critic)
  return {
    PREDICTOR: term.weight * distance(soft) + pixel,
    "structure": term.critic_weight * climbed + term.reconstruction_weight * rebuilding,
    "critic_distance": distance(for_critic),
  }


@functools.cache
def compiled(method):
  return games.compile_players_alone(games.of_method(method, levels=1), own_values, num_examples=8)


@pytest.mark.parametrize("method", WITH_CRITIC)
def test_structure_joint_gradient_lowers_each_players_objective(method, float64):
  games.assert_joint_gradients_are_own(*compiled(method))


class Attending(Predictor):
  """Patches of 4 x 4 pixels, of which a single block attends to all."""

  @nn.compact
  def __call__(self, x, *, train):
    conv_block = ConvBlock(Norm("layer"), gelu, self.dtype, train)
    x = conv_block(x, features=4, kernel=4, stride=4, activate=False, name="embed")
    x = MixTransformerBlock(2, 1, 2, 0.0, conv_block, name="block")(x)
    self.sow("intermediates", "features", x)
    return self.apply_heads(x)


def test_structure_joint_gradient_lowers_each_players_objective_with_a_transformer(float64):
  predictor = Attending({"segmentation": games.TASK.channels})
  players = dataclasses.replace(games.of_method("asm"), predictor=predictor)
  games.assert_joint_gradients_are_own(*games.compile_players_alone(players, own_values))


def moved(params, direction, length):
  return jax.tree.map(lambda p, d: p + length * d, params, direction)


@pytest.mark.parametrize("method", WITH_CRITIC)
def test_structure_gradients_agree_with_finite_differences(method, float64):
  play, params = compiled(method)
  gradients = play()["joint"]
  rng = np.random.default_rng(0)
  for player, gradient in gradients.items():
    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params[player])
    ends = [
      play(**{player: moved(params[player], direction, length)})["values"][player]
      for length in (1e-6, -1e-6)
    ]
    expected = optax.tree.vdot(gradient, direction)
    np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, expected, rtol=1e-5)


@pytest.mark.parametrize("method", CLIMBING)
def test_structure_step_of_the_critic_raises_its_distance(method, float64):
  assert change_of_distance(method, "structure") > 0


@pytest.mark.parametrize(
  "method",
  [
    "asm",
    "asm_no_rec",
    "asm_released",
    "asm_by_image",
    "asm_depth",
    "asm_normals",
    "asm_released_all",
  ],
)
def test_structure_step_of_the_predictor_lowers_the_distance(method, float64):
  assert change_of_distance(method, PREDICTOR) < 0


def change_of_distance(method, player):
  play, params = compiled(method)
  before = play()
  gradient = before["joint"][player]
  length = -1e-3 / float(optax.tree.norm(gradient))
  after = play(**{player: moved(params[player], gradient, length)})
  return after["values"]["critic_distance"] - before["values"]["critic_distance"]


@pytest.mark.parametrize(
  "method", ["asm", "asm_released", "asm_binarized", "iid_asm_all", "asm_released_all"]
)
def test_structure_gives_missing_pixels_exactly_no_gradient(method):
  """Each task's own missing pixels, also where another task has a truth."""
  players = games.of_method(method)
  term, tasks, examples = players.terms["structure"], players.tasks, games.batch(4)
  rng = np.random.default_rng(1)
  outputs = {
    name: rng.normal(size=(4, *games.SIZE, task.channels)).astype(np.float32)
    for name, task in tasks.items()
  }
  params = games.variables(players)[0]["structure"]

  @jax.jit
  def gradients(params, outputs):
    def value(params, outputs):
      critique = games.evaluate(term, tasks, outputs, examples, critic={"params": params})
      return joint_objective(critique.losses)

    return jax.grad(value, (0, 1))(params, outputs)

  of_critic, of_outputs = gradients(params, outputs)
  elsewhere = {}
  masks = jax.jit(lambda: {name: task.mask(examples) for name, task in tasks.items()})()
  for name, mask in jax.device_get(masks).items():
    missing = mask[..., 0] == 0
    assert np.all(of_outputs[name][missing] == 0) and np.any(of_outputs[name][~missing] != 0)
    noise = rng.normal(size=outputs[name].shape)
    elsewhere[name] = np.where(missing[..., None], noise, outputs[name]).astype(np.float32)
  jax.tree.map(np.testing.assert_array_equal, of_critic, gradients(params, elsewhere)[0])


def test_structure_weighs_reconstructions_by_their_tasks():
  tasks = {"depth": dataclasses.replace(games.TASKS["depth"], weight=0.3)}
  players = games.game(tasks=("depth",), levels=1)
  critic = {"params": games.variables(players)[0]["structure"]}
  output = {"depth": jnp.zeros((4, *games.SIZE, 1))}
  term = games.structure(reconstruction_weight=2.0)
  losses = games.evaluate(term, tasks, output, games.batch(4), critic=critic).losses
  assert losses["reconstruction_depth"].critic_weight == pytest.approx(0.6)


@pytest.mark.parametrize(
  "kind, make", [("structure", games.structure), ("adversarial", games.adversarial)]
)
def test_critics_for_each_task_equal_games_of_single_tasks(kind, make):
  """Two terms that judge one task each have the values of two games."""
  names = ("depth", "normals")
  terms = {f"{kind}_{name}": make(tasks=(name,)) for name in names}
  players = games.game(tasks=names, levels=1, **terms)
  params, stats = games.variables(players)

  def losses(players, params, stats):
    compute = lambda *variables: players.compute_losses(
      *variables, games.batch(), rng=jax.random.key(0)
    )
    return jax.jit(compute)(params, stats).losses

  together = losses(players, params, stats)
  for name in names:
    heads = [f"head_{task}" for task in names if task != name]
    predictor = {key: value for key, value in params[PREDICTOR].items() if key not in heads}
    alone = losses(
      games.game(tasks=(name,), levels=1, **{kind: make()}),
      {PREDICTOR: predictor, kind: params[f"{kind}_{name}"]},
      {PREDICTOR: stats[PREDICTOR], kind: {}},
    )
    assert alone.keys() == {
      key.replace(f"{kind}_{name}/", f"{kind}/") for key in together if f"_{name}/" in key
    }
    for key, summand in alone.items():
      expected = together[key.replace(f"{kind}/", f"{kind}_{name}/")]
      np.testing.assert_allclose(summand.value.total, expected.value.total, rtol=1e-5)


def test_structure_of_several_tasks_has_a_first_layer_each():
  params = games.variables(games.of_method("iid_asm_all"))[0]["structure"]
  shapes = {name: value["kernel"].shape for name, value in params.items()}
  assert shapes["conv1_1"] == (3, 3, 3, 4) and shapes["conv1_2"] == (3, 3, 1, 4)
  assert shapes["conv1_3"] == (3, 3, 3, 4) and shapes["conv2"] == (3, 3, 12, 6)
  assert shapes["conv3"] == (3, 3, 6, 12)  # Up to the width of its skip.
  assert shapes["reconstruction"][-1] == 3 + 1 + 3


def test_structure_refuses_a_task_that_is_not_trained():
  with pytest.raises(ValueError, match=r"unknown tasks \['depth'\]; known: segmentation"):
    games.variables(games.game(structure=games.structure(tasks=("depth",))))


def value_of(term, params, predicted, truth):
  """V for structures given directly, all valid."""
  features = [term.critic.apply({"params": params}, x)[0] for x in (predicted, truth)]
  valid = {layer: jnp.ones((*features[0][layer].shape[:3], 1)) for layer in term.layers}
  layers = layer_distances(*features, term.layers, masks=valid, normalize=term.normalize)
  return sum(moments.mean() for moments in layers.values())


def test_structure_value_is_zero_for_a_true_prediction():
  for method in ("asm", "asm_released", "asm_by_image"):
    players = games.of_method(method, levels=1)
    term = players.terms["structure"]

    @jax.jit
    def values(params, term=term):
      truth = games.TASK.true_structure(games.batch())
      return [value_of(term, params, predicted, truth) for predicted in (truth, truth[:, ::-1])]

    for seed in range(3):
      of_truth, of_another = values(games.variables(players, seed)[0]["structure"])
      assert of_truth == 0 < of_another


@pytest.fixture(scope="module")
def climb():
  """V after n ascents of an analyzer that is linear: one convolution, tapped before its ReLU."""
  terms = {
    (normalize, max_norm): Structure(
      layers=("conv1",), critic=StructureAutoencoder((4,), max_norm), normalize=normalize
    )
    for normalize, max_norm in (("none", 0.0), ("none", 0.5), ("image", 0.0))
  }
  term = terms["none", 0.0]
  truth = games.TASK.true_structure({"label": jnp.array(games.batch()["label"])})
  wrong = truth[:, :, ::-1]
  start = term.critic.init(jax.random.key(0), truth)["params"]

  def run(tx, steps=100, normalize="none", max_norm=0.0):
    value = lambda params: value_of(terms[normalize, max_norm], params, wrong, truth)

    def body(carry, _):
      params, state = carry
      reached, grads = jax.value_and_grad(value)(params)
      updates, state = tx.update(jax.tree.map(jnp.negative, grads), state, params)
      return (optax.apply_updates(params, updates), state), reached

    return jax.jit(lambda: jax.lax.scan(body, (start, tx.init(start)), length=steps)[1])()

  return run


def test_structure_free_linear_analyzer_grows_without_bound(climb):
  values = climb(optax.sgd(0.5))
  assert np.all(np.diff(values) > 0) and values[-1] > 1e6 * values[0]
  # Geometric, hence without bound: the factor from step to step does not fall.
  factors = values[1:] / values[:-1]
  assert factors[-1] >= factors[20] > 1.05


def test_structure_growth_is_polynomial_with_clipping_and_bounded_by_decay(climb):
  capped = climb(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5)))
  free = climb(optax.sgd(0.5))
  assert capped[-1] < 1e-3 * free[-1]
  # |W| grows by at most 0.5 a step: the root of V settles to linear growth.
  paces = np.diff(np.sqrt(capped))
  np.testing.assert_allclose(paces[-1], paces[-20], rtol=2e-2)
  decayed = climb(
    optax.chain(optax.clip_by_global_norm(1.0), optax.add_decayed_weights(0.5), optax.sgd(0.5)),
    steps=400,
  )
  np.testing.assert_allclose(decayed[-1], decayed[-100], rtol=1e-4)


def test_structure_hinge_stops_the_ascent_at_the_margin():
  players = games.of_method("asm_released", levels=1)
  critic, label = players.terms["structure"].critic, games.batch()["label"] % 3

  @jax.jit
  def judge(params):
    truth = games.TASK.true_structure({"label": label})
    far = critic.apply({"params": params}, truth)[0]["conv1"]
    return jax.value_and_grad(lambda x: matching_hinge(x, far, margin=0.8).mean())(-far)

  value, slope = judge(games.variables(players)[0]["structure"])
  assert value == 0 and np.all(slope == 0)


def test_structure_weights_follow_their_schedules(float64):
  falling = games.structure(
    reconstruction_weight=0.0, weight=Ramp(3.0, 0.3), critic_weight=Ramp(0.5, 0.05)
  )
  players = games.game(levels=1, structure=falling)
  play, params = compiled("asm_no_rec")
  _, stats = games.double(games.variables(players))
  gradients = jax.jit(
    lambda progress: games.joint_gradients(players, params, stats, games.batch(), progress=progress)
  )
  for progress, factor in ((0.0, 1.0), (0.5, 0.1**0.5), (1.0, 0.1)):
    scaled = gradients(progress)
    for player, weight in ((PREDICTOR, 3.0), ("structure", 0.5)):
      jax.tree.map(
        lambda a, b, w=weight * factor: np.testing.assert_allclose(a, w * b, rtol=1e-6, atol=1e-12),
        scaled[player],
        play()["joint"][player],
      )


def test_structure_refuses_an_unknown_layer_and_lists_the_known():
  with pytest.raises(ValueError, match=r"conv9.*known: \('conv1', 'conv2', 'conv3'\)"):
    games.structure(layers=("conv1", "conv9"))
  with pytest.raises(ValueError, match="unknown normalize 'layer'; known: none, pixel, image"):
    games.structure(normalize="layer")


@pytest.mark.parametrize("normalize", ["pixel", "image"])
def test_structure_value_of_depth_grows_with_every_error(normalize):
  """A plane at 0.5 to 20 m against one at 4 m: V grows with the error, its slope leads back.

  With biases of 0 a feature's direction would be that of its kernel, at any depth.
  """
  depth, critic = games.TASKS["depth"], StructureAutoencoder()
  term = Structure(normalize=normalize)
  at_meters = lambda log: jnp.broadcast_to(log, (1, 16, 16, 1))
  truth = depth.true_structure({"depth": jnp.full((1, 16, 16), 4.0)})
  nearer, farther = jnp.log(jnp.array([0.5, 1.0, 2.0, 3.0])), jnp.log(jnp.array([5.0, 8.0, 20.0]))

  @jax.jit
  def values(seed):
    params = critic.init(jax.random.key(seed), truth)["params"]
    value = jax.value_and_grad(lambda log: value_of(term, params, at_meters(log), truth))
    return jax.lax.map(value, nearer), jax.lax.map(value, farther)

  for seed in range(4):
    (near, down), (far, up) = values(seed)
    assert np.all(np.diff(near) < 0) and np.all(np.diff(far) > 0)
    assert min(near[-1], far[0]) > 1e-4
    assert np.all(down < 0) and np.all(up > 0)
    for slopes in (down, up):
      assert 1e-4 < np.abs(slopes).min() and np.abs(slopes).max() < 100


def test_structure_normalized_by_the_image_bounds_the_free_analyzer(climb):
  """Where the published V grows without bound, this one comes to rest below 2."""
  values = climb(optax.sgd(0.5), normalize="image")
  assert values[-1] > values[0] and np.all(values < 2)


def test_structure_of_bounded_filters_bounds_the_free_analyzer(climb):
  """V is at most half the squared norm of all filters times that of the patches' differences.

  It comes near the value of filters along the patches' first principal component.
  """
  values = climb(optax.sgd(0.5), steps=1000, max_norm=0.5)
  truth = games.TASK.true_structure({"label": jnp.array(games.batch()["label"])})
  padded = np.pad(truth - truth[:, :, ::-1], ((0, 0), (1, 1), (1, 1), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
  patches = windows.reshape(-1, windows.shape[3] * 9)
  largest = np.linalg.eigvalsh(patches.T @ patches / len(patches))[-1] * 4 * 0.5**2 / 2
  assert values[0] < 0.5 * largest and 0.9 * largest < values[-1] <= largest * (1 + 1e-5)


def test_structure_losses_are_single_precision_for_half_precision_critics():
  for method in ("asm", "asm_released", "gan_basic"):
    players = games.with_compute_dtype(jnp.bfloat16, games.of_method(method))
    params, stats = games.variables(players)
    played = jax.eval_shape(
      lambda p=players, v=params, s=stats: p.compute_losses(
        v, s, games.batch(2), rng=jax.random.key(0)
      )
    )
    for name, summand in played.losses.items():
      assert {x.dtype for x in summand.value} == {jnp.dtype("float32")}, name
