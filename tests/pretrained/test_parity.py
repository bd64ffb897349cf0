"""Networks with published names against the libraries that publish them, and what these computed.

Weights are drawn, in the layout of the published files. Stored numbers are the libraries' own: of
each output every so many values of the first image, as `sample` takes them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from asmjax.models.backbones import Backbone, ConvNeXt, MixTransformer, ResNet
from asmjax.models.predictors import SegFormer, UPerNet
from asmjax.pretrained import load, name_map, transfer
from tests.helpers import published_weights

HEADS = {"segmentation": 3}
STAGES = {"depths": (1, 2, 1, 1), "widths": (4, 8, 12, 16)}
MIX_TRANSFORMER = MixTransformer(**STAGES, num_heads=(1, 2, 3, 4))
CONVNEXT = ConvNeXt(**STAGES)
RESNET = ResNet((1, 2, 1, 1), 2, "first_3x3")


def sample(maps):
  """About four values of each map."""
  return np.concatenate([x.ravel()[:: x.size // 4] for x in maps])


def pixels(*size):
  return np.random.default_rng(1).normal(size=(1, *size, 3)).astype(np.float32)


def import_transformers():
  pytest.importorskip("torch")
  return pytest.importorskip("transformers")


def segformer(folder):
  """transformers' SegFormer: logits and features."""
  transformers = import_transformers()
  config = transformers.SegformerConfig(
    depths=[1, 2, 1, 1],
    hidden_sizes=[4, 8, 12, 16],
    num_attention_heads=[1, 2, 3, 4],
    decoder_hidden_size=6,
    num_labels=3,
  )
  config.save_pretrained(folder)
  model = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()

  def run(image):
    outputs = model(image, output_hidden_states=True)
    return [outputs.logits, *outputs.hidden_states]

  return run


def upernet(kind, **backbone):
  """transformers' UPerNet on a backbone: logits at stride 4."""

  def make(folder):
    transformers = import_transformers()
    stages = ["stage1", "stage2", "stage3", "stage4"]
    config = transformers.UperNetConfig(
      backbone_config=getattr(transformers, kind)(out_features=stages, **backbone),
      hidden_size=6,
      auxiliary_channels=5,
      num_labels=3,
    )
    config.save_pretrained(folder)
    model = transformers.UperNetForSemanticSegmentation.from_pretrained(folder).eval()
    return lambda image: [model.decode_head(model.backbone(image).feature_maps)]

  return make


def timm_convnext(**options):
  """timm's ConvNeXt: features."""

  def make(folder):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    widths = {"depths": (1, 2, 1, 1), "dims": (4, 8, 12, 16)}
    model = timm.models.convnext.ConvNeXt(**widths, **options).eval()
    arrays = {name: torch.tensor(x) for name, x in load_file(folder / "model.safetensors").items()}
    faults = model.load_state_dict(arrays, strict=False)
    assert not faults.unexpected_keys and all(n.startswith("head.") for n in faults.missing_keys)
    return lambda image: model.forward_intermediates(image, intermediates_only=True)[-4:]

  return make


CASES = {
  "segformer": (SegFormer(HEADS, MIX_TRANSFORMER, features=6), "transformers", (45, 70), segformer),
  "convnext": (CONVNEXT, "timm", (64, 96), timm_convnext()),
  "convnext_v2": (
    CONVNEXT.clone(response_norm=True, layer_scale=0.0),
    "timm",
    (64, 96),
    timm_convnext(use_grn=True, ls_init_value=None),
  ),
  "upernet_convnext": (
    UPerNet(HEADS, CONVNEXT, features=6, auxiliary=5, normalize_features=True),
    "transformers",
    (64, 96),
    upernet("ConvNextConfig", depths=[1, 2, 1, 1], hidden_sizes=[4, 8, 12, 16]),
  ),
  "upernet_resnet": (
    UPerNet(HEADS, RESNET, features=6, auxiliary=5),
    "transformers",
    (45, 70),
    upernet("ResNetConfig", depths=[1, 2, 1, 1], hidden_sizes=[8, 16, 32, 64], embedding_size=2),
  ),
}
# fmt: off
STORED = {
  "segformer": [
    -0.13848, 0.07386, 0.08517, -0.08813, 1.50363, 1.03396, 1.35859, 0.69815, -0.54401,
    -0.10703, 0.22437, 0.41118, -0.85267, 0.9432, 0.14122, 0.86628, -0.828, -1.36654, 0.8242,
    -0.84723,
  ],
  "convnext": [
    1.78716, 1.98648, 1.63088, 2.14843, -2.1584, -2.50011, 0.33798, 1.6056, -1.19732, -0.64003,
    -2.0834, -2.78299, -1.96939, -1.9888, -1.32885, 2.05362,
  ],
  "convnext_v2": [
    -7.29608, -2.3449, -2.69952, 0.28594, -3.27523, -3.57557, 3.19154, 3.19397, -4.53938,
    0.74805, -3.05254, 2.40933, -0.13704, -6.34779, -0.6972, 1.63132,
  ],
  "upernet_convnext": [
    -1.21126, -2.44726, -2.87941, -2.45619,
  ],
  "upernet_resnet": [
    2.75864, 3.02218, 1.79524, 2.75894,
  ],
}
# fmt: on


@functools.cache
def compute(name):
  """The file's arrays, our variables with them, and what the network computes of pixels."""
  network, naming, size, _ = CASES[name]
  arrays = published_weights.drawn(network, naming)
  fresh, entries = published_weights.fresh(network, 64), name_map(network, naming)
  variables, coverage = transfer(fresh, arrays, entries)
  assert not coverage.describe_faults()

  @jax.jit
  def run(variables):
    is_backbone = lambda module, _: module.name == "backbone"
    outputs, state = network.apply(
      variables, jnp.array(pixels(*size)), train=False, capture_intermediates=is_backbone
    )
    if isinstance(network, Backbone):
      return list(outputs.values())
    if name != "segformer":
      return [outputs["segmentation"]]
    (features,) = state["intermediates"]["backbone"]["__call__"]
    return [outputs["segmentation"], *features.values()]

  return arrays, variables, run(variables)


@pytest.mark.parametrize("name", CASES)
def test_networks_compute_the_numbers_that_their_libraries_computed(name):
  *_, maps = compute(name)
  np.testing.assert_allclose(sample(maps), STORED[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_networks_compute_what_their_libraries_do(name, tmp_path):
  network, _, size, make_reference = CASES[name]
  arrays, variables, maps = compute(name)
  path = tmp_path / "model.safetensors"
  save_file(arrays, path)
  reference = make_reference(tmp_path)
  loaded, _ = load(path, "safetensors", network, published_weights.fresh(network, 64))
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  expected = compute_reference(reference, size)
  for ours, theirs in zip(maps, expected, strict=True):
    assert np.std(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def compute_reference(reference, size):
  torch = pytest.importorskip("torch")
  with torch.no_grad():
    maps = reference(torch.tensor(pixels(*size).transpose(0, 3, 1, 2)))
  return [x.numpy().transpose(0, 2, 3, 1) for x in maps]
