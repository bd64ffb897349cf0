"""Vision transformers: their parts against definitions, and predictors on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.adapters import Adapters, merge_adapters
from asmjax.models.backbones import BACKBONES, HRNet, ViT
from asmjax.models.backbones.vit import make_rotation, resample_positions, rotate
from asmjax.models.layers import Norm
from asmjax.models.predictors import DPT, ViTLinear
from asmjax.train.optim import Optimizer
from asmjax.utils.trees import leaves_by_path
from tests.helpers import tiny_backbones as backbones
from tests.helpers.vit_weights import BACKBONES as TINY

VIT = TINY["dinov2"].clone(patch=4)


def test_resample_positions_repeats_the_grid_at_its_own_size():
  grid = jnp.array(np.random.default_rng(0).normal(size=(5, 3, 2)), jnp.float32)
  for antialias in (False, True):
    same = resample_positions(grid, (5, 3), antialias=antialias)
    np.testing.assert_allclose(same, grid, atol=1e-6)


# `interpolate(torch.arange(5) ** 2, size, mode="bicubic")` of PyTorch along one axis.
@pytest.mark.parametrize(
  "size, antialias, expected",
  [
    (3, False, [0.1481, 4.0, 14.0741]),
    (3, True, [0.1692, 4.1953, 13.3385]),
    (8, False, [-0.0928, 0.1876, 1.1765, 2.6194, 5.4417, 8.4714, 13.3951, 16.6498]),
    (8, True, [-0.072, 0.2437, 1.1289, 2.8477, 5.3477, 8.6289, 13.4882, 16.5037]),
  ],
)
def test_resample_positions_agrees_with_torch(size, antialias, expected):
  grid = (jnp.arange(5.0) ** 2)[:, None, None] * jnp.ones((1, 2, 1))
  resampled = resample_positions(grid, (size, 2), antialias=antialias)
  np.testing.assert_allclose(resampled[:, 0, 0], expected, atol=1e-4)


def test_rotate_turns_pairs_by_angles_that_differences_of_places_decide():
  """So products of rotated queries and keys depend on how far apart patches are, and they keep
  their lengths; tokens that are no patches stay as they are."""
  rotation = make_rotation(4, 4, 1, 8)
  x = jnp.ones((1, 17, 16))
  turned = np.asarray(rotate(x, rotation, 2))
  np.testing.assert_array_equal(turned[:, 0], x[:, 0])
  heads = turned[0, 1:].reshape(4, 4, 2, 8)
  np.testing.assert_allclose(np.linalg.norm(heads, axis=-1), np.sqrt(8), rtol=1e-5)
  product = lambda a, b: np.sum(heads[a] * heads[b])
  np.testing.assert_allclose(product((0, 0), (1, 2)), product((2, 1), (3, 3)), rtol=1e-4)
  assert abs(product((0, 0), (1, 2)) - product((0, 0), (2, 1))) < abs(product((0, 0), (3, 3)))


@pytest.mark.parametrize("name", TINY)
def test_vit_pads_images_that_are_no_multiples_of_the_patch(name):
  net, x = TINY[name], backbones.image(30, 50)
  p = net.patch
  variables = backbones.initial(net, x)
  padded = jnp.pad(x, ((0, 0), (0, -30 % p), (0, -50 % p), (0, 0)))
  whole, cut = (
    jax.jit(net.apply, static_argnames="train")(variables, y, train=False) for y in (padded, x)
  )
  assert list(cut) == [4, 8, 16, 32] and cut[4].shape == (1, -(-30 // p), -(-50 // p), 8)
  jax.tree.map(np.testing.assert_array_equal, whole, cut)


def test_vit_drops_paths_more_often_with_depth():
  net = VIT.clone(drop_path=0.6)
  x = jnp.repeat(backbones.image(8, 8), 64, 0)
  variables = backbones.initial(net, x[:1])

  @jax.jit
  def run(key):
    rngs = {"dropout": key}
    return net.apply(variables, x, train=True, rngs=rngs)

  outputs = run(jax.random.key(0))
  spread = lambda y: len(np.unique(np.round(np.asarray(y)[:, 0, 0, 0], 4)))
  assert spread(outputs[4]) == 1 < spread(outputs[8]) < spread(outputs[32])


def test_vit_refuses_what_does_not_fit():
  with pytest.raises(ValueError, match=r"outputs=\(1, 2, 3, 4\), depth=12; expected four"):
    ViT(outputs=(1, 2, 3, 4))
  with pytest.raises(ValueError, match="width=10, num_heads=6, positions=37"):
    ViT(width=10)
  with pytest.raises(ValueError, match="output_stride=16; a ViT has 32 alone"):
    ViT(output_stride=16)
  with pytest.raises(ValueError, match="stride=4; expected a divisor of 14, the patch"):
    ViTLinear({}, stride=4)
  with pytest.raises(ValueError, match="unknown readout 'mean'; known: ignore, project"):
    DPT({}, readout="mean")
  with pytest.raises(ValueError, match="unknown targets 'k'; known: qv, all"):
    Adapters(rank=2, targets="k")


# Normalizations of what a backbone returns, which are as deep as the heads.
LAST = {"mix_transformer": [f"stage{i}_norm" for i in range(1, 5)], "vit": ["norm"]}


@pytest.mark.parametrize("name", BACKBONES)
def test_layer_groups_hold_all_layers_but_the_last_normalizations(name):
  small = {"hrnet": HRNet(2, (1, 2, 1), blocks=1, bottlenecks=2), "vit": TINY["registers"]}
  net = small.get(name) or BACKBONES[name]()
  _, variables = backbones.shapes(net, 32, 32)
  groups = net.layer_groups()
  assert groups and len(set(groups)) == len(groups)
  modules = {path.split("/")[0] for path in leaves_by_path(variables["params"])}
  assert sorted(m for m in modules if not m.startswith(groups)) == LAST.get(name, [])
  assert all(any(m.startswith(group) for m in modules) for group in groups)


@pytest.mark.parametrize("targets, count", [("qv", 2), ("all", 6)])
def test_merge_adapters_leaves_what_is_computed_and_nothing_else(targets, count):
  adapted = VIT.clone(adapters=Adapters(rank=2, alpha=3.0, targets=targets))
  x = backbones.image(8, 8)
  net = ViTLinear({"segmentation": 3}, adapted)
  variables = backbones.initial(net, x)
  added = [path for path in leaves_by_path(variables) if "lora_" in path]
  assert len(added) == 2 * count * VIT.depth
  bare, merged = merge_adapters(net, variables)
  assert bare == ViTLinear({"segmentation": 3}, VIT)
  assert jax.tree.structure(merged) == jax.tree.structure(backbones.shapes(bare, 8, 8)[1])
  run = lambda net, variables: jax.jit(net.apply, static_argnames="train")(
    variables, x, train=False
  )["segmentation"]
  np.testing.assert_allclose(run(net, variables), run(bare, merged), rtol=1e-4, atol=1e-4)
  layer = variables["params"]["backbone"]["block1"]["query"]
  expected = layer["kernel"] + 1.5 * layer["lora_a"] @ layer["lora_b"]
  after = merged["params"]["backbone"]["block1"]["query"]["kernel"]
  np.testing.assert_allclose(after, expected, rtol=1e-5)
  assert np.abs(after - layer["kernel"]).max() > 0.01
  assert merge_adapters(bare, merged) == (bare, merged)


def test_adapters_begin_as_nothing():
  net = VIT.clone(adapters=Adapters(rank=2))
  params = net.init(jax.random.key(0), backbones.image(8, 8), train=False)["params"]
  for path, leaf in leaves_by_path(params).items():
    if "lora_" in path:
      assert np.any(leaf) == path.endswith("lora_a")


@pytest.mark.parametrize("size", [(56, 70), (50, 61)])
def test_vit_linear_puts_outputs_on_the_centers_of_patches(size):
  """Of tokens that are their column's number, outputs are a ramp over the pixels they stand for."""
  net = ViTLinear({"a": 1}, TINY["dinov2"], stride=2, norm=Norm("none"))
  rows, columns = (-(-side // 14) for side in size)
  tokens = jnp.broadcast_to(jnp.arange(columns, dtype=jnp.float32)[:, None], (1, rows, columns, 1))
  enlarged = net._enlarge(tokens, tuple(-(-side // 2) for side in size))
  pixels = 2 * np.arange(enlarged.shape[2]) + 0.5  # Output i is on pixel S i + (S - 1) / 2.
  expected = np.clip((pixels - 6.5) / 14, 0, columns - 1)
  np.testing.assert_allclose(enlarged[0, 0, :, 0], expected, atol=1e-5)


def test_layer_decay_slows_blocks_down_by_their_depth():
  net = ViTLinear({"a": 1}, VIT)
  groups = tuple(f"backbone/{name}" for name in net.backbone.layer_groups())
  optimizer = Optimizer(
    "sgd", learning_rate=1.0, momentum=0.0, layer_decay=0.5, schedule="constant"
  )
  _, variables = backbones.shapes(net, 8, 8)
  params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), variables["params"])
  tx = optimizer.make_transformation(10, groups)
  ones = jax.tree.map(jnp.ones_like, params)
  updates, _ = tx.update(ones, tx.init(params), params, step=jnp.array(0))
  # As in BEiT's code: embeddings have depth 0, block i has i, all else the depth after the last.
  depth = {"embed": 0, "norm": 5} | {f"block{i}": i for i in range(1, 5)}
  for path, update in leaves_by_path(updates).items():
    parts = path.split("/")
    exponent = 5 - (depth[parts[1]] if parts[0] == "backbone" else 5)
    np.testing.assert_allclose(update, -(0.5**exponent), err_msg=path)


def test_layer_decay_tells_block_1_from_block_12():
  groups = tuple(f"backbone/{name}" for name in ViT().layer_groups())
  rate = lambda path: Optimizer(layer_decay=0.5).rate_multiplier(path, groups)
  assert rate("backbone/block1/out/kernel") == 2.0**-12
  assert rate("backbone/block12/out/kernel") == 0.5
  assert rate("head_a/kernel") == 1.0 == Optimizer().rate_multiplier("backbone/embed/cls", groups)
  frozen = Optimizer(lr_multipliers={"embed": 0.0, "^head": 10.0}, layer_decay=0.5)
  assert frozen.rate_multiplier("backbone/embed/cls", groups) == 0
  assert frozen.rate_multiplier("head_a/bias", groups) == 10
