"""Leaves of pytrees by their path."""

from typing import Any

import jax
from jaxtyping import PyTree


def join_path(path: jax.tree_util.KeyPath) -> str:
  """Joins the keys that lead to a leaf, as in "params/conv1/kernel"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def leaves_by_path(tree: PyTree) -> dict[str, Any]:
  """Returns the leaves of a tree by path, as `join_path` writes it."""
  return {join_path(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
