"""Animals of PASCAL VOC 2012: five classes and background, from ImageNet weights."""

from ml_collections import ConfigDict

from asmjax.config import Data, defaults
from asmjax.models.backbones import MobileNetV2
from asmjax.models.predictors import DeepLab
from asmjax.train.experiment import Training
from configs import common

CLASSES = ("background", "cat", "cow", "dog", "horse", "sheep")


def get_config(argument: str = "iid") -> ConfigDict:
  """DeepLab v3 on MobileNetV2 at output stride 16, 600 steps of 8 crops of 224.

  It starts from `--config.init.path=FILE` in torchvision's names; without a file it starts from
  scratch. All other classes, people among them, are unlabelled. Small enough for a CPU.

  Args:
    argument: METHOD[@NETWORK]; see `configs.common.base`.
  """
  backbone = MobileNetV2(top=False, output_stride=16)
  config = common.base(
    argument, predictor=DeepLab({}, backbone, rates=()),
    structure={"normalise": True, "margin": 0.8}, adversarial={"weight": 0.1},
  )
  config.init.part = "backbone"
  config.data = defaults(
    Data, source="pascal_voc", split="train_aug", size=(224, 224), scale=(0.5, 2.0),
    random_crop=True, eval_size=(512, 512), cache=True,
    classes={name: i for i, name in enumerate(CLASSES)},
  )
  players = config.optimizer
  players.predictor.update(rule="sgd", learning_rate=5e-3, weight_decay=5e-4)
  players.critic.update(learning_rate=5e-4, clip=1.0)
  config.train = defaults(Training, steps=600, batch_size=8)
  config.eval.update(every=300, batch_size=8)
  config.checkpoint.every = 150
  return config
