"""Placing arrays into variables: what becomes of each, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.pretrained.names import WeightSource, hwio_from_hwcm, hwio_from_oihw, nest, torch_layer
from asmjax.pretrained.transfer import transfer

MAP = torch_layer("conv1", "0", "1", shift=0.0) | {
  "params/head_a/kernel": WeightSource(("head.weight",), hwio_from_oihw),
  "params/head_a/bias": WeightSource(("head.bias",)),
}


def variables(classes=5, dtype=jnp.float32):
  ones = lambda *shape: jnp.ones(shape, dtype)
  return {
    "params": {
      "conv1": {"kernel": ones(3, 3, 2, 4)},
      "conv1_norm": {"scale": ones(4), "bias": ones(4)},
      "head_a": {"kernel": ones(1, 1, 4, classes), "bias": ones(classes)},
    },
    "batch_stats": {"conv1_norm": {"mean": ones(4), "var": ones(4)}},
  }


@pytest.fixture
def weights():
  rng = np.random.default_rng(0)
  shapes = {
    "0.weight": (4, 2, 3, 3),
    "1.weight": (4,),
    "1.bias": (4,),
    "1.running_mean": (4,),
    "1.running_var": (4,),
    "head.weight": (5, 4, 1, 1),
    "head.bias": (5,),
  }
  arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
  return arrays | {"1.num_batches_tracked": np.array(7), "fc.weight": np.ones((9, 4))}


def test_transfer_places_all_values_and_reports_them(weights):
  before = variables()
  after, coverage = transfer(before, weights, MAP)
  np.testing.assert_array_equal(
    after["params"]["conv1"]["kernel"], weights["0.weight"].transpose(2, 3, 1, 0)
  )
  np.testing.assert_array_equal(after["params"]["conv1_norm"]["scale"], weights["1.weight"])
  np.testing.assert_array_equal(after["batch_stats"]["conv1_norm"]["var"], weights["1.running_var"])
  assert float(before["params"]["conv1"]["kernel"].sum()) == 72
  assert coverage.loaded["params/conv1/kernel"] == ("0.weight",) and len(coverage.loaded) == 7
  assert coverage.ignored == {"1.num_batches_tracked": (), "fc.weight": (9, 4)}
  assert (
    coverage.count_parameters() == (72 + 8 + 25, 72 + 8 + 25) and not coverage.describe_faults()
  )
  assert str(coverage) == ("loaded 105 of 105 parameters: 7 of 7 arrays; 2 of the file ignored")


def test_transfer_uses_ignored_arrays_that_the_map_names(weights):
  entries = MAP | {"params/head_a/bias": WeightSource(("fc.bias",))}
  weights["fc.bias"] = weights.pop("head.bias")
  _, coverage = transfer(variables(), weights, entries)
  assert coverage.loaded["params/head_a/bias"] == ("fc.bias",)


@pytest.mark.parametrize("stored", [np.float64, np.float16])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_transfer_keeps_the_types_of_variables(weights, stored, dtype):
  weights = {name: array.astype(stored) for name, array in weights.items()}
  after, _ = transfer(variables(dtype=dtype), weights, MAP)
  bias = after["params"]["conv1_norm"]["bias"]
  assert bias.dtype == dtype
  np.testing.assert_array_equal(bias, weights["1.bias"].astype(dtype))


def test_transfer_copies_values(weights):
  after, _ = transfer(variables(), weights, MAP)
  kept = weights["1.bias"].copy()
  weights["1.bias"][:] = 9
  np.testing.assert_array_equal(after["params"]["conv1_norm"]["bias"], kept)


def test_transfer_names_missing_unused_and_misshapen_arrays(weights):
  weights["1.bias"] = np.ones(3, np.float32)
  weights |= {"2.weight": np.ones(8), "3.bias": np.ones(5)}
  del weights["1.weight"]
  entries = {path: source for path, source in MAP.items() if path != "params/head_a/bias"}
  with pytest.raises(ValueError) as error:
    transfer(variables(), weights, entries)
  for line in (
    "missing (2):",
    "params/conv1_norm/scale (4,): no '1.weight' in the file",
    "params/head_a/bias (5,): not in the map",
    "of another shape (1):",
    "params/conv1_norm/bias: found (3,), expected (4,)",
    "unused of the file (2):",
    "2.weight (8,)",
    "3.bias (5,)",
    "strict=False",
  ):
    assert line in str(error.value)
  after, coverage = transfer(variables(), weights, entries, strict=False)
  assert coverage.missing == {"params/conv1_norm/scale": ("1.weight",), "params/head_a/bias": ()}
  assert coverage.shape_mismatch == {"params/conv1_norm/bias": (3,)}
  assert coverage.unused == {"2.weight": (8,), "3.bias": (5,)}
  np.testing.assert_array_equal(after["params"]["conv1_norm"]["bias"], np.ones(4))
  assert coverage.count_parameters() == (72 + 20, 105)


def test_transfer_needs_both_arrays_of_a_variable(weights):
  entries = MAP | torch_layer("conv1", "0", "1", shift=0.0, bias=True)
  with pytest.raises(ValueError, match=r"conv1_norm/mean \(4,\): no '0.bias' in the file"):
    transfer(variables(), weights, entries)
  weights["0.bias"] = np.arange(4, dtype=np.float32)
  after, coverage = transfer(variables(), weights, entries)
  np.testing.assert_allclose(
    after["batch_stats"]["conv1_norm"]["mean"], weights["1.running_mean"] - np.arange(4)
  )
  assert coverage.loaded["batch_stats/conv1_norm/mean"] == ("1.running_mean", "0.bias")


def test_transfer_leaves_a_head_of_other_classes_fresh_even_if_strict(weights):
  after, coverage = transfer(variables(classes=3), weights, MAP)
  np.testing.assert_array_equal(after["params"]["head_a"]["kernel"], np.ones((1, 1, 4, 3)))
  assert coverage.reinitialized == {
    "params/head_a/kernel": (1, 1, 4, 5),
    "params/head_a/bias": (5,),
  }
  assert "params/head_a/bias (3,), the file has (5,)" in str(coverage)
  with pytest.raises(ValueError, match=r"head_a/bias: found \(5,\), expected \(3,\)"):
    transfer(variables(classes=3), weights, MAP, heads=())


@pytest.mark.parametrize("multiple", [1, 2])
def test_transfer_leaves_kernels_between_classes_fresh(multiple):
  """As those by which FCN enlarges class scores, and Dilated8's context, of twice the classes."""
  path = "params/head_a_up/kernel"
  up = {"kernel": jnp.ones((4, 4, 3 * multiple, 3))}
  fresh = {"params": {"body": {"bias": jnp.ones(2)}, "head_a_up": up}}
  entries = {"params/body/bias": WeightSource(("bias",)), path: WeightSource(("up",))}
  body = {"bias": np.zeros(2, np.float32)}
  stored = body | {"up": np.zeros((4, 4, 5 * multiple, 5), np.float32)}
  _, coverage = transfer(fresh, stored, entries)
  assert coverage.reinitialized == {path: (4, 4, 5 * multiple, 5)}
  other = body | {"up": np.zeros((4, 4, 4 * multiple, 5), np.float32)}
  with pytest.raises(ValueError, match=r"of another shape \(1\)"):
    transfer(fresh, other, entries)
  _, coverage = transfer(fresh, other, entries, reinitialize=("*_up/*",))
  assert coverage.reinitialized == {path: (4, 4, 4 * multiple, 5)}


def test_transfer_refuses_a_head_that_differs_in_more_than_classes(weights):
  weights["head.weight"] = np.ones((3, 4, 3, 3), np.float32)
  with pytest.raises(ValueError, match=r"found \(3, 3, 4, 3\), expected \(1, 1, 4, 5\)"):
    transfer(variables(), weights, MAP)


def test_transfer_lets_only_heads_differ_in_classes(weights):
  weights["0.weight"] = np.ones((6, 2, 3, 3), np.float32)
  with pytest.raises(ValueError, match="conv1/kernel: found"):
    transfer(variables(), weights, MAP)
  after, coverage = transfer(variables(), weights, MAP, reinitialize=("*/conv1/*",))
  np.testing.assert_array_equal(after["params"]["conv1"]["kernel"], np.ones((3, 3, 2, 4)))
  assert coverage.reinitialized == {"params/conv1/kernel": (3, 3, 2, 6)}


def test_transfer_reinitializes_by_pattern(weights):
  del weights["head.bias"]
  after, coverage = transfer(variables(), weights, MAP, reinitialize=("params/head_*",))
  assert coverage.reinitialized == {
    "params/head_a/kernel": (1, 1, 4, 5),
    "params/head_a/bias": None,
  }
  np.testing.assert_array_equal(after["params"]["head_a"]["kernel"], np.ones((1, 1, 4, 5)))
  with pytest.raises(ValueError, match="reinitialize: no variable matches 'params/haed_"):
    transfer(variables(), weights, MAP, reinitialize=("params/haed_*",))


def test_transfer_ignores_arrays_by_pattern(weights):
  weights["extra.a"], weights["extra.b"] = np.ones(2), np.ones(3)
  with pytest.raises(ValueError, match=r"unused of the file \(2\)"):
    transfer(variables(), weights, MAP)
  _, coverage = transfer(variables(), weights, MAP, ignore=("extra.*",))
  assert coverage.ignored["extra.b"] == (3,) and not coverage.unused


def test_transfer_is_strict_within_a_part(weights):
  nested = {
    kind: {"backbone": tree, "top": {"bias": jnp.ones(2)}} for kind, tree in variables().items()
  }
  entries = nest("backbone", MAP)
  after, coverage = transfer(nested, weights, entries, part="backbone")
  np.testing.assert_array_equal(after["params"]["backbone"]["head_a"]["bias"], weights["head.bias"])
  assert coverage.outside == {"params/top/bias": (2,), "batch_stats/top/bias": (2,)}
  assert "\nfresh outside of backbone: 2 arrays" in str(coverage) and not coverage.missing
  with pytest.raises(ValueError, match=r"missing \(2\)"):
    transfer(nested, weights, entries)
  del weights["1.bias"]
  with pytest.raises(ValueError, match=r"missing \(1\)"):
    transfer(nested, weights, entries, part="backbone")
  with pytest.raises(ValueError, match="no variables in part 'trunk'; known: .'backbone', 'top'"):
    transfer(nested, weights, entries, part="trunk")


def test_transfer_refuses_a_file_of_nothing_that_fits():
  with pytest.raises(ValueError, match="none of the weights fits the network:\nmissing .7.:"):
    transfer(variables(), {"a": np.ones(2)}, MAP, strict=False)


def test_transfer_refuses_integers_and_other_ranks(weights):
  with pytest.raises(ValueError, match="conv1_norm/bias: found '1.bias' int64 .*expected a float"):
    transfer(variables(), weights | {"1.bias": np.arange(4)}, MAP, strict=False)
  with pytest.raises(ValueError, match="found '0.weight' float64 .4, 2, 9., of another rank"):
    transfer(variables(), weights | {"0.weight": np.ones((4, 2, 9))}, MAP, strict=False)


def test_describe_faults_cuts_long_lists():
  weights = {f"extra{i:02}": np.ones(1) for i in range(13)} | {"1.bias": np.ones(4)}
  _, coverage = transfer(variables(), weights, MAP, strict=False)
  assert "extra09" in str(coverage) and "extra10" not in str(coverage)
  assert str(coverage).endswith("... and 3 more")


def test_hwio_from_hwcm_keeps_channels_with_their_multiples():
  kernel = np.arange(2 * 2 * 3 * 2).reshape(2, 2, 3, 2)
  converted = hwio_from_hwcm(kernel)
  assert converted.shape == (2, 2, 1, 6)
  for channel in range(3):
    for multiple in range(2):
      np.testing.assert_array_equal(
        converted[:, :, 0, 2 * channel + multiple], kernel[..., channel, multiple]
      )
