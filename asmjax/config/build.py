"""From a config to an experiment, refused before anything is compiled if anything is wrong."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from asmjax.config.reference import Reference
from asmjax.config.schema import arguments, check_keys, choose, coerce, construct, fields_of
from asmjax.data import SOURCES
from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.files import check_files
from asmjax.data.frequencies import class_shares, smallest_diagonal
from asmjax.data.loader import Reading
from asmjax.data.tfds import Tfds
from asmjax.data.transforms import Augment
from asmjax.data.wrappers import Cached, Relabeled, Selected, open_split, relabeled
from asmjax.game import PREDICTOR, Game, Term
from asmjax.lookahead.settings import Lookahead
from asmjax.lookahead.train import check, looking_ahead
from asmjax.metrics.contours import Tolerance
from asmjax.models.input_transform import AUTO, INPUT_TRANSFORMS, InputTransform
from asmjax.models.layers import with_compute_dtype
from asmjax.models.predictors import PREDICTORS
from asmjax.tasks import TASKS
from asmjax.terms import TERMS, Pixel
from asmjax.train.experiment import Checkpointing, Evaluation, Experiment, Init, Training
from asmjax.train.loop import MakeSchedule
from asmjax.train.optim import Optimizer

SECTIONS = (
  "seed",
  "data",
  "tasks",
  "predictor",
  "init",
  "terms",
  "optimizer",
  "train",
  "eval",
  "checkpoint",
  "lookahead",
  "reference",
)


@dataclasses.dataclass(frozen=True)
class Data:
  """Which examples, and what is done to them.

  Attributes:
    source: name of the data set's format.
    root: folder of the data set; a source that draws its examples needs none.
    split: that is trained on; a part of it as "train[:80%]", see
      `asmjax.data.wrappers.open_split`.
    options: further arguments of the source.
    classes: new ids by class name, the rest unlabeled; see `asmjax.data.wrappers.Relabeled`.
      Empty for the classes as they are published.
    cache: keep decoded examples in memory, in each process that reads.
    reading: how examples are read; see `asmjax.data.loader.Reading`.
    size: (h, w) of the network's input.
    eval_size: (h, w) in evaluation; empty if it is the same.
    resize: see `asmjax.data.transforms.Augment`, as are the following.
    eval_resize: in evaluation; empty if it is the same. All else is for training examples only.
    flip: flip a training example with probability 1/2.
    scale: range of the random scale of training examples.
    divide_depth: divide depths by that scale.
    random_crop: crop training examples at random where they exceed `size`.
  """

  source: str
  size: tuple[int, int]
  root: str = ""
  split: str = "train"
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  classes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  cache: bool = False
  reading: Reading = Reading()
  eval_size: tuple[int, ...] = ()
  resize: str = "none"
  eval_resize: str = ""
  flip: bool = True
  scale: tuple[float, float] = (1.0, 1.0)
  divide_depth: bool = True
  random_crop: bool = False


def experiment(config: Mapping[str, Any]) -> Experiment:
  """Reads a whole config.

  Args:
    config: sections `seed`, `data`, `tasks`, `predictor`, perhaps `init`, `terms`, `optimizer`
      (`predictor`, `critic`, and by its term's name a critic that has settings of its own),
      `train`, `eval` and `checkpoint`, perhaps `lookahead`, see `schedule`, and perhaps
      `reference`, see `asmjax.config.reference`.

  Raises:
    ValueError: a section, key or name is unknown, a key is missing or of a wrong type, or
      settings contradict each other; the message names the key and what is known.
    FileNotFoundError: the data set is not where `data.root` says.
  """
  check_keys(config, SECTIONS, set(SECTIONS) - {"init", "lookahead", "reference"}, "config")
  if config.get("reference"):
    construct(Reference, config["reference"], "reference")
  training = construct(Training, config["train"], "train")
  evaluation = construct(Evaluation, config["eval"], "eval")
  data = construct(Data, config["data"], "data")
  train, held_out = (source(data, split) for split in (data.split, evaluation.split))
  if data.reading.on_error == "raise":
    check_files(train)
    check_files(held_out)
  dtype = jnp.dtype(training.dtype) if training.dtype != "float32" else None
  made = game(config, train.descriptor, dtype)
  augment = Augment(
    data.size,
    data.resize,
    data.flip,
    data.scale,
    data.divide_depth,
    data.random_crop,
    made.input_transform.fill,
  )
  truths = {task.truth for task in made.tasks.values()}
  needs = {key for task in made.tasks.values() for key in task.needs}
  _check_provided(needs, held_out.descriptor, "the details of its tasks")
  optimizers = {
    key: construct(Optimizer, section, f"optimizer.{key}")
    for key, section in config["optimizer"].items()
  }
  check_keys(optimizers, (PREDICTOR, "critic", *made.critics), (PREDICTOR, "critic"), "optimizer")
  critics = {name: optimizers.get(name, optimizers["critic"]) for name in made.critics}
  held_out = _kept(data, held_out, truths | needs)
  prepare = dataclasses.replace(eval_transform(data, made), keep_size=True)
  made = _with_theta(made, held_out, prepare, data.reading.on_error)
  return Experiment(
    seed=coerce(config["seed"], int, "seed"),
    game=_with_shares(made, train, data.reading.on_error),
    init=construct(Init, config.get("init", {}), "init"),
    optimizers={PREDICTOR: optimizers[PREDICTOR], **critics},
    source=_kept(data, train, truths),
    augment=augment,
    held_out=held_out,
    prepare=prepare,
    reading=data.reading,
    image_size=data.size,
    training=training,
    evaluation=evaluation,
    checkpointing=construct(Checkpointing, config["checkpoint"], "checkpoint"),
  )


def schedule(config: Mapping[str, Any], run: Experiment) -> MakeSchedule | None:
  """The order of a run's steps, for `asmjax.train.loop.train`: LoAd if a config has `lookahead`.

  Args:
    config: perhaps with the section `lookahead`.
    run: what `experiment` makes of it.

  Raises:
    ValueError: see `experiment`.
  """
  if "lookahead" not in config:
    return None
  settings = construct(Lookahead, config["lookahead"], "lookahead")
  check(run, settings)
  return looking_ahead(settings)


def game(config: Mapping[str, Any], descriptor: Descriptor, dtype: Any = None) -> Game:
  """Reads the sections `tasks`, `predictor` and `terms`, and of `init` the input transform.

  Args:
    config: those sections.
    descriptor: of the data set.
    dtype: compute type of the networks.

  Raises:
    ValueError: see `experiment`.
  """
  made = {name: _task(name, section, descriptor) for name, section in config["tasks"].items()}
  # In one order, whatever that of the config: joint critics have parameters for each task.
  tasks = {name: made[name] for name in TASKS if name in made}
  if not tasks:
    raise ValueError(f"config.tasks is empty: nothing to predict; known: {', '.join(TASKS)}")
  _check_provided({task.truth for task in tasks.values()}, descriptor, "its tasks")
  heads = {name: task.channels for name, task in tasks.items()}
  predictor = make_predictor(config["predictor"], heads)
  terms = {name: _term(name, section) for name, section in config["terms"].items()}
  if not terms:
    raise ValueError(f"config.terms is empty: nothing to train for; known: {sorted(TERMS)}")
  return Game(
    predictor=with_compute_dtype(dtype, predictor),
    tasks=tasks,
    terms={name: _computing_in(dtype, term) for name, term in terms.items()},
    input_transform=input_transform(config),
  )


def input_transform(config: Mapping[str, Any]) -> InputTransform:
  """The transform that `predictor.input_transform` names, or "auto": that of the weights in `init`.

  Args:
    config: sections `predictor` and perhaps `init`.

  Raises:
    ValueError: see `experiment`, and `asmjax.pretrained.input_transform`.
    FileNotFoundError: the weights are of a run that is not there.
  """
  name = config["predictor"].get("input_transform", AUTO)
  if name != AUTO:
    return choose({**INPUT_TRANSFORMS, AUTO: None}, name, "predictor.input_transform")
  init = construct(Init, config.get("init", {}), "init")
  return init.input_transform(make_predictor(config["predictor"], heads={}))


def eval_transform(data: Data, made: Game) -> Augment:
  """How evaluation brings images to the network's size: padding is 0 where the network sees it."""
  return Augment(
    data.eval_size or data.size, data.eval_resize or data.resize, fill=made.input_transform.fill
  )


def make_predictor(section: Mapping[str, Any], heads: Mapping[str, int]) -> nn.Module:
  """The network of a section `predictor`.

  Args:
    section: `name`, a key of `asmjax.models.predictors.PREDICTORS`, and the network's fields.
    heads: output channels by task.

  Raises:
    ValueError: see `experiment`.
  """
  settings = dict(section.items())
  settings.pop("input_transform", None)
  kind = choose(PREDICTORS, settings.pop("name", None), "predictor")
  return construct(kind, settings, "predictor", heads=heads)


def _task(name: str, section: Mapping[str, Any], descriptor: Any) -> Any:
  kind = choose(TASKS, name, "task")
  classes = "classes" in {field.name for field in fields_of(kind)}
  given = {"classes": descriptor.classes} if classes else {}
  return construct(kind, section, f"tasks.{name}", **given)


def _term(name: str, section: Mapping[str, Any]) -> Any:
  """A term is of the kind that its name says, unless it says so itself."""
  settings = dict(section.items())
  kind = choose(TERMS, settings.pop("kind", name), "term")
  return construct(kind, settings, f"terms.{name}")


def _computing_in(dtype: Any, term: Term) -> Term:
  if "critic" not in {field.name for field in fields_of(type(term))}:
    return term
  return dataclasses.replace(term, critic=with_compute_dtype(dtype, term.critic))


def _with_shares(made: Game, train: Source, on_error: str) -> Game:
  """The game with the classes' shares counted for those terms that need them and have none."""
  lacks = lambda term: isinstance(term, Pixel) and term.balanced and not term.shares
  lacking = {name: term for name, term in made.terms.items() if lacks(term)}
  if not lacking:
    return made
  shares = class_shares(train, made.tasks["segmentation"].channels, on_error=on_error).tolist()
  counted = {n: dataclasses.replace(term, shares=tuple(shares)) for n, term in lacking.items()}
  return dataclasses.replace(made, terms={**made.terms, **counted})


def _with_theta(made: Game, held_out: Source, prepare: Augment, on_error: str) -> Game:
  """The game with BF's tolerance as the smallest image has it, where it is asked for and unset."""
  task = made.tasks.get("segmentation")
  if task is None or "bf" not in task.details or task.theta:
    return made
  if prepare.resize == "squash":
    diagonal = float(np.hypot(*prepare.size))
  else:
    diagonal = smallest_diagonal(held_out, prepare.resized_size, on_error=on_error)
  theta = Tolerance.at_smallest(5, diagonal).amount
  tasks = {**made.tasks, "segmentation": dataclasses.replace(task, theta=theta)}
  return dataclasses.replace(made, tasks=tasks)


def source(data: Data, split: str) -> Source:
  """The examples of a split as a config describes them, without their transforms.

  Args:
    data: which data set, and its options.
    split: name of a split, or a part of one such as "train[:80%]".

  Raises:
    ValueError: the source or one of its options is unknown, or the split is, or its part is
      malformed, empty or not in it.
    FileNotFoundError: the data set is not where `data.root` says.
  """
  kind = choose(SOURCES, data.source, "data.source")
  names = {field.name for field in fields_of(kind)}
  given = {"root": data.root} if "root" in names else {}
  options = arguments(kind, data.options, "data.options", {"split", *given})
  # What a source refuses may be an option, the root or the split: its message says which.
  open_whole = lambda name: kind(**options, **given, split=name)
  # TFDS reads slices, and sums of them, itself.
  made = open_whole(split) if kind is Tfds else open_split(open_whole, split)
  return Relabeled(made, data.classes) if data.classes else made


def descriptor(data: Data) -> Descriptor:
  """The facts about a config's data set, where possible without the data set.

  Raises:
    ValueError: they are in the data set, and the config does not say where that is.
    FileNotFoundError: likewise, and it is not there.
  """
  try:
    return source(data, data.split).descriptor
  except (FileNotFoundError, ValueError):
    described = getattr(choose(SOURCES, data.source, "data.source"), "descriptor", None)
    if not getattr(described, "splits", ()):  # It says so only once it has been read.
      raise
  return relabeled(described, data.classes) if data.classes else described


def _kept(data: Data, source: Source, keys: Iterable[str]) -> Source:
  """What a run uses of a source, in memory if the config says so."""
  kept = Selected(source, keys)
  return Cached(kept) if data.cache else kept


def _check_provided(keys: Iterable[str], descriptor: Descriptor, what: str) -> None:
  lacking = sorted(set(keys) - descriptor.provides)
  if lacking:
    raise ValueError(
      f"data set {descriptor.name} gives no {', '.join(lacking)}, which {what} need; it provides "
      f"{', '.join(sorted(descriptor.provides))}"
    )
