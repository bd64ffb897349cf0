"""The DeepLab model zoo's weights know what a horse is."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from asmjax.data import transforms
from asmjax.data.sources.weizmann_horse import WeizmannHorse
from asmjax.models.backbones import MobileNetV2
from asmjax.models.layers import Norm
from asmjax.models.predictors.deeplab import DeepLab
from asmjax.pretrained import load
from tests.helpers.published_weights import fresh, real

SIDE, HORSE = 513, 13
GRAY = 127.5


def square(photo):
  """The photo with its longer side SIDE, in the corner of a gray square; and where horses are."""
  size = photo["label"].shape
  photo = transforms.resize(photo, tuple(round(side * SIDE / max(size)) for side in size))
  height, width = photo["label"].shape
  image = np.full((SIDE, SIDE, 3), GRAY, np.float32)
  image[:height, :width] = photo["image"]
  return image, photo["label"] == 1


def test_deeplab_of_the_model_zoo_finds_horses():
  pytest.importorskip("tensorflow")
  net = DeepLab(
    {"segmentation": 21}, MobileNetV2(top=False, output_stride=8, norm=Norm(epsilon=1e-3)), rates=()
  )
  path = real("deeplabv3_mnv2_pascal/model.ckpt")
  variables, coverage = load(path, "tensorflow", net, fresh(net))
  assert not coverage.missing and not coverage.unused

  predict = jax.jit(lambda x: net.apply(variables, x / GRAY - 1, train=False)["segmentation"][0])
  source = WeizmannHorse(str(real("weizmann_horse_db", "ASMJAX_DATA")), "val")
  ratios = []
  for image, truth in map(square, map(source.__getitem__, range(0, len(source), 6))):
    logits = np.asarray(predict(image[None]))
    # Corners on corners, as the zoo's networks were trained.
    logits = ndimage.zoom(logits, (SIDE / len(logits), SIDE / len(logits), 1), order=1)
    height, width = truth.shape
    predicted = logits.argmax(-1)[:height, :width] == HORSE
    ratios.append((predicted & truth).sum() / (predicted | truth).sum())
  assert 0.87 < np.mean(ratios) < 0.92
