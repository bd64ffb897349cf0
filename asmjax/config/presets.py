"""What all configs share: every default, and the methods by name."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from asmjax.config.schema import as_section, choose, defaults
from asmjax.lookahead.settings import Lookahead
from asmjax.models.critics import CRITICS
from asmjax.models.input_transform import AUTO
from asmjax.models.predictors import PREDICTORS
from asmjax.models.predictors.published import PUBLISHED
from asmjax.tasks import TASKS
from asmjax.terms import TERMS
from asmjax.train.experiment import Checkpointing, Evaluation, Init
from asmjax.train.optim import Optimizer

# The settings of the authors' script for segmentation where they differ from the paper's.
RELEASED = {
  "normalize": "pixel",
  "margin": 0.8,
  "ascent": {"start": 0.012, "stop": 0.0012},
  "reconstruction": 1.0,
  "binarise": True,
  "partly": False,
  "balance": 0.0,
  "critic": {"filters": (16, 64, 128, 128, 128)},
}


# Structure matching that no growth of the analyzer's weights can blow up, and that beside a pixel
# loss has a quarter of its say; without that limit it sends 2.3 times as much on the scenes.
BOUNDED = {"normalize": "pixel", "margin": 0.8, "binarise": True, "balance": 0.25}

# A discriminator that meets a predictor which knows nothing: it sets in slowly, sends at most a
# third of the pixel loss's gradient, and does not learn to be sure.
GAN_FROM_SCRATCH = {
  "weight": {"start": 0.0, "stop": 0.1, "shape": "linear", "begin": 0.1, "end": 0.3},
  "balance": 0.3,
  "smoothing": 0.1,
}


def critic(name: str, **changes) -> dict:
  """The section of a discriminator; its name is a key of `asmjax.models.critics.CRITICS`."""
  return {"name": name, **defaults(CRITICS[name], **changes)}


# The cGAN that was released with adversarial structure matching, for SGD; see `without_scales`.
CGAN = {"inputs": "concatenated", "weight": 0.01, "critic_weight": 0.01, "critic": critic("patch")}

# What Luc et al. show the two branches of their network for Stanford Background.
BRANCHES = {"inputs": "branches", "critic": critic("two_branch")}

# 10^(-t / T).
DECAY = {"start": 1.0, "stop": 0.1}

# Adaptive affinity fields as published and as released.
AAF = {
  "weight": DECAY,
  "adaptive": True,
  "sizes": (3, 5, 7),
  "neighbors": "full",
  "weight_by": "channel",
}
AAF_RELEASED = {
  "weight": DECAY,
  "adaptive": True,
  "sizes": (3, 5, 7),
  "neighbors": "corners",
  "weight_by": "center",
  "ignore": "opposite",
}

# The discriminator of LoAd sees the photo split by classes (Jamali-Rad and Szabo 2022, Fig. 2), in
# batches of truths and label maps (Sec. 4). Such maps are decided, so the predictor's are as well.
# It meets a trained predictor, with lambda 1 from the start.
LOAD = {
  "inputs": "product",
  "weight": 1.0,
  "smoothing": 0.0,
  "together": True,
  "hard": True,
  "critic": critic("mobilenet"),
}

# A method is a set of terms, each with what it changes in that term's settings.
METHODS = {
  "iid": {"pixel": {}},
  "iid_released": {"pixel": {}},
  "iid_balanced": {"pixel": {"balanced": 1 / 3}},
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
  "gan_basic": {"pixel": {}, "adversarial": {"inputs": "basic"}},
  "gan_product": {"pixel": {}, "adversarial": {"inputs": "product"}},
  "gan_scaling": {"pixel": {}, "adversarial": {"inputs": "scaling"}},
  "gan_branches": {"pixel": {}, "adversarial": BRANCHES},
  "cgan": {"pixel": {}, "adversarial": CGAN},
  "affinity": {"pixel": {}, "affinity": {"weight": DECAY}},
  "aaf": {"pixel": {}, "affinity": AAF},
  "aaf_released": {"pixel": {}, "affinity": AAF_RELEASED},
  "embedding": {"pixel": {}, "embedding": {}},
  "asm_aaf": {"pixel": {}, "structure": {}, "affinity": AAF},
  "load": {"pixel": {}, "adversarial": LOAD},
  "load_asm": {"pixel": {}, "structure": BOUNDED},
  "alternating": {"pixel": {}, "adversarial": LOAD},
}

# These start from a predictor that the pixel loss has trained.
SECOND_STAGE = ("load", "load_asm", "alternating")


def base(
  argument: str, *, predictor: nn.Module, tasks: str = "segmentation", **of_terms: Mapping
) -> ConfigDict:
  """Everything but the data set and the schedule.

  Args:
    argument: METHOD[@NETWORK][,TASKS[,apart]]: a key of `METHODS`; one of
      `asmjax.models.predictors.published.PUBLISHED`; one or several of "segmentation", "depth" and
      "normals", joined by "+", or "all"; and whether each task has a critic of its own.
    predictor: where the argument names none; of its fields all but the heads count.
    tasks: those of the data set where the argument names none.
    **of_terms: by kind, the data set's own settings of terms; what the method says comes first.

  Raises:
    ValueError: an unknown method, network or task; the message lists the known ones.
  """
  method, network, tasks, apart = _parsed(argument, tasks)
  if network:
    predictor = choose(PUBLISHED, network, "network")(heads={})
  terms = {}
  for kind, changes in choose(METHODS, method, "variant").items():
    settings = {**of_terms.get(kind, {}), **changes}
    if "pixel" not in METHODS[method]:
      settings.pop("balance", None)  # There is nothing to balance against.
    section = defaults(TERMS[kind], **settings)
    if not apart or "tasks" not in section:
      terms[kind] = section
      continue
    for task in tasks:
      terms[f"{kind}_{task}"] = {"kind": kind, **section, "tasks": (task,)}
  # The authors' code has these losses for all of its methods, cGAN and the pixel loss among them.
  released = {"released": True} if method.endswith("released") or method == "cgan" else {}
  config = ConfigDict(
    {
      "seed": 0,
      "tasks": {task: _task(task, released) for task in tasks},
      "predictor": _predictor(predictor),
      "init": defaults(Init),
      "terms": terms,
      "optimizer": {"predictor": defaults(Optimizer), "critic": defaults(Optimizer)},
      "eval": defaults(Evaluation),
      "checkpoint": defaults(Checkpointing, metric=_BEST[tasks[0]]),
    }
  )
  if method.startswith("load"):
    config.lookahead = defaults(Lookahead)
  if "affinity" in terms and terms["affinity"]["adaptive"]:
    config.optimizer.affinity = _at_the_pace_of(config.optimizer.predictor)
  return config


def second_stage(
  config: ConfigDict,
  argument: str,
  *,
  rate: float = 1e-6,
  batch: int = 5,
  crop: int = 0,
  stride: int = 0,
  steps: int = 0,
  ahead: Mapping | None = None,
) -> None:
  """The players of LoAd and of the alternating scheme that it is compared with, if it is either.

  As published: SGD for the predictor, Adagrad for MobileNet, and flipping alone (Jamali-Rad and
  Szabo 2022, Sec. 4). Both start from a predictor that the pixel loss has trained:
  `init.path=WORKDIR`, `init.format=orbax`. Other critics keep their optimizer, with a constant
  rate.

  The predictor keeps the running statistics that it starts with, and trains with them: those of a
  few images would make another predictor of it than the one that is evaluated and whose maps the
  critic knows. The paper does not say so.

  Args:
    config: everything else.
    argument: of `base`.
    rate: of the predictor.
    batch: of the predictor.
    crop: side of its images; 0 leaves it.
    stride: of the maps that are judged, if the predictor is a DeepLab, which can enlarge them; 0
      leaves them.
    steps: that the predictor takes, at most with LoAd; 0 leaves them as they are.
    ahead: settings of `asmjax.lookahead.settings.Lookahead` that are not its defaults.
  """
  method, *_ = _parsed(argument, "segmentation")
  if method not in SECOND_STAGE:
    return
  plain = {"schedule": "constant", "weight_decay": 0.0, "clip": 0.0, "groups": {}}
  players = config.optimizer
  _replace(players.predictor, **plain, rule="sgd", learning_rate=rate, momentum=0.95)
  players.critic.schedule = "constant"
  if any(term.get("critic", {}).get("name") == "mobilenet" for term in config.terms.values()):
    _replace(players.critic, **plain, rule="adagrad", learning_rate=0.01)
  config.train.update(batch_size=batch, fast_critic=True)
  if steps:
    config.train.steps = steps
  if method == "alternating":
    config.train.turns = "alternate"
  else:
    config.lookahead.update(ahead or {})
  config.data.scale = (1.0, 1.0)
  if crop:
    config.data.size = (crop, crop)
  if stride and config.predictor.name == "deeplab":
    config.predictor.stride = stride
  _freeze_statistics(config.predictor)
  config.init.part = ""  # All of the trained predictor, not only the part that began as published.
  config.eval.every = 0


def without_scales(config: ConfigDict) -> None:
  """Takes away the weights of discriminators, which do nothing where these have Adam.

  How fast they learn is the rate of their optimizer.
  """
  for term in config.terms.values():
    if "critic_weight" in term:
      term.critic_weight = 1.0


def released_aaf(config: ConfigDict) -> None:
  """What all methods share in the released code of Ke et al. 2018, the baseline among them.

  All that follows the backbone (the pools, the convolution that joins them, the classifier) has ten
  times its rate, and PSPNet has no dropout.
  """
  if "backbone" in config.predictor:
    config.optimizer.predictor.groups = {"^(?!backbone/)": 10.0}
  if config.predictor.name == "pspnet":
    config.predictor.dropout = 0.0


def fit_size(config: ConfigDict, *size: int) -> tuple[int, ...]:
  """A size of images whose corners the predictor's maps reach; see `asmjax.ops.resize`.

  Args:
    config: with the section `predictor`.
    *size: multiples of the predictor's stride, which is one pixel less with aligned corners.
  """
  more = int(config.predictor.get("align_corners", False))
  return tuple(side + more for side in size)


def lighten(config: ConfigDict, shrink: int) -> None:
  """Makes discriminators small enough for one CPU.

  They judge means of `shrink` x `shrink` pixels. SmallFOV-light stands in for LargeFOV and for
  MobileNet, which with the few pixels and channels that a CPU affords sees no borders, and the
  patch network has half the filters. All these configs have Adam; see `without_scales`.
  """
  without_scales(config)
  for term in config.terms.values():
    if "inputs" not in term:
      continue
    if term.critic.name in ("luc", "mobilenet"):
      term.critic = critic("luc", large=False, light=True)
    if term.critic.name == "patch":
      term.critic.filters = tuple(filters // 2 for filters in term.critic.filters)
    else:
      term.shrink = shrink


def _replace(section: ConfigDict, **values: Any) -> None:
  """Sets values as they are; `ConfigDict.update` would merge mappings into what was there."""
  for key, value in values.items():
    section[key] = value


def _freeze_statistics(network: ConfigDict) -> None:
  """Batch norm uses and keeps its running statistics, in networks within the network too."""
  for name, section in network.items():
    if name == "norm":
      section.frozen = True
    elif isinstance(section, ConfigDict):
      _freeze_statistics(section)


def _at_the_pace_of(optimizer: ConfigDict) -> dict:
  """The same rule and rates, even if they change later, without decay."""
  keys = ("rule", "learning_rate", "momentum", "momentum2", "schedule", "power", "warmup")
  return defaults(Optimizer, **{key: optimizer.get_ref(key) for key in keys})


def _task(name: str, released: dict) -> dict:
  section = defaults(TASKS[name], **(released if name != "segmentation" else {}))
  section.pop("classes", None)  # The data set's own.
  return section


def _predictor(predictor: nn.Module) -> dict:
  name = next(name for name, kind in PREDICTORS.items() if kind is type(predictor))
  return {"name": name, "input_transform": AUTO, **as_section(predictor)}


def _parsed(argument: str, tasks: str) -> tuple[str, str, tuple[str, ...], bool]:
  method, *rest = argument.split(",")
  method, _, network = method.partition("@")
  named, *rest = rest or [tasks]
  tasks = tuple(TASKS) if named == "all" else tuple(named.split("+"))
  for task in tasks:
    choose(TASKS, task, "task")
  if rest not in ([], ["apart"]):
    raise ValueError(f"variant {argument!r}; expected METHOD[@NETWORK][,TASKS[,apart]]")
  return method, network, tasks, bool(rest)


# By what the best checkpoint of a task is known.
_BEST = {
  "segmentation": "segmentation/mean_iou",
  "depth": "depth/delta_1.25",
  "normals": "normals/within_11.25",
}
