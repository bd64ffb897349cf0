"""Colors of labels, depths, normals and instances: from (h, w, ...) to uint8 (h, w, 3)."""

from collections.abc import Sequence

import cv2
import numpy as np

# Step of consecutive ids around the color circle: hues come close after 13, 21, 34, ... ids (the
# Fibonacci numbers, whose ratios approach it best), and four levels of brightness tell those apart.
_GOLDEN_RATIO = (5**0.5 - 1) / 2


def overlay(
  image: np.ndarray,
  label: np.ndarray,
  palette: Sequence[tuple[int, int, int]] | np.ndarray,
  alpha: float = 0.6,
  transparent: Sequence[int] = (),
) -> np.ndarray:
  """Blends the classes' colors with an image.

  Args:
    image: Pixels, uint8 (h, w, 3).
    label: Class ids, int (h, w); ids that the palette does not have are drawn white.
    palette: Color (r, g, b) of each class, in 0..255.
    alpha: Opacity of the colors, 0.6 by default; 1 hides the image.
    transparent: Ids whose pixels stay as they are in the image; none by default.
  """
  colors = np.array([*palette, (255, 255, 255)], np.float32)
  known = (label >= 0) & (label < len(palette))
  class_colors = colors[np.where(known, label, len(palette))]
  opacity = np.where(np.isin(label, transparent), 0, alpha)[..., None]
  return np.round((1 - opacity) * image + opacity * class_colors).astype(np.uint8)


def depth_colors(depth: np.ndarray, low: float, high: float) -> np.ndarray:
  """Colors depths (h, w) from blue at `low` to red at `high`; missing ones are black."""
  valid = np.isfinite(depth) & (depth > 0)
  level = np.where(valid, depth, low).astype(np.float32)
  level = np.clip((level - low) / max(high - low, 1e-6), 0, 1)
  colors = cv2.applyColorMap(np.round(level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
  return np.where(valid[..., None], colors[..., ::-1], 0).astype(np.uint8)


def error_colors(error: np.ndarray, high: float) -> np.ndarray:
  """Colors errors (h, w) from black at 0 to yellow at `high`; those not finite are gray."""
  known = np.isfinite(error)
  level = np.clip(np.where(known, error, 0) / high, 0, 1)
  colors = cv2.applyColorMap(np.round(level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
  return np.where(known[..., None], colors[..., ::-1], 128).astype(np.uint8)


def normal_colors(normals: np.ndarray) -> np.ndarray:
  """Colors unit normals (h, w, 3) by (n + 1) / 2; missing ones are black.

  With x right, y down and z towards the camera, a surface that faces the camera is light blue, a
  floor purple and a wall on the left pink.
  """
  valid = np.isfinite(normals).all(-1, keepdims=True) & (normals != 0).any(-1, keepdims=True)
  colors = np.clip(np.round((np.where(valid, normals, 0) + 1) * 127.5), 0, 255)
  return np.where(valid, colors, 0).astype(np.uint8)


def instance_colors(instance: np.ndarray) -> np.ndarray:
  """Colors ids (h, w) vividly, each alike in every picture; 0, no instance, is black."""
  ids, indices = np.unique(instance, return_inverse=True)
  hues = np.round(ids * _GOLDEN_RATIO % 1 * 179)
  values = np.where(ids == 0, 0, 255 - 45 * (ids % 4))
  hsv = np.stack([hues, np.full(len(ids), 200), values], -1).astype(np.uint8)
  return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0][indices.reshape(instance.shape)]
