"""What all configs share: every default, and the methods by name."""

from ml_collections import ConfigDict

from asmjax.config import choose, defaults
from asmjax.models.predictors import UNet
from asmjax.tasks import Segmentation
from asmjax.terms import Pixel, Structure
from asmjax.train.experiment import Checkpointing, Evaluation
from asmjax.train.optim import Optimizer

# The settings of the released code where they differ from the paper's.
RELEASED = {
  "normalise": True,
  "margin": 0.8,
  "ascent": {"start": 0.012, "end": 0.0012},
  "reconstruction": 10.0,
  "partly": False,
  "critic": {"filters": (32, 64, 128, 128, 128)},
}

# A method is a set of terms, each with what it changes in that term's settings.
METHODS = {
  "iid": {"pixel": {}},
  "asm": {"structure": {}},
  "asm_conv1": {"structure": {"layers": ("conv1",)}},
  "asm_conv2": {"structure": {"layers": ("conv2",)}},
  "asm_conv3": {"structure": {"layers": ("conv3",)}},
  "asm_conv1_3": {"structure": {"layers": ("conv1", "conv2", "conv3")}},
  "asm_no_rec": {"structure": {"reconstruction": 0.0}},
  "asm_no_adv": {"structure": {"ascent": 0.0}},
  "asm_binarised": {"structure": {"binarise": True}},
  "asm_released": {"structure": RELEASED},
  "iid_asm": {"pixel": {}, "structure": {}},
  "iid_asm_released": {"pixel": {}, "structure": RELEASED},
}


def base(variant: str, **structure) -> ConfigDict:
  """Everything but the data set and the schedule.

  Args:
    variant: the method, a key of `METHODS`.
    **structure: the data set's own settings of the structure term; what the method says comes
      first.

  Raises:
    ValueError: an unknown variant; the message lists the known ones.
  """
  terms = {
    name: defaults(_TERMS[name], **({**structure, **changes} if name == "structure" else changes))
    for name, changes in choose(METHODS, variant, "variant").items()
  }
  return ConfigDict({
    "seed": 0,
    "tasks": {"segmentation": defaults(Segmentation)},
    "predictor": {"name": "unet", **defaults(UNet)},
    "terms": terms,
    "optimizer": {"predictor": defaults(Optimizer), "critic": defaults(Optimizer)},
    "eval": defaults(Evaluation),
    "checkpoint": defaults(Checkpointing),
  })


_TERMS = {"pixel": Pixel, "structure": Structure}
