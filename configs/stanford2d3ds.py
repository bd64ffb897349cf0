"""2D-3D-Semantics: depth and surface normals of indoor scenes, fold 1."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import defaults
from asmjax.models.predictors.published import PUBLISHED
from asmjax.train.experiment import Training


def get_config(argument: str = "asm_released,normals") -> ConfigDict:
  """The settings of Hwang et al. 2019, Sec. 4.1 (Tables 3 and 4), with the U-Net of their code.

  Views of 1080 x 1080 are shrunk to half, cropped to 512 for training and evaluated whole. `cgan`
  has its released settings, discriminators of `gan_*` have `methods.GAN_FROM_SCRATCH`.

  Args:
    argument: METHOD[@NETWORK][,TASKS[,apart]], see `presets.base`; normals by default.
      "@fcrn50" is the network of Laina et al. 2016.
  """
  names = presets.parse_variant(argument).methods
  config = presets.base(
    argument,
    predictor=PUBLISHED["unet18"](heads={}),
    tasks="normals",
    structure={
      **methods.BOUNDED,
      "reconstruction_weight": 10.0,
      "critic": {"filters": (32, 64, 128, 128, 128)},
    },
    adversarial={} if "cgan" in names else methods.GAN_FROM_SCRATCH,
  )
  config.data = defaults(
    Data,
    source="stanford2d3ds",
    split="fold1_train",
    size=(512, 512),
    scale=(0.5, 0.5),
    scale_depth=False,
    random_crop=True,
    eval_size=(540, 540),
    eval_resize="stretch",
  )
  for player in (config.optimizer.predictor, config.optimizer.critic):
    player.update(name="sgd", learning_rate=1e-2, weight_decay=5e-4)
  config.optimizer.predictor.clip_norm, config.optimizer.critic.clip_norm = 10.0, 1.0
  config.train = defaults(Training, steps=120_000, batch_size=8, log_every=100)
  config.eval.update(every=10_000, split="fold1_test")
  config.checkpoint.every = 2_000
  presets.finetuning_schedule(config, argument)
  return config
