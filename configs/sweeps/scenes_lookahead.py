"""Looking ahead on rendered rooms, with its controls, from one trained predictor a seed."""


def get_sweep() -> dict:
  """Four rows; all but the first start from the first row's predictor of the same seed.

  "lambda 0" is LoAd without its critic: the pixel loss goes on and the best model is kept.
  """
  from_iid = lambda variant, **overrides: {
    "config": f"scenes:{variant}",
    "start": "IID",
    "overrides": overrides,
  }
  # Of its critic, which sends nothing, one step a cycle.
  no_critic = {"terms.adversarial.weight": 0.0, "lookahead.retraining.epochs": 0.001}
  return {
    "runs": {
      "IID": {"config": "scenes:iid", "overrides": {"train.steps": 750}},
      "lambda 0": from_iid("load", **no_critic),
      "alternating": from_iid("alternating"),
      "LoAd": from_iid("load"),
    },
    "seeds": (0, 1, 2),
    "baseline": "lambda 0",
    "metrics": ({"name": "segmentation/mean_iou", "title": "mean IoU"},),
  }
