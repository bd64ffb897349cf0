"""Vision transformers and DPT with weights in published names, against the published networks."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from asmjax.models.backbones import ViT
from asmjax.pretrained import load
from tests.helpers import vit_weights as tiny
from tests.helpers.published_weights import fresh

NETWORKS = tiny.BACKBONES | tiny.PREDICTORS
every = pytest.mark.parametrize("name", NETWORKS)

# The reference's outputs, by `sample`, as `test_networks_agree_with_transformers` computes them.
GOLDEN = {
  "depth_anything": [
    2.36065,
    2.7577,
    2.45099,
    3.24982,
    1.58173,
    4.13559,
    2.47866,
    4.66501,
    2.71053,
    3.05955,
    3.58207,
    1.56581,
  ],
  "dpt_depth": [
    40.81132,
    43.75539,
    71.90341,
    87.87244,
    96.08538,
    102.38935,
    113.20045,
    116.10992,
    124.23752,
    125.06338,
    78.80389,
    19.87457,
  ],
  "dpt_classes": [
    -0.55398,
    -1.37632,
    1.46868,
    -0.26201,
    1.83053,
    0.04279,
    -0.06201,
    -0.71145,
    1.58802,
    0.195,
    -0.34735,
    1.67898,
  ],
  "dinov2": [
    -1.105,
    0.55858,
    1.28226,
    -1.04976,
    -0.93079,
    -0.59787,
    1.77397,
    -0.7558,
    -1.2393,
    0.03412,
    1.45202,
    -0.38163,
  ],
  "registers": [
    -1.07956,
    -1.3708,
    -1.10795,
    -1.39652,
    -1.33478,
    -1.21118,
    -1.21495,
    -1.01489,
    -1.05051,
    -0.82983,
    -0.98077,
    -0.83137,
  ],
  "dinov3": [
    0.46306,
    -0.51274,
    0.8792,
    -0.9286,
    1.88399,
    -0.6805,
    0.3842,
    -0.20662,
    1.02495,
    -0.73459,
    0.30163,
    -0.15337,
  ],
}


def outputs(name, path, network=None):
  """All outputs of a case with weights from a file, by stride or task, on the host."""
  network = NETWORKS[name] if network is None else network
  variables, coverage = load(path, "safetensors", network, fresh(network))
  assert not coverage.missing and not coverage.unused and not coverage.reinitialized
  return jax.device_get(
    jax.jit(lambda variables, x: network.apply(variables, x, train=False))(
      variables, tiny.image(name)
    )
  )


def sample(maps):
  """A few numbers of the last map, spread over it."""
  last = np.asarray(list(maps.values())[-1])[0]
  last = np.maximum(last, 0) if "depth" in maps else last  # The reference ends in a ReLU.
  return last.reshape(-1)[:: max(last.size // 11, 1)][:12]


@pytest.fixture
def stored(tmp_path):
  """Function from a case to the file of its weights."""

  def store(arrays):
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"

  return store


@every
def test_networks_have_the_outputs_of_the_reference(name, stored):
  maps = outputs(name, stored(tiny.huggingface(name)))
  np.testing.assert_allclose(sample(maps), GOLDEN[name], atol=2e-4)


@every
def test_networks_agree_with_transformers(name, stored):
  torch = pytest.importorskip("torch")
  path = stored(tiny.huggingface(name))
  model, finish = reference(name)
  model.config.save_pretrained(path.parent)
  model = type(model).from_pretrained(path.parent).eval()
  with torch.no_grad():
    x = torch.tensor(tiny.image(name).transpose(0, 3, 1, 2))
    expected = [finish(y.numpy()) for y in read_outputs(name, model(pixel_values=x))]
  actual = list(outputs(name, path).values())
  if name in tiny.BACKBONES:
    actual = actual[-len(expected) :]
  if name in ("depth_anything", "dpt_depth"):  # The reference ends in a ReLU.
    actual = [np.maximum(y, 0) for y in actual]
  assert np.std(expected[-1]) > 0.01
  for ours, theirs in zip(actual, expected, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def reference(name):
  """The reference's model with random weights, and a function that lays its outputs out as ours."""
  transformers = pytest.importorskip("transformers")
  net = NETWORKS[name]
  vit = net if isinstance(net, ViT) else net.backbone
  settings = {
    "hidden_size": vit.width,
    "num_hidden_layers": vit.depth,
    "num_attention_heads": vit.num_heads,
    "patch_size": vit.patch,
  }
  if vit.positions:
    settings["image_size"] = vit.positions * vit.patch
  as_map = lambda y: y.transpose(0, 2, 3, 1) if y.ndim == 4 else y[..., None]
  if name == "dinov2":
    config = transformers.Dinov2Config(**settings, out_indices=[1, 2, 3, 4])
    return transformers.Dinov2Backbone(config), as_map
  if isinstance(net, ViT):
    kind, more = ("Dinov2WithRegisters", {})
    if name == "dinov3":
      kind, more = "DINOv3ViT", {"intermediate_size": 4 * vit.width}
    config = getattr(transformers, f"{kind}Config")(
      **settings, **more, num_register_tokens=vit.registers
    )
    size = tuple(side // vit.patch for side in tiny.SIZES[name])
    first = 1 + vit.registers
    return getattr(transformers, f"{kind}Model")(config), lambda y: y[:, first:].reshape(
      1, *size, vit.width
    )
  backbone = transformers.Dinov2Config(
    **settings,
    out_indices=[1, 2, 3, 4],
    reshape_hidden_states=False,
    apply_layernorm=vit.norm_outputs,
  )
  neck = {"neck_hidden_sizes": list(net.channels), "fusion_hidden_size": net.features}
  if name == "depth_anything":
    config = transformers.DepthAnythingConfig(
      backbone_config=backbone, patch_size=vit.patch, reassemble_hidden_size=vit.width, **neck
    )
    return transformers.DepthAnythingForDepthEstimation(config), as_map
  own = {**settings, "intermediate_size": 4 * vit.width, "backbone_out_indices": [0, 1, 2, 3]}
  config = transformers.DPTConfig(
    **(
      {"backbone_config": backbone, "hidden_size": vit.width, "num_attention_heads": vit.num_heads}
      if vit.layer_scale
      else own
    ),
    readout_type=net.readout,
    add_projection=net.project,
    use_bias_in_fusion_residual=net.fusion_bias,
    use_batch_norm_in_fusion_residual=net.fusion_norm,
    num_labels=net.heads.get("segmentation", 2),
    use_auxiliary_head=False,
    **neck,
  )
  kind = "SemanticSegmentation" if "segmentation" in net.heads else "DepthEstimation"
  return getattr(transformers, f"DPTFor{kind}")(config), as_map


def read_outputs(name, output):
  if name in tiny.PREDICTORS:
    return [output.logits if "logits" in output else output.predicted_depth]
  return output.feature_maps if "feature_maps" in output else [output.last_hidden_state]


@pytest.mark.parametrize("name", ["dinov2", "registers"])
def test_timm_names_hold_the_same_network(name, stored):
  arrays = tiny.huggingface(name)
  expected = outputs(name, stored(arrays))
  renamed = tiny.timm(arrays)
  actual = outputs(name, stored(renamed))
  jax.tree.map(np.testing.assert_array_equal, actual, expected)
  if name == "registers":
    renamed["register_tokens"] = renamed.pop("reg_token")  # As DINOv2's authors call them.
    jax.tree.map(np.testing.assert_array_equal, outputs(name, stored(renamed)), expected)


@pytest.mark.parametrize("name", ["dinov2", "registers"])
def test_networks_agree_with_timm(name, stored):
  torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
  net = tiny.BACKBONES[name].clone(antialias=True)
  arrays = tiny.timm(tiny.huggingface(name))
  model = timm.models.VisionTransformer(
    img_size=56,
    patch_size=14,
    num_classes=0,
    embed_dim=net.width,
    depth=net.depth,
    num_heads=net.num_heads,
    init_values=1.0,
    reg_tokens=net.registers,
    no_embed_class=net.registers > 0,
    dynamic_img_size=True,
    global_pool="token",
    fc_norm=False,
  ).eval()
  model.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
  x = torch.tensor(tiny.image(name).transpose(0, 3, 1, 2))
  with torch.no_grad():
    theirs = model.forward_features(x)[:, 1 + net.registers :].numpy()
  ours = outputs(name, stored(arrays), net)[32]
  np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, atol=1e-4)
