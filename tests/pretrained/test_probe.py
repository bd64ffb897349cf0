"""Real weights know real animals."""

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.config.build import build_experiment
from asmjax.models.backbones import MobileNetV2
from asmjax.models.input_transform import IMAGENET
from asmjax.pretrained import load
from configs import voc_animals
from tests.helpers.published_weights import real
from tests.helpers.tiny_backbones import initial

# Chosen by cross-validation on the training photos.
RIDGE = 1e4


def animals(split, count):
  """Photos (count, 224, 224, 3) with one kind of animal in each, in turn, and which: 0 to 4."""
  config = voc_animals.get_config()
  config.data.update(root=str(real("VOC2012", "ASMJAX_DATA")), split=split, eval_size=(224, 224))
  config.data.eval_resize, config.data.cache = "letterbox", False
  config.eval.update(split=split, batch_size=16)
  images_by_class = [[] for _ in voc_animals.CLASSES[1:]]
  for batch in build_experiment(config).eval_batches():
    for image, label, weight in zip(batch["image"], batch["label"], batch["weight"], strict=True):
      kinds = np.setdiff1d(label, [0, 255])
      if weight and len(kinds) == 1:
        images_by_class[kinds[0] - 1].append(image)
    if min(map(len, images_by_class)) >= count // 5:
      break
  kinds = np.arange(count) % 5
  return np.stack([images_by_class[kind][i // 5] for i, kind in enumerate(kinds)]), kinds


def probed(variables, photos):
  """Accuracy on the second set of a ridge regression on the first: means of the last features."""
  net = MobileNetV2()
  pool = jax.jit(lambda image: net.apply(variables, IMAGENET(image), train=False)[32].mean((1, 2)))
  (features, kinds), (validation_features, truth) = (
    (np.concatenate([pool(part) for part in np.split(images, len(images) // 25)]), kinds)
    for images, kinds in photos
  )
  scale = lambda x: (x - features.mean(0)) / (features.std(0) + 1e-6)
  x, y = scale(features), np.eye(5)[kinds]
  weights = x.T @ np.linalg.solve(x @ x.T + RIDGE * np.eye(len(x)), y - y.mean(0))
  return np.mean(np.argmax(scale(validation_features) @ weights + y.mean(0), -1) == truth)


def test_load_gives_features_that_tell_animals_apart():
  path = real("mobilenet_v2_imagenet.safetensors")
  photos = [animals(split, count) for split, count in (("train_aug", 300), ("val", 200))]
  fresh = initial(MobileNetV2(), jnp.zeros((1, 224, 224, 3)))
  loaded, coverage = load(path, "safetensors", MobileNetV2(), fresh)
  assert not coverage.missing and not coverage.unused
  assert probed(loaded, photos) > 0.8 and probed(fresh, photos) < 0.45
