"""PASCAL VOC 2012 with the settings of the papers on structure, affinity and discriminators."""

from ml_collections import ConfigDict

from asmjax.config import Data
from asmjax.models.predictors.published import PUBLISHED
from asmjax.sections import defaults
from asmjax.train.experiment import Training
from configs import common

# Learning rates of the predictor and of LargeFOV (Luc et al. 2016, supplement, Table 2).
_LUC = {"gan_basic": (1e-4, 0.5), "gan_product": (1e-6, 0.1), "gan_scaling": (1e-5, 0.1)}


def get_config(variant: str = "asm") -> ConfigDict:
  """30000 steps of 8 crops of 336, SGD (Hwang et al. 2019, Sec. 4.1; Ke et al. 2018, Sec. 4.4).

  PSPNet on ResNet-101; the papers' start from ImageNet: `init.path=FILE`, `init.part=backbone`.
  With a discriminator Dilated8, the rates of Luc et al. 2016, who start from a trained network, and
  turns of 500 steps. LoAd: DeepLab v3+ on Xception, or "@deeplab_v3_mobilenet_v2", crops of 513 of
  the 1464 photos of `train`, from a network that is trained on VOC (Jamali-Rad and Szabo 2022,
  Sec. 4); maps are judged at stride 4, the paper's at full size.

  Args:
    variant: METHOD[@NETWORK]; see `configs.common.base`.
  """
  method = variant.partition("@")[0]
  network = "dilated8" if method in _LUC else "pspnet_resnet101"
  if method in common.SECOND_STAGE:
    network = "deeplab_v3_plus_xception65"
  config = common.base(
    variant, predictor=PUBLISHED[network](heads={}),
    structure={
      **common.BOUNDED, "reconstruction": 10.0, "critic": {"filters": (32, 64, 128)},
    },
  )
  config.data = defaults(
    Data, source="pascal_voc", split="train_aug", size=(336, 336), scale=(0.5, 2.0),
    random_crop=True, eval_size=(512, 512),
  )
  players = config.optimizer
  for player, rate in ((players.predictor, 1e-3), (players.critic, 5e-4)):
    player.update(rule="sgd", learning_rate=rate, weight_decay=5e-4)
  players.predictor.clip, players.critic.clip = 10.0, 1.0
  config.train = defaults(Training, steps=30_000, batch_size=8, log_every=100)
  if method in _LUC:
    players.predictor.learning_rate, players.critic.learning_rate = _LUC[method]
    config.train.update(turns="alternate(500, 500)", fast_critic=True)
  if "affinity" in config.terms:
    players.predictor.groups = {"^head": 10.0}
  config.eval.update(every=5_000, batch_size=4)
  config.checkpoint.every = 1_000
  if method in common.SECOND_STAGE:
    config.data.split = "train"
  common.second_stage(config, variant, crop=513, stride=4)
  return config
