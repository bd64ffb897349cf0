"""Networks with published names against the libraries that publish them, and what these computed.

Weights are drawn, in the layout of the published files. Stored numbers are the libraries' own: of
each output every so many values of the first image, as `sample` takes them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from asmjax.models.backbones import MixTransformer
from asmjax.models.predictors import SegFormer
from asmjax.pretrained import load, name_map, transfer
from tests.helpers import published_weights

SIZE = (45, 70)
HEADS = {"segmentation": 3}
MIX_TRANSFORMER = MixTransformer((1, 2, 1, 1), (4, 8, 12, 16), (1, 2, 3, 4))


def sample(maps):
  """About four values of each map."""
  return np.concatenate([x.ravel()[:: x.size // 4] for x in maps])


def segformer(folder):
  """The logits of transformers' SegFormer, and its features."""
  transformers = pytest.importorskip("transformers")
  torch = pytest.importorskip("torch")
  config = transformers.SegformerConfig(
    depths=[1, 2, 1, 1],
    hidden_sizes=[4, 8, 12, 16],
    num_attention_heads=[1, 2, 3, 4],
    decoder_hidden_size=6,
    num_labels=3,
  )
  config.save_pretrained(folder)
  model = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
  outputs = model(torch.tensor(pixels().transpose(0, 3, 1, 2)), output_hidden_states=True)
  return [outputs.logits, *outputs.hidden_states]


def pixels():
  return np.random.default_rng(1).normal(size=(1, *SIZE, 3)).astype(np.float32)


CASES = {"segformer": (SegFormer(HEADS, MIX_TRANSFORMER, features=6), "transformers", segformer)}
# fmt: off
STORED = {
  "segformer": [
    -0.13848, 0.07386, 0.08517, -0.08813, 1.50363, 1.03396, 1.35859, 0.69815, -0.54401,
    -0.10703, 0.22437, 0.41118, -0.85267, 0.9432, 0.14122, 0.86628, -0.828, -1.36654, 0.8242,
    -0.84723,
  ],
}
# fmt: on


@functools.cache
def compute(name):
  """The file's arrays, our variables with them, our logits and features, finest first."""
  network, naming, _ = CASES[name]
  arrays = published_weights.drawn(network, naming)
  variables, _ = transfer(published_weights.fresh(network, 64), arrays, name_map(network, naming))

  @jax.jit
  def run(variables):
    parts = {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree}
    features = network.backbone.apply(parts, jnp.array(pixels()), train=False)
    maps = network.apply(variables, jnp.array(pixels()), train=False)
    return [maps["segmentation"], *(features[stride] for stride in (4, 8, 16, 32))]

  return arrays, variables, run(variables)


@pytest.mark.parametrize("name", CASES)
def test_networks_compute_the_numbers_that_their_libraries_computed(name):
  *_, maps = compute(name)
  np.testing.assert_allclose(sample(maps), STORED[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_networks_compute_what_their_libraries_do(name, tmp_path):
  network, _, reference = CASES[name]
  arrays, variables, maps = compute(name)
  path = tmp_path / "model.safetensors"
  save_file(arrays, path)
  loaded, _ = load(path, "safetensors", network, published_weights.fresh(network, 64))
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  expected = [x.detach().numpy().transpose(0, 2, 3, 1) for x in reference(tmp_path)]
  for ours, theirs in zip(maps, expected, strict=True):
    assert np.std(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
