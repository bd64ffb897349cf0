"""Weights bring the input transform that they were trained under, through the whole pipeline."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asmjax.config.build import build_experiment
from asmjax.config.run_dir import check_same_config, reopen, resolve_input_transform
from asmjax.inference.export import export
from asmjax.inference.trained import TrainedPredictor
from asmjax.models.backbones import VGG, MobileNetV1, MobileNetV2, ResNet, ViT, Xception
from asmjax.models.input_transform import IMAGENET, SUBTRACT_MEAN, SYMMETRIC
from asmjax.models.predictors import DPT, FCN, DeepLab, PSPNet, SegFormer, UNet, ViTLinear
from asmjax.pretrained import input_transform, name_map, readers
from asmjax.train.loop import make_eval_results
from asmjax.utils.trees import leaves_by_path
from configs import voc
from tests.helpers import inference_runs as runs
from tests.helpers import published_weights
from tests.helpers import small_configs as small


@pytest.mark.parametrize(
  ("format", "network", "expected"),
  [
    ("safetensors", MobileNetV2(), IMAGENET),
    ("torch", DeepLab({}), IMAGENET),
    ("safetensors", SegFormer({}), IMAGENET),
    ("safetensors", ViTLinear({}, ViT()), IMAGENET),
    ("tensorflow", MobileNetV1(), SYMMETRIC),
    ("tensorflow", DeepLab({}, MobileNetV2(top=False)), SYMMETRIC),
    ("tensorflow", DeepLab({}, Xception()), SYMMETRIC),
    ("tensorflow", ResNet(), SUBTRACT_MEAN),
    ("tensorflow", PSPNet({}), SUBTRACT_MEAN),
    ("tensorflow", FCN({}, VGG(fc_features=8)), SUBTRACT_MEAN),
  ],
  ids=lambda value: getattr(value, "name", "") or type(value).__name__,
)
def test_input_transform_is_that_of_the_weights_publisher(format, network, expected):
  assert input_transform("no file is read", format, network) is expected


def test_input_transform_of_a_run_is_that_of_its_config(tmp_path):
  checkpoint = tmp_path / "checkpoints" / "7"
  checkpoint.mkdir(parents=True)
  config = tmp_path / "config.json"
  config.write_text(json.dumps({"predictor": {"input_transform": "subtract_mean"}}))
  for path in (tmp_path, checkpoint):
    assert input_transform(path, "orbax", UNet({})) is SUBTRACT_MEAN


def test_input_transform_refuses_unknown_formats_networks_and_runs(tmp_path):
  with pytest.raises(ValueError, match="unknown network of TF-Slim's 'UNet'; .*known: MobileNetV1"):
    input_transform("x", "tensorflow", UNet({}))
  with pytest.raises(
    ValueError, match="ViT without layer scale do not say .*; expected that predictor"
  ):
    input_transform("x", "safetensors", DPT({}, ViT(layer_scale=0.0)))
  with pytest.raises(ValueError, match="unknown format of weights 'caffe'; known: orbax"):
    input_transform("x", "caffe", UNet({}))
  with pytest.raises(FileNotFoundError, match=r"no config\.json there says how images"):
    input_transform(tmp_path, "orbax", UNet({}))
  for section in ({}, {"predictor": {"input_transform": "auto"}}):
    (tmp_path / "config.json").write_text(json.dumps(section))
    with pytest.raises(ValueError, match=r"config\.json: predictor\.input_transform is .*; expec"):
      input_transform(tmp_path, "orbax", UNet({}))
  with pytest.raises(ValueError, match="unknown predictor.input_transform 'bgr'; known: auto, im"):
    build_experiment(small.config("iid", **{"predictor.input_transform": "bgr"}))


@pytest.fixture(scope="module")
def checkpoint():
  """A config of a small MobileNetV2 that starts from a checkpoint of TF-Slim's, and the reader."""
  config = small.config(
    "iid@deeplab_v3_mobilenet_v2", **{"init.path": "model.ckpt", "init.format": "tensorflow"}
  )
  config.predictor.features, config.predictor.backbone.width = 8, 0.1
  network = build_experiment(config).game.predictor
  shapes, rng = leaves_by_path(published_weights.fresh(network)), np.random.default_rng(0)
  arrays = {}
  for path, source in name_map(network, "slim").items():
    # Depthwise kernels lie there as (h, w, channels, 1).
    shape = shapes[path].shape
    shape = (*shape[:2], shape[3], 1) if "depthwise_weights" in source.names[0] else shape
    drawn = rng.uniform(0.5, 1.5, shape) if "norm/" in path else rng.normal(size=shape) / 2
    arrays[source.names[0]] = drawn.astype(np.float32)
  return config, lambda path: arrays


def test_auto_transforms_images_as_tf_slim_does(checkpoint, monkeypatch):
  config, read = checkpoint
  monkeypatch.setitem(readers.READERS, "tensorflow", read)
  run = build_experiment(config)
  variables = run.init.variables(
    run.game.predictor, published_weights.fresh(run.game.predictor), print
  )
  image = runs.image(2, 16, 16)
  apply = jax.jit(lambda inputs: run.game.predictor.apply(variables, inputs, train=False))
  logits = lambda inputs: apply(jnp.asarray(inputs, jnp.float32))["segmentation"]
  actual = jax.jit(run.game.predict)(variables, image)["segmentation"]
  scale = np.std(actual)
  np.testing.assert_allclose(actual, logits(image / 127.5 - 1), atol=1e-3 * scale)
  assert np.abs(actual - logits(IMAGENET(image))).max() > 0.1 * scale
  assert run.augment.fill == run.prepare.fill == SYMMETRIC.fill


def test_choose_input_transform_prefers_the_config_to_the_weights(checkpoint):
  config, _ = checkpoint
  config = config.copy_and_resolve_references()
  config.predictor.input_transform = "subtract_mean"
  assert build_experiment(config).game.input_transform is SUBTRACT_MEAN


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Of a run under another transform than networks from scratch have."""
  folder = tmp_path_factory.mktemp("run")
  runs.run(folder, "iid", **{"predictor.input_transform": "symmetric"})
  return folder


def test_resolve_input_transform_lasts_for_reopening_predicting_and_exporting(workdir):
  trained = TrainedPredictor.open(workdir)
  image = runs.image(2, 16, 16)
  inputs = jnp.asarray(image / 127.5 - 1, jnp.float32)
  logits = trained.game.predictor.apply(trained.variables, inputs, train=False)["segmentation"]
  actual = trained.game.predict(trained.variables, image)["segmentation"]
  np.testing.assert_allclose(actual, logits, rtol=1e-4, atol=1e-5)
  probabilities = trained.game.tasks["segmentation"].soft_prediction(logits, (16, 16))
  exported = export(
    trained, size=(16, 16), batch=2, platforms=("cpu",), probabilities=True
  ).exported
  np.testing.assert_allclose(
    jax.jit(exported.call)(image)["segmentation_probabilities"], probabilities, atol=1e-5
  )
  assert reopen(workdir).game.input_transform is SYMMETRIC
  assert trained.prepare.fill == reopen(workdir).prepare.fill == SYMMETRIC.fill


def test_resolve_input_transform_keeps_that_of_a_first_stage_that_is_gone(workdir, tmp_path):
  first, second = tmp_path / "first", tmp_path / "second"
  shutil.copytree(workdir, first)
  begin = {"init.path": str(first), "init.format": "orbax"}
  config = small.config("iid", **begin)
  assert build_experiment(config).game.input_transform is SYMMETRIC
  resolve_input_transform(config, second)
  assert config.predictor.input_transform == "symmetric"

  (second / "checkpoints" / "3").mkdir(parents=True)
  (second / "config.json").write_text(json.dumps(config.to_dict()))
  shutil.rmtree(first)
  again = small.config("iid", **begin)
  check_same_config(second, again.to_dict())
  resolve_input_transform(again, second)
  assert again.to_dict() == config.to_dict()
  again.predictor.input_transform = "imagenet"
  with pytest.raises(ValueError, match="input_transform: 'symmetric' -> 'imagenet'"):
    check_same_config(second, again.to_dict())
  with pytest.raises(FileNotFoundError, match="first"):
    resolve_input_transform(small.config("iid", **begin), tmp_path / "third")


def animals(folder, count=16):
  """A copy of VOC whose "val" are photos of one kind of animal each, up to four of a kind."""
  root = published_weights.real("VOC2012", "ASMJAX_DATA")
  lists = folder / "ImageSets" / "Segmentation"
  lists.mkdir(parents=True)
  for name in ("JPEGImages", "SegmentationClassAug"):
    (folder / name).symlink_to(root / name)
  config = voc_config(root)
  source, chosen, kinds = build_experiment(config).validation, [], []
  for index in range(len(source)):
    classes = set(np.unique(source[index]["label"])) - {0, 255}
    if len(classes) == 1 and classes <= ANIMALS.keys() and kinds.count(*classes) < 4:
      chosen.append(source.files(index)["image"].stem)
      kinds += classes
    if len(chosen) == count:
      break
  for split in ("train_aug", "val"):
    (lists / f"{split}.txt").write_text("\n".join(chosen))
  return folder


ANIMALS = {8: "cat", 10: "cow", 12: "dog", 13: "horse", 17: "sheep"}


def voc_config(root):
  config = voc.get_config("iid@deeplab_v3_mobilenet_v2")
  config.data.update(root=str(root), eval_size=(513, 513))
  config.eval.batch_size = 8
  config.train.steps = 0
  return config


def test_auto_lets_the_model_zoos_network_segment_animals(tmp_path):
  pytest.importorskip("tensorflow")
  path = published_weights.real("deeplabv3_mnv2_pascal/model.ckpt")
  config = voc_config(animals(tmp_path))
  config.init.update(path=str(path), format="tensorflow")
  run = build_experiment(config)
  metrics = make_eval_results(run)(run.init_state())["metrics"]
  assert np.mean([metrics[f"segmentation/iou/{name}"] for name in ANIMALS.values()]) > 0.85
