"""Stanford Background: eight classes, a small set, where Luc et al. 2016 gain most."""

from ml_collections import ConfigDict

from asmjax.config import Data, defaults
from asmjax.models.predictors import Farabet
from asmjax.train.experiment import Training
from configs import common


def get_config(variant: str = "gan_branches") -> ConfigDict:
  """Farabet et al.'s network, lambda 2, discriminator's rate 1e-3 (Luc et al. 2016, Sec. 4).

  The paper does not say how long it trains, nor the predictor's rate; they are ours.

  Args:
    variant: METHOD[@NETWORK]; see `configs.common.base`. The paper's discriminator sees the photo
      in a branch of its own: "gan_branches".
  """
  config = common.base(variant, predictor=Farabet({}), adversarial={"weight": 2.0})
  config.data = defaults(
    Data, source="stanford_background", split="luc_train", size=(240, 320), scale=(0.5, 2.0),
    random_crop=True, eval_size=(240, 320), eval_resize="fit", cache=True,
  )
  for player in (config.optimizer.predictor, config.optimizer.critic):
    player.update(rule="adam", learning_rate=1e-3)
  config.optimizer.critic.clip = 1.0
  config.train = defaults(Training, steps=10_000, batch_size=7)
  config.eval.update(every=1_000, split="luc_test")
  config.checkpoint.every = 500
  return config
