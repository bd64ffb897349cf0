"""MobileNet against the published counts; depthwise convolution against one map at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import mobilenet
from asmjax.models.backbones.mobilenet import MobileNetV1
from asmjax.models.critics.mobilenet import MobileNetCritic
from asmjax.models.layers import Norm
from asmjax.ops import resize_bilinear
from tests.helpers import tiny_backbones as backbones

# One stride each, and a block after the last one.
FEW = ((64, 1), (64, 2), (64, 2), (128, 2), (128, 2), (128, 1))
TINY = MobileNetCritic((40, 33), dropout=0.5, width=0.125)


def tiny(**options):
  return MobileNetV1(0.125, **options)


def structure(*shape):
  return jnp.array(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_parameters_and_statistics_are_as_published():
  _, variables = backbones.shapes(MobileNetV1(), 32, 32)
  assert backbones.count(variables["params"]) == 3_206_976
  assert backbones.count(variables["batch_stats"]) == 21_888
  assert f"{(3_206_976 + 1001 * 1000) / 1e6:.1f}" == "4.2"


@pytest.mark.parametrize("width, millions", [(1.0, 569), (0.75, 325), (0.5, 149), (0.25, 41)])
def test_multiply_adds_at_224_pixels_are_those_of_the_papers_table_6(width, millions):
  products, _ = backbones.costs(MobileNetV1(width), 224, 224)
  assert round((products + int(1024 * width) * 1000) / 1e6) == millions


def test_features_are_those_of_the_last_block_at_each_stride():
  features, _ = backbones.shapes(MobileNetV1(0.25), 64, 96)
  assert [x.shape[-1] for x in features.values()] == [16, 32, 64, 128, 256]


@pytest.mark.parametrize("size", [(64, 96), (67, 33), (33, 1)])
def test_features_are_rounded_up(size):
  backbones.assert_rounded_up(tiny, *size)


def test_dilation_in_place_of_strides_finds_the_same_features_more_densely(monkeypatch):
  monkeypatch.setattr(mobilenet, "V1_BLOCKS", FEW)
  backbones.assert_denser(tiny, backbones.image(67, 90))


def test_computing_features_again_changes_nothing(monkeypatch):
  monkeypatch.setattr(mobilenet, "V1_BLOCKS", FEW[:3])
  backbones.assert_recomputed(tiny, backbones.image(20, 33))


def test_statistics_follow_training_unless_frozen(monkeypatch):
  monkeypatch.setattr(mobilenet, "V1_BLOCKS", FEW)
  backbones.assert_statistics_follow_training(tiny, backbones.image(20, 33))


def test_other_output_strides_are_refused():
  with pytest.raises(ValueError, match="output_stride=64; known: 8, 16, 32"):
    MobileNetV1(output_stride=64)


def test_the_critic_judges_the_structure_at_its_own_size():
  x = structure(2, 19, 24, 6)
  variables = backbones.initial(TINY, x)
  judge = jax.jit(lambda x: TINY.apply(variables, x, train=False))
  logits = judge(x)
  assert logits.shape == (2, 1, 1, 1) and logits[0] != logits[1]
  np.testing.assert_allclose(judge(resize_bilinear(x, TINY.size)), logits, rtol=1e-5, atol=1e-7)


def test_dropout_is_random_in_training_only_and_gradients_reach_everything():
  net, x = TINY.clone(norm=Norm("none")), structure(2, 19, 24, 6)
  params = backbones.initial(net, x)["params"]

  @jax.jit
  def graded(params, x, key):
    def total(params, x):
      logits = net.apply({"params": params}, x, train=True, rngs={"dropout": key})
      return jnp.sum(jnp.sin(logits)), logits

    return jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)

  runs = [graded(params, x, jax.random.key(seed)) for seed in (0, 0, 1)]
  first, again, other = (np.ravel(logits) for (_, logits), _ in runs)
  assert np.array_equal(first, again) and np.all(first != other)
  _, grads = runs[0]
  assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in jax.tree.leaves(grads))
