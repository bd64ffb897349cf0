"""Gradients that are reversed, measured and balanced on their way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.gradients import Branch, Probe, fan_out, reverse_gradient


def test_reverse_gradient_is_the_identity_and_reverses_the_gradient():
  tree = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}
  value = lambda tree, weight: sum(
    jnp.sum(x**2) for x in jax.tree.leaves(reverse_gradient(tree, weight))
  )
  assert value(tree, 0.5) == value(tree, -4.0) == 14.0
  for weight in (1.0, 0.25, -3.0, 0.0):
    grads = jax.grad(value)(tree, weight)
    np.testing.assert_allclose(grads["a"], -weight * 2 * tree["a"])
    np.testing.assert_allclose(grads["b"], -weight * 2 * tree["b"])


def test_reverse_gradient_takes_a_traced_weight_and_gives_it_no_gradient():
  slope = jax.jit(jax.grad(lambda w: jnp.sum(reverse_gradient(jnp.ones(3), w))))(2.0)
  assert slope == 0
  reverse = jax.jit(jax.grad(lambda x, w: jnp.sum(reverse_gradient(x, w) ** 2)))
  np.testing.assert_allclose(reverse(jnp.array([1.0, 2.0]), 0.5), [-1.0, -2.0])


def test_reverse_gradient_keeps_the_dtype_of_the_cotangent():
  x = jnp.ones(2, jnp.bfloat16)
  assert jax.grad(lambda x: jnp.sum(reverse_gradient(x, jnp.float32(2.0))))(x).dtype == jnp.bfloat16


def test_reverse_gradient_solves_a_bilinear_saddle_from_both_sides():
  value = lambda p: jnp.sum(p["x"] * reverse_gradient(p["y"]))
  grads = jax.grad(value)({"x": jnp.array(2.0), "y": jnp.array(3.0)})
  assert grads == {"x": 3.0, "y": -2.0}


def cotangents(branches, *, seed=0):
  """A random tree for each branch, of unlike sizes."""
  rng = np.random.default_rng(seed)
  draw = lambda scale: {
    "a": jnp.array(scale * rng.normal(size=(2, 3)), jnp.float32),
    "b": [jnp.array(scale * rng.normal(), jnp.float32)],
  }
  return {name: draw(10.0**i) for i, name in enumerate(branches)}


def norm(tree):
  return np.sqrt(sum(np.sum(np.square(leaf, dtype=float)) for leaf in jax.tree.leaves(tree)))


def pulled(branches, back, total=lambda square: square):
  """What `fan_out` gives, sends back for the cotangents of its branches, and reads."""
  tree = jax.tree.map(jnp.ones_like, next(iter(back.values())))
  probes = {name: Probe(jnp.zeros(()), jnp.zeros(())) for name in branches}
  copies, pull = jax.vjp(lambda tree, probes: fan_out(tree, probes, branches, total), tree, probes)
  for copy in copies.values():
    jax.tree.map(np.testing.assert_array_equal, copy, tree)
  return pull(back)


def test_fan_out_adds_up_gradients_and_reads_the_norm_of_each():
  branches = {"pixel": Branch(reference=True), "structure": Branch(), "affinity": Branch()}
  back = cotangents(branches)
  sent, read = pulled(branches, back)
  expected = jax.tree.map(lambda *each: sum(each), *back.values())
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), sent, expected)
  for name in branches:
    np.testing.assert_allclose(read[name].unscaled, norm(back[name]) ** 2, rtol=1e-6)
    assert read[name].scaled == read[name].unscaled


@pytest.mark.parametrize("balance, capped", [(0.3, True), (1e3, False)])
def test_fan_out_caps_a_branch_at_a_multiple_of_the_reference(balance, capped):
  branches = {
    "structure": Branch(balance),
    "one": Branch(reference=True),
    "two": Branch(reference=True),
  }
  back = cotangents(branches)
  back = {**back, "structure": jax.tree.map(lambda x: 1e3 * x, back["structure"])}
  sent, read = pulled(branches, back)
  limit = balance * np.hypot(norm(back["one"]), norm(back["two"]))
  factor = min(1.0, limit / norm(back["structure"]))
  assert (factor < 1) == capped
  np.testing.assert_allclose(read["structure"].unscaled, norm(back["structure"]) ** 2, rtol=1e-6)
  np.testing.assert_allclose(
    read["structure"].scaled, (factor * norm(back["structure"])) ** 2, rtol=1e-5
  )
  expected = jax.tree.map(lambda s, a, b: factor * s + a + b, *(back[name] for name in branches))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sent, expected)


def test_fan_out_measures_what_all_devices_send():
  """A device whose part is small is scaled like the others."""
  branches = {"pixel": Branch(reference=True), "structure": Branch(0.5)}
  back = cotangents(branches)
  factors = {"pixel": 9.0, "structure": 4.0}
  of_all = {name: factor * norm(back[name]) ** 2 for name, factor in factors.items()}
  total = lambda square: jnp.where(square > 1e2, of_all["structure"], of_all["pixel"])
  assert norm(back["pixel"]) ** 2 < 1e2 < norm(back["structure"]) ** 2
  factor = 0.5 * np.sqrt(of_all["pixel"] / of_all["structure"])
  _, read = pulled(branches, back, total)
  np.testing.assert_allclose(
    read["structure"].scaled, factor**2 * read["structure"].unscaled, rtol=1e-5
  )


def test_fan_out_passes_nothing_beside_a_zero_reference_without_nan():
  branches = {"pixel": Branch(reference=True), "structure": Branch(0.5)}
  back = cotangents(branches)
  zero = jax.tree.map(jnp.zeros_like, back["pixel"])
  sent, read = pulled(branches, {**back, "pixel": zero})
  assert norm(sent) == read["structure"].scaled == 0 < read["structure"].unscaled
  sent, _ = pulled(branches, {**back, "structure": zero})
  jax.tree.map(np.testing.assert_array_equal, sent, back["pixel"])


def test_fan_out_adds_up_half_precision_in_single():
  """bfloat16 knows no number between 4096 and 4128."""
  branches = {"pixel": Branch(reference=True), "structure": Branch(0.5)}
  ones = {"half": jnp.ones(4099, jnp.bfloat16), "single": jnp.ones(3)}
  sent, read = pulled(branches, dict.fromkeys(branches, ones))
  assert sent["half"].dtype == jnp.bfloat16
  assert read["pixel"].unscaled.dtype == jnp.float32 and read["pixel"].unscaled == 4099 + 3
