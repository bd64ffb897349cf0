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
  """Identity whose cotangent is multiplied by `-weight`: gradient reversal.

  Wrapping a critic's parameters lets it climb a value that everybody else descends, so that one
  backward pass serves both sides of min_S max_A V(S, A) (Hwang et al. 2019, Eq. 1). A negative
  weight scales the gradient without reversing it.

  Args:
    tree: any pytree of floating-point arrays.
    weight: a number or a scalar array; it receives no gradient.

  Returns:
    `tree`, unchanged.
  """
  del weight
  return tree


def _ascend_forward(tree: PyTree, weight: Any = 1.0) -> tuple[PyTree, Array]:
  return tree, jnp.asarray(weight, jnp.result_type(float))


def _ascend_backward(weight: Array, cotangent: PyTree) -> tuple[PyTree, Array]:
  reverse = lambda g: g * (-weight).astype(g.dtype)
  return jax.tree.map(reverse, cotangent), jnp.zeros_like(weight)


reverse_gradient.defvjp(_ascend_forward, _ascend_backward)


class Probe(NamedTuple):
  """Two scalars whose values do not matter; see `fan_out`.

  Attributes:
    raw: Its cotangent is the squared L2 norm of what comes back from a branch.
    sent: Its cotangent is the squared L2 norm of what is passed on of that.
  """

  raw: ArrayLike = 0.0
  sent: ArrayLike = 0.0


class Branch(NamedTuple):
  """How the gradient of one branch of `fan_out` is passed on.

  Attributes:
    balance: Largest norm of what is passed on, as a multiple of the norm of all that comes back
      from the branches that are a `reference`; 0 passes on everything.
    reference: Whether it counts among those.
  """

  balance: float = 0.0
  reference: bool = False


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def fan_out(
  tree: PyTree,
  probes: Mapping[str, Probe],
  branches: Mapping[str, Branch],
  total: Callable[[Array], Array] = lambda square: square,
) -> dict[str, PyTree]:
  """Copies of a tree, one a branch, that measure and balance the gradients which come back.

  A branch with a balance r passes on g * min(1, r ||g_reference|| / ||g||) of its gradient g. So
  its loss cannot outweigh the reference's, whatever its scale; the factor has no gradient. Esser
  et al. 2021 (VQGAN, Eq. 7) set the weight of a discriminator by such a ratio.

  Args:
    tree: Any pytree of floating-point arrays.
    probes: By branch. Differentiating by them reads norms off a backward pass that is made anyway.
    branches: By name.
    total: From the squared norm of a device's gradient to that of all devices.

  Returns:
    `tree` by the name of the branch.

  Example:
    >>> def value(x, probes):
    ...   branches = {"pixel": Branch(reference=True), "structure": Branch(balance=0.5)}
    ...   copies = fan_out(x, probes, branches)
    ...   return jnp.sum(2 * copies["pixel"]) + jnp.sum(100 * copies["structure"])
    >>> probes = {"pixel": Probe(), "structure": Probe()}
    >>> slope, read = jax.grad(value, (0, 1))(jnp.ones(4), probes)
    >>> print(slope, read["structure"].raw, read["structure"].sent)
    [3. 3. 3. 3.] 40000.0 4.0
  """
  del probes, total
  return dict.fromkeys(branches, tree)


def _fan_out_forward(tree, probes, branches, total):
  return fan_out(tree, probes, branches, total), None


def _fan_out_backward(branches, total, _, cotangents):
  squares = {name: _square(each) for name, each in cotangents.items()}
  limit = total(sum(squares[name] for name, branch in branches.items() if branch.reference))
  sums, probes = [], {}
  for name, branch in branches.items():
    factor = jnp.ones(())
    if branch.balance:
      whole = total(squares[name])
      ratio = branch.balance * jnp.sqrt(limit / jnp.where(whole > 0, whole, 1))
      factor = jnp.where(whole > 0, jnp.minimum(1.0, ratio), 1.0)
    sums.append(jax.tree.map(lambda g, f=factor: g * f.astype(g.dtype), cotangents[name]))
    probes[name] = Probe(squares[name], factor**2 * squares[name])
  return jax.tree.map(lambda *each: sum(each), *sums), probes


def _square(tree: PyTree) -> Float[Array, ""]:
  """Squared L2 norm, added up in single precision or better."""
  squares = (jnp.sum(jnp.square(g.astype(float))) for g in jax.tree.leaves(tree))
  return sum(squares, start=jnp.zeros(()))


fan_out.defvjp(_fan_out_forward, _fan_out_backward)
