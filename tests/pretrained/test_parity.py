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

from asmjax.models.backbones import Backbone, ConvNeXt, HRNet, MixTransformer, ResNet
from asmjax.models.predictors import HRNetV2, SegFormer, UPerNet
from asmjax.pretrained import load, name_map, transfer
from tests.helpers import published_weights

HEADS = {"segmentation": 3}
STAGES = {"depths": (1, 2, 1, 1), "widths": (4, 8, 12, 16)}
MIX_TRANSFORMER = MixTransformer(**STAGES, num_heads=(1, 2, 3, 4))
CONVNEXT = ConvNeXt(**STAGES)
RESNET = ResNet((1, 2, 1, 1), 2, "first_3x3")
HRNET = HRNet(4, (1, 2, 1), blocks=1, bottlenecks=2, bottleneck_width=4)


def sample(maps):
  """About four values of each map, of several channels: the step is odd."""
  return np.concatenate([x.ravel()[:: x.size // 4 | 1] for x in maps])


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


def describe_timm_hrnet():
  """timm's description of an HRNet of a few channels."""

  def stage(kind, blocks, widths, modules=1):
    counts = {"num_branches": len(widths), "num_blocks": (blocks,) * len(widths)}
    options = {"block_type": kind, "num_channels": widths, "num_modules": modules}
    return {**counts, **options, "fuse_method": "SUM"}

  return {
    "stem_width": 64,
    "stage1": stage("BOTTLENECK", 2, (4,)),
    "stage2": stage("BASIC", 1, (4, 8)),
    "stage3": stage("BASIC", 1, (4, 8, 16), modules=2),
    "stage4": stage("BASIC", 1, (4, 8, 16, 32)),
  }


def load_arrays(module, folder):
  """Loads a file into a module of PyTorch, which has these arrays and counters alone."""
  torch, arrays = pytest.importorskip("torch"), load_file(folder / "model.safetensors")
  state = {name: torch.tensor(x) for name, x in arrays.items()}
  faults = module.load_state_dict(state, strict=False)
  assert not faults.unexpected_keys
  assert all(name.endswith("num_batches_tracked") for name in faults.missing_keys)
  return module.eval()


def timm_hrnet(folder):
  """timm's HRNet: features."""
  timm = pytest.importorskip("timm")
  model = load_arrays(timm.models.hrnet.HighResolutionNet(describe_timm_hrnet(), head=""), folder)
  return lambda image: model.forward_intermediates(image, intermediates_only=True)


def hrnet_v2(folder):
  """HRNetV2 as released, on timm's HRNet: logits."""
  for library in ("torch", "timm"):
    pytest.importorskip(library)
  from benchmarks.torch_networks.libraries import TorchHRNetV2

  model = load_arrays(TorchHRNetV2(describe_timm_hrnet(), 3), folder)
  return lambda image: [model(image)]


CASES = {
  "segformer": (SegFormer(HEADS, MIX_TRANSFORMER, features=6), "transformers", (45, 70), segformer),
  "convnext": (CONVNEXT, "timm", (64, 96), timm_convnext()),
  "convnext_v2": (
    CONVNEXT.clone(response_norm=True, layer_scale=0.0),
    "timm",
    (64, 96),
    timm_convnext(use_grn=True, ls_init_value=None),
  ),
  "hrnet": (HRNET, "timm", (64, 96), timm_hrnet),
  "hrnet_v2": (
    HRNetV2(HEADS, HRNET.clone(upsampling="bilinear_aligned")),
    "hrnet",
    (65, 97),
    hrnet_v2,
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
    -0.13848, 1.67843, 2.44895, -0.02225, 1.50363, -1.20121, 0.30592, -0.21176, -0.54401,
    0.90525, -2.40377, -0.11511, -0.85267, 0.9432, 0.14122, 0.86628, -0.828, -0.14127, -2.10529,
    -0.31965,
  ],
  "convnext": [
    1.78716, -1.56134, -1.16117, 1.99894, -2.1584, 3.67849, -0.79938, -1.07081, -1.19732,
    1.32516, 0.69781, 2.13351, -1.96939, 0.90309, 1.8102, -1.95836,
  ],
  "convnext_v2": [
    -7.29608, -4.60979, -1.4203, 0.57011, -3.27523, -1.14006, -0.39801, -3.97632, -4.53938,
    1.19851, -1.21316, -4.17125, -0.13704, 4.40651, -1.12247, -7.7162,
  ],
  "hrnet": [
    0.0, 0.0, 1.41217, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 275.56302, 0.0, 186.6666, 0.0, 110.05173,
    165.97815, 445.54559, 0.0, 0.0, 169.73207, 142.79721,
  ],
  "hrnet_v2": [
    14.16801, 39.03284, 112.83759, -5.20688,
  ],
  "upernet_convnext": [
    -1.21126, -2.46499, -2.31603, -2.63161,
  ],
  "upernet_resnet": [
    2.75864, 0.95329, 0.15954, 5.1731,
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
