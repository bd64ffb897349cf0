"""RGB-D sweeps: a tiny one with the traps of real ones, then a real kitchen."""

import itertools

import numpy as np
import pytest
from PIL import Image

from asmjax.data.files import check_files
from asmjax.data.sources.rgbd_sweep import RgbdSweep, cut_into_runs, sort_frames
from tests.helpers.published_weights import real

SIZE = (48, 64)
INTRINSICS = "60 0 32\n0 60 24\n0 0 1\n"
NORMAL = np.array([0.6, 0, 0.8])


def wall():
  """Millimeters of a wall that is 2 m away at the middle column and faces right."""
  column = np.indices(SIZE)[1]
  depth = 2000 / (1 - 0.75 * (column - 32) / 60)
  return np.round(depth).astype(np.uint16)


def write(root, number, millimeters=None, end="jpg"):
  millimeters = wall() if millimeters is None else millimeters
  image = np.full((*SIZE, 3), number * 10 % 256, np.uint8)
  Image.fromarray(image).save(root / f"frame-{number:06d}.color.{end}")
  Image.fromarray(millimeters).save(root / f"frame-{number:06d}.depth.png")
  (root / f"frame-{number:06d}.pose.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")


@pytest.fixture
def root(tmp_path):
  (tmp_path / "camera-intrinsics.txt").write_text(INTRINSICS)
  for number in range(0, 100, 10):
    write(tmp_path, number)
  return tmp_path


def brightness(source):
  return [int(example["image"].mean().round()) for example in source]


def test_rgbd_sweep_reads_meters_and_computes_normals(root):
  raw = wall()
  raw[10:20, 10:20], raw[30:40, 10:20] = 0, 65535
  write(root, 0, raw)
  example = RgbdSweep(str(root), "train")[0]
  missing = np.isin(raw, (0, 65535))
  assert example["depth"].dtype == example["normals"].dtype == np.float32
  np.testing.assert_allclose(example["depth"][~missing], raw[~missing] / 1000, rtol=1e-6)
  assert not example["depth"][missing].any() and not example["normals"][missing].any()
  assert np.abs(example["normals"][~missing] - NORMAL).max() < 0.02


def test_rgbd_sweep_parts_follow_each_other_in_time(root):
  """Numbers order the frames, not names: 1000 comes after 90 although it sorts before."""
  for path in list(root.glob("frame-000010.*")):
    path.rename(root / path.name.replace("000010", "1000"))
  train, val, test = (RgbdSweep(str(root), split) for split in ("train", "val", "test"))
  assert [len(source) for source in (train, val, test)] == [7, 1, 2]
  assert RgbdSweep(str(root), "all").names == train.names + val.names + test.names
  assert test.names == ("frame-000090.color.jpg", "frame-1000.color.jpg")
  assert brightness(RgbdSweep(str(root), "test"))[1] == 100


def test_rgbd_sweep_parts_are_an_option(root):
  halves = [RgbdSweep(str(root), split, parts=[0.5, 0, 0.5]) for split in ("train", "test")]
  assert [len(source) for source in halves] == [5, 5]
  with pytest.raises(ValueError, match="split 'val' of rgbd_sweep.*is empty"):
    RgbdSweep(str(root), "val", parts=(0.5, 0, 0.5))


@pytest.mark.parametrize("parts", [(0.7, 0.1), (0.7, 0.2, 0.2), (1.2, -0.4, 0.2)])
def test_rgbd_sweep_refuses_parts_that_are_no_shares(root, parts):
  with pytest.raises(ValueError, match=r"parts \(.*shares of train, val and test that add to 1"):
    RgbdSweep(str(root), "train", parts=parts)


@pytest.mark.parametrize("count", [1, 7, 10, 199])
@pytest.mark.parametrize("parts", [(0.7, 0.1, 0.2), (0.1, 0.2, 0.7), (1 / 3, 1 / 3, 1 / 3)])
def test_cut_into_runs_puts_every_name_in_one_run(count, parts):
  names = [str(number) for number in range(count)]
  runs = cut_into_runs(names, parts)
  assert list(itertools.chain(*runs)) == names
  assert all(abs(len(run) - count * part) <= 1 for run, part in zip(runs, parts, strict=True))


def test_sort_frames_skips_other_files(tmp_path):
  names = ["frame-2.color.png", "frame-1.color.jpg", "frame-1.depth.png", "frame-x.color.jpg", "a"]
  assert sort_frames(names, tmp_path) == ("frame-1.color.jpg", "frame-2.color.png")


def test_sort_frames_refuses_two_images_of_one_frame(root):
  write(root, 20, end="png")
  message = r"frame-000020\.color\.jpg and frame-000020\.color\.png; expected one"
  with pytest.raises(ValueError, match=message):
    RgbdSweep(str(root), "train")


def test_rgbd_sweep_reads_png_photos(root):
  (root / "frame-000000.color.jpg").unlink()
  write(root, 0, end="png")
  assert RgbdSweep(str(root), "train").names[0] == "frame-000000.color.png"


@pytest.mark.parametrize(
  "text",
  ["", "60 0 32\n0 60 24\n", "60 0\n0 60 24\n0 0 1", "60 x 32\n0 60 24\n0 0 1", "0 0 1\n" * 3],
)
def test_rgbd_sweep_refuses_malformed_intrinsics_at_once(root, text):
  (root / "camera-intrinsics.txt").write_text(text)
  with pytest.raises(ValueError, match=r"camera-intrinsics\.txt cannot be used .*3 rows of 3"):
    RgbdSweep(str(root), "train")


def test_rgbd_sweep_intrinsics_accept_windows_line_ends(root):
  (root / "camera-intrinsics.txt").write_bytes(b"\xef\xbb\xbf" + b"60 0 32\r\n0 60 24\r\n0 0 1\r\n")
  np.testing.assert_array_equal(
    RgbdSweep(str(root), "all").intrinsics, [[60, 0, 32], [0, 60, 24], [0, 0, 1]]
  )


def test_rgbd_sweep_names_layout_without_intrinsics(root):
  (root / "camera-intrinsics.txt").unlink()
  with pytest.raises(FileNotFoundError, match=r"camera-intrinsics\.txt does not exist.*frame-N"):
    RgbdSweep(str(root), "train")


def test_rgbd_sweep_refuses_folder_without_frames(tmp_path):
  (tmp_path / "camera-intrinsics.txt").write_text(INTRINSICS)
  with pytest.raises(ValueError, match=r"'all' of rgbd_sweep.*is empty; expected.*frame-N\.color"):
    RgbdSweep(str(tmp_path), "all")


def test_rgbd_sweep_names_both_files_of_different_sizes(root):
  write(root, 0, wall()[:, :60])
  with pytest.raises(ValueError, match=r"depth\.png is 48x60.*expected 48x64.*color\.jpg"):
    RgbdSweep(str(root), "train")[0]


def test_rgbd_sweep_refuses_depth_of_8_bits(root):
  write(root, 0, wall().astype(np.uint8))
  with pytest.raises(ValueError, match=r"frame-000000\.depth\.png .*16 bits"):
    RgbdSweep(str(root), "train")[0]


def test_rgbd_sweep_files_include_depth(root):
  source = RgbdSweep(str(root), "train")
  check_files(source)
  (root / "frame-000010.depth.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"lacks 1 files: .*frame-000010\.depth\.png"):
    check_files(source)


def test_rgbd_sweep_reads_published_kitchen():
  data = real("kitchen_rgbd", "ASMJAX_DATA")
  sources = [RgbdSweep(str(data), split) for split in ("train", "val", "test")]
  assert [len(source) for source in sources] == [140, 20, 40]
  check_files(RgbdSweep(str(data), "all"))
  example = sources[0][0]
  depth, normals = example["depth"], example["normals"]
  assert example["image"].shape == (480, 640, 3)
  assert 0.5 < np.median(depth[depth > 0]) < 3 and 0.8 < (depth > 0).mean() < 1
  has_normal = normals.any(-1)
  assert has_normal[depth > 0].mean() > 0.97 and not has_normal[depth == 0].any()
  np.testing.assert_allclose(np.linalg.norm(normals[has_normal], axis=-1), 1, atol=1e-5)
  # All seen surfaces face the camera, and the table faces up the same way all over.
  row, column = np.indices(depth.shape)
  rays = np.stack([column, row, np.ones(depth.shape)], -1) @ np.linalg.inv(sources[0].intrinsics).T
  assert ((normals * (1, 1, -1) * rays).sum(-1)[has_normal] < 0).all()
  table = normals[270:300, 340:440].reshape(-1, 3)
  middle = np.median(table, 0)
  assert middle[1] < -0.8
  assert np.degrees(np.arccos(np.clip(table @ middle, -1, 1))).max() < 5
