"""The settings that all configs share.

A config file calls `base` for everything but its data set and schedule, and then what else fits it:
`finetuning_schedule`, `use_small_critics`, `use_released_aaf`, `fit_size`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from asmjax.config.methods import FINETUNED, METHODS, critic, join_terms
from asmjax.config.schema import as_section, choose, defaults
from asmjax.lookahead.settings import Lookahead
from asmjax.models.input_transform import AUTO
from asmjax.models.predictors import PREDICTORS
from asmjax.models.predictors.published import PUBLISHED
from asmjax.tasks import TASKS
from asmjax.terms import TERMS
from asmjax.train.experiment import Checkpointing, Evaluation, Init
from asmjax.train.optim import Optimizer

# A `ConfigDict`, whose sections are attributes that no type checker knows.
Config = Any

# Width in pixels of the unlabeled outlines of PASCAL VOC's objects (Everingham et al. 2010).
VOC_VOID_BAND = 5


class Variant(NamedTuple):
  """What the argument of a config says.

  Attributes:
    methods: Keys of `asmjax.config.methods.METHODS`, whose terms are trained together.
    network: Key of `asmjax.models.predictors.published.PUBLISHED`; empty if none is named.
    tasks: Keys of `asmjax.tasks.TASKS`.
    apart: Whether each task has a critic of its own.
  """

  methods: tuple[str, ...]
  network: str
  tasks: tuple[str, ...]
  apart: bool


def parse_variant(argument: str, tasks: str = "segmentation") -> Variant:
  """Returns what an argument `METHOD[@NETWORK][,TASKS[,apart]]` says; see `base`.

  Args:
    argument: Argument of a config.
    tasks: Tasks of an argument that names none.

  Raises:
    ValueError: A task is unknown, or the argument has another form.
  """
  method, *options = argument.split(",")
  method, _, network = method.partition("@")
  tasks, *options = options or [tasks]
  names = tuple(TASKS) if tasks == "all" else tuple(tasks.split("+"))
  for name in names:
    choose(TASKS, name, "task")
  if options not in ([], ["apart"]):
    raise ValueError(f"variant {argument!r}; expected METHOD[@NETWORK][,TASKS[,apart]]")
  return Variant(tuple(method.split("+")), network, names, bool(options))


def base(
  argument: str, *, predictor: nn.Module, tasks: str = "segmentation", **term_settings: Mapping
) -> Config:
  """Returns a config of a method, complete but for the data set and the schedule.

  Args:
    argument: `METHOD[@NETWORK][,TASKS[,apart]]`. METHOD is a key of
      `asmjax.config.methods.METHODS`, or several whose terms are trained together, joined by "+";
      NETWORK one of `asmjax.models.predictors.published.PUBLISHED`; TASKS one or several of
      "segmentation", "depth" and "normals", joined by "+", or "all"; with "apart" each task has a
      critic of its own.
    predictor: Network of an argument that names none. Its heads are ignored.
    tasks: Tasks of an argument that names none.
    **term_settings: By kind of term, settings of this data set. A method's own settings win.

  Raises:
    ValueError: The method, network or task is unknown, and the message lists the known ones; or
      methods cannot be joined.
  """
  names, network, task_names, apart = parse_variant(argument, tasks)
  method_terms = join_terms(names)
  if network:
    predictor = choose(PUBLISHED, network, "network")(heads={})
  terms = {}
  for kind, changes in method_terms.items():
    settings = {**term_settings.get(kind, {}), **changes}
    if "pixel" not in method_terms:
      settings.pop("balance", None)  # There is nothing to balance against.
    if not apart or "tasks" not in defaults(TERMS[kind]):
      terms[kind] = _term_section(kind, settings, task_names)
      continue
    for task in task_names:
      section = _term_section(kind, settings, (task,))
      terms[f"{kind}_{task}"] = {"kind": kind, **section, "tasks": (task,)}
  released = any(METHODS[name].released for name in names)
  config: Config = ConfigDict(
    {
      "seed": 0,
      "tasks": {task: _task_section(task, released=released) for task in task_names},
      "predictor": _predictor_section(predictor),
      "init": defaults(Init),
      "terms": terms,
      "optimizer": {"predictor": defaults(Optimizer), "critic": defaults(Optimizer)},
      "eval": defaults(Evaluation),
      "checkpoint": defaults(Checkpointing, metric=_BEST[task_names[0]]),
    }
  )
  if names[0].startswith("load"):
    config.lookahead = defaults(Lookahead)
  if "affinity" in terms and terms["affinity"]["adaptive"]:
    config.optimizer.affinity = _same_lr_as(config.optimizer.predictor)
  return config


def finetuning_schedule(
  config: Config,
  argument: str,
  *,
  rate: float = 1e-6,
  batch: int = 5,
  crop: int = 0,
  stride: int = 0,
  steps: int = 0,
  ahead: Mapping | None = None,
) -> None:
  """Sets up the second stage of LoAd, or of the alternating scheme that it is compared with.

  Configs of other methods stay as they are. The stage starts from a predictor that the pixel loss
  has trained (`init.path=WORKDIR`, `init.format=orbax`), with SGD, Adagrad for MobileNet, and
  flipping alone, as published (Jamali-Rad and Szabo 2022, Sec. 4). Other critics keep their
  optimizer, with a constant rate.

  Not in the paper: the predictor keeps the running statistics that it starts with, and trains with
  them, since those of a few images would make another predictor of it than the one that is
  evaluated and whose maps the critic knows.

  Args:
    config: Config to change, otherwise complete.
    argument: Argument of `base` that the config was made from.
    rate: Learning rate of the predictor.
    batch: Images in a minibatch of the predictor.
    crop: Side of the predictor's training images in pixels; 0 keeps the config's size.
    stride: Output stride of the maps that a DeepLab shows to the critic; 0 keeps the config's.
    steps: Steps of the predictor, with LoAd at most; 0 keeps the config's.
    ahead: Settings of `asmjax.lookahead.settings.Lookahead` that are not its defaults.
  """
  method = parse_variant(argument).methods[0]
  if method not in FINETUNED:
    return
  _use_finetuning_optimizers(config, rate)
  config.train.update(batch_size=batch, allow_fast_critic=True)
  if steps:
    config.train.steps = steps
  if method == "alternating":
    config.train.updates = "alternate"
  else:
    config.lookahead.update(ahead or {})
  smallest, largest = config.data.scale
  if smallest != largest:  # One scale for all images is the data set's size, no augmentation.
    config.data.scale = (1.0, 1.0)
  if crop:
    config.data.size = (crop, crop)
  if stride and config.predictor.name == "deeplab":
    config.predictor.stride = stride
  _freeze_statistics(config.predictor)
  config.init.required = True
  config.init.part = ""  # All of the trained predictor, not only the part that began as published.
  config.eval.every = 0


def _use_finetuning_optimizers(config: Config, rate: float) -> None:
  """Sets constant rates, and the published optimizers of the predictor and of MobileNet."""
  constant = {"schedule": "constant", "weight_decay": 0.0, "clip_norm": 0.0, "lr_multipliers": {}}
  players = config.optimizer
  _replace(players.predictor, **constant, name="sgd", learning_rate=rate, momentum=0.95)
  players.critic.schedule = "constant"
  if any(term.get("critic", {}).get("name") == "mobilenet" for term in config.terms.values()):
    _replace(players.critic, **constant, name="adagrad", learning_rate=0.01)


def reset_critic_weights(config: Config) -> None:
  """Sets the weights of discriminators to 1, for optimizers that divide scales out, as Adam.

  How fast such a critic learns is the learning rate of its optimizer.
  """
  for term in config.terms.values():
    if "inputs" in term:  # It is a discriminator's.
      term.critic_weight = 1.0


def use_released_aaf(config: Config) -> None:
  """Changes a config to what all methods share in the released code of Ke et al. (2018).

  All layers after the backbone (the pools, the convolution that joins them, the classifier) have
  ten times its learning rate, and PSPNet has no dropout; in the baseline too.
  """
  if "backbone" in config.predictor:
    config.optimizer.predictor.lr_multipliers = {"^(?!backbone/)": 10.0}
  if config.predictor.name == "pspnet":
    config.predictor.dropout = 0.0


def fit_size(config: Config, *size: int) -> tuple[int, ...]:
  """Returns an image size (h, w) that the predictor's output grid covers from corner to corner.

  That is `size`, and one pixel more with aligned corners; see `asmjax.ops.resize`.

  Args:
    config: Config with the section `predictor`.
    *size: Sides in pixels, multiples of the predictor's stride.
  """
  more = int(config.predictor.get("align_corners", False))
  return tuple(side + more for side in size)


def use_small_critics(config: Config, downsample: int) -> None:
  """Makes the discriminators of a config small enough for one CPU.

  SmallFOV-light stands in for LargeFOV and for MobileNet, which with the few pixels and channels
  that a CPU affords sees no borders, and the patch network has half the filters. All these configs
  have Adam; see `reset_critic_weights`.

  Args:
    config: Config to change.
    downsample: Side in pixels of the cells whose means the discriminators are shown.
  """
  reset_critic_weights(config)
  for term in config.terms.values():
    if "inputs" not in term:  # It is no discriminator's.
      continue
    network = term.critic
    if network.name in ("luc", "mobilenet"):
      term.critic = critic("luc", large=False, light=True)
    if network.name == "patch":
      network.filters = tuple(filters // 2 for filters in network.filters)
    else:
      term.downsample = downsample


def _replace(section: Config, **values: Any) -> None:
  """Sets keys to new values; `ConfigDict.update` would merge mappings into the old ones."""
  for key, value in values.items():
    section[key] = value


def _freeze_statistics(network: Config) -> None:
  """Makes batch norm use and keep its running statistics, in nested networks too."""
  for name, section in network.items():
    if name == "norm":
      section.frozen = True
    elif isinstance(section, ConfigDict):
      _freeze_statistics(section)


def _same_lr_as(optimizer: Config) -> dict[str, Any]:
  """Returns an optimizer without weight decay that refers to another one's rule and rates."""
  rule = ("name", "learning_rate", "momentum", "b2")
  keys = (*rule, "schedule", "power", "milestones", "step_factor", "warmup_steps")
  return defaults(Optimizer, **{key: optimizer.get_ref(key) for key in keys})


def _term_section(kind: str, settings: Mapping, tasks: tuple[str, ...]) -> dict:
  """Returns the section of a term that judges these tasks.

  Of depth and normals the analyzer gains only without a limit on its gradient (docs/results).
  """
  if kind == "structure" and "segmentation" not in tasks:
    settings = {**settings, "balance": 0.0}
  return defaults(TERMS[kind], **settings)


def _task_section(name: str, *, released: bool) -> dict:
  section = defaults(TASKS[name])
  if "released" in section:
    section["released"] = released
  section.pop("classes", None)  # The data set's own.
  return section


def _predictor_section(predictor: nn.Module) -> dict:
  name = next(name for name, kind in PREDICTORS.items() if kind is type(predictor))
  return {"name": name, "input_transform": AUTO, **as_section(predictor)}


# By what the best checkpoint of a task is known.
_BEST = {
  "segmentation": "segmentation/mean_iou",
  "depth": "depth/delta_1.25",
  "normals": "normals/within_11.25",
}
