"""Any source with a U-Net from scratch: to inspect or pack a data set, and to start from."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import choose, defaults
from asmjax.data import SOURCES
from asmjax.models.predictors import UNet
from asmjax.train.experiment import Training


def get_config(argument: str = "folder") -> ConfigDict:
  """Photos fitted into 240 x 320; nothing is tuned to the data set.

  Without a method it is the one that gained on data which it was not tuned for (docs/results):
  adaptive affinity fields for classes, structure matching beside the pixel loss for depth. No
  growth of the analyzer's weights can blow structure matching up here.

  Args:
    argument: `SOURCE` or `SOURCE,METHOD[@NETWORK][,TASKS[,apart]]`, where the source is a key of
      `asmjax.data.SOURCES`; for the rest see `asmjax.config.presets.base`.
  """
  source, _, variant = argument.partition(",")
  kind = choose(SOURCES, source, "source")
  provides = getattr(kind.descriptor, "provides", {"label"})
  tasks, method = ("segmentation", "aaf_released") if "label" in provides else ("depth", "iid_asm")
  network = UNet({}, levels=5, width=32, stride=2)
  config = presets.base(
    variant or method,
    predictor=network,
    tasks=tasks,
    structure=methods.BOUNDED,
    adversarial=methods.GAN_FROM_SCRATCH,
  )
  if source == "pascal_voc" and "segmentation" in config.tasks:
    config.tasks.segmentation.void_band = presets.VOC_VOID_BAND
  options = {key: value for key, value in defaults(kind).items() if key != "size"}
  config.data = defaults(Data, source=source, size=(240, 320), resize="letterbox", options=options)
  config.optimizer.predictor.learning_rate = 1e-3
  config.optimizer.critic.update(learning_rate=5e-4, clip_norm=1.0)
  presets.reset_critic_weights(config)
  config.train = defaults(Training, steps=5000, batch_size=8)
  config.eval.every = 500
  splits = getattr(kind.descriptor, "splits", ())
  if splits and not {"train", "val"} <= set(splits):
    config.data.split, config.eval.split = splits[:2]
  config.checkpoint.every = 500
  presets.finetuning_schedule(config, variant or method)
  return config
