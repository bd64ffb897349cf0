"""From a config to an experiment: sections are the keyword arguments of constructors.

Whatever a section names wrongly is refused here, with what is known, before anything is compiled.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from asmjax.data import SOURCES
from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.files import check_files
from asmjax.data.loader import Reading
from asmjax.data.transforms import Augment
from asmjax.data.wrappers import Cached, Relabelled, Selected, relabelled
from asmjax.minimax import PREDICTOR, Game, Term
from asmjax.models.backbones import BACKBONES
from asmjax.models.critics import CRITICS
from asmjax.models.layers import computing_in
from asmjax.models.predictors import PREDICTORS
from asmjax.tasks import TASKS
from asmjax.terms import TERMS
from asmjax.train.experiment import Checkpointing, Evaluation, Experiment, Init, Training
from asmjax.train.optim import Optimizer

# What a section says by `name` where networks of several kinds may stand.
NETWORKS = {**BACKBONES, **CRITICS}

SECTIONS = (
  "seed", "data", "tasks", "predictor", "init", "terms", "optimizer", "train", "eval",
  "checkpoint",
)


@dataclasses.dataclass(frozen=True)
class Data:
  """Which examples, and what is done to them.

  Attributes:
    source: name of the data set's format.
    root: folder of the data set; a source that draws its examples needs none.
    split: that is trained on.
    options: further arguments of the source.
    classes: new ids by class name, the rest unlabelled; see `asmjax.data.wrappers.Relabelled`.
      Empty for the classes as they are published.
    cache: keep decoded examples in memory, in each process that reads.
    reading: how examples are read; see `asmjax.data.loader.Reading`.
    size: (h, w) of the network's input.
    eval_size: (h, w) in evaluation; empty if it is the same.
    resize: see `asmjax.data.transforms.Augment`, as are the following.
    eval_resize: in evaluation; empty if it is the same. All else is for training examples only.
    mirror: mirror a training example with probability 1/2.
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
  mirror: bool = True
  scale: tuple[float, float] = (1.0, 1.0)
  divide_depth: bool = True
  random_crop: bool = False


def experiment(config: Mapping[str, Any]) -> Experiment:
  """Reads a whole config.

  Args:
    config: sections `seed`, `data`, `tasks`, `predictor`, perhaps `init`, `terms`, `optimizer`
      (`predictor`, `critic`, and by its term's name a critic that has settings of its own),
      `train`, `eval` and `checkpoint`.

  Raises:
    ValueError: a section, key or name is unknown, a key is missing or of a wrong type, or
      settings contradict each other; the message names the key and what is known.
    FileNotFoundError: the data set is not where `data.root` says.
  """
  _check_keys(config, SECTIONS, set(SECTIONS) - {"init"}, "config")
  training = construct(Training, config["train"], "train")
  evaluation = construct(Evaluation, config["eval"], "eval")
  data = construct(Data, config["data"], "data")
  augment = Augment(
    data.size, data.resize, data.mirror, data.scale, data.divide_depth, data.random_crop
  )
  train, held_out = (source(data, split) for split in (data.split, evaluation.split))
  if data.reading.on_error == "raise":
    check_files(train)
    check_files(held_out)
  dtype = jnp.dtype(training.dtype) if training.dtype != "float32" else None
  made = game(config, train.descriptor, dtype)
  truths = {task.truth for task in made.tasks.values()}
  needs = {key for task in made.tasks.values() for key in task.needs}
  _check_provided(needs, held_out.descriptor, "the details of its tasks")
  optimizers = {
    key: construct(Optimizer, section, f"optimizer.{key}")
    for key, section in config["optimizer"].items()
  }
  _check_keys(
    optimizers, (PREDICTOR, "critic", *made.critics), (PREDICTOR, "critic"), "optimizer"
  )
  critics = {name: optimizers.get(name, optimizers["critic"]) for name in made.critics}
  return Experiment(
    seed=_coerce(config["seed"], int, "seed"),
    game=made,
    init=construct(Init, config.get("init", {}), "init"),
    optimizers={PREDICTOR: optimizers[PREDICTOR], **critics},
    source=_kept(data, train, truths),
    augment=augment,
    held_out=_kept(data, held_out, truths | needs),
    prepare=Augment(data.eval_size or data.size, data.eval_resize or data.resize),
    reading=data.reading,
    image_size=data.size,
    training=training,
    evaluation=evaluation,
    checkpointing=construct(Checkpointing, config["checkpoint"], "checkpoint"),
  )


def construct(constructor: type, section: Mapping[str, Any], path: str, **given: Any) -> Any:
  """Calls a dataclass or Linen module with a section's entries.

  Args:
    constructor: its fields are what is known.
    section: values by field name.
    path: of the section in the config, for messages.
    **given: fields that no section may set.

  Raises:
    ValueError: an unknown or missing key, or a value of a wrong type.
  """
  values = _arguments(constructor, section, path, given)
  try:
    return constructor(**values, **given)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def _arguments(
  constructor: type, section: Mapping[str, Any], path: str, given: Iterable[str]
) -> dict[str, Any]:
  """A section's entries, each as its field's annotation says; see `construct`."""
  if not isinstance(section, Mapping) and not hasattr(section, "items"):
    raise ValueError(f"{path} is {section!r}; expected a section with {_known(constructor)}")
  fields = [field for field in _fields(constructor) if field.name not in given]
  required = [field.name for field in fields if _default(field) is dataclasses.MISSING]
  _check_keys(section, [field.name for field in fields], required, path)
  hints = typing.get_type_hints(constructor)
  return {key: _coerce(value, hints[key], f"{path}.{key}") for key, value in section.items()}


def defaults(constructor: type, **overrides: Any) -> dict[str, Any]:
  """A section with every optional field of a constructor, nested ones expanded.

  Required fields and the compute type of modules are left out.
  """
  return _section(constructor, _default) | overrides


def as_section(made: Any) -> dict[str, Any]:
  """The section from which `construct` makes the same again; required fields are left out."""
  return _section(type(made), lambda field: getattr(made, field.name))


def _section(kind: type, value: Callable[[dataclasses.Field], Any]) -> dict[str, Any]:
  hints = typing.get_type_hints(kind)
  fields = [field for field in _fields(kind) if _default(field) is not dataclasses.MISSING]
  return {field.name: _expanded(value(field), hints[field.name]) for field in fields}


def _expanded(value: Any, hint: Any) -> Any:
  """A value as it stands in a section; of several kinds of network it names its own."""
  if not _is_section(value):
    return value
  kinds = {kind: name for name, kind in NETWORKS.items()}
  several = len(_sections(typing.get_args(hint))) > 1
  return ({"name": kinds[type(value)]} if several else {}) | as_section(value)


def game(config: Mapping[str, Any], descriptor: Descriptor, dtype: Any = None) -> Game:
  """Reads the sections `tasks`, `predictor` and `terms`.

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
  predictor = dict(config["predictor"].items())
  kind = choose(PREDICTORS, predictor.pop("name", None), "predictor")
  heads = {name: task.channels for name, task in tasks.items()}
  terms = {name: _term(name, section) for name, section in config["terms"].items()}
  if not terms:
    raise ValueError(f"config.terms is empty: nothing to train for; known: {sorted(TERMS)}")
  return Game(
    predictor=computing_in(dtype, construct(kind, predictor, "predictor", heads=heads)),
    tasks=tasks,
    terms={name: _computing_in(dtype, term) for name, term in terms.items()},
  )


def _task(name: str, section: Mapping[str, Any], descriptor: Any) -> Any:
  kind = choose(TASKS, name, "task")
  classes = "classes" in {field.name for field in _fields(kind)}
  given = {"classes": descriptor.classes} if classes else {}
  return construct(kind, section, f"tasks.{name}", **given)


def _term(name: str, section: Mapping[str, Any]) -> Any:
  """A term is of the kind that its name says, unless it says so itself."""
  settings = dict(section.items())
  kind = choose(TERMS, settings.pop("kind", name), "term")
  return construct(kind, settings, f"terms.{name}")


def _computing_in(dtype: Any, term: Term) -> Term:
  if "critic" not in {field.name for field in _fields(type(term))}:
    return term
  return dataclasses.replace(term, critic=computing_in(dtype, term.critic))


def source(data: Data, split: str) -> Source:
  """The examples of a split as a config describes them, without their transforms.

  Raises:
    ValueError: the source or one of its options is unknown, or the split is.
    FileNotFoundError: the data set is not where `data.root` says.
  """
  kind = choose(SOURCES, data.source, "data.source")
  names = {field.name for field in _fields(kind)}
  given = {"split": split} | ({"root": data.root} if "root" in names else {})
  # What a source refuses may be an option, the root or the split: its message says which.
  made = kind(**_arguments(kind, data.options, "data.options", given), **given)
  return Relabelled(made, data.classes) if data.classes else made


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
  return relabelled(described, data.classes) if data.classes else described


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


def check_path(config: Mapping[str, Any], path: str) -> None:
  """Raises ValueError unless `path`, keys joined by dots, leads to a value of the config."""
  section, seen = config, []
  for key in path.split("."):
    keys = list(section.keys()) if hasattr(section, "keys") else []
    seen.append(key)
    if key not in keys:
      raise ValueError(f"unknown key {'.'.join(seen)}; known: {', '.join(sorted(keys))}")
    section = section[key]


def choose(table: Mapping[str, Any], name: Any, what: str) -> Any:
  """`table[name]`, or a ValueError that lists the known names."""
  if name not in table:
    raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}")
  return table[name]


def _check_keys(section: Any, known: Any, required: Any, path: str) -> None:
  unknown = [key for key in section if key not in known]
  if unknown:
    raise ValueError(f"unknown key {path}.{unknown[0]}; known: {', '.join(sorted(known))}")
  missing = [key for key in required if key not in section]
  if missing:
    raise ValueError(f"missing key {path}.{missing[0]}")


def _fields(constructor: type) -> list[dataclasses.Field]:
  """What a section may set: of a module neither Linen's own fields nor what code alone injects."""
  injected = ("activation", "conv", "dtype", "parent", "name")
  reserved = injected if issubclass(constructor, nn.Module) else ()
  return [field for field in dataclasses.fields(constructor) if field.name not in reserved]


def _known(constructor: type) -> str:
  return ", ".join(field.name for field in _fields(constructor))


def _default(field: dataclasses.Field) -> Any:
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def _is_section(value: Any) -> bool:
  return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _coerce(value: Any, hint: Any, path: str) -> Any:
  """`value` as what the annotation says, sections constructed; ValueError if it is not that."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return _coerce_to_one(value, arguments, path)
  if dataclasses.is_dataclass(hint):
    return construct(hint, value, path)
  if origin is tuple and isinstance(value, list | tuple):
    if arguments[-1] is ...:
      arguments = arguments[:1] * len(value)
    if len(arguments) == len(value):
      return tuple(_coerce(v, h, f"{path}[{i}]")
                   for i, (v, h) in enumerate(zip(value, arguments, strict=True)))
  if origin is not None and issubclass(origin, Mapping) and hasattr(value, "items"):
    return {key: _coerce(each, arguments[1], f"{path}.{key}") for key, each in value.items()}
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if hint is Any or (isinstance(hint, type) and type(value) is hint):
    return value
  raise ValueError(f"{path} is {value!r}, a {type(value).__name__}; expected {_written(hint)}")


def _coerce_to_one(value: Any, options: Iterable[Any], path: str) -> Any:
  """`value` as that of the types that it fits: of several networks the one that it names."""
  if not hasattr(value, "items"):
    hint = next(option for option in options if not dataclasses.is_dataclass(option))
    return _coerce(value, hint, path)
  kinds = _sections(options)
  if len(kinds) == 1:
    return construct(kinds[0], value, path)
  known = {name: kind for name, kind in NETWORKS.items() if kind in kinds}
  settings = dict(value.items())
  return construct(choose(known, settings.pop("name", None), f"{path}.name"), settings, path)


def _sections(options: Iterable[Any]) -> list[type]:
  return [option for option in options if dataclasses.is_dataclass(option)]


def _written(hint: Any) -> str:
  return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
