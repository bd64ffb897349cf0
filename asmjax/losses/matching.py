"""Structure matching: distances between the features of a prediction and of its truth."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from asmjax.losses.pixel import unit
from asmjax.moments import Moments


def matching_distance(
  predicted: Float[ArrayLike, "n h w c"],
  truth: Float[ArrayLike, "n h w c"],
  *,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
  normalise: bool = False,
) -> Moments:
  """Squared distance between two feature maps (Hwang et al. 2019, Eq. 1).

  Args:
    predicted: features of the predicted structure.
    truth: features of the true structure.
    valid: 1 where the structure is labelled, 0 elsewhere; 1 everywhere by default.
    normalise: as the released code: features are L2-normalised over channels first, and the
      factor 1/2 of Eq. 1 is left out.

  Returns:
    Sum over valid pixels of 1/2 ||.||^2, and their number.

  Example:
    >>> import jax.numpy as jnp
    >>> a, b = jnp.array([[[[3.0, 0.0]]]]), jnp.array([[[[0.0, 4.0]]]])
    >>> print(matching_distance(a, b).mean(), matching_distance(a, b, normalise=True).mean())
    12.5 2.0
  """
  distance = _distance(predicted, truth, normalise)
  return Moments.over(distance, jnp.ones_like(distance) if valid is None else valid)


def matching_hinge(
  predicted: Float[ArrayLike, "n h w c"],
  truth: Float[ArrayLike, "n h w c"],
  *,
  margin: float = 0.8,
  valid: Float[ArrayLike, "n h w 1"] | None = None,
  normalise: bool = True,
) -> Moments:
  """What the released analyzer descends: max(0, margin - distance) of every pixel.

  It stops climbing where the distance has reached the margin, which bounds the game.

  Args:
    predicted: features of the predicted structure.
    truth: features of the true structure.
    margin: distance at which a pixel no longer counts.
    valid: 1 where the structure is labelled, 0 elsewhere; 1 everywhere by default.
    normalise: see `matching_distance`.

  Returns:
    Sum over valid pixels, and their number.
  """
  hinge = jnp.maximum(0, margin - _distance(predicted, truth, normalise))
  return Moments.over(hinge, jnp.ones_like(hinge) if valid is None else valid)


def layer_distances(
  predicted: Mapping[str, Float[ArrayLike, "n _ _ _"]],
  truth: Mapping[str, Float[ArrayLike, "n _ _ _"]],
  layers: Sequence[str],
  *,
  valid: Mapping[str, Float[ArrayLike, "n _ _ 1"]] | None = None,
  normalise: bool = False,
) -> dict[str, Moments]:
  """`matching_distance` of each named layer, `valid` by layer; V is the sum of their means."""
  return {
    layer: matching_distance(
      predicted[layer], truth[layer], valid=valid and valid[layer], normalise=normalise
    )
    for layer in layers
  }


def pooled_valid(
  valid: Float[ArrayLike, "n h w 1"], size: tuple[int, int], *, partly: bool
) -> Float[Array, "n h2 w2 1"]:
  """Which features of a layer of `size` count, given the labelled pixels.

  Args:
    valid: 1 where the structure is labelled.
    size: of the layer, a divisor of the structure's size up to rounding up.
    partly: a feature counts if any pixel of its cell is labelled; otherwise only if all are, as
      the released code has it with its max-pooled ignore mask.
  """
  valid = jnp.asarray(valid)
  stride = tuple(-(-big // small) for big, small in zip(valid.shape[1:3], size, strict=True))
  window = (1, *stride, 1)
  init, reduce = (0.0, lax.max) if partly else (1.0, lax.min)
  pooled = lax.reduce_window(valid, jnp.asarray(init, valid.dtype), reduce, window, window, "SAME")
  return lax.stop_gradient(pooled)


def _distance(predicted: ArrayLike, truth: ArrayLike, normalise: bool) -> Array:
  predicted, truth = jnp.asarray(predicted), jnp.asarray(truth)
  if normalise:
    predicted, truth = unit(predicted), unit(truth)
  squared = jnp.sum((predicted - truth) ** 2, axis=-1, keepdims=True)
  return squared if normalise else squared / 2
