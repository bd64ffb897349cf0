"""Contract of batches: keys, types and shapes, checked once before a batch enters a step.

| key        | type    | shape        | meaning                                   |
|------------|---------|--------------|-------------------------------------------|
| `image`    | uint8   | (n, h, w, 3) | RGB                                       |
| `label`    | int32   | (n, h, w)    | class id, 255 = unlabeled                 |
| `depth`    | float32 | (n, h, w)    | meters along the optical axis, 0 = missing |
| `normals`  | float32 | (n, h, w, 3) | unit vectors, 0 = missing; x right, y down, z to camera |
| `instance` | int32   | (n, h, w)    | instance id, 0 = none; evaluation only |
| `size`     | int32   | (n, 2)       | height and width without padding; evaluation only |
| `weight`   | float32 | (n,)         | 1, or 0 for an example that only pads     |

A kind of truth may come with an earlier prediction of it (`replay_label` of `label`, and so on),
which replaces the predictor's output when critics are trained on a replay buffer. In evaluation it
may come with an estimate (`estimate_label`, and so on), float32 (n, h, w, c): `soft_prediction` of
the task, averaged over views of the image. It is scored instead of the prediction for the image.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from asmjax.ops import resize

# Label of unlabeled pixels, as in PASCAL VOC and in Cityscapes' training ids.
UNLABELED = 255

# Value of pixels whose truth is missing, by key.
MISSING = {"label": UNLABELED, "depth": 0, "normals": 0, "instance": 0}

# Prefix of the keys of earlier predictions, as in `replay_label`.
REPLAY = "replay_"

# Prefix of the keys of predictions averaged over views of an image, as in `estimate_label`.
ESTIMATE = "estimate_"

_CONTRACT = {
  "image": ("uint8", ("n", "h", "w", 3)),
  "label": ("int32", ("n", "h", "w")),
  "depth": ("float32", ("n", "h", "w")),
  "normals": ("float32", ("n", "h", "w", 3)),
  "instance": ("int32", ("n", "h", "w")),
  "size": ("int32", ("n", 2)),
  "weight": ("float32", ("n",)),
  "estimate_label": ("float32", ("n", "h", "w", "classes")),
  "estimate_depth": ("float32", ("n", "h", "w", 1)),
  "estimate_normals": ("float32", ("n", "h", "w", 3)),
}


def blank(key: str, n: int, h: int, w: int) -> np.ndarray:
  """Returns a batch's array of truths that are missing everywhere."""
  dtype, axes = _CONTRACT[key]
  sizes = {"n": n, "h": h, "w": w}
  shape = [axis if isinstance(axis, int) else sizes[axis] for axis in axes]
  return np.full(shape, MISSING[key], dtype)


def check(batch: Mapping[str, Array | np.ndarray], *, required: Iterable[str] = ()) -> None:
  """Checks keys, types and shapes of a batch against the contract of this module.

  Args:
    batch: Arrays by key.
    required: Keys that must be present besides `image` and `weight`.

  Raises:
    ValueError: A key is missing or unknown, or its type or shape differs from the contract; the
      message names the key, its type and shape, and those expected.
  """
  missing = [key for key in ("image", "weight", *required) if key not in batch]
  if missing:
    raise ValueError(f"the batch lacks {missing}; it holds {sorted(batch)}")
  sizes: dict[str, int] = {}
  for key, value in batch.items():
    if kind(key) not in _CONTRACT:
      raise ValueError(f"unknown batch key {key!r}; known: {sorted(_CONTRACT)}")
    dtype, dims = _CONTRACT[kind(key)]
    fits = len(value.shape) == len(dims) and all(
      size == (dim if isinstance(dim, int) else sizes.setdefault(dim, size))
      for dim, size in zip(dims, value.shape, strict=True)
    )
    if not fits or value.dtype != dtype:
      expected = tuple(sizes.get(dim, dim) for dim in dims)
      raise ValueError(
        f"batch key {key!r} is {value.dtype}{tuple(value.shape)}; expected {dtype}{expected}"
      )


def kind(key: str) -> str:
  """Returns the kind of truth of a key: "label" for both `label` and `replay_label`."""
  return key.removeprefix(REPLAY)


def check_each(
  batches: Iterable[Mapping[str, np.ndarray]], *, required: Iterable[str] = ()
) -> Iterator[Mapping[str, np.ndarray]]:
  """Yields the batches, each after `check`."""
  for batch in batches:
    check(batch, required=required)
    yield batch


def downsample(
  batch: Mapping[str, ArrayLike], size: tuple[int, int], *, align_corners: bool = False
) -> dict[str, ArrayLike]:
  """Downsamples a batch to the predictor's output size: truth by the nearest pixel, image averaged.

  Predictors with an output stride are trained on downsampled truth; their logits are not upsampled
  (Hwang et al. 2019, Sec. 4.1).

  Args:
    batch: Arrays by key, at the image's size.
    size: (h, w) of the predictor's outputs.
    align_corners: Whether the centers of the outputs' corner pixels coincide with those of the
      image's, instead of their outer edges; see `asmjax.ops.resize`.
  """
  keep = lambda value, *_, **__: value
  by_key = {"image": resize.downsample_image, "size": keep, "weight": keep}
  return {
    key: by_key.get(key, resize.downsample)(value, size, align_corners=align_corners)
    for key, value in batch.items()
  }
