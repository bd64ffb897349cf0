"""The pixel term: auxiliary maps have a weight of their own, and classes weights at first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.game import PREDICTOR, Game, joint_objective
from asmjax.losses import cross_entropy, focal_loss, mark_hard_pixels
from asmjax.losses.pixel import class_balance_weights
from asmjax.models.backbones import ResNet
from asmjax.models.layers import Norm
from asmjax.models.predictors import PSPNet
from asmjax.tasks import Depth
from asmjax.terms import Pixel
from asmjax.terms.base import AUXILIARY
from asmjax.terms.weight import Ramp
from tests.helpers import tiny_backbones as backbones
from tests.helpers import tiny_games as games
from tests.oracles import arrays as reference

SIZE = (17, 24)
TASKS = {"segmentation": games.TASK, "depth": Depth(weight=0.3)}


def judged(term, outputs, examples, progress=0.0):
  return games.evaluate(term, TASKS, outputs, examples, progress=progress).losses


@pytest.fixture(scope="module")
def outputs():
  rng = np.random.default_rng(0)
  make = lambda: {
    name: jnp.array(rng.normal(size=(4, *games.SIZE, task.channels)), jnp.float32)
    for name, task in TASKS.items()
  }
  return {**make(), AUXILIARY: make()}


def test_pixel_weighs_auxiliary_losses(outputs):
  examples = games.batch(4)
  losses = judged(Pixel(weight=Ramp(1.0, 0.25), auxiliary=0.4), outputs, examples, 0.5)
  weights = {"segmentation": 0.5, "depth": 0.15}
  assert {name: float(part.predictor_weight) for name, part in losses.items()} == pytest.approx(
    weights | {f"{name}_auxiliary": 0.4 * weight for name, weight in weights.items()}
  )
  for name, maps in (("segmentation", outputs), ("segmentation_auxiliary", outputs[AUXILIARY])):
    expected = reference.cross_entropy(np.asarray(maps["segmentation"]), examples["label"])
    assert float(losses[name].value.mean()) == pytest.approx(expected, rel=1e-5)
  assert losses["depth"].value.mean() != losses["depth_auxiliary"].value.mean()


def test_pixel_leaves_auxiliary_maps_out_without_a_weight(outputs):
  assert list(judged(Pixel(), outputs, games.batch(4))) == list(TASKS)


def test_pixel_refuses_missing_auxiliary_maps(outputs):
  alone = {name: outputs[name] for name in TASKS}
  with pytest.raises(ValueError, match="auxiliary=0.4, but the predictor has no auxiliary heads"):
    judged(Pixel(auxiliary=0.4), alone, games.batch(4))


def test_pixel_gives_each_head_the_gradient_of_its_own_map():
  predictor = PSPNet(
    {name: task.channels for name, task in TASKS.items()},
    ResNet((1, 1, 1, 1), 4, output_stride=8, norm=Norm("none"), activation=jnp.tanh),
    bins=(1, 2),
    features=4,
    dropout=0.0,
    auxiliary=4,
    norm=Norm("none"),
    activation=jnp.tanh,
  )
  players = {
    auxiliary: Game(predictor, TASKS, {"pixel": Pixel(auxiliary=auxiliary)})
    for auxiliary in (0.0, 0.4)
  }
  params = backbones.initial(predictor, backbones.image(*SIZE))["params"]

  @jax.jit
  def gradients(params):
    def value(params, game):
      summands = game.compute_losses(
        {PREDICTOR: params}, {PREDICTOR: {}}, games.batch(2, size=SIZE), rng=jax.random.key(0)
      ).losses
      return joint_objective(summands), {key: part.value.mean() for key, part in summands.items()}

    return [jax.value_and_grad(value, has_aux=True)(params, game) for game in players.values()]

  ((without, _), none), ((total, means), some) = gradients(params)
  aside = sum(task.weight * means[f"pixel/{name}_auxiliary"] for name, task in TASKS.items())
  assert float(aside) > 0
  assert float(total - without) == pytest.approx(0.4 * float(aside), rel=1e-3)
  for name in ("aside", *(f"head_{task}_auxiliary" for task in TASKS)):
    assert not np.any(none[name]["kernel"]) and np.any(some[name]["kernel"])
  for name in ("fuse", *(f"head_{task}" for task in TASKS)):
    assert np.any(none[name]["kernel"])
    np.testing.assert_allclose(none[name]["kernel"], some[name]["kernel"], rtol=1e-4, atol=1e-6)
  stage = lambda tree, name: tree["backbone"][name]["conv1"]["kernel"]
  assert not np.allclose(
    stage(none, "stage3_block1"), stage(some, "stage3_block1"), rtol=1e-3, atol=1e-6
  )
  np.testing.assert_allclose(
    stage(none, "stage4_block1"), stage(some, "stage4_block1"), rtol=1e-4, atol=1e-6
  )


SHARES = (0.5, 0.3, 0.2)


@pytest.fixture(scope="module")
def means(outputs):
  """The means of a term's summands at a progress that is traced."""

  def compute_means(term, progress):
    judge = lambda progress: {
      name: part.value.mean()
      for name, part in judged(term, outputs, games.batch(4), progress).items()
    }
    return {name: float(mean) for name, mean in jax.jit(judge)(progress).items()}

  return compute_means


def test_pixel_balances_classes_at_first(outputs, means):
  label, part = games.batch(4)["label"], 1 / 3
  balanced = Pixel(auxiliary=0.4, balanced=part, shares=SHARES)
  unbalanced, early = means(Pixel(auxiliary=0.4), 0.0), means(balanced, 0.33)
  for name, maps in (("segmentation", outputs), ("segmentation_auxiliary", outputs[AUXILIARY])):
    weight = class_balance_weights(label, jnp.array(SHARES))
    expected = cross_entropy(maps["segmentation"], label, weights=weight).mean()
    assert early[name] == pytest.approx(float(expected), rel=1e-5)
    assert abs(early[name] - unbalanced[name]) > 1e-3 * unbalanced[name]
  for name in ("depth", "depth_auxiliary"):
    assert early[name] == pytest.approx(unbalanced[name], rel=1e-6)
  for progress in (part, 0.34, 1.0):
    assert means(balanced, progress) == pytest.approx(unbalanced, rel=1e-6)


def test_pixel_balance_changes_neither_counts_nor_weights(outputs):
  examples = games.batch(4)
  unbalanced = judged(Pixel(), outputs, examples)
  balanced = judged(Pixel(balanced=1.0, shares=SHARES), outputs, examples)
  for name in TASKS:
    assert balanced[name].predictor_weight == unbalanced[name].predictor_weight
    assert balanced[name].value.count == unbalanced[name].value.count


@pytest.mark.parametrize(
  "settings, tasks, message",
  [
    ({"balanced": 1.5}, TASKS, r"balanced=1.5; expected a number in \[0, 1\]"),
    ({"balanced": -0.1}, TASKS, "balanced=-0.1; expected"),
    ({"balanced": 0.5}, {"depth": Depth()}, "needs the task segmentation; trained: depth"),
    ({"balanced": 0.5, "shares": (0.5, 0.5)}, TASKS, "2 shares; .*each of 3 classes"),
    ({"balanced": 0.5, "shares": (50.0, 30.0, 20.0)}, TASKS, "none below 0 and a sum of 1"),
    ({"balanced": 0.5, "shares": (1.5, -0.7, 0.2)}, TASKS, "none below 0 and a sum of 1"),
  ],
)
def test_pixel_refuses_wrong_parts_and_shares(settings, tasks, message):
  with pytest.raises(ValueError, match=message):
    Game(games.game().predictor, tasks, {"iid": Pixel(**settings)})


def test_pixel_refuses_to_balance_without_shares(outputs):
  term = Pixel(balanced=0.5)
  term.check(TASKS)
  with pytest.raises(ValueError, match="balanced=0.5, but no shares of the classes"):
    judged(term, outputs, games.batch(4))


def test_pixel_has_the_usual_losses_of_classes(outputs):
  examples, logits = games.batch(4), outputs["segmentation"]
  label = examples["label"]
  found = lambda **options: judged(Pixel(**options), outputs, examples)["segmentation"].value
  weights = np.array([0.5, 2.0, 1.0], np.float32)
  per_pixel = np.where(label < 3, weights[np.where(label < 3, label, 0)], 0)
  hard = mark_hard_pixels(logits, label, threshold=0.4, min_part=0.25)
  inverse = 1 / (3 * SHARES_OF_CLASSES)
  for options, expected in (
    ({"label_smoothing": 0.2}, cross_entropy(logits, label, label_smoothing=0.2)),
    (
      {"class_weights": tuple(weights.tolist())},
      cross_entropy(logits, label, weights=jnp.array(per_pixel)),
    ),
    (
      {"inverse_frequency": True, "shares": tuple(SHARES_OF_CLASSES.tolist())},
      cross_entropy(
        logits, label, weights=jnp.array(inverse[np.where(label < 3, label, 0)], jnp.float32)
      ),
    ),
    (
      {"focal_gamma": 2.0, "hard_threshold": 0.4, "hard_part": 0.25},
      focal_loss(logits, label, mask=hard),
    ),
  ):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found(**options), expected
    )
    assert abs(found(**options).total - found().total) > 1e-3


SHARES_OF_CLASSES = np.array([0.5, 0.3, 0.2])


@pytest.mark.parametrize(
  "options, tasks, message",
  [
    ({"focal_gamma": 2.0, "label_smoothing": 0.1}, TASKS, "exclude each other"),
    ({"class_weights": (1.0, 2.0, 1.0), "balanced": 0.5}, TASKS, "exclude each other"),
    ({"class_weights": (1.0, 2.0)}, TASKS, "2 class_weights; expected one for each of 3 classes"),
    ({"hard_threshold": 0.7}, {"depth": Depth()}, "hard_threshold=0.7 needs the task segmentation"),
  ],
)
def test_pixel_refuses_options_that_do_not_fit(options, tasks, message):
  with pytest.raises(ValueError, match=message):
    Pixel(**options).check(tasks)
