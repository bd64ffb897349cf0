"""Dense CRFs against sums over all pairs of pixels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.inference.crf import DenseCRF, Kernel, mean_field
from tests.oracles import crf as reference_crf

HEIGHT, WIDTH, CLASSES = 20, 24, 4
COLORS = np.array([[60, 90, 150], [200, 80, 60], [90, 160, 70], [240, 220, 200]])


def draw(noise=1.0, seed=0, height=HEIGHT, width=WIDTH):
  """An image of four regions with a wave over it, their labels and noisy logits."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width]
  disc = (x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
  label = disc + 2 * (x > 0.7 * width)
  image = COLORS[label] + 8 * np.sin(x / 5)[..., None]
  image = image + noise * rng.normal(size=image.shape)
  logits = 2 * np.eye(CLASSES)[label] + 1.5 * rng.normal(size=(height, width, CLASSES))
  return logits.astype(np.float32), np.clip(image, 0, 255).astype(np.uint8), label


def settings(crf):
  """What the oracle takes."""
  return {k: v for k, v in dataclasses.asdict(crf).items() if k != "filters"}


def compare(crf, logits, image):
  """The largest and the mean difference from the oracle, and the share of equal classes."""
  refined, expected = crf(logits, image), reference_crf.marginals(logits, image, **settings(crf))
  apart = np.abs(np.asarray(refined) - expected)
  return apart.max(), apart.mean(), np.mean(refined.argmax(-1) == expected.argmax(-1))


@pytest.mark.parametrize("noise, rgb", [(0.0, 3.0), (1.0, 3.0), (3.0, 3.0), (3.0, 13.0)])
def test_dense_crf_with_close_filters_is_within_a_hundredth_of_exact_sums(noise, rgb):
  logits, image, _ = draw(noise)
  worst, mean, agreement = compare(DenseCRF(bilateral_rgb=rgb, filters="close"), logits, image)
  assert worst < 0.01 and mean < 0.0015 and agreement >= 0.995


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_dense_crf_with_released_filters_is_near_exact_sums(noise):
  logits, image, _ = draw(noise)
  worst, mean, agreement = compare(DenseCRF(), logits, image)
  assert worst < 0.025 and mean < 0.004 and agreement >= 0.995


# Pixels of images (noise, seed) where the filters and exact sums do not agree on the class, what
# exact sums give for the two classes in question, and what the filters say. `pydensecrf2` 1.1 has
# the probabilities of "released".
DISPUTED = [
  (0.0, 2, (4, 14), {0: 0.46717, 3: 0.46430}, {"released": 3, "close": 3}),
  (0.0, 0, (7, 12), {1: 0.46911, 3: 0.47305}, {"released": 1, "close": 3}),
  (1.0, 0, (7, 12), {1: 0.47285, 3: 0.47039}, {"released": 1, "close": 3}),
  (3.0, 0, (7, 12), {1: 0.47207, 3: 0.47135}, {"released": 1, "close": 3}),
  (3.0, 2, (3, 15), {0: 0.45843, 3: 0.45451}, {"released": 3, "close": 0}),
]


@pytest.mark.parametrize("noise, seed, place, exact, decided", DISPUTED)
def test_dense_crf_changes_labels_only_at_ties_within_the_errors_of_the_filters(
  noise, seed, place, exact, decided
):
  logits, image, _ = draw(noise, seed)
  expected = reference_crf.marginals(logits, image)
  ids = list(exact)
  np.testing.assert_allclose(expected[place][ids], list(exact.values()), atol=1e-5)
  margin = abs(np.subtract(*exact.values()))
  for filters, most in (("released", 0.015), ("close", 0.006)):
    refined = np.asarray(DenseCRF(filters=filters)(logits, image))
    assert np.abs(refined[place] - expected[place]).max() < most
    assert refined[place].argmax() == decided[filters]
    # A class changes only where its lead is smaller than the errors of both probabilities.
    wrong = refined.argmax(-1) != expected.argmax(-1)
    first, second = -np.sort(-expected, -1)[..., :2].transpose(2, 0, 1)
    errors = np.abs(refined - expected).max(-1)
    assert np.all((first - second)[wrong] <= 2 * errors[wrong]) and wrong.sum() <= 1
  assert margin < 2 * 0.006


def test_dense_crf_with_other_settings_is_near_exact_sums():
  logits, image, _ = draw(seed=1)
  crf = DenseCRF(2.0, 10.0, 20.0, 0.5, 3.0, 4, filters="close")
  worst, _, agreement = compare(crf, logits, image)
  unrefined = np.abs(reference_crf.softmax(logits) - np.asarray(crf(logits, image))).max()
  assert worst < 0.015 and agreement >= 0.995 and unrefined > 0.2


def test_dense_crf_of_a_flat_image_depends_on_positions_alone():
  logits, image, _ = draw()
  image = np.full_like(image, 77)
  for weight, filters, worst in ((0.0, "close", 1e-4), (1.0, "close", 0.01)):
    crf = DenseCRF(bilateral_weight=weight, filters=filters)
    assert compare(crf, logits, image)[0] < worst


@pytest.mark.parametrize("kernel", ["bilateral", "spatial"])
def test_dense_crf_with_one_kernel_is_near_exact_sums(kernel):
  logits, image, _ = draw()
  omitted = {"bilateral": "spatial", "spatial": "bilateral"}[kernel]
  crf = DenseCRF(**{f"{omitted}_weight": 0.0})
  assert len(crf.kernels(image)) == 1
  assert compare(crf, logits, image)[0] < 0.02


@pytest.mark.parametrize(
  "crf", [DenseCRF(bilateral_weight=0.0, spatial_weight=0.0), DenseCRF(iterations=0)]
)
def test_dense_crf_without_kernels_or_iterations_is_the_softmax(crf):
  logits, image, _ = draw()
  np.testing.assert_allclose(crf(logits, image), jax.nn.softmax(logits), atol=1e-6)


def test_dense_crf_ignores_constants_of_all_classes():
  logits, image, _ = draw()
  shared = np.random.default_rng(3).normal(size=(HEIGHT, WIDTH, 1)).astype(np.float32)
  crf = DenseCRF()
  np.testing.assert_allclose(crf(logits + shared, image), crf(logits, image), atol=1e-5)


def test_dense_crf_permutes_results_with_classes():
  logits, image, _ = draw()
  order, crf = [2, 0, 3, 1], DenseCRF()
  np.testing.assert_allclose(
    crf(logits[..., order], image), crf(logits, image)[..., order], atol=1e-5
  )


@pytest.mark.parametrize("axis", [0, 1])
def test_dense_crf_nearly_flips_results_with_images(axis):
  logits, image, _ = draw()
  crf = DenseCRF(filters="close")
  flipped = crf(np.flip(logits, axis), np.flip(image, axis))
  np.testing.assert_allclose(np.flip(flipped, axis), crf(logits, image), atol=0.015)


@pytest.mark.parametrize("filters", ["released", "close"])
def test_dense_crf_removes_noise_on_two_regions(filters):
  rng = np.random.default_rng(0)
  label = (np.mgrid[:HEIGHT, :WIDTH].sum(axis=0) > HEIGHT).astype(int)
  image = np.clip(60 + 120 * label[..., None] + rng.normal(size=(*label.shape, 3)), 0, 255)
  logits = np.eye(2)[label] + rng.normal(size=(*label.shape, 2))
  before = np.mean(logits.argmax(-1) != label)
  refined = DenseCRF(filters=filters)(logits.astype(np.float32), image.astype(np.uint8))
  assert before > 0.2 and np.mean(refined.argmax(-1) != label) < before / 2


@pytest.mark.parametrize("filters", ["released", "close"])
def test_dense_crf_gradient_is_that_of_finite_differences(filters, float64):
  logits, image, _ = draw(height=7, width=9)
  logits, crf = logits.astype(np.float64), DenseCRF(iterations=3, filters=filters)
  rng = np.random.default_rng(4)
  weights, along = rng.normal(size=(2, *logits.shape))
  kernels = crf.kernels(image)
  loss = jax.jit(lambda x: jnp.sum(weights * mean_field(x, kernels, 3)))
  gradient = jax.grad(loss)(logits)
  step = 1e-5
  difference = (loss(logits + step * along) - loss(logits - step * along)) / (2 * step)
  assert gradient.dtype == np.float64
  np.testing.assert_allclose(np.sum(np.asarray(gradient) * along), difference, rtol=1e-7)


def test_dense_crf_can_be_compiled_and_differentiated_with_a_given_image():
  logits, image, _ = draw(height=7, width=11)
  crf = DenseCRF(iterations=2)
  loss = lambda x: jnp.sum(crf(x, image)[..., 0] ** 2)
  inside = jax.jit(jax.grad(loss))(logits)
  np.testing.assert_allclose(inside, jax.grad(loss)(logits), atol=1e-6)
  assert np.abs(inside).max() > 1e-3


def test_mean_field_has_gradients_by_weights_of_kernels():
  logits, image, label = draw()
  kernels = DenseCRF().kernels(image)
  truth = jax.nn.one_hot(label, CLASSES)

  def loss(weights):
    weighed = [Kernel(w, kernel.filter) for w, kernel in zip(weights, kernels, strict=True)]
    return -jnp.mean(jnp.sum(truth * mean_field(logits, weighed, 2), axis=-1))

  gradient = jax.jit(jax.grad(loss))([jnp.float32(0.1)] * len(kernels))
  assert all(derivative < -1e-3 for derivative in gradient), (
    "smoothing helps, so more of it costs less"
  )


def test_dense_crf_computes_low_precision_in_single_precision():
  logits, image, _ = draw()
  low = jnp.asarray(logits, jnp.bfloat16)
  crf = DenseCRF()
  refined = crf(low, image)
  assert refined.dtype == jnp.float32
  np.testing.assert_allclose(refined, crf(low.astype(jnp.float32), image), atol=1e-6)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"bilateral_rgb": 0.0}, "bilateral_rgb 0.0; expected a positive number"),
    ({"spatial_xy": float("nan")}, "spatial_xy nan; expected a positive number"),
    ({"bilateral_weight": -1.0}, "bilateral_weight -1.0; expected a number from 0"),
    ({"iterations": -1}, "iterations -1; expected an integer from 0"),
    ({"filters": "exact"}, "unknown filters 'exact'; known: released, close"),
  ],
)
def test_dense_crf_names_impossible_settings(change, message):
  with pytest.raises(ValueError, match=message):
    DenseCRF(**change)


@pytest.mark.parametrize(
  "logits, image, message",
  [
    (
      (4, 5, 2),
      np.zeros((4, 5, 3), np.float32),
      r"image \(4, 5, 3\) float32; expected \(h, w, 3\)",
    ),
    ((4, 5, 2), np.zeros((4, 5), np.uint8), r"image \(4, 5\) uint8; expected \(h, w, 3\) uint8"),
    ((4, 5, 2), np.zeros((0, 5, 3), np.uint8), r"image \(0, 5, 3\) uint8; expected"),
    ((5, 4, 2), np.zeros((4, 5, 3), np.uint8), r"logits \(5, 4, 2\) for an image \(4, 5, 3\)"),
    (
      (1, 4, 5, 2),
      np.zeros((4, 5, 3), np.uint8),
      r"logits \(1, 4, 5, 2\) float32; expected \(h, w",
    ),
  ],
)
def test_dense_crf_names_wrong_inputs(logits, image, message):
  with pytest.raises(ValueError, match=message):
    DenseCRF()(np.zeros(logits, np.float32), image)


def test_dense_crf_refuses_integer_logits():
  with pytest.raises(ValueError, match="int32; expected .* floating point"):
    DenseCRF()(np.zeros((4, 5, 2), np.int32), np.zeros((4, 5, 3), np.uint8))
