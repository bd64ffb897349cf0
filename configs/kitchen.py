"""A kitchen seen by an RGB-D camera: depth and normals of one room, from real photos."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import defaults
from asmjax.data import SOURCES
from asmjax.models.predictors import UNet
from asmjax.train.experiment import Training


def get_config(argument: str = "iid_asm") -> ConfigDict:
  """The first part of a sweep teaches its last part: `--split=test` of `asmjax evaluate`.

  Between them lies the part that is evaluated during training, so that no frame of one lies between
  frames of another. Photos of 480 x 640 are shrunk to a quarter.

  Args:
    argument: METHOD[@NETWORK][,TASKS[,apart]], see `presets.base`; depth and normals by
      default.
  """
  config = presets.base(
    argument,
    predictor=UNet({}, levels=6, width=16),
    tasks="depth+normals",
    structure=methods.BOUNDED,
    adversarial=methods.GAN_FROM_SCRATCH,
  )
  config.data = defaults(
    Data,
    source="rgbd_sweep",
    size=(120, 160),
    resize="stretch",
    cache=True,
    options=defaults(SOURCES["rgbd_sweep"]),
  )
  config.optimizer.critic.update(learning_rate=5e-4, clip_norm=1.0)
  config.train = defaults(Training, steps=2000, batch_size=8)
  config.eval.update(every=500, batch_size=4)
  config.checkpoint.every = 500
  presets.use_small_critics(config, downsample=4)
  presets.finetuning_schedule(config, argument)
  return config
