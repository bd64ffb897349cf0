"""Cityscapes with the settings of Ke et al. 2018."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import defaults
from asmjax.models.predictors.published import PUBLISHED
from asmjax.train.experiment import Training


def get_config(variant: str = "aaf") -> ConfigDict:
  """PSPNet on ResNet-101, 90000 steps of 8 crops of 720 (Sec. 4.4); photos are evaluated whole.

  The papers' networks start from ImageNet: `init.path=FILE`, `init.part=backbone`. LoAd: DeepLab on
  MobileNetV2, crops of 513, from a network that is trained on Cityscapes (Jamali-Rad and Szabo
  2022, Sec. 4); maps are judged at stride 4, the paper's at full size. `cgan` has its released
  settings, discriminators of `gan_*` have `methods.GAN_FROM_SCRATCH`.

  Args:
    variant: METHOD[@NETWORK]; see `asmjax.config.presets.base`.
  """
  names = presets.parse_variant(variant).methods
  second = names[0] in methods.FINETUNED
  network = "deeplab_v3_mobilenet_v2" if second else "pspnet_resnet101"
  config = presets.base(
    variant,
    predictor=PUBLISHED[network](heads={}),
    structure={
      **methods.BOUNDED,
      "reconstruction_weight": 10.0,
      "critic": {"filters": (32, 64, 128)},
    },
    adversarial={} if "cgan" in names else methods.GAN_FROM_SCRATCH,
  )
  config.init.required = True
  config.data = defaults(
    Data,
    source="cityscapes",
    size=(720, 720),
    scale=(0.5, 2.0),
    random_crop=True,
    eval_size=presets.fit_size(config, 1024, 2048),
  )
  players = config.optimizer
  for player, rate in ((players.predictor, 1e-3), (players.critic, 5e-4)):
    player.update(name="sgd", learning_rate=rate, weight_decay=5e-4)
  players.predictor.clip_norm, players.critic.clip_norm = 10.0, 1.0
  if not second:
    presets.use_released_aaf(config)
  if "segmentation" in config.tasks:
    config.tasks.segmentation.count_without_ids = "once"  # As in Table 7 of Ke et al. 2018.
  config.train = defaults(Training, steps=90_000, batch_size=8, log_every=100)
  config.eval.update(every=10_000, batch_size=1)
  config.checkpoint.every = 1_000
  presets.finetuning_schedule(config, variant, crop=513, stride=4)
  return config
