"""Properties of all predictors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import VGG, ConvNeXt, HRNet, MixTransformer, ResNet, ViT
from asmjax.models.layers import Norm, with_compute_dtype
from asmjax.models.predictors import (
  DPT,
  FCN,
  FCRN,
  PREDICTORS,
  DeepLab,
  DeepLabV2,
  Dilated,
  Farabet,
  HRNetV2,
  PSPNet,
  SegFormer,
  UNet,
  UPerNet,
  ViTLinear,
)
from asmjax.ops import use_cpu_kernels
from tests.helpers import tiny_backbones as backbones

HEADS = {"segmentation": 3, "depth": 1}
SIZE = (33, 41)


def resnet(output_stride=32, **options):
  return ResNet((1, 1, 1, 1), 2, output_stride=output_stride, **options)


def mix_transformer():
  return MixTransformer((1, 1, 1, 1), (4, 4, 6, 6), (1, 2, 3, 3), drop_path=0.5)


VIT = ViT(patch=4, width=8, num_heads=2, depth=4, outputs=(1, 2, 3, 4), positions=3)

# With the stride of their outputs.
NETS = {
  "deeplab": (DeepLab(HEADS, resnet(16), rates=(1, 2), features=4), 16),
  "deeplab_plus": (
    DeepLab(HEADS, resnet(16), rates=(2,), features=4, low=2, convs=1, separable=True),
    4,
  ),
  "deeplab_v2": (DeepLabV2(HEADS, resnet(8), rates=(1, 2)), 8),
  "dilated": (Dilated(HEADS, VGG(width=2, fc_features=4, output_stride=8)), 8),
  "dpt": (DPT(HEADS, VIT, channels=(2, 2, 2, 2), features=4), 1),
  "farabet": (Farabet(HEADS, widths=(8, 6, 5), fan_in=(2, 3), hidden=4), 4),
  "fcn32": (FCN(HEADS, VGG(width=2, fc_features=4), stride=32), 32),
  "fcn8": (FCN(HEADS, VGG(width=2, fc_features=4)), 8),
  "fcn_dilated": (FCN(HEADS, resnet(8), stride=32), 8),
  "fcrn": (FCRN(HEADS, resnet()), 2),
  "hrnet": (HRNetV2(HEADS, HRNet(2, (1, 1, 1), 1, 4, 1, 2, "bilinear_aligned")), 4),
  "pspnet": (PSPNet(HEADS, resnet(8), features=4, auxiliary=4), 8),
  "segformer": (SegFormer(HEADS, mix_transformer(), features=4), 4),
  "unet": (UNet(HEADS, levels=2, width=2), 1),
  "upernet": (UPerNet(HEADS, resnet(), features=4, auxiliary=4), 4),
  "upernet_convnext": (
    UPerNet(
      HEADS,
      ConvNeXt((1, 1, 1, 1), (2, 2, 4, 4), response_norm=True),
      features=4,
      normalize_features=True,
    ),
    4,
  ),
  "vit_linear": (ViTLinear(HEADS, VIT, layers=4), 2),
}
every = pytest.mark.parametrize("net, stride", NETS.values(), ids=NETS)


def test_predictors_are_all_tested():
  assert {type(net) for net, _ in NETS.values()} == set(PREDICTORS.values())


@every
def test_predictors_have_a_map_of_each_task_at_the_size_over_the_stride(net, stride):
  """And parameters that do not depend on the image's size."""
  parameters = []
  for size, train in ((SIZE, False), ((1, 7), True)):
    outputs, variables = jax.eval_shape(
      lambda: net.init_with_output(
        {"params": jax.random.key(0), "dropout": jax.random.key(1)},
        jnp.zeros((2, *size, 3)),  # noqa: B023
        train=train,  # noqa: B023
      )
    )
    parameters.append(variables)
    rounded = tuple(-(-side // stride) for side in size)
    assert {task: x.shape for task, x in outputs.items()} == {
      task: (2, *rounded, channels) for task, channels in HEADS.items()
    }
  assert parameters[0] == parameters[1]


@every
def test_predictors_convolve_in_bfloat16_and_keep_float32_parameters(net, stride):
  del stride
  net, x = with_compute_dtype(jnp.bfloat16, net), jnp.zeros((1, *SIZE, 3))
  _, variables = backbones.shapes(net, *SIZE)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  with use_cpu_kernels(False):
    jaxpr, (outputs, sown) = jax.make_jaxpr(
      lambda v, x: net.apply(
        v,
        x,
        train=True,
        mutable=["batch_stats", "intermediates"],
        rngs={"dropout": jax.random.key(0)},
      ),
      return_shape=True,
    )(variables, x)
  products = [
    equation.outvars[0].aval.dtype
    for equation in jaxpr.eqns
    if equation.primitive.name in ("conv_general_dilated", "dot_general")
    and len(equation.outvars[0].aval.shape) == 4
  ]
  wide = [dtype for dtype in products if dtype != jnp.bfloat16]
  # Colors are turned in single precision, and so are products of attention, of more axes, and of
  # positions, of fewer.
  assert len(wide) == isinstance(net, Farabet) and len(products) > 4
  assert {x.dtype for x in jax.tree.leaves((outputs, sown["intermediates"]))} == {
    jnp.dtype(jnp.bfloat16)
  }
  assert {x.dtype for x in jax.tree.leaves(sown.get("batch_stats", {}))} <= {jnp.dtype("float32")}


def plain_dropout(net, **options):
  """Without any, so that it needs no key."""
  return net.clone(**({"dropout": 0.0} if hasattr(net, "dropout") else {}), **options)


def test_predictors_update_statistics_in_training_unless_frozen():
  net = NETS["deeplab"][0]
  backbones.assert_statistics_follow_training(
    lambda norm: plain_dropout(net, norm=norm, backbone=net.backbone.clone(norm=norm)),
    backbones.image(*SIZE),
  )


def test_predictors_with_a_frozen_backbone_update_the_statistics_of_heads_alone():
  net, x = NETS["pspnet"][0], backbones.image(*SIZE)
  net = plain_dropout(net, backbone=net.backbone.clone(norm=Norm(frozen=True)))
  variables = backbones.initial(net, x)
  after = jax.jit(lambda: net.apply(variables, x, train=True, mutable=["batch_stats"])[1])()
  before, after = variables["batch_stats"], after["batch_stats"]
  jax.tree.map(np.testing.assert_array_equal, before["backbone"], after["backbone"])
  heads = set(before) - {"backbone"}
  assert heads
  for part in heads:
    moved = jax.tree.map(lambda a, b: not np.allclose(a, b), before[part], after[part])
    assert all(jax.tree.leaves(moved))


def test_predictors_remat_changes_nothing():
  net = NETS["fcn8"][0]
  backbones.assert_recomputed(
    lambda remat=False: net.clone(backbone=net.backbone.clone(remat=remat)), backbones.image(*SIZE)
  )


@pytest.mark.parametrize("name", ["deeplab_plus", "dilated", "fcn8", "hrnet", "pspnet"])
def test_predictors_learn_in_every_layer_and_drop_out_but_for_hrnet(name):
  net, x = NETS[name][0], backbones.image(*SIZE)
  # An activation without an idle half, since there are so few channels.
  smooth = {"norm": Norm("none"), "activation": jax.nn.softplus}
  net = net.clone(**smooth, backbone=net.backbone.clone(**smooth))
  params = backbones.initial(net, x)["params"]

  def loss(params, key):
    maps, sown = net.apply(
      {"params": params}, x, train=True, mutable=["intermediates"], rngs={"dropout": key}
    )
    maps = (maps, sown["intermediates"].get("auxiliary", ()))
    return sum(jnp.mean(jnp.sin(leaf)) for leaf in jax.tree.leaves(maps))

  step = jax.jit(jax.value_and_grad(loss))
  value, grads = step(params, jax.random.key(0))
  idle = [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
    if not np.any(leaf)
  ]
  assert not idle
  assert (value != step(params, jax.random.key(1))[0]) == (name != "hrnet")


@pytest.mark.parametrize("name", ["deeplab", "dilated", "fcn8", "pspnet"])
def test_predictors_predict_a_task_independently_of_further_tasks(name):
  both, x = NETS[name][0], backbones.image(*SIZE)
  variables, alone = backbones.initial(both, x), both.clone(heads={"depth": 1})
  maps, own = jax.jit(lambda: [net.apply(variables, x, train=False) for net in (both, alone)])()
  assert set(own) == {"depth"} and np.std(maps["segmentation"]) > 0
  np.testing.assert_allclose(own["depth"], maps["depth"], rtol=1e-5, atol=1e-6)
