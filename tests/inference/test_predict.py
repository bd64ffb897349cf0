"""Files in, files out."""

import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image

from asmjax.data import decode
from asmjax.inference import outputs
from asmjax.inference.inputs import find_inputs
from asmjax.inference.multiscale import make_predict
from asmjax.inference.outputs import OutputOptions, Writer
from asmjax.inference.predict import PredictionJob
from asmjax.inference.views import Inference
from asmjax.tasks.depth import to_millimeters
from tests.helpers import inference_runs
from tests.helpers import tiny_games as games

PALETTE = inference_runs.DESCRIPTOR.palette


def save(path, size=(12, 20), seed=0):
  """Noise as a picture, and where it is."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(inference_runs.image(*size, seed=seed)).save(path)
  return path


def names(source, **options):
  return [entry.name for entry in find_inputs(source, **options).read()]


def written(folder):
  return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_prediction_job_predicts_a_folder_except_for_unreadable_files(tmp_path):
  images = [save(tmp_path / name, seed=seed) for seed, name in enumerate(("a.png", "x/y/b.PNG"))]
  broken = save(tmp_path / "x" / "c.jpg")
  broken.write_bytes(broken.read_bytes()[:200])
  (tmp_path / "notes.md").write_text("not an image")
  for hidden in ("x/._a.png", ".cache/a.png"):
    save(tmp_path / hidden)
  out, trained = tmp_path / "out", inference_runs.trained(inference_runs.Strided)
  for _ in range(2):  # The second time with predictions below the folder.
    summary = PredictionJob(trained, tmp_path, out, Inference(batch_size=2)).run()
    assert summary.num_images == 2 and len(summary.faults) == 1
    assert str(broken) in summary.faults[0] and "2 images" in str(summary)
    assert written(out) == sorted(
      f"{task}/{name}.png" for task in games.TASKS for name in ("a", "x/y/b")
    )
  read = [(path.stem, decode.read_photo(path)) for path in images]
  for name, soft_predictions in make_predict(trained)(read):
    path = {"a": "a.png", "b": "x/y/b.png"}[name]
    label = games.TASK.postprocess(soft_predictions["segmentation"])
    np.testing.assert_array_equal(decode.read_ids(out / "segmentation" / path), label)
    depth = decode.read_raw16(out / "depth" / path)
    np.testing.assert_allclose(depth / 1000, soft_predictions["depth"][..., 0], atol=5.1e-4)
    normals = decode.read_colors(out / "normals" / path) / 127.5 - 1
    expected = games.TASKS["normals"].postprocess(soft_predictions["normals"])
    np.testing.assert_allclose(normals, expected, atol=0.5 / 127.5 + 1e-6)


def test_writer_stores_class_ids_with_the_palette(tmp_path):
  label = np.random.default_rng(0).integers(0, 3, (6, 8))
  games.TASK.encode(label, np.array(PALETTE, np.uint8)).save(tmp_path / "mask.png")
  with Image.open(tmp_path / "mask.png") as picture:
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), label)
    np.testing.assert_array_equal(np.array(picture.convert("RGB")), np.array(PALETTE)[label])


def test_encode_stores_millimeters_in_16_bits():
  meters = np.array([[0.0, 0.0004, 0.0016, 1.2344, 65.535, 80.0, -1.0]], np.float32)
  assert to_millimeters(meters).tolist() == [[0, 0, 2, 1234, 65535, 65535, 0]]


def test_prediction_job_writes_optional_files(tmp_path, monkeypatch):
  """Probabilities, refined before anything is made of them, and pictures."""
  rng, image = np.random.default_rng(0), inference_runs.image(6, 8)
  # Turns classes round.
  monkeypatch.setattr(
    outputs, "make_crf_refinement", lambda: lambda probabilities, _: probabilities[..., ::-1]
  )
  probabilities = rng.dirichlet((1, 1, 1), (6, 8)).astype(np.float32)
  depth = rng.uniform(1, 5, (6, 8, 1)).astype(np.float32)
  writer = Writer(tmp_path, games.TASKS, PALETTE, OutputOptions(True, True, True))
  estimates = {"segmentation": probabilities, "depth": depth}
  writer.write("x/a.b", image, estimates)
  missing = {"normals/x/a.b.png"}
  assert set(written(tmp_path)) | missing == {
    str(path.relative_to(tmp_path)) for path in writer.paths("x/a.b")
  }
  with np.load(tmp_path / "segmentation_probabilities/x/a.b.npz") as kept:
    assert kept["probabilities"].dtype == np.float16
    np.testing.assert_allclose(kept["probabilities"], probabilities[..., ::-1], atol=1e-3)
  label = decode.read_ids(tmp_path / "segmentation/x/a.b.png")
  np.testing.assert_array_equal(label, probabilities[..., ::-1].argmax(-1))
  drawn = decode.read_colors(tmp_path / "segmentation_overlay/x/a.b.png")
  expected = 0.4 * image + 0.6 * np.array(PALETTE)[label]
  np.testing.assert_allclose(drawn, expected, atol=0.51)
  colors = decode.read_colors(tmp_path / "depth_overlay/x/a.b.png")
  place = np.unravel_index(depth[..., 0].argmin(), (6, 8))
  np.testing.assert_array_equal(colors[place], (48, 18, 59))  # The blue end of the colors.


@pytest.mark.parametrize("wanted", ["probabilities", "crf"])
def test_prediction_job_refuses_probabilities_without_classes(tmp_path, wanted):
  with pytest.raises(
    ValueError, match=f"{wanted} needs a task with class probabilities; predicted: depth"
  ):
    Writer(tmp_path, {"depth": games.TASKS["depth"]}, (), OutputOptions(**{wanted: True}))


def test_find_inputs_reads_lists_relative_to_their_folder(tmp_path):
  for name in ("photos/a.png", "photos/sub/b.png", "elsewhere/c.png"):
    save(tmp_path / name)
  listed = tmp_path / "photos" / "some.txt"
  listed.write_text("sub/b.png\n\na.png\n")
  assert names(listed) == ["sub/b", "a"]
  listed.write_text(f"sub/b.png\n../elsewhere/c.png\n{tmp_path}/photos/a.png\n")
  assert names(listed) == ["photos/sub/b", "elsewhere/c", "photos/a"]
  source = next(iter(find_inputs(listed).read()))
  np.testing.assert_array_equal(source.load(), inference_runs.image(12, 20))


def test_prediction_job_numbers_frames_of_a_video(tmp_path):
  path, colors = tmp_path / "clip.avi", [(250, 10, 10), (10, 240, 10), (20, 30, 230)]
  video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (32, 24))
  for color in colors:
    video.write(np.full((24, 32, 3), color[::-1], np.uint8))
  video.release()
  inputs = find_inputs(path)
  frames = list(inputs.read())
  assert inputs.count == 3
  assert [frame.name for frame in frames] == ["clip/000000", "clip/000001", "clip/000002"]
  for frame, color in zip(frames, colors, strict=True):
    np.testing.assert_allclose(frame.load().mean((0, 1)), color, atol=8)
  path.write_bytes(b"no video")
  with pytest.raises(ValueError, match=r"clip\.avi cannot be read as a video"):
    find_inputs(path)


def test_find_inputs_says_that_a_video_ends_too_soon(tmp_path):
  path, rng = tmp_path / "clip.mkv", np.random.default_rng(0)
  video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
  for _ in range(30):
    video.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
  video.release()
  content = path.read_bytes()
  path.write_bytes(content[: len(content) * 4 // 10])
  inputs = find_inputs(path)
  *whole, last = inputs.read()
  assert 0 < len(whole) < 30 == inputs.count
  with pytest.raises(ValueError, match=rf"clip.mkv ends after {len(whole)} of the 30 frames that"):
    last.load()


def test_find_inputs_lists_what_a_folder_has_besides(tmp_path):
  photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
  save(photos / "a.png")
  save(elsewhere / "b.png")
  (photos / "linked").symlink_to(elsewhere)
  (photos / "gone.png").symlink_to(tmp_path / "gone.png")
  (photos / "phone.HEIC").write_bytes(b"")
  (photos / "notes.txt").write_text("no picture")
  inputs = find_inputs(photos, exclude=photos / "out")
  assert [path.name for path in inputs.paths] == ["a.png"]
  (gone, linked, phone) = inputs.left_out
  assert gone == f"{photos / 'gone.png'} is a link to nothing or to itself; expected an image"
  assert linked.startswith(f"{photos / 'linked'} is a link to a folder")
  assert phone.startswith(f"{photos / 'phone.HEIC'} is not read in a folder; expected one of .bmp")
  summary = PredictionJob(
    inference_runs.trained(inference_runs.Strided), photos, tmp_path / "o"
  ).run()
  assert summary.num_images == 1 and summary.faults == inputs.left_out
  (photos / "a.png").unlink()
  with pytest.raises(ValueError, match="no images in .*photos; .*gone.png is a link to nothing"):
    find_inputs(photos)
  with pytest.raises(ValueError, match="the input is empty"):
    find_inputs("")


def test_prediction_job_refuses_equal_names_and_no_images(tmp_path):
  with pytest.raises(ValueError, match=f"no images in {tmp_path}; known suffixes: .bmp"):
    find_inputs(tmp_path)
  with pytest.raises(FileNotFoundError, match=r"gone does not exist; expected an image, a folder"):
    find_inputs(tmp_path / "gone")
  first, second = save(tmp_path / "s" / "a.jpg"), save(tmp_path / "s" / "a.png")
  with pytest.raises(ValueError, match=f"{first} and {second} would both be predicted as 's/a'"):
    find_inputs(tmp_path)


def test_prediction_job_refuses_to_overwrite_inputs(tmp_path):
  trained = inference_runs.trained(inference_runs.Strided)
  image = save(tmp_path / "depth" / "a.png")
  with pytest.raises(ValueError, match="predictions would go to"):
    PredictionJob(trained, image.parent, image.parent)
  with pytest.raises(ValueError, match=f"{image} would overwrite an input"):
    PredictionJob(trained, image, tmp_path)
  assert pathlib.Path(image).is_file()
  PredictionJob(trained, image, tmp_path, Inference(tasks=("normals",)))
