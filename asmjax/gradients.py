"""Gradients on their way back: reversed, measured, balanced."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree


@jax.custom_vjp
def reverse_gradient(tree: PyTree, weight: Any = 1.0) -> PyTree:
  """Returns the tree unchanged, and multiplies its cotangent by `-weight` (gradient reversal).

  With a critic's parameters wrapped in it, the critic ascends a value that everybody else
  descends, so that one backward pass serves both sides of min_S max_A V(S, A) (Hwang et al. 2019,
  Eq. 1). A negative weight scales the gradient without reversing it.

  Args:
    tree: Any pytree of floating-point arrays.
    weight: Number or scalar array; it receives no gradient.
  """
  del weight
  return tree


def _reverse_forward(tree: PyTree, weight: Any = 1.0) -> tuple[PyTree, Array]:
  return tree, jnp.asarray(weight, jnp.result_type(float))


def _reverse_backward(weight: Array, cotangent: PyTree) -> tuple[PyTree, Array]:
  reverse = lambda g: g * (-weight).astype(g.dtype)
  return jax.tree.map(reverse, cotangent), jnp.zeros_like(weight)


reverse_gradient.defvjp(_reverse_forward, _reverse_backward)


class Probe(NamedTuple):
  """Two scalars by which `fan_out` reads norms off a backward pass; their values do not matter.

  Attributes:
    unscaled: Its cotangent is the squared L2 norm of the gradient that comes back from a branch.
    scaled: Its cotangent is the squared L2 norm of what is passed on of that gradient.
  """

  unscaled: ArrayLike = 0.0
  scaled: ArrayLike = 0.0


class Branch(NamedTuple):
  """How the gradient of one branch of `fan_out` is passed on.

  Attributes:
    balance: Largest norm of what is passed on, as a multiple of the norm of all that comes back
      from the branches that are a `reference`; 0 passes on everything.
    reference: Whether the branch counts among those.
  """

  balance: float = 0.0
  reference: bool = False


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def fan_out(
  tree: PyTree,
  probes: Mapping[str, Probe],
  branches: Mapping[str, Branch],
  sum_devices: Callable[[Array], Array] = lambda square: square,
) -> dict[str, PyTree]:
  """Copies a tree to branches, and measures and balances the gradients that come back.

  A branch with a balance r passes on g * min(1, r ||g_reference|| / ||g||) of its gradient g. So
  its loss cannot outweigh the reference's, whatever its scale; the factor has no gradient. Esser
  et al. 2021 (VQGAN, Eq. 7) set the weight of a discriminator by such a ratio.

  Args:
    tree: Any pytree of floating-point arrays.
    probes: Probe by branch. Differentiating with respect to them reads norms off a backward pass
      that is made anyway.
    branches: Balance by the branch's name.
    sum_devices: Function from the squared norm of a device's gradient to that of all devices.

  Returns:
    `tree` by the name of the branch.

  Examples:
    >>> def value(x, probes):
    ...   branches = {"pixel": Branch(reference=True), "structure": Branch(balance=0.5)}
    ...   copies = fan_out(x, probes, branches)
    ...   return jnp.sum(2 * copies["pixel"]) + jnp.sum(100 * copies["structure"])
    >>> probes = {"pixel": Probe(), "structure": Probe()}
    >>> slope, squares = jax.grad(value, (0, 1))(jnp.ones(4), probes)
    >>> print(slope, squares["structure"].unscaled, squares["structure"].scaled)
    [3. 3. 3. 3.] 40000.0 4.0
  """
  del probes, sum_devices
  return dict.fromkeys(branches, tree)


def _fan_out_forward(tree, probes, branches, sum_devices):
  return fan_out(tree, probes, branches, sum_devices), None


def _fan_out_backward(branches, sum_devices, _, cotangents):
  squares = {name: _squared_norm(gradient) for name, gradient in cotangents.items()}
  reference = sum_devices(
    sum(squares[name] for name, branch in branches.items() if branch.reference)
  )
  scaled, probes = [], {}
  for name, branch in branches.items():
    factor = jnp.ones(())
    if branch.balance:
      square = sum_devices(squares[name])
      ratio = branch.balance * jnp.sqrt(reference / jnp.where(square > 0, square, 1))
      factor = jnp.where(square > 0, jnp.minimum(1.0, ratio), 1.0)
    scaled.append(jax.tree.map(lambda g, f=factor: g * f.astype(g.dtype), cotangents[name]))
    probes[name] = Probe(squares[name], factor**2 * squares[name])
  return jax.tree.map(lambda *gradients: sum(gradients), *scaled), probes


def _squared_norm(tree: PyTree) -> Float[Array, ""]:
  """Squared L2 norm, added up in single precision or better."""
  squares = (jnp.sum(jnp.square(g.astype(float))) for g in jax.tree.leaves(tree))
  return sum(squares, start=jnp.zeros(()))


fan_out.defvjp(_fan_out_forward, _fan_out_backward)
