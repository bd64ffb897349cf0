"""ConvNeXt and UPerNet against published counts and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import ConvNeXt
from asmjax.models.backbones.convnext import DEPTHS, WIDTHS, ResponseNorm
from asmjax.models.predictors.published import PUBLISHED
from tests.helpers import tiny_backbones as backbones

V2 = {"response_norm": True, "layer_scale": 0.0}


# With a classifier of 1000 classes, as counted in timm's model cards.
@pytest.mark.parametrize(
  "size, options, millions", [("tiny", {}, 28.59), ("base", {}, 88.59), ("tiny", V2, 28.64)]
)
def test_convnext_has_the_published_number_of_parameters(size, options, millions):
  network = ConvNeXt(DEPTHS[size], WIDTHS[size], **options)
  features, variables = backbones.shapes(network, 64, 64)
  assert [x.shape[1:] for x in features.values()] == [
    (64 // stride, 64 // stride, width)
    for stride, width in zip((4, 8, 16, 32), WIDTHS[size], strict=True)
  ]
  # The classifier is normalized once more.
  width = WIDTHS[size][-1]
  count = backbones.count(variables["params"]) + 2 * width + (width + 1) * 1000
  assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_upernet_has_the_published_number_of_parameters():
  """In millions, with the auxiliary head and 150 classes (Liu et al. 2022, Table 5)."""
  network = PUBLISHED["upernet_convnext_tiny"]({"segmentation": 150}, auxiliary=256)
  _, variables = backbones.shapes(network, 64, 64)
  assert round(backbones.count(variables["params"]) / 1e6) == 60


def tiny(**options):
  return ConvNeXt((1, 1, 1, 1), (2, 2, 4, 4), layer_scale=1.0, **options)


def test_convnext_dilated_in_place_of_strides_has_the_same_features_more_densely():
  for output in (8, 16, 32):
    features, _ = backbones.shapes(tiny(output_stride=output), 67, 90)
    for stride, x in features.items():
      assert x.shape[1:3] == tuple(-(-side // min(stride, output)) for side in (67, 90))
  backbones.assert_denser(tiny, backbones.image(67, 90))


def test_convnext_remat_computes_again():
  x, counts = jnp.zeros((1, 32, 32, 3)), []
  for remat in (False, True):
    net = tiny(remat=remat)
    variables = backbones.initial(net, x)
    total = lambda variables, net=net: jnp.mean(net.apply(variables, x, train=False)[32])
    counts.append(str(jax.make_jaxpr(jax.grad(total))(variables)).count("dot_general["))
  assert counts[0] < counts[1]


def test_response_norm_scales_channels_by_their_norm():
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
  x[..., 2] = 0
  params = {"scale": np.arange(5.0), "bias": np.linspace(-1, 1, 5)}
  norms = np.sqrt((x**2).sum((1, 2), keepdims=True))
  expected = x + params["scale"] * x * norms / norms.mean(-1, keepdims=True) + params["bias"]
  apply = lambda x: ResponseNorm().apply({"params": params}, x)
  np.testing.assert_allclose(apply(jnp.array(x)), expected, rtol=1e-4, atol=1e-5)
  gradient = jax.grad(lambda x: jnp.sum(jnp.sin(apply(x))))(jnp.array(x))
  assert np.all(np.isfinite(gradient)) and np.any(gradient)


def test_convnext_refuses_stages_that_do_not_fit():
  with pytest.raises(ValueError, match="expected one of each for each of 4 stages"):
    ConvNeXt(depths=(1, 2))
