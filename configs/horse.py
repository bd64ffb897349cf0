"""Weizmann horses: figure-ground segmentation, 192 training and 136 validation images."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import defaults
from asmjax.models.predictors import UNet
from asmjax.train.experiment import Training


def get_config(variant: str = "asm") -> ConfigDict:
  """The paper's settings (Hwang et al. 2019, Sec. 4.1); its Table 1 has 77.28 mIoU for `iid`.

  A U-Net of 7 convolutional layers, batches of one image, 100 epochs, Adam, flipping only. The
  paper does not say at what size; here photos are fitted into 144 x 192 and the output has half
  that size.

  Discriminators of `gan_*` have `methods.GAN_FROM_SCRATCH`, whose weight grows to Luc et al.'s
  smaller one of 0.1; `cgan` has the released 0.01 throughout.
  LoAd goes on from an `iid` that random scales and crops have kept from learning its photos by
  heart, or the critic would have nothing to see (docs/results/lookahead.md).

  Args:
    variant: METHOD[@NETWORK]; see `asmjax.config.presets.base`.
  """
  config = presets.base(
    variant, predictor=UNet({}, levels=4, width=32, stride=2), adversarial=methods.GAN_FROM_SCRATCH
  )
  config.data = defaults(
    Data, source="weizmann_horse", size=(144, 192), resize="letterbox", cache=True
  )
  for player in (config.optimizer.predictor, config.optimizer.critic):
    player.update(name="adam", learning_rate=5e-4, weight_decay=1e-5)
  config.optimizer.critic.clip_norm = 1.0
  config.train = defaults(Training, steps=19200, batch_size=1, log_every=96)
  config.eval.update(every=1920, batch_size=8)
  config.checkpoint.every = 1920
  presets.use_small_critics(config, downsample=2)
  presets.finetuning_schedule(
    config,
    variant,
    rate=1e-4,
    batch=4,
    steps=200,
    ahead={
      "steps_per_propagation": 10,
      "rules": {"patience": 8, "cycles": 4, "max_drop": 0.02},
      "retraining": {"eval_every": 48, "epochs": 40.0},
    },
  )
  return config
