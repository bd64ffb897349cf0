"""Stanford Background: eight classes, a small set, where Luc et al. 2016 gain most."""

from ml_collections import ConfigDict

from asmjax.config import methods, presets
from asmjax.config.data import Data
from asmjax.config.schema import defaults
from asmjax.models.predictors import Farabet
from asmjax.models.predictors.published import PUBLISHED
from asmjax.train.experiment import Training


def get_config(variant: str = "gan_branches") -> ConfigDict:
  """Farabet et al.'s network, lambda 2, discriminator's rate 1e-3 (Luc et al. 2016, Sec. 4).

  The lambda is that of `gan_*`; `cgan` has its released 0.01.

  The paper trains on patches, with the hyperparameters of Farabet et al. (2013); whole photos,
  their scales of 0.5 to 2, the predictor's rate, the batches of 7 and the length are ours. As in
  the paper an eighth of the training photos is held out, and the final model chosen by it. For the
  scores on the test photos: `asmjax evaluate --workdir=DIR --checkpoint=best --split=luc_test`,
  and of LoAd `--split=load_test`.

  The stage before LoAd, "iid_balanced": DeepLab v3+ on Xception-65 at 321 x 321, 12 epochs of 7
  photos at 1e-4, the first 4 with balanced classes (Jamali-Rad and Szabo 2022, Sec. 4). The paper
  starts from a network trained on Cityscapes and names no optimizer; SGD with momentum is that of
  DeepLab v3+. LoAd and "alternating" go on from there for at most 10000 steps, the limit ours.

  Photos, of at most 320 x 320, are evaluated as they are, padded to one size.

  Args:
    variant: METHOD[@NETWORK]; see `presets.base`. The paper's discriminator sees the photo
      in a branch of its own: "gan_branches".
  """
  names = presets.parse_variant(variant).methods
  first_stage = "iid_balanced" in names
  load = first_stage or names[0] in methods.FINETUNED
  predictor = PUBLISHED["deeplab_v3_plus_xception65"](heads={}) if load else Farabet({})
  config = presets.base(
    variant, predictor=predictor, structure=methods.BOUNDED, adversarial={"weight": 2.0}
  )
  config.data = defaults(
    Data,
    source="stanford_background",
    split="luc_fit",
    size=(240, 320),
    scale=(0.5, 2.0),
    random_crop=True,
    eval_size=(320, 320),
    cache=True,
  )
  for player in (config.optimizer.predictor, config.optimizer.critic):
    player.update(name="adam", learning_rate=1e-3)
  config.optimizer.critic.clip_norm = 1.0
  presets.reset_critic_weights(config)
  config.train = defaults(Training, steps=10_000, batch_size=7)
  config.eval.update(every=1_000, split="luc_val")
  config.checkpoint.every = 500
  if load:
    config.data.update(split="load_train", size=(321, 321), scale=(1.0, 1.0), eval_size=(321, 321))
    config.optimizer.predictor.update(name="sgd", learning_rate=1e-4, schedule="constant")
    config.eval.update(every=0, split="load_val")
    config.init.required = True
  if first_stage:
    config.train.steps = 12 * 400 // 7
  presets.finetuning_schedule(config, variant)
  return config
