"""Losses against those of other libraries, values and gradients, and the numbers they computed.

Inputs are drawn by NumPy: three images that differ, ignored pixels among them, and two classes that
are absent from the last. `CASES` maps the arguments of ours to the reference's, and says what else
differs; `python -m tests.helpers.parity` prints it as a table. Values alone are held against NumPy
oracles in the tests of each loss, those without a reference here among them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax import losses
from tests.helpers.parity import Case, compute, compute_reference, find, measure_error, summarize

CLASSES, SIZE, IGNORED = 4, (12, 16), 255
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0], np.float32)
BY_IMAGE = "sums over the batch, and not image by image"


def segmentation(ignored=0.1):
  """Logits near a blocky label, and the label."""
  rng = np.random.default_rng(0)
  label = rng.integers(0, CLASSES, (3, SIZE[0] // 4, SIZE[1] // 4)).repeat(4, 1).repeat(4, 2)
  label[-1] %= 2
  logits = 3 * np.eye(CLASSES)[label] + rng.normal(scale=2, size=(*label.shape, CLASSES))
  label[rng.random(label.shape) < ignored] = IGNORED
  return logits.astype(np.float32), label.astype(np.int32)


def figure():
  """Scores, and a label of figure and ground."""
  logits, label = segmentation()
  return logits[..., 0], np.where(label == IGNORED, IGNORED, label % 2)


def depth():
  """Depths in meters, and true ones, 0 where they are unknown."""
  rng = np.random.default_rng(0)
  maps, known = rng.uniform(0.5, 5, (2, 3, *SIZE, 1)), rng.random((3, *SIZE, 1)) > 0.2
  return maps[0].astype(np.float32), (known * maps[1]).astype(np.float32)


def maps(size=(16, 16), channels=2):
  """Maps, and true ones; the sides are equal for references with a mean along each."""
  rng = np.random.default_rng(0)
  truth = np.sin(np.arange(np.prod(size)).reshape(*size, 1) / 5) + rng.normal(
    size=(3, 1, 1, channels)
  )
  near = truth + 0.3 * rng.normal(size=truth.shape)
  return near.astype(np.float32), truth.astype(np.float32)


def shares():
  """Share of each class in the labeled pixels."""
  _, label = segmentation()
  return (np.bincount(label[label != IGNORED]) / np.sum(label != IGNORED),)


def critic_and_structure():
  """Weights of a linear critic, and structures."""
  rng = np.random.default_rng(0)
  return rng.normal(size=3).astype(np.float32), rng.random((3, 4, 5, 3)).astype(np.float32)


def logits_of_critic():
  return (np.random.default_rng(0).normal(size=(3, 4, 5, 1)).astype(np.float32) * 3,)


def of_probabilities(loss, **options):
  """A loss of ours on probabilities as a function of logits."""
  return lambda logits, label: loss(jax.nn.softmax(logits), label, **options).mean()


def channels_first(x):
  return x.permute(0, 3, 1, 2)


def mark_present(label):
  """Whether a class is in an image's truth, (n, c)."""
  stack = find("torch.stack")
  return stack([(label == c).flatten(1).any(1) for c in range(CLASSES)], 1)


def masked_maps(logits, label):
  """Probabilities and one-hot labels, both 0 where pixels are ignored."""
  softmax, one_hot = find("torch.softmax"), find("torch.nn.functional.one_hot")
  known = (label != IGNORED)[..., None]
  truth = one_hot(label * known[..., 0], CLASSES) * known
  return channels_first(softmax(logits, -1) * known), channels_first(truth).double()


def monai_overlap(name, *, present, smooth=0.5, **options):
  """A loss of MONAI's that has a value for each image and class."""

  def loss(logits, label):
    function = find(f"monai.losses.{name}")(
      to_onehot_y=True,
      softmax=True,
      ignore_index=IGNORED,
      smooth_nr=smooth,
      smooth_dr=smooth,
      reduction="none",
      **options,
    )
    values = function(channels_first(logits), label[:, None]).flatten(1)
    return values[mark_present(label)].mean() if present else values.mean()

  return loss


def monai_generalized_dice(logits, label):
  return find("monai.losses.GeneralizedDiceLoss")()(*masked_maps(logits, label))


def monai_focal(logits, label):
  function = find("monai.losses.FocalLoss")(
    to_onehot_y=True, use_softmax=True, ignore_index=IGNORED, weight=CLASS_WEIGHTS.tolist()
  )
  return function(channels_first(logits), label[:, None])


def monai_boundary(logits, label):
  function = find("monai.losses.BoundaryLoss")(reduction="sum")
  pixels = label.shape[1] * label.shape[2]
  counted = (label != IGNORED).sum() * CLASSES
  return function(*masked_maps(logits, label)) * pixels / counted


def of_single_maps(function, logits, label):
  """The mean of a function of single maps (1, 1, h, w) over the classes in each image's truth."""
  p, g = masked_maps(logits, label)
  values = [
    function(p[n : n + 1, c : c + 1], g[n : n + 1, c : c + 1])
    for n, c in mark_present(label).nonzero().tolist()
  ]
  return sum(values) / len(values)


def monai_cl_dice(logits, label):
  # Its harmonic mean has a constant more.
  function = find("monai.losses.SoftclDiceLoss")(iter_=1, smooth=1e-15)
  return of_single_maps(function, logits, label)


def of_single_images(function, logits, label):
  """A mean over images and present classes, of a function with that of one image over all."""
  present, images = mark_present(label), range(len(label))
  values = [
    function(channels_first(logits)[n : n + 1], label[n : n + 1]) * present[n].sum() for n in images
  ]
  return sum(values) / present.sum()


def smp_dice(logits, label):
  function = find("segmentation_models_pytorch.losses.DiceLoss")(
    "multiclass", smooth=0.5, ignore_index=IGNORED
  )
  # Its mean is over all classes, of which those that are absent have a loss of 0.
  over_present = lambda x, y: function(x, y) * CLASSES / mark_present(y).sum()
  return of_single_images(over_present, logits, label)


def smp_jaccard(logits, label):
  function = find("segmentation_models_pytorch.losses.JaccardLoss")(
    "multiclass", smooth=0.5, ignore_index=IGNORED
  )
  over_present = lambda x, y: function(x, y) * CLASSES / mark_present(y).sum()
  return of_single_images(over_present, logits, label)


def smp_focal_tversky(logits, label):
  make = functools.partial(
    find("segmentation_models_pytorch.losses.TverskyLoss"),
    "multiclass",
    alpha=0.3,
    beta=0.7,
    gamma=0.75,
    smooth=0.5,
    ignore_index=IGNORED,
  )
  # Its power is that of the mean over classes, so that each class is a loss of its own.
  values = [
    make(classes=[c])(channels_first(logits)[n : n + 1], label[n : n + 1])
    for n, c in mark_present(label).nonzero().tolist()
  ]
  return sum(values) / len(values)


def smp_lovasz(logits, label):
  function = find("segmentation_models_pytorch.losses.LovaszLoss")(
    "multiclass", per_image=True, ignore_index=IGNORED
  )
  # It multiplies by numbers in single precision.
  return of_single_images(function, logits.float(), label)


def smp_lovasz_hinge(scores, label):
  loss = find("segmentation_models_pytorch.losses.LovaszLoss")
  return loss("binary", per_image=True, ignore_index=IGNORED)(scores.float(), label)


def torch_cross_entropy(logits, label, **options):
  function = find("torch.nn.functional.cross_entropy")
  total = function(channels_first(logits), label, ignore_index=IGNORED, reduction="sum", **options)
  return total / (label != IGNORED).sum()


def torch_weighted_cross_entropy(logits, label):
  weight = find("torch.tensor")(CLASS_WEIGHTS).double()
  return torch_cross_entropy(logits, label, weight=weight)


def sklearn_class_weight(_):
  _, label = segmentation()
  function = find("sklearn.utils.class_weight.compute_class_weight")
  return function("balanced", classes=np.arange(CLASSES), y=label[label != IGNORED])


def torch_gradient_penalty(weights, structure):
  structure.requires_grad_(True)
  logits = (structure @ weights).tanh()
  (gradient,) = find("torch.autograd.grad")(logits.sum(), structure, create_graph=True)
  return (gradient**2).sum() / (2 * len(structure))


def torch_bce(logits, target):
  function = find("torch.nn.functional.binary_cross_entropy_with_logits")
  return function(logits, find("torch.full_like")(logits, target))


def torch_negative_cosine(x, y):
  return -find("torch.nn.functional.cosine_similarity")(x, y, dim=-1).mean()


def torch_squared_error(x, y):
  return find("torch.nn.functional.mse_loss")(x, y) * x.shape[-1]


def transformers_scale_invariant(x, y):
  function = find("transformers.models.glpn.modeling_glpn.SiLogLoss")()
  return sum(function(a, b) ** 2 for a, b in zip(x, y, strict=True)) / len(x)


def torchmetrics_gradient_matching(x, y):
  image_gradients = find("torchmetrics.functional.image.image_gradients")
  total, pairs = 0.0, 0
  for stride in (1, 2, 4):
    difference = channels_first(x - y)[..., ::stride, ::stride]
    total = total + sum(slopes.abs().sum() for slopes in image_gradients(difference))
    n, _, h, w = difference.shape
    pairs += n * (h * (w - 1) + w * (h - 1))
  return total / pairs


def kornia_ssim(x, y):
  function = find("kornia.losses.ssim_loss")
  return function(channels_first(x), channels_first(y), 11, max_val=4.0, padding="valid")


def torchmetrics_ssim(x, y):
  function = find("torchmetrics.functional.image.structural_similarity_index_measure")
  images = (channels_first(x), channels_first(y))
  _, values = function(*images, data_range=4.0, return_full_image=True)
  return (1 - values[..., 5:-5, 5:-5].mean()) / 2


def monai_ssim(x, y):
  function = find("monai.losses.SSIMLoss")(2, data_range=4.0)
  return function(channels_first(x), channels_first(y)) / 2


def kornia_smoothness(x, image):
  function = find("kornia.losses.inverse_depth_smoothness_loss")
  return function(channels_first(x), channels_first(image)) / 2


def ssim(x, y):
  return losses.ssim_loss(x, y, value_range=4.0).mean()


CASES = {
  "dice_loss": Case(
    "monai.losses.DiceLoss",
    segmentation,
    of_probabilities(losses.dice_loss, smooth=0.5, classes="all"),
    monai_overlap("DiceLoss", present=False),
    "all classes, also those absent from an image; `smooth` 1e-5",
  ),
  "dice_loss, squared": Case(
    "monai.losses.DiceLoss",
    segmentation,
    of_probabilities(losses.dice_loss, squared=True, smooth=0.5),
    monai_overlap("DiceLoss", present=True, squared_pred=True),
  ),
  "dice_loss, present": Case(
    "segmentation_models_pytorch.losses.DiceLoss",
    segmentation,
    of_probabilities(losses.dice_loss, smooth=1.0),
    smp_dice,
    f"{BY_IMAGE}; an absent class adds 0 and counts; its `smooth` is half of ours",
  ),
  "generalized_dice_loss": Case(
    "monai.losses.GeneralizedDiceLoss",
    segmentation,
    of_probabilities(losses.generalized_dice_loss),
    monai_generalized_dice,
    "no ignored pixels",
  ),
  "tversky_loss": Case(
    "monai.losses.TverskyLoss",
    segmentation,
    of_probabilities(losses.tversky_loss, smooth=0.5, classes="all"),
    monai_overlap("TverskyLoss", present=False, alpha=0.3, beta=0.7),
    "all classes; both weights 0.5; `smooth` 1e-5",
  ),
  "tversky_loss, focal": Case(
    "segmentation_models_pytorch.losses.TverskyLoss",
    segmentation,
    of_probabilities(losses.tversky_loss, gamma=0.75, smooth=0.5),
    smp_focal_tversky,
    f"{BY_IMAGE}; the power of the mean over classes, where Abraham and Khan add up the "
    "powers of the classes",
  ),
  "tversky_loss, soft Jaccard": Case(
    "segmentation_models_pytorch.losses.JaccardLoss",
    segmentation,
    of_probabilities(losses.tversky_loss, alpha=1.0, beta=1.0, smooth=0.5),
    smp_jaccard,
    f"{BY_IMAGE}; an absent class adds 0 and counts",
  ),
  "lovasz_softmax": Case(
    "segmentation_models_pytorch.losses.LovaszLoss",
    segmentation,
    of_probabilities(losses.lovasz_softmax),
    smp_lovasz,
    "a mean over images of means over classes, where ours weighs each class of each image alike",
  ),
  "lovasz_hinge": Case(
    "segmentation_models_pytorch.losses.LovaszLoss",
    figure,
    lambda scores, label: losses.lovasz_hinge(scores, label).mean(),
    smp_lovasz_hinge,
    "an image without a labeled pixel counts as 0",
  ),
  "boundary_loss": Case(
    "monai.losses.BoundaryLoss",
    segmentation,
    of_probabilities(losses.boundary_loss),
    monai_boundary,
    "no ignored pixels",
  ),
  "cl_dice_loss": Case(
    "monai.losses.SoftclDiceLoss",
    segmentation,
    of_probabilities(losses.cl_dice_loss, iterations=1),
    monai_cl_dice,
    "skeletons of all classes are added up before they are divided; a constant of 1e-4 more",
  ),
  "cross_entropy": Case(
    "torch.nn.functional.cross_entropy",
    segmentation,
    lambda logits, label: losses.cross_entropy(logits, label, label_smoothing=0.1).mean(),
    functools.partial(torch_cross_entropy, label_smoothing=0.1),
  ),
  "cross_entropy, weights": Case(
    "torch.nn.functional.cross_entropy",
    segmentation,
    lambda logits, label: losses.cross_entropy(
      logits, label, weights=losses.weigh_classes(label, CLASS_WEIGHTS)
    ).mean(),
    torch_weighted_cross_entropy,
    "divides by the sum of the weights; with label smoothing each class has its own weight, where "
    "ours has that of the true one",
  ),
  "inverse_frequency_weights": Case(
    "sklearn.utils.class_weight.compute_class_weight",
    shares,
    losses.inverse_frequency_weights,
    sklearn_class_weight,
    "refuses an absent class, whose weight is 0 in ours",
    differentiable=False,
  ),
  "focal_loss": Case(
    "monai.losses.FocalLoss",
    segmentation,
    lambda logits, label: losses.focal_loss(
      logits, label, weights=losses.weigh_classes(label, CLASS_WEIGHTS)
    ).mean(),
    monai_focal,
    "sigmoids unless `use_softmax`; without `ignore_index` divides by the number of classes, too; "
    "single precision",
  ),
  "squared_error": Case(
    "torch.nn.functional.mse_loss",
    maps,
    lambda x, y: losses.squared_error(x, y).mean(),
    torch_squared_error,
    "a mean over channels",
  ),
  "negative_cosine": Case(
    "torch.nn.functional.cosine_similarity",
    maps,
    lambda x, y: losses.negative_cosine(x, y / jnp.linalg.norm(y, axis=-1, keepdims=True)).mean(),
    torch_negative_cosine,
    "divides by both lengths",
  ),
  "scale_invariant_log_loss": Case(
    "transformers.models.glpn.modeling_glpn.SiLogLoss",
    depth,
    lambda x, y: losses.scale_invariant_log_loss(x, y, mask=jnp.float32(y > 0)).mean(),
    transformers_scale_invariant,
    f"the square root; {BY_IMAGE}",
  ),
  "gradient_matching_loss": Case(
    "torchmetrics.functional.image.image_gradients",
    maps,
    lambda x, y: losses.gradient_matching_loss(x, y, scales=3).mean(),
    torchmetrics_gradient_matching,
    "slopes alone",
  ),
  "ssim_loss": Case(
    "kornia.losses.ssim_loss",
    maps,
    ssim,
    kornia_ssim,
    "also windows beyond the border, unless `padding` is `valid`",
  ),
  "ssim_loss, metric": Case(
    "torchmetrics.functional.image.structural_similarity_index_measure",
    maps,
    ssim,
    torchmetrics_ssim,
    "SSIM itself; also windows beyond the border, which it reflects",
  ),
  "ssim_loss, 1 - SSIM": Case(
    "monai.losses.SSIMLoss", maps, ssim, monai_ssim, "1 - SSIM; single precision"
  ),
  "edge_aware_smoothness": Case(
    "kornia.losses.inverse_depth_smoothness_loss",
    maps,
    lambda x, image: losses.edge_aware_smoothness(x[..., :1], image).mean(),
    lambda x, image: kornia_smoothness(x[..., :1], image),
    "means along rows and columns are added up, where ours is that of all pairs",
  ),
  "discriminator_loss": Case(
    "torch.nn.functional.binary_cross_entropy_with_logits",
    logits_of_critic,
    lambda logits: losses.discriminator_loss(logits, real=True, label_smoothing=0.1).mean(),
    functools.partial(torch_bce, target=0.9),
  ),
  "generator_loss": Case(
    "torch.nn.functional.binary_cross_entropy_with_logits",
    logits_of_critic,
    lambda logits: losses.generator_loss(logits).mean(),
    functools.partial(torch_bce, target=1.0),
  ),
  "gradient_penalty": Case(
    "torch.autograd.grad",
    critic_and_structure,
    lambda weights, structure: losses.gradient_penalty(
      lambda x: jnp.tanh(x @ weights), structure
    ).mean(),
    torch_gradient_penalty,
    "derivatives alone",
  ),
}
# Of each distinct loss of ours what the reference computed: `summarize`.
# fmt: off
STORED = {
  "dice_loss": [0.49127316, 0.0075390283, 0.0018036039],
  "dice_loss, squared": [0.27310286, 0.010813665, 0.0063871723],
  "dice_loss, present": [0.39129039, 0.0089475264, 0.0018746407],
  "generalized_dice_loss": [0.46719807, 0.010139695, 0.0083833241],
  "tversky_loss": [0.48104342, 0.0079163168, 0.0025444597],
  "tversky_loss, focal": [0.49224127, 0.0087627899, 0.0022605356],
  "tversky_loss, soft Jaccard": [0.55127278, 0.0091370784, 0.0016598203],
  "lovasz_softmax": [0.4863562, 0.010564867, 0.0064819161],
  "lovasz_hinge": [3.0738773, 0.049113761, 0.016094519],
  "boundary_loss": [0.21215884, 0.010886888, -0.016090264],
  "cl_dice_loss": [0.40819441, 0.012111781, -0.0077435662],
  "cross_entropy": [1.0246243, 0.026232031, 0.01636266],
  "cross_entropy, weights": [1.1622216, 0.048058383, 0.0061479995],
  "focal_loss": [0.77458739, 0.049924037, 0.019989938],
  "squared_error": [0.17571155, 0.030251683, -0.001623254],
  "negative_cosine": [-0.89237683, 0.041861777, -0.010218476],
  "scale_invariant_log_loss": [0.63534398, 0.064339138, 0.15525668],
  "gradient_matching_loss": [0.67478573, 0.074785038, 0.069735142],
  "ssim_loss": [0.046963036, 0.043681711, 0.050311295],
  "edge_aware_smoothness": [0.30725913, 0.030583963, 0.023552141],
  "discriminator_loss": [1.211281, 0.066923406, 0.27764826],
  "generator_loss": [1.1880922, 0.076771289, 0.26991867],
  "gradient_penalty": [3.4387798, 8.5808926, 5.383341],
}
# fmt: on


@functools.cache
def value_and_gradient(name):
  return compute(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_losses_have_the_values_and_gradients_of_other_libraries(name):
  expected = compute_reference(CASES[name])
  for ours, theirs in zip(value_and_gradient(name), expected, strict=True):
    assert np.all(np.isnan(theirs)) or measure_error(ours, theirs) < 1e-5


@pytest.mark.parametrize("name", STORED)
def test_losses_have_the_values_and_gradients_that_other_libraries_computed(name):
  value, length, slope = STORED[name]
  found = summarize(*value_and_gradient(name))
  np.testing.assert_allclose(found[:2], [value, length], rtol=1e-5)
  np.testing.assert_allclose(found[2], slope, atol=1e-5 * length)
