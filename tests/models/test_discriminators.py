"""Discriminators against the published tables: parameters, fields of view, and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.models.critics.discriminators import LucNet, PatchNet, TwoBranchNet
from asmjax.models.layers import Norm
from tests.oracles import arrays as oracle

SMALL = (4, 6, 8)


def structures(net, *size, channels=3, n=1):
  """Inputs of `net`: a structure and, for two branches, an image."""
  rng = np.random.default_rng(0)
  inputs = 2 if isinstance(net, TwoBranchNet) else 1
  return tuple(
    jnp.array(rng.normal(size=(n, *size, channels)), jnp.result_type(float)) for _ in range(inputs)
  )


def shapes(net, *inputs):
  return jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), *inputs, train=False))


def initial(net, *inputs):
  return jax.jit(lambda: net.init(jax.random.key(0), *inputs, train=False))()


def parameters(net, channels):
  _, variables = shapes(net, jnp.zeros((1, 8, 8, channels)))
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def layers(*rows):
  """Parameters of convolutions with biases, given as (kernel, inputs, outputs)."""
  return sum(kernel**2 * inputs * outputs + outputs for kernel, inputs, outputs in rows)


LARGE = lambda c: layers(
  (3, c, 96), (3, 96, 128), (3, 128, 128), (3, 128, 256), (3, 256, 256), (3, 256, 512), (3, 512, 2)
)
LARGE_LIGHT = lambda c: layers(
  (3, c, 96), (3, 96, 128), (3, 128, 128), (3, 128, 128), (3, 128, 128), (3, 128, 256), (3, 256, 2)
)
SMALL_FOV = lambda c: layers(
  (3, c, 96), (1, 96, 128), (3, 128, 256), (1, 256, 256), (3, 256, 512), (1, 512, 2)
)
SMALL_LIGHT = lambda c: layers(
  (3, c, 96), (1, 96, 128), (3, 128, 128), (1, 128, 128), (3, 128, 256), (1, 256, 2)
)


# Where the printed number is None, the paper's differs from what its own layers add up to.
@pytest.mark.parametrize(
  "net, counted, channels, printed",
  [
    (LucNet(), LARGE, 21, "2.4e+06"),
    (LucNet(), LARGE, 63, "2.4e+06"),
    (LucNet(light=True), LARGE_LIGHT, 21, "8.7e+05"),
    (LucNet(light=True), LARGE_LIGHT, 63, "9.1e+05"),
    (LucNet(large=False, light=True), SMALL_LIGHT, 21, "4.9e+05"),
    (LucNet(large=False, light=True), SMALL_LIGHT, 63, None),
    (LucNet(large=False), SMALL_FOV, 21, None),
  ],
)
def test_luc_net_has_the_papers_number_of_parameters(net, counted, channels, printed):
  assert parameters(net, channels) == counted(channels)
  assert printed in (None, f"{counted(channels):.1e}")


def test_patch_net_has_a_bias_at_the_logit_only():
  widths = (6, 64, 128, 256, 512, 512)
  kernels = sum(16 * a * b for a, b in zip(widths, widths[1:], strict=False))
  assert parameters(PatchNet(), 6) == kernels + 2 * sum(widths[1:]) + (16 * 512 + 1)


def test_two_branch_net_joins_branches_of_64_channels():
  net = TwoBranchNet()
  _, variables = shapes(net, jnp.zeros((1, 8, 8, 9)), jnp.zeros((1, 8, 8, 3)))
  kernels = {name: layer["kernel"].shape for name, layer in variables["params"].items()}
  assert kernels["structure"] == (5, 5, 9, 64) and kernels["image2"] == (5, 5, 16, 64)
  assert kernels["conv1"] == (3, 3, 64 + 64, 128)


@pytest.mark.parametrize(
  "net, stride",
  [
    (LucNet(), 4),
    (LucNet(large=False, light=True), 4),
    (TwoBranchNet(), 4),
    (PatchNet(), 16),
    (PatchNet(SMALL, norm=Norm("none")), 4),
  ],
)
@pytest.mark.parametrize("size", [(32, 48), (13, 18), (1, 7)])
def test_discriminators_have_a_logit_for_every_patch_however_odd_the_size(net, stride, size):
  logits, _ = shapes(net, *structures(net, *size, n=2))
  assert logits.shape == (2, *(-(-side // stride) for side in size), 1)


def averaging(variables):
  """Every kernel an average, every bias 0; of two outputs only the second one looks."""

  def weights(path, leaf):
    if path[-1].key == "bias":
      return jnp.zeros(leaf.shape)
    kernel = jnp.full(leaf.shape, 1 / np.prod(leaf.shape[:3]))
    return kernel.at[..., 0].set(0) if leaf.shape[-1] == 2 else kernel

  return jax.tree_util.tree_map_with_path(weights, variables)


# (top, left) of the window of logit (row, column) (k, k), and the input that is looked at.
@pytest.mark.parametrize(
  "net, size, k, first, field, which",
  [
    (LucNet(light=True), 52, 6, 9, 34, 0),
    (LucNet(large=False), 48, 6, 17, 18, 0),
    (TwoBranchNet(), 52, 6, 11, 30, 0),
    (TwoBranchNet(), 52, 6, 9, 34, 1),
    (PatchNet((2, 2, 2, 2, 2), norm=Norm("none")), 176, 4, 17, 142, 0),
  ],
)
def test_discriminators_have_the_published_receptive_field(net, size, k, first, field, which):
  """Kernels are positive: light passes every ReLU and max pool, and never cancels."""
  stop, last = first + field, first + field - 1
  outside = np.ones((size, size))
  outside[first:stop, first:stop] = 0
  corners = np.zeros((4, size, size))
  corners[range(4), [first, first, last, last], [first, last, first, last]] = 1
  lit = jnp.array(np.stack([outside, *corners]), jnp.float32)[..., None]
  lit = jnp.repeat(lit, 3, -1)
  inputs = [jnp.zeros_like(structure) for structure in structures(net, size, size, n=5)]
  inputs[which] = lit
  _, variables = shapes(net, *inputs)
  logits = jax.jit(lambda v, *x: net.apply(v, *x, train=False))(averaging(variables), *inputs)
  assert logits[0, k, k, 0] == 0 and np.max(logits[0]) > 0
  assert np.all(logits[1:, k, k, 0] > 0)


def stages(layer, x, pooled, count):
  """Convolutions, each with a ReLU, and 2x2 max pools after some."""
  for i in range(1, count + 1):
    x = np.maximum(layer(x, f"conv{i}"), 0)
    if i in pooled:
      n, h, w, c = x.shape
      x = x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
  outputs = layer(x, "outputs")
  return outputs[..., 1:] - outputs[..., :1]


def luc(layer, structure):
  return stages(layer, structure, (2, 4), 5)


def two_branch(layer, structure, image):
  relu = lambda x, name: np.maximum(layer(x, name), 0)
  branches = relu(structure, "structure"), relu(relu(image, "image1"), "image2")
  return stages(layer, np.concatenate(branches, -1), (1, 2), 3)


def patch(layer, structure):
  relu = lambda x, name, stride: np.maximum(layer(x, name, stride), 0)
  return layer(relu(relu(relu(structure, "conv1", 2), "conv2", 2), "conv3", 1), "logit")


@pytest.mark.parametrize(
  "net, definition",
  [
    (LucNet(large=False, light=True), luc),
    (TwoBranchNet(), two_branch),
    (PatchNet(SMALL, norm=Norm("none")), patch),
  ],
  ids=["luc", "two_branch", "patch"],
)
def test_discriminators_are_their_definitions(net, definition):
  inputs = structures(net, 8, 12)
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda p: p + rng.normal(size=p.shape).astype(np.float32) * (p.ndim == 1),  # Of biases.
    jax.device_get(initial(net, *inputs)["params"]),
  )

  def layer(x, name, stride=1):
    return oracle.convolve(x, params[name]["kernel"], params[name]["bias"], stride, 1)

  logits = jax.jit(lambda *x: net.apply({"params": params}, *x, train=False))(*inputs)
  expected = definition(layer, *map(np.asarray, inputs))
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * np.std(expected))


def test_luc_net_has_the_logit_of_a_softmax_over_false_and_true():
  net = LucNet(large=False, light=True)
  x = structures(net, 8, 8)
  params = initial(net, *x)["params"]
  apply = jax.jit(lambda params: net.apply({"params": params}, *x, train=False))
  outputs = params["outputs"]
  only = lambda i: {**params, "outputs": jax.tree.map(lambda p: p.at[..., 1 - i].set(0), outputs)}
  false, true = -apply(only(0)), apply(only(1))
  probability = jax.nn.softmax(jnp.concatenate([false, true], -1))[..., 1:]
  np.testing.assert_allclose(jax.nn.sigmoid(apply(params)), probability, rtol=1e-5)


# With a batch norm after it, it does not matter that a singular value's own derivative is
# approximate.
@pytest.mark.parametrize(
  "net", [LucNet(large=False, light=True), PatchNet((3, 4), spectral=True)], ids=["luc", "patch"]
)
def test_discriminators_differentiate_a_gradient_penalty_to_its_slope(net, float64):
  """The derivative of the input gradient's square against finite differences of that square."""
  x = structures(net, 7, 5)
  variables = initial(net, *x)
  state = {key: value for key, value in variables.items() if key != "params"}

  def penalty(params):
    def total(x):
      logits, _ = net.apply({"params": params, **state}, *x, train=True, mutable=["batch_stats"])
      return jnp.sum(jnp.sin(logits))

    return sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(total)(x)))

  params = variables["params"]
  keys = jax.random.split(jax.random.key(1), len(jax.tree.leaves(params)))
  direction = jax.tree.unflatten(
    jax.tree.structure(params),
    [
      jax.random.normal(key, p.shape) * 1e-3
      for key, p in zip(keys, jax.tree.leaves(params), strict=True)
    ],
  )
  moved = lambda t: jax.tree.map(lambda p, d: p + t * d, params, direction)
  along = jax.jit(jax.value_and_grad(lambda t: penalty(moved(t))))
  value, slope = along(0.0)
  (above, _), (below, _) = along(1e-4), along(-1e-4)
  assert value > 0 and abs(slope) > 1e-6 * value
  np.testing.assert_allclose(slope, (above - below) / 2e-4, rtol=1e-4)


def test_two_branch_net_has_a_gradient_for_both_inputs():
  net = TwoBranchNet()
  inputs = structures(net, 8, 8)
  variables = initial(net, *inputs)
  total = lambda inputs: jnp.sum(net.apply(variables, *inputs, train=False))
  assert all(np.any(g != 0) for g in jax.jit(jax.grad(total))(inputs))


@pytest.mark.parametrize("kind", [LucNet, TwoBranchNet, PatchNet])
def test_discriminators_normalize_every_kernel_if_spectral(kind):
  nets = kind(), kind(spectral=True)
  unnormalized, spectral = (shapes(net, *structures(net, 8, 8))[1] for net in nets)
  assert unnormalized["params"] == spectral["params"]
  estimated = {name for name in spectral["batch_stats"] if name.endswith("_spectral")}
  assert estimated == {
    f"{name}_spectral" for name, layer in unnormalized["params"].items() if "kernel" in layer
  }


def test_discriminators_estimate_the_largest_singular_values_in_training_alone():
  unnormalized, spectral = (
    PatchNet((4, 6), spectral, norm=Norm("none")) for spectral in (False, True)
  )
  x = structures(unnormalized, 8, 8)
  variables = initial(spectral, *x)
  params, stats = variables["params"], variables["batch_stats"]
  step, evaluate = (
    jax.jit(
      lambda stats, train=train: spectral.apply(
        {"params": params, "batch_stats": stats}, *x, train=train, mutable=["batch_stats"]
      )
    )
    for train in (True, False)
  )
  for _ in range(60):
    stats = step(stats)[1]["batch_stats"]
  logits, kept = evaluate(stats)
  assert jax.tree.all(jax.tree.map(np.array_equal, kept["batch_stats"], stats))
  largest = lambda p: np.linalg.norm(np.reshape(p, (-1, p.shape[-1])), 2)
  divided = jax.tree.map(lambda p: p / largest(p) if p.ndim > 1 else p, params)
  for name, layer in params.items():
    sigma = stats[f"{name}_spectral"][f"{name}/kernel/sigma"]
    np.testing.assert_allclose(largest(layer["kernel"]) / sigma, 1, atol=0.01)
  expected = jax.jit(lambda p: unnormalized.apply({"params": p}, *x, train=False))(divided)
  np.testing.assert_allclose(logits, expected, rtol=0.02, atol=1e-4)


def test_luc_net_keeps_float32_parameters_under_bfloat16_compute():
  net = LucNet(large=False, light=True, spectral=True, dtype=jnp.bfloat16)
  logits, variables = shapes(net, *structures(net, 8, 8))
  assert logits.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
