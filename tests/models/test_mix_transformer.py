"""Mix Transformer and SegFormer against published counts, and what is random in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.backbones import MixTransformer
from asmjax.models.backbones.mix_transformer import DEPTHS
from asmjax.models.predictors.published import PUBLISHED
from tests.helpers import tiny_backbones as backbones


# In millions, with a decoder for 150 classes (Xie et al. 2021, Table 1).
@pytest.mark.parametrize("size, millions", [(0, 3.8), (1, 13.7), (2, 27.5)])
def test_segformer_has_the_published_number_of_parameters(size, millions):
  network = PUBLISHED[f"segformer_b{size}"]({"segmentation": 150})
  maps, variables = backbones.shapes(network, 64, 64)
  assert maps["segmentation"].shape == (1, 16, 16, 150)
  assert round(backbones.count(variables["params"]) / 1e6, 1) == millions
  assert sum(DEPTHS[size]) == len(
    [name for name in variables["params"]["backbone"] if "_block" in name]
  )


def test_mix_transformer_drops_paths_by_its_key_with_and_without_remat():
  make = lambda remat: MixTransformer((2, 0, 0, 0), (4,) * 4, (1,) * 4, drop_path=0.5, remat=remat)
  nets, x = [make(remat) for remat in (False, True)], backbones.image(24, 33)
  variables = backbones.initial(nets[0], x)

  def total(variables, key, net):
    return jnp.mean(net.apply(variables, x, train=True, rngs={"dropout": key})[32])

  counts = [
    str(jax.make_jaxpr(jax.grad(total), static_argnums=2)(variables, jax.random.key(0), net)).count(
      "dot_general["
    )
    for net in nets
  ]
  assert counts[0] < counts[1]
  run = jax.jit(lambda key: [total(variables, key, net) for net in nets])
  first, again = run(jax.random.key(0))
  np.testing.assert_allclose(first, again, rtol=1e-5)
  others = [float(run(jax.random.key(seed))[0]) for seed in range(1, 9)]
  assert len(set(others)) > 1


@pytest.mark.parametrize(
  "options, message",
  [
    ({"num_heads": (1, 2, 4)}, "expected one of each for each of 4 stages"),
    ({"widths": (4, 5, 8, 8), "num_heads": (1, 2, 2, 2)}, "no multiples of num_heads"),
  ],
)
def test_mix_transformer_refuses_stages_that_do_not_fit(options, message):
  with pytest.raises(ValueError, match=message):
    MixTransformer(**options)
