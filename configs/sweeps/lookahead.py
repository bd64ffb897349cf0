"""Looking ahead, with its controls, from one trained predictor a seed."""

from asmjax.config.schema import choose

# What the pixel loss trains first. It must have converged, or the pixel loss alone goes on to gain;
# and it must not know its photos by heart, or the critic sees truths alone.
_STARTS = {
  "scenes": {"train.steps": 750},
  "horse": {
    "train.steps": 4800,
    "train.batch_size": 4,
    "optimizer.predictor.learning_rate": 1e-3,
    "data.scale": (0.5, 2.0),
    "data.random_crop": True,
  },
  "voc_animals": {"train.steps": 2000},
}


def get_sweep(config: str = "scenes") -> dict:
  """Four rows; all but the first start from the first row's predictor of the same seed.

  "lambda 0" is LoAd without its critic: the pixel loss goes on and the best model is kept.

  Args:
    config: "scenes", "horse" or "voc_animals". Photos come with `--set=data.root=FOLDER`, the
      weights that the animals start from with `--set=init.path=FILE`.
  """
  from_iid = lambda variant, **overrides: {
    "config": f"{config}:{variant}",
    "start": "IID",
    "overrides": overrides,
  }
  # Of its critic, which sends nothing, one step a cycle.
  no_critic = {"terms.adversarial.weight": 0.0, "lookahead.retraining.epochs": 0.001}
  return {
    "runs": {
      "IID": {"config": f"{config}:iid", "overrides": choose(_STARTS, config, "argument")},
      "lambda 0": from_iid("load", **no_critic),
      "alternating": from_iid("alternating"),
      "LoAd": from_iid("load"),
    },
    "seeds": (0, 1, 2),
    "baseline": "lambda 0",
    "metrics": ({"name": "segmentation/mean_iou", "title": "mean IoU"},),
  }
