"""Stanford Background: eight classes, a small set, where Luc et al. 2016 gain most."""

from ml_collections import ConfigDict

from asmjax.config import Data, defaults
from asmjax.train.experiment import Training
from configs import common


def get_config(variant: str = "gan_branches") -> ConfigDict:
  """Lambda 2 and learning rate 1e-3 for the discriminator (Luc et al. 2016, Sec. 4).

  The paper does not say how long it trains, nor the predictor's rate; they are ours.

  Args:
    variant: the method; see `configs.common.METHODS`. The paper's discriminator sees the photo in a
      branch of its own: "gan_branches".
  """
  config = common.base(variant, adversarial={"weight": 2.0})
  config.data = defaults(
    Data, source="stanford_background", split="luc_train", size=(240, 320), scale=(0.5, 2.0),
    random_crop=True, eval_size=(240, 320), eval_resize="fit", cache=True,
  )
  config.predictor.update(levels=5, width=32, stride=2)
  for player in (config.optimizer.predictor, config.optimizer.critic):
    player.update(rule="adam", learning_rate=1e-3)
  config.optimizer.critic.clip = 1.0
  config.train = defaults(Training, steps=10_000, batch_size=7)
  config.eval.update(every=1_000, split="luc_test")
  config.checkpoint.every = 500
  return config
