"""Animals of PASCAL VOC 2012: five classes and background, from ImageNet weights."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import defaults
from asmjax.models.backbones import MobileNetV2
from asmjax.models.layers import Norm
from asmjax.models.predictors import DeepLab
from asmjax.train.experiment import Training

CLASSES = ("background", "cat", "cow", "dog", "horse", "sheep")


def get_config(argument: str = "iid") -> ConfigDict:
  """DeepLab v3 on MobileNetV2 at output stride 16, 500 steps of 8 crops of 225.

  It starts from `--config.init.path=FILE` in torchvision's names, and keeps the backbone's running
  statistics. From scratch it needs `--config.init.required=False`,
  `--config.predictor.backbone.norm.frozen=False` and a rate of 1e-3. All other classes, people
  among them, are unlabeled. Small enough for a CPU. LoAd goes on from an `iid` of 2000 steps
  (docs/results/lookahead.md).

  Args:
    argument: METHOD[@NETWORK]; see `asmjax.config.presets.base`.
  """
  backbone = MobileNetV2(top=False, output_stride=16, norm=Norm(frozen=True))
  config = presets.base(
    argument,
    predictor=DeepLab({}, backbone, rates=()),
    structure=methods.BOUNDED,
    adversarial=methods.GAN_FROM_SCRATCH,
  )
  if "segmentation" in config.tasks:
    config.tasks.segmentation.void_band = presets.VOC_VOID_BAND
  config.init.update(part="backbone", required=True)
  config.data = defaults(
    Data,
    source="pascal_voc",
    split="train_aug",
    scale=(0.5, 2.0),
    random_crop=True,
    size=presets.fit_size(config, 224, 224),
    eval_size=presets.fit_size(config, 512, 512),
    cache=True,
    classes={name: i for i, name in enumerate(CLASSES)},
  )
  players = config.optimizer
  players.predictor.update(name="adam", learning_rate=2e-4, lr_multipliers={"^(?!backbone/)": 5.0})
  players.critic.update(learning_rate=2e-4, clip_norm=1.0)
  config.train = defaults(Training, steps=500, batch_size=8)
  config.eval.update(every=250, batch_size=8)
  config.checkpoint.every = 125
  presets.use_small_critics(config, downsample=1)
  presets.finetuning_schedule(
    config,
    argument,
    rate=1e-5,
    batch=8,
    stride=4,
    steps=150,
    ahead={
      "steps_per_propagation": 10,
      "rules": {"patience": 5, "cycles": 3, "max_drop": 0.02},
      "retraining": {"batch_size": 8, "eval_every": 48},
    },
  )
  return config
