"""Procedural rooms of furniture: no download, and structure matters."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import defaults
from asmjax.models.predictors import UNet
from asmjax.train.experiment import Training

# Mean IoU and boundary F of `iid` by seed (docs/results), which runs of other variants are held
# against when they end.
_PIXEL_LOSS = {0: (0.2525, 0.1986), 1: (0.2505, 0.1886), 2: (0.2636, 0.2137)}


def get_config(argument: str = "aaf_released+dice") -> ConfigDict:
  """Nine classes of walls, floor and furniture at 96 x 96, or their depth, normals, or all three.

  The analyzer's features are normalized and its climb ends at a margin, as in the released code:
  with thin objects of many classes the paper's V hardly trains a network from scratch
  (docs/results). Discriminators of `gan_*` have `methods.GAN_FROM_SCRATCH`, whose weight grows to
  Luc et al.'s smaller one of 0.1; `cgan` has the released 0.01 throughout. LoAd goes on from what
  `iid` reaches.

  Args:
    argument: METHOD[@NETWORK][,TASKS[,apart]]; see `asmjax.config.presets.base`.
  """
  config = presets.base(
    argument,
    predictor=UNet({}, levels=5, width=16),
    structure=methods.BOUNDED,
    adversarial=methods.GAN_FROM_SCRATCH,
  )
  if "segmentation" in config.tasks:
    config.tasks.segmentation.extra_metrics = ("boundary",)
  options = {"seed": 0, "length": 0}
  config.data = defaults(Data, source="scenes", size=(96, 96), cache=True, options=options)
  config.optimizer.predictor.learning_rate = 2e-3
  config.optimizer.critic.update(learning_rate=5e-4, clip_norm=1.0)
  config.train = defaults(Training, steps=500, batch_size=8)
  config.eval.update(every=250, batch_size=16)
  config.checkpoint.every = 125
  if not {"@", ","} & set(argument) and argument not in methods.FINETUNED:
    config.reference = _reference()
  presets.use_small_critics(config, downsample=4)
  presets.finetuning_schedule(
    config,
    argument,
    rate=2e-5,
    batch=8,
    steps=300,
    ahead={
      "steps_per_propagation": 20,
      "maps_per_model": 256,
      "rules": {"patience": 5, "cycles": 3, "max_drop": 0.02},
      "retraining": {"eval_every": 32, "epochs": 30.0},
    },
  )
  return config


def _reference() -> dict:
  metrics = ("segmentation/mean_iou", "segmentation/boundary/boundary_f")
  return {
    "label": "pixel loss",
    "command": "asmjax train --config=scenes:iid --config.seed=SEED --workdir=runs/scenes_iid_SEED",
    "scores": {
      str(seed): dict(zip(metrics, scores, strict=True)) for seed, scores in _PIXEL_LOSS.items()
    },
  }
