"""PASCAL VOC 2012 with the settings of the papers on structure, affinity and discriminators."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import defaults
from asmjax.models.predictors.published import PUBLISHED
from asmjax.train.experiment import Training

# Learning rates of Dilated8 and of LargeFOV, and of Dilated8 alone (Luc et al. 2016, supplement,
# Table 2).
_LUC = {"gan_basic": (1e-4, 0.5), "gan_product": (1e-6, 0.1), "gan_scaling": (1e-5, 0.1)}
_LUC_BASELINE = 1e-6


def get_config(variant: str = "asm") -> ConfigDict:
  """30000 steps of 8 crops of 336, SGD (Hwang et al. 2019, Sec. 4.1; Ke et al. 2018, Sec. 4.4).

  PSPNet on ResNet-101; the papers' start from ImageNet: `init.path=FILE`, `init.part=backbone`. All
  methods share the predictor's optimizer.

  With a discriminator of Luc et al. 2016 Dilated8, their rates, and turns of 500 steps; they start
  from a trained network. Their baseline is "iid@dilated8". With another network, as in
  "gan_basic@pspnet_resnet101", a discriminator has the rates and turns of all other methods, and
  `methods.GAN_FROM_SCRATCH`; `cgan` has its released settings.

  LoAd: DeepLab v3+ on Xception, or "@deeplab_v3_mobilenet_v2", crops of 513 of the 1464 photos of
  `train`, from a network that is trained on VOC (Jamali-Rad and Szabo 2022, Sec. 4); maps are
  judged at stride 4, the paper's at full size.

  Photos are evaluated at 513 x 513, as DeepLab's are, or at 512 where that fits the network.

  Args:
    variant: METHOD[@NETWORK]; see `asmjax.config.presets.base`.
  """
  names, named_network, *_ = presets.parse_variant(variant)
  of_luc = next((name for name in names if name in _LUC), "")
  second = names[0] in methods.FINETUNED
  network = "dilated8" if of_luc else "pspnet_resnet101"
  if second:
    network = "deeplab_v3_plus_xception65"
  luc_as_published = bool(of_luc) and named_network in ("", "dilated8")
  config = presets.base(
    variant,
    predictor=PUBLISHED[network](heads={}),
    structure={
      **methods.BOUNDED,
      "reconstruction_weight": 10.0,
      "critic": {"filters": (32, 64, 128)},
    },
    adversarial={} if luc_as_published or "cgan" in names else methods.GAN_FROM_SCRATCH,
  )
  config.init.required = True
  config.data = defaults(
    Data,
    source="pascal_voc",
    split="train_aug",
    size=(336, 336),
    scale=(0.5, 2.0),
    random_crop=True,
    eval_size=presets.fit_size(config, 512, 512),
  )
  players = config.optimizer
  for player, rate in ((players.predictor, 1e-3), (players.critic, 5e-4)):
    player.update(name="sgd", learning_rate=rate, weight_decay=5e-4)
  players.predictor.clip_norm, players.critic.clip_norm = 10.0, 1.0
  if "segmentation" in config.tasks:
    config.tasks.segmentation.count_without_ids = "once"  # As in Table 6 of Ke et al. 2018.
    config.tasks.segmentation.void_band = presets.VOC_VOID_BAND
  config.train = defaults(Training, steps=30_000, batch_size=8, log_every=100)
  if config.predictor.name == "dilated":
    rates = _LUC.get(of_luc, (_LUC_BASELINE, _LUC_BASELINE))
    players.predictor.learning_rate, players.critic.learning_rate = rates
  elif not second:
    presets.use_released_aaf(config)
  if luc_as_published:
    config.train.update(updates="alternate(500, 500)", allow_fast_critic=True)
  config.eval.update(every=5_000, batch_size=4)
  config.checkpoint.every = 1_000
  if second:
    config.data.split = "train"
  presets.finetuning_schedule(config, variant, crop=513, stride=4)
  return config
