"""Checks of the shapes of arrays that a public function takes together."""

from typing import Any

import numpy as np


def check_shapes(**arrays: tuple[Any, str]) -> None:
  """Checks shapes against each other; they are static, so that compiled functions can as well.

  Args:
    **arrays: By the name of an argument, the array and its axes as in jaxtyping: "n h w c" has
      four, "*shape c" any number and then one. The same name stands for the same size, and a number
      for itself. None instead of the array is not checked.

  Raises:
    ValueError: An array has another rank, or a size that another array does not have.

  Examples:
    >>> check_shapes(logits=(np.ones((1, 2, 2, 3)), "n h w c"), label=(np.ones((1, 2, 4)), "n h w"))
    Traceback (most recent call last):
    ...
    ValueError: label has shape (1, 2, 4); expected (n, h, w) = (1, 2, 2), by logits (1, 2, 2, 3)
  """
  sizes: dict[str, Any] = {}
  before: list[str] = []
  for argument, (array, pattern) in arrays.items():
    if array is None:
      continue
    shape, names = tuple(np.shape(array)), pattern.split()
    bound = _bind(shape, names)
    if bound is None:
      raise ValueError(f"{argument} has shape {shape}; expected ({', '.join(names)})")
    expected = {name: int(name) if name.isdigit() else sizes.get(name) for name in bound}
    known = {name: size for name, size in expected.items() if size is not None}
    if any(bound[name] != size for name, size in known.items()):
      filled = ", ".join(_format(known.get(name, name)) for name in names)
      source = f", by {', '.join(before)}" if before else ""
      raise ValueError(
        f"{argument} has shape {shape}; expected ({', '.join(names)}) = ({filled}){source}"
      )
    sizes |= bound
    before.append(f"{argument} {shape}")


def check_image(image: Any) -> np.ndarray:
  """Returns an image as an array.

  Raises:
    ValueError: It is not uint8 (h, w, 3).
  """
  image = np.asarray(image)
  if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
    raise ValueError(f"an image {image.shape} {image.dtype}; expected (h, w, 3) uint8")
  return image


def _bind(shape: tuple[int, ...], names: list[str]) -> dict[str, Any] | None:
  """Returns the size of each axis by name, of "*name" a tuple; None for another rank."""
  if not names[0].startswith("*"):
    return dict(zip(names, shape, strict=True)) if len(names) == len(shape) else None
  rest = len(shape) - len(names) + 1
  if rest < 0:
    return None
  return {names[0]: shape[:rest], **dict(zip(names[1:], shape[rest:], strict=True))}


def _format(size: Any) -> str:
  return ", ".join(map(str, size)) if isinstance(size, tuple) else str(size)
