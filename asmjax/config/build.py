"""Builds an experiment from a config, and refuses what is wrong before anything is compiled."""

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
from asmjax.data.loader import LoaderOptions
from asmjax.data.tfds import Tfds
from asmjax.data.transforms import Augment
from asmjax.data.wrappers import InMemory, RemapClasses, SelectKeys, open_split, remap_descriptor
from asmjax.game import PREDICTOR, Game, Task, Term
from asmjax.lookahead.settings import Lookahead
from asmjax.lookahead.train import check, make_lookahead_schedule
from asmjax.models.input_transform import AUTO, INPUT_TRANSFORMS, InputTransform
from asmjax.models.layers import with_compute_dtype
from asmjax.models.predictors import PREDICTORS
from asmjax.tasks import TASKS
from asmjax.terms import TERMS
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
  """Section `data`: the examples, and the transforms that bring them to the network's size.

  Attributes:
    source: Format of the data set, a key of `asmjax.data.SOURCES`.
    size: Size (h, w) of the network's input in pixels.
    root: Folder of the data set; empty for a source that draws its examples.
    split: Split to train on, or a part of one as "train[:80%]"; see
      `asmjax.data.wrappers.open_split`.
    options: Further arguments of the source.
    classes: New id by name of class, all others unlabeled; empty keeps the published classes.
    cache: Whether each reading process keeps decoded examples in memory.
    loader: How examples are read; see `asmjax.data.loader.LoaderOptions`.
    eval_size: Size (h, w) in evaluation; empty for `size`.
    resize: How examples are brought to `size`; see `asmjax.data.transforms.Augment`.
    eval_resize: The same in evaluation; empty for `resize`.
    flip: Whether a training example is flipped left to right with probability 1/2.
    scale: Range of the random scale of training examples.
    scale_depth: Whether depths are divided by that scale.
    random_crop: Whether training examples larger than `size` are cropped at random.
  """

  source: str
  size: tuple[int, int]
  root: str = ""
  split: str = "train"
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  classes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  cache: bool = False
  loader: LoaderOptions = LoaderOptions()
  eval_size: tuple[int, ...] = ()
  resize: str = "none"
  eval_resize: str = ""
  flip: bool = True
  scale: tuple[float, float] = (1.0, 1.0)
  scale_depth: bool = True
  random_crop: bool = False


def build_experiment(config: Mapping[str, Any]) -> Experiment:
  """Builds the experiment that a config describes.

  Args:
    config: Sections `seed`, `data`, `tasks`, `predictor`, `terms`, `optimizer`, `train`, `eval`
      and `checkpoint`; optionally `init`, `lookahead` (see `build_schedule`) and `reference` (see
      `asmjax.config.reference`). The section `optimizer` has `predictor`, `critic`, and under the
      name of a term the settings of a critic that differ from `critic`.

  Raises:
    ValueError: A section, key or name is unknown, a key is missing or of a wrong type, or
      settings contradict each other; the message names the key and what is known.
    FileNotFoundError: The data set is not where `data.root` says.
  """
  check_keys(config, SECTIONS, set(SECTIONS) - {"init", "lookahead", "reference"}, "config")
  if config.get("reference"):
    construct(Reference, config["reference"], "reference")
  training = construct(Training, config["train"], "train")
  evaluation = construct(Evaluation, config["eval"], "eval")
  data = construct(Data, config["data"], "data")
  train, validation = (open_source(data, split) for split in (data.split, evaluation.split))
  if data.loader.on_error == "raise":
    check_files(train)
    check_files(validation)
  dtype = jnp.dtype(training.dtype) if training.dtype != "float32" else None
  made = build_game(config, train.descriptor, dtype)
  augment = Augment(
    data.size,
    data.resize,
    data.flip,
    data.scale,
    data.scale_depth,
    data.random_crop,
    made.input_transform.fill,
  )
  truths = {task.truth_key for task in made.tasks.values()}
  needs = {key for task in made.tasks.values() for key in task.extra_truth_keys}
  _check_provided(needs, validation.descriptor, "the extra metrics of its tasks")
  optimizers = {
    key: construct(Optimizer, section, f"optimizer.{key}")
    for key, section in config["optimizer"].items()
  }
  check_keys(optimizers, (PREDICTOR, "critic", *made.critics), (PREDICTOR, "critic"), "optimizer")
  critics = {name: optimizers.get(name, optimizers["critic"]) for name in made.critics}
  validation = _kept(data, validation, truths | needs)
  prepare = dataclasses.replace(build_eval_transform(data, made), keep_size=True)
  made = _with_adapted_tasks(made, validation, prepare, data.loader.on_error)
  return Experiment(
    seed=coerce(config["seed"], int, "seed"),
    game=_with_shares(made, train, data.loader.on_error),
    init=construct(Init, config.get("init", {}), "init"),
    optimizers={PREDICTOR: optimizers[PREDICTOR], **critics},
    source=_kept(data, train, truths),
    augment=augment,
    validation=validation,
    prepare=prepare,
    loader_options=data.loader,
    image_size=data.size,
    training=training,
    evaluation=evaluation,
    checkpointing=construct(Checkpointing, config["checkpoint"], "checkpoint"),
  )


def build_schedule(config: Mapping[str, Any], run: Experiment) -> MakeSchedule | None:
  """Builds LoAd's schedule for `asmjax.train.loop.train`, or None without the section `lookahead`.

  Args:
    config: Config, optionally with the section `lookahead`.
    run: Experiment that `build_experiment` makes of the config.

  Raises:
    ValueError: See `build_experiment`.
  """
  if "lookahead" not in config:
    return None
  settings = construct(Lookahead, config["lookahead"], "lookahead")
  check(run, settings)
  return make_lookahead_schedule(settings)


def build_game(config: Mapping[str, Any], descriptor: Descriptor, dtype: Any = None) -> Game:
  """Builds the game from the sections `tasks`, `predictor`, `terms` and `init`.

  Of `init` only the input transform of its weights is used.

  Args:
    config: Config with those sections.
    descriptor: Facts about the data set.
    dtype: Compute type of the networks; None for float32.

  Raises:
    ValueError: See `build_experiment`.
  """
  made = {name: _task(name, section, descriptor) for name, section in config["tasks"].items()}
  # In one order, whatever that of the config: joint critics have parameters for each task.
  tasks = {name: made[name] for name in TASKS if name in made}
  if not tasks:
    raise ValueError(f"config.tasks is empty: nothing to predict; known: {', '.join(TASKS)}")
  _check_provided({task.truth_key for task in tasks.values()}, descriptor, "its tasks")
  heads = {name: task.channels for name, task in tasks.items()}
  predictor = build_predictor(config["predictor"], heads)
  terms = {name: _term(name, section) for name, section in config["terms"].items()}
  if not terms:
    raise ValueError(f"config.terms is empty: nothing to train for; known: {sorted(TERMS)}")
  return Game(
    predictor=with_compute_dtype(dtype, predictor),
    tasks=tasks,
    terms={name: term.with_compute_dtype(dtype) for name, term in terms.items()},
    input_transform=choose_input_transform(config),
  )


def choose_input_transform(config: Mapping[str, Any]) -> InputTransform:
  """Returns the input transform that a config names; with "auto", that of the weights in `init`.

  Args:
    config: Config with the section `predictor`, optionally with `init`.

  Raises:
    ValueError: See `build_experiment` and `asmjax.pretrained.input_transform`.
    FileNotFoundError: The weights are those of a run that is missing.
  """
  name = config["predictor"].get("input_transform", AUTO)
  if name != AUTO:
    if name not in INPUT_TRANSFORMS:
      known = ", ".join(sorted((*INPUT_TRANSFORMS, AUTO)))
      raise ValueError(f"unknown predictor.input_transform {name!r}; known: {known}")
    return INPUT_TRANSFORMS[name]
  init = construct(Init, config.get("init", {}), "init")
  return init.input_transform(build_predictor(config["predictor"], heads={}))


def build_eval_transform(data: Data, made: Game) -> Augment:
  """Returns the transform of evaluation, which pads with what the network sees as 0."""
  height, width = data.eval_size or data.size
  return Augment((height, width), data.eval_resize or data.resize, fill=made.input_transform.fill)


def build_predictor(section: Mapping[str, Any], heads: Mapping[str, int]) -> nn.Module:
  """Builds the network of a section `predictor`.

  Args:
    section: Fields of the network, and as `name` a key of `asmjax.models.predictors.PREDICTORS`.
    heads: Number of output channels by task.

  Raises:
    ValueError: See `build_experiment`.
  """
  settings = dict(section.items())
  settings.pop("input_transform", None)
  kind = choose(PREDICTORS, settings.pop("name", None), "predictor")
  return construct(kind, settings, "predictor", heads=heads)


def _task(name: str, section: Mapping[str, Any], descriptor: Descriptor) -> Task:
  kind = choose(TASKS, name, "task")
  classes = "classes" in {field.name for field in fields_of(kind)}
  given = {"classes": descriptor.classes} if classes else {}
  return construct(kind, section, f"tasks.{name}", **given)


def _term(name: str, section: Mapping[str, Any]) -> Term:
  """Builds a term of the kind that `kind` says; without that key, its name."""
  settings = dict(section.items())
  kind = choose(TERMS, settings.pop("kind", name), "term")
  return construct(kind, settings, f"terms.{name}")


def _with_shares(made: Game, train: Source, on_error: str) -> Game:
  """Returns the game with the classes' pixel shares counted where a term needs and lacks them."""
  lacking = {name: term for name, term in made.terms.items() if term.needs_class_shares}
  if not lacking:
    return made
  shares = class_shares(train, made.tasks["segmentation"].channels, on_error=on_error).tolist()
  counted = {n: dataclasses.replace(term, shares=tuple(shares)) for n, term in lacking.items()}
  return dataclasses.replace(made, terms={**made.terms, **counted})


def _with_adapted_tasks(made: Game, validation: Source, prepare: Augment, on_error: str) -> Game:
  """Returns the game with the options of its tasks that the images to be evaluated decide."""

  def diagonal() -> float:
    if prepare.resize == "stretch":
      return float(np.hypot(*prepare.size))
    return smallest_diagonal(validation, prepare.output_size, on_error=on_error)

  tasks = {name: task.adapt_to_images(diagonal) for name, task in made.tasks.items()}
  return dataclasses.replace(made, tasks=tasks)


def open_source(data: Data, split: str) -> Source:
  """Opens a split of the data set that a config describes, without transforms.

  Args:
    data: The config's section `data`.
    split: Name of a split, or a part of one such as "train[:80%]".

  Raises:
    ValueError: The source, one of its options or the split is unknown, or the part of the split
      is malformed, empty or outside of it.
    FileNotFoundError: The data set is not where `data.root` says.
  """
  kind = choose(SOURCES, data.source, "data.source")
  names = {field.name for field in fields_of(kind)}
  given = {"root": data.root} if "root" in names else {}
  options = arguments(kind, data.options, "data.options", {"split", *given})
  # What a source refuses may be an option, the root or the split: its message says which.
  open_full = lambda name: kind(**options, **given, split=name)
  # TFDS reads slices, and sums of them, itself.
  made = open_full(split) if kind is Tfds else open_split(open_full, split)
  return RemapClasses(made, data.classes) if data.classes else made


def read_facts(data: Data) -> Descriptor:
  """Returns the facts about a config's data set, if possible without opening it.

  Raises:
    ValueError: The facts are only in the data set, and the config does not say where that is.
    FileNotFoundError: The facts are only in the data set, which is not where the config says.
  """
  try:
    return open_source(data, data.split).descriptor
  except (FileNotFoundError, ValueError):
    # Of a format whose facts are in its files, the class only has a property.
    facts = getattr(choose(SOURCES, data.source, "data.source"), "descriptor", None)
    if not isinstance(facts, Descriptor) or not facts.splits:
      raise
  return remap_descriptor(facts, data.classes) if data.classes else facts


def _kept(data: Data, source: Source, keys: Iterable[str]) -> Source:
  """Returns a source with only the keys that a run uses, in memory if the config says so."""
  kept = SelectKeys(source, keys)
  return InMemory(kept) if data.cache else kept


def _check_provided(keys: Iterable[str], descriptor: Descriptor, what: str) -> None:
  lacking = sorted(set(keys) - descriptor.provides)
  if lacking:
    raise ValueError(
      f"data set {descriptor.name} gives no {', '.join(lacking)}, which {what} need; it provides "
      f"{', '.join(sorted(descriptor.provides))}"
    )
