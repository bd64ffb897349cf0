"""Polygons and run lengths, against slow oracles and golden values of pycocotools."""

import cv2
import numpy as np
import pytest

from asmjax.data.polygons import decode_runs, fill_polygon, parse_runs


def filled(points, size=(24, 31)):
  array = np.zeros(size, np.int32)
  fill_polygon(array, np.array(points, float), 7)
  assert set(np.unique(array)) <= {0, 7}
  return array == 7


def slow_inside(points, size):
  """Counts, for each center, the sides that a ray to the left of it meets."""
  inside = np.zeros(size, bool)
  for row, column in np.ndindex(size):
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
      if (y0 <= row + 0.5) != (y1 <= row + 0.5):
        x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        inside[row, column] ^= x <= column + 0.5
  return inside


@pytest.mark.parametrize("corners", [3, 4, 9])
def test_fill_polygon_agrees_with_ray_casting(corners):
  rng = np.random.default_rng(corners)
  for _ in range(10):
    points = rng.uniform(-8, 40, (corners, 2))
    np.testing.assert_array_equal(filled(points), slow_inside(points, (24, 31)))


def test_fill_polygon_takes_pixels_whose_centers_opencv_finds_inside():
  angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
  points = np.stack([15 + 11.3 * np.cos(angle), 12 + 8.7 * np.sin(angle)], -1)
  contour = points.astype(np.float32)[:, None]
  expected = [
    [cv2.pointPolygonTest(contour, (c + 0.5, r + 0.5), False) > 0 for c in range(31)]
    for r in range(24)
  ]
  np.testing.assert_array_equal(filled(points), expected)


def test_fill_polygon_covers_whole_pixels():
  expected = np.zeros((24, 31), bool)
  expected[2:5, 3:9] = True
  np.testing.assert_array_equal(filled([(3, 2), (9, 2), (9, 5), (3, 5)]), expected)


def test_fill_polygon_shares_no_pixel_between_neighbors():
  """Triangles around one point, whose sides run through centers of pixels too."""
  rng = np.random.default_rng(0)
  rim = [(0, 0), (31, 0), (31, 24), (0, 24)]
  for middle in [(12.5, 7.5), (15, 12), tuple(rng.uniform(1, 23, 2))]:
    parts = [filled([middle, rim[k], rim[(k + 1) % 4]]) for k in range(4)]
    np.testing.assert_array_equal(np.sum(parts, 0), 1)


@pytest.mark.parametrize(
  "points", [[(-9, -9), (-2, -9), (-2, -1)], [(40, 3), (50, 3), (50, 9)], [(3, 3), (9, 3), (5, 3)]]
)
def test_fill_polygon_ignores_what_is_outside_or_flat(points):
  assert not filled(points).any()


def encode(mask):
  """Run lengths down the columns, beginning with zeros."""
  values = mask.T.ravel().astype(int)
  runs, current, count = [], 0, 0
  for value in values:
    if value != current:
      runs.append(count)
      current, count = value, 0
    count += 1
  return [*runs, count]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_decode_runs_undoes_encoding(share):
  mask = np.random.default_rng(1).random((9, 14)) < share
  np.testing.assert_array_equal(decode_runs(encode(mask), (9, 14)), mask)


@pytest.mark.parametrize("runs", [[3], [60, 61], [130, -4], [[126]]])
def test_decode_runs_refuses_other_numbers_of_pixels(runs):
  with pytest.raises(ValueError, match="add up to 9 x 14 pixels"):
    decode_runs(runs, (9, 14))


# pycocotools 2.0.11, `mask.frPyObjects({"counts": ..., "size": ...})["counts"]`.
GOLDEN = {
  "n3": [126],
  "0n3": [0, 126],
  "X136000k1": [40, 3, 6, 3, 6, 3, 65],
  "5X1Tl0jNkTOOF": [5, 40, 900, 2, 31, 1, 21],
}


@pytest.mark.parametrize("text", GOLDEN)
def test_parse_runs_agrees_with_pycocotools(text):
  assert parse_runs(text) == GOLDEN[text]


def test_parse_runs_agrees_with_installed_pycocotools():
  mask = pytest.importorskip("pycocotools.mask")
  rng = np.random.default_rng(0)
  for share in (0.01, 0.3, 0.5):
    pixels = rng.random((70, 53)) < share
    text = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(decode_runs(parse_runs(text), pixels.shape), pixels)


@pytest.mark.parametrize("text", ["!", "é", "Q", "PPPPPPPPPPPPPPPP0"])
def test_parse_runs_refuses_other_text(text):
  with pytest.raises(ValueError, match="expected COCO's compressed run lengths"):
    parse_runs(text)
