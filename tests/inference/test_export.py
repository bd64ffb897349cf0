"""Predictors exported, and run where there is no library."""

import dataclasses
import functools
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jaxtyping
import numpy as np
import pytest

from asmjax.data.transforms import pad
from asmjax.inference.export import FixedSizeOnlyError, export, export_for_any_size, load, save
from asmjax.inference.multiscale import make_predict
from asmjax.inference.views import Inference
from asmjax.models.backbones.resnet import ResNet
from asmjax.models.layers import Conv
from asmjax.models.predictors import UNet, UPerNet
from tests.helpers import damage, inference_runs

SHAPES = {"two": (2, 32, 64), "three": (3, 64, 32)}
UNTRAINED = functools.partial(UNet, levels=2, width=4)

ELSEWHERE = """
import sys
sys.modules["asmjax"] = None  # Not even if it is installed.
import jax, jax.export
import numpy as np

predict = jax.jit(jax.export.deserialize(bytearray(open("net.stablehlo", "rb").read())).call)
with np.load("images.npz") as images:
  outputs = {f"{name} {task}": values for name in images
           for task, values in predict(images[name]).items()}
assert not [name for name in sys.modules if name.startswith(("asmjax.", "flax", "orbax"))]
np.savez("outputs.npz", **outputs)
"""


class Pairs(nn.Module):
  """Needs an even number of rows, two of which make one."""

  heads: dict

  @nn.compact
  def __call__(self, x, *, train):
    x = x[:, ::2] + 2 * x[:, 1::2]
    return {name: Conv(count, name=name)(x) for name, count in self.heads.items()}


class Rows(nn.Module):
  """Cannot be told apart from other heights."""

  heads: dict

  @nn.compact
  def __call__(self, x, *, train):
    x = sum(x[:, row : row + 1] for row in range(x.shape[1]))
    return {name: Conv(count, 1, name=name)(x) for name, count in self.heads.items()}


@pytest.fixture(scope="module", autouse=True)
def unchecked():
  """A symbol for a side is no int."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)


def images(n, h, w):
  return np.stack([inference_runs.image(h, w, seed=seed) for seed in range(n)])


@functools.cache
def expected():
  """What predictions of files are made of, by name and task."""
  trained = inference_runs.trained(UNTRAINED)
  predict, soft_predictions = make_predict(trained, Inference()), {}
  for name, shape in SHAPES.items():
    by_index = dict(predict(enumerate(images(*shape))))
    for task in trained.game.tasks:
      soft_predictions[name, task] = np.stack([by_index[i][task] for i in range(shape[0])])
  return soft_predictions


def check(name, outputs):
  """Holds outputs against what is expected, but for classes that are equally probable."""
  tasks = inference_runs.trained(UNTRAINED).game.tasks
  estimates = {task: expected()[name, task] for task in tasks}
  for task in ("depth", "normals"):
    predictions = np.stack([tasks[task].postprocess(values) for values in estimates[task]])
    np.testing.assert_allclose(outputs[task], predictions, atol=1e-5, err_msg=f"{name} {task}")
  probabilities = estimates["segmentation"]
  np.testing.assert_allclose(outputs["segmentation_probabilities"], probabilities, atol=1e-5)
  assert outputs["segmentation"].dtype == np.int32
  chosen = np.take_along_axis(probabilities, outputs["segmentation"][..., None], -1)[..., 0]
  np.testing.assert_allclose(chosen, probabilities.max(-1), atol=1e-5)


def test_export_predicts_any_number_of_any_size_without_the_library(tmp_path):
  artifact = export(inference_runs.trained(UNTRAINED), probabilities=True)
  save(artifact, tmp_path / "net.stablehlo")
  np.savez(tmp_path / "images.npz", **{name: images(*shape) for name, shape in SHAPES.items()})
  environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
  subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=tmp_path, env=environment, check=True)
  with np.load(tmp_path / "outputs.npz") as stored:
    outputs = dict(stored)
  assert len(outputs) == len(SHAPES) * 4
  for name in SHAPES:
    check(
      name, {key.split()[1]: values for key, values in outputs.items() if key.split()[0] == name}
    )


def test_export_runs_the_same_on_other_platforms(tmp_path):
  artifact = export(inference_runs.trained(UNTRAINED), platforms=("cuda",), probabilities=True)
  with pytest.raises(ValueError, match="platform"):
    artifact.exported.call(images(*SHAPES["two"]))
  anywhere = dataclasses.replace(
    artifact.exported, disabled_safety_checks=(jax.export.DisabledSafetyCheck.platform(),)
  )
  outputs = jax.jit(anywhere.call)(images(*SHAPES["two"]))
  check("two", jax.tree.map(np.asarray, outputs))


def test_export_describes_inputs_outputs_and_evaluation():
  trained = inference_runs.trained(UNTRAINED)
  metadata = export(trained, tasks=("segmentation",), platforms=("cpu",)).metadata
  assert metadata["inputs"] == {"image": {"dtype": "uint8", "shape": ["n", "h", "w", 3]}}
  assert metadata["outputs"] == {"segmentation": {"dtype": "int32", "shape": ["n", "h", "w"]}}
  assert metadata["sides"] == {"min": min(inference_runs.USUAL), "multiple": 8, "extra": 0}
  assert metadata["evaluation"] == {
    "size": list(inference_runs.USUAL),
    "resize": "none",
    "fill": list(inference_runs.FILL),
  }
  assert metadata["classes"] == list(trained.descriptor.classes) and metadata["platforms"] == [
    "cpu"
  ]
  assert [tuple(color) for color in metadata["palette"]] == list(trained.descriptor.palette)


def test_export_pads_images_where_the_network_needs_multiples():
  trained = inference_runs.trained(Pairs, ("segmentation", "depth"))
  artifact = export(trained, platforms=("cpu",))
  assert artifact.metadata["sides"] == {"min": min(inference_runs.USUAL), "multiple": 8, "extra": 0}
  image = images(2, 35, 50)
  padded = np.stack(
    [pad({"image": pixels}, (40, 56), inference_runs.FILL)["image"] for pixels in image]
  )
  outputs = trained.game.predict(trained.variables, padded)
  actual = jax.jit(artifact.exported.call)(image)
  assert actual["depth"].shape == (2, 35, 50)
  depth = trained.game.tasks["depth"].predict(outputs["depth"], padded.shape[1:3])
  np.testing.assert_allclose(actual["depth"], depth[:, :35, :50], atol=1e-5)


class Sampled(nn.Module):
  """Sees every fourth pixel."""

  heads: dict
  align_corners: bool = True

  @nn.compact
  def __call__(self, x, *, train):
    return {n: Conv(count, 1, name=n)(x[:, ::4, ::4]) for n, count in self.heads.items()}


def test_export_predicts_with_aligned_corners_at_sizes_that_fit():
  trained = inference_runs.trained(Sampled, ("segmentation", "depth"))
  artifact = export(trained, platforms=("cpu",))
  assert artifact.metadata["sides"] == {
    "min": min(inference_runs.USUAL),
    "multiple": 16,
    "extra": 1,
  }
  image = images(2, 30, 49)
  padded = np.stack(
    [pad({"image": pixels}, (33, 49), inference_runs.FILL)["image"] for pixels in image]
  )
  outputs = trained.game.predict(trained.variables, padded)
  actual = jax.jit(artifact.exported.call)(image)
  for name, task in trained.game.tasks.items():
    expected, unaligned = (
      np.asarray(task.predict(outputs[name], (33, 49), align_corners=align_corners))[:, :30]
      for align_corners in (True, False)
    )
    np.testing.assert_allclose(actual[name], expected, atol=1e-5)
    assert np.mean(np.abs(expected - unaligned) > 1e-3) > 0.05


def test_export_takes_pyramids_of_any_size():
  pyramid = functools.partial(
    UPerNet, backbone=ResNet((1, 1, 1, 1), width=4), bins=(2,), features=4
  )
  artifact = export(inference_runs.trained(pyramid, ("depth",)), platforms=("cpu",))
  assert artifact.metadata["outputs"]["depth"]["shape"] == ["n", "h", "w"]


def test_export_for_any_size_falls_back_to_one_size_and_says_so():
  trained = inference_runs.trained(Rows, ("depth",))
  with pytest.raises(FixedSizeOnlyError, match=r"give a size, as --size=16x24. JAX says: .+"):
    export(trained, platforms=("cpu",))
  reasons = []
  artifact = export_for_any_size(trained, warn=reasons.append, batch=2, platforms=("cpu",))
  assert len(reasons) == 1 and reasons[0].startswith(
    "for images of 16x24 alone: the network cannot"
  )
  assert artifact.metadata["sides"] is None
  assert artifact.metadata["inputs"]["image"]["shape"] == [2, 16, 24, 3]
  image = images(2, *inference_runs.USUAL)
  outputs = trained.game.predict(trained.variables, image)
  depth = trained.game.tasks["depth"].predict(outputs["depth"], inference_runs.USUAL)
  np.testing.assert_allclose(artifact.exported.call(image)["depth"], depth, atol=1e-5)


def test_export_for_any_size_warns_of_multiples_below_the_stride_of_networks():
  warnings = []
  trained = inference_runs.trained(tasks=("depth",))
  artifact = export_for_any_size(trained, warn=warnings.append, platforms=("cpu",))
  assert artifact.metadata["sides"]["multiple"] == 8
  assert (
    len(warnings) == 1 and "padded to multiples of 8, which leaves those of 16x24" in warnings[0]
  )


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"size": (0, 8)}, r"size=\(0, 8\); expected \(height, width\)"),
    ({"batch": 0}, "batch=0; expected a number"),
    ({"tasks": ("edges",)}, "unknown task 'edges'; known: "),
    ({"platforms": ("cpu", "gpu")}, "unknown platform 'gpu'; known: cpu, cuda, tpu"),
    ({"platforms": ()}, "no platforms; known: cpu"),
    (
      {"tasks": ("depth",), "probabilities": True},
      "needs a task with class probabilities; predicted: depth",
    ),
  ],
)
def test_export_names_what_cannot_be_exported(settings, message):
  with pytest.raises(ValueError, match=message):
    export(inference_runs.trained(UNTRAINED), **settings)


def test_save_writes_complete_files_or_none(tmp_path):
  artifact = export(inference_runs.trained(Rows, ("depth",)), size=(2, 2), platforms=("cpu",))
  with pytest.raises(ValueError, match=r"net.onnx has the suffix .\.onnx.; expected \.stablehlo"):
    save(artifact, tmp_path / "net.onnx")
  with pytest.raises(AttributeError):
    save(artifact._replace(exported=None), tmp_path / "net.stablehlo")
  assert not list(tmp_path.iterdir())
  save(artifact, tmp_path / "there" / "net.stablehlo")
  assert {path.name for path in (tmp_path / "there").iterdir()} == {"net.stablehlo", "net.json"}


def test_load_refuses_half_of_a_pair(tmp_path, monkeypatch, injections):
  path = tmp_path / "net.stablehlo"
  first, second = (
    export(inference_runs.trained(Rows, ("depth",)), size=(2, width), platforms=("cpu",))
    for width in (2, 4)
  )

  def fail(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr("asmjax.inference.export.write_json", fail)
    save(first, path)
  with pytest.raises(FileNotFoundError, match="net.json"):
    load(path)
  save(first, path)
  loaded = load(path)
  assert loaded.metadata == first.metadata
  images = np.ones((1, 2, 2, 3), np.uint8)
  jax.tree.map(
    np.testing.assert_array_equal, loaded.exported.call(images), first.exported.call(images)
  )
  for seed in range(injections(3)):
    before = path.read_bytes()
    damage.flip_bit_of(path, np.random.default_rng(seed))
    with pytest.raises(
      ValueError, match=r"net.stablehlo is not the file that .*net.json describes"
    ):
      load(path)
    path.write_bytes(before)
  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr("asmjax.inference.export.write_json", fail)
    save(second, path)
  with pytest.raises(ValueError, match="from another export; export again"):
    load(path)
