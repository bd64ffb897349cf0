"""Builds an experiment from a config, and refuses what is wrong before anything is compiled."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from asmjax.config.data import Data, open_source
from asmjax.config.reference import Reference
from asmjax.config.schema import (
  check_keys,
  check_section,
  choose,
  coerce,
  construct,
  fields_of,
  get_section,
)
from asmjax.data.descriptor import Descriptor, Source
from asmjax.data.files import check_files
from asmjax.data.frequencies import class_shares, smallest_diagonal
from asmjax.data.transforms import Augment
from asmjax.data.wrappers import InMemory, SelectKeys
from asmjax.game import PREDICTOR, Game, Task, Term
from asmjax.lookahead.settings import Lookahead
from asmjax.lookahead.train import LookaheadSchedule, check_experiment
from asmjax.metrics.names import drop_classes, metric_direction
from asmjax.models.adapters import frozen_by_adapters
from asmjax.models.input_transform import AUTO, INPUT_TRANSFORMS, InputTransform
from asmjax.models.layers import with_compute_dtype
from asmjax.models.predictors import PREDICTORS
from asmjax.tasks import TASKS
from asmjax.terms import TERMS
from asmjax.train.experiment import Checkpointing, Evaluation, Experiment, Init, Training
from asmjax.train.loop import MakeSchedule
from asmjax.train.optim import Optimizer
from asmjax.utils.ranges import Count

_REQUIRED = (
  "seed",
  "data",
  "tasks",
  "predictor",
  "terms",
  "optimizer",
  "train",
  "eval",
  "checkpoint",
)
_OPTIONAL = ("init", "lookahead", "reference")


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
  check_section(config, "config")
  check_keys(config, (*_REQUIRED, *_OPTIONAL), _REQUIRED, "config")
  if config.get("reference"):
    construct(Reference, config["reference"], "reference")
  data = construct(Data, config["data"], "data")
  training = construct(Training, config["train"], "train")
  evaluation = construct(Evaluation, config["eval"], "eval")
  train, validation = (open_source(data, split) for split in (data.split, evaluation.split))
  if data.loader.on_error == "raise":
    check_files(train)
    check_files(validation)
  game = build_game(config, train.descriptor, training.dtype)
  optimizers = build_optimizers(config["optimizer"], game)
  truth_keys = {task.truth_key for task in game.tasks.values()}
  pasted_keys = {"instance"} if data.copy_paste else set()
  _check_provided(pasted_keys, train.descriptor, "copy-paste")
  eval_keys = {key for task in game.tasks.values() for key in task.extra_truth_keys}
  _check_provided(eval_keys, validation.descriptor, "the extra metrics of its tasks")
  difference = train.descriptor.describe_other_classes(validation.descriptor)
  if difference and "label" in truth_keys | eval_keys:
    raise ValueError(
      f"data.split {data.split!r} and eval.split {evaluation.split!r} have different classes: "
      f"{difference}; expected one list of classes"
    )
  validation = _select_keys(data, validation, truth_keys | eval_keys)
  fill = game.input_transform.fill
  prepare = dataclasses.replace(data.eval_transform(fill), keep_size=True)
  game = _adapt_tasks(game, validation, prepare, data.loader.on_error)
  checkpointing = construct(Checkpointing, config["checkpoint"], "checkpoint")
  _check_ranking(checkpointing.metric, game.tasks)
  return Experiment(
    seed=coerce(config["seed"], Count, "seed"),
    game=_count_class_shares(game, train, data.loader.on_error),
    init=construct(Init, config.get("init", {}), "init"),
    optimizers=optimizers,
    source=_select_keys(data, train, truth_keys | pasted_keys),
    augment=data.train_transform(fill, len(train.descriptor.classes)),
    validation=validation,
    prepare=prepare,
    loader_options=data.loader,
    image_size=data.size,
    training=training,
    evaluation=evaluation,
    checkpointing=checkpointing,
    copy_paste=data.copy_paste,
  )


def build_schedule(config: Mapping[str, Any], run: Experiment) -> MakeSchedule | None:
  """Builds LoAd's schedule for `asmjax.train.loop.train`, or None without the section `lookahead`.

  Args:
    config: Config, optionally with the section `lookahead`.
    run: Experiment that `build_experiment` makes of the config.

  Raises:
    ValueError: The section is invalid, or does not fit the experiment.
  """
  if "lookahead" not in config:
    return None
  settings = construct(Lookahead, config["lookahead"], "lookahead")
  if run.copy_paste:
    raise ValueError(
      f"data.copy_paste is {run.copy_paste}; expected 0 with lookahead, whose critics see an "
      "earlier prediction of every example"
    )
  check_experiment(run, settings)
  return functools.partial(LookaheadSchedule, settings=settings)


def build_game(config: Mapping[str, Any], descriptor: Descriptor, dtype: str = "float32") -> Game:
  """Builds the game from the sections `tasks`, `predictor`, `terms` and `init`.

  Of `init` only the input transform of its weights is used.

  Args:
    config: Config with those sections.
    descriptor: Descriptor of the data set.
    dtype: Compute type of the networks, float32 by default.

  Raises:
    ValueError: A section is invalid; the message names the key and what is known.
  """
  by_name = {
    name: _build_task(name, section, descriptor)
    for name, section in get_section(config, "tasks").items()
  }
  # In one order, whatever that of the config: joint critics have parameters for each task.
  tasks = {name: by_name[name] for name in TASKS if name in by_name}
  if not tasks:
    raise ValueError(f"config.tasks is empty: nothing to predict; known: {', '.join(TASKS)}")
  _check_provided({task.truth_key for task in tasks.values()}, descriptor, "its tasks")
  heads = {name: task.channels for name, task in tasks.items()}
  predictor = build_predictor(get_section(config, "predictor"), heads)
  terms = {each[0]: _build_term(*each) for each in get_section(config, "terms").items()}
  if not terms:
    raise ValueError(f"config.terms is empty: nothing to train for; known: {sorted(TERMS)}")
  compute_dtype = jnp.dtype(dtype) if dtype != "float32" else None
  return Game(
    predictor=with_compute_dtype(compute_dtype, predictor),
    tasks=tasks,
    terms={name: term.with_compute_dtype(compute_dtype) for name, term in terms.items()},
    input_transform=choose_input_transform(config),
  )


def choose_input_transform(config: Mapping[str, Any]) -> InputTransform:
  """Returns the input transform that a config names; with "auto", that of the weights in `init`.

  Args:
    config: Config with the section `predictor`, optionally with `init`.

  Raises:
    ValueError: The name is unknown, or the weights do not say which transform they need.
    FileNotFoundError: The weights are those of a run that is missing.
  """
  name = get_section(config, "predictor").get("input_transform", AUTO)
  transform = choose({**INPUT_TRANSFORMS, AUTO: None}, name, "predictor.input_transform")
  if transform is not None:
    return transform
  init = construct(Init, config.get("init", {}), "init")
  return init.input_transform(build_predictor(config["predictor"], heads={}))


def build_predictor(section: Mapping[str, Any], heads: Mapping[str, int]) -> nn.Module:
  """Builds the network of a section `predictor`.

  Args:
    section: Fields of the network, and as `name` a key of `asmjax.models.predictors.PREDICTORS`.
    heads: Number of output channels by task.

  Raises:
    ValueError: The name, a key or the type of a value is wrong.
  """
  settings = dict(section.items())
  settings.pop("input_transform", None)
  kind = choose(PREDICTORS, settings.pop("name", None), "predictor")
  return construct(kind, settings, "predictor", heads=heads)


def _build_task(name: str, section: Mapping[str, Any], descriptor: Descriptor) -> Task:
  kind = choose(TASKS, name, "task")
  classes = "classes" in {field.name for field in fields_of(kind)}
  given = {"classes": descriptor.classes} if classes else {}
  return construct(kind, section, f"tasks.{name}", **given)


def _build_term(name: str, section: Mapping[str, Any]) -> Term:
  """Builds a term of the kind that `kind` says; without that key, its name."""
  settings = dict(check_section(section, f"terms.{name}").items())
  kind = choose(TERMS, settings.pop("kind", name), "term")
  return construct(kind, settings, f"terms.{name}")


def build_optimizers(section: Mapping[str, Any], game: Game) -> dict[str, Optimizer]:
  """Builds the optimizer of each player; critics without settings of their own share `critic`.

  What low-rank adapters leave as it is gets the rate 0.
  """
  critics = game.critics
  check_section(section, "optimizer")
  check_keys(section, (PREDICTOR, "critic", *critics), (PREDICTOR, "critic"), "optimizer")
  optimizers = {
    name: construct(Optimizer, settings, f"optimizer.{name}") for name, settings in section.items()
  }
  shared, own = optimizers["critic"], optimizers[PREDICTOR]
  multipliers = {**frozen_by_adapters(game.predictor), **own.lr_multipliers}
  return {
    PREDICTOR: dataclasses.replace(own, lr_multipliers=multipliers),
    **{name: optimizers.get(name, shared) for name in critics},
  }


def _count_class_shares(game: Game, train: Source, on_error: str) -> Game:
  """Returns the game with the classes' pixel shares counted where a term needs and lacks them."""
  lacking = {name: term for name, term in game.terms.items() if term.needs_class_shares}
  if not lacking:
    return game
  shares = class_shares(train, game.tasks["segmentation"].channels, on_error=on_error).tolist()
  counted = {n: dataclasses.replace(term, shares=tuple(shares)) for n, term in lacking.items()}
  return dataclasses.replace(game, terms={**game.terms, **counted})


def _adapt_tasks(game: Game, validation: Source, prepare: Augment, on_error: str) -> Game:
  """Returns the game with the options of its tasks that the images to be evaluated decide."""

  def diagonal() -> float:
    if prepare.resize == "stretch":
      return float(np.hypot(*prepare.size))
    return smallest_diagonal(validation, prepare.output_size, on_error=on_error)

  tasks = {name: task.adapt_to_images(diagonal) for name, task in game.tasks.items()}
  return dataclasses.replace(game, tasks=tasks)


def _select_keys(data: Data, source: Source, keys: Iterable[str]) -> Source:
  """Returns a source with only the keys that a run uses, in memory if the config says so."""
  selected = SelectKeys(source, keys)
  return InMemory(selected) if data.cache else selected


def _check_ranking(metric: str, tasks: Mapping[str, Task]) -> None:
  """Raises ValueError for a metric by which checkpoints cannot be ranked.

  Evaluation does not compute it, or its largest value is not the best.
  """
  name, _, rest = metric.partition("/")
  kind = rest.partition("/")[0]
  is_extra = name in tasks and kind in tasks[name].extra_metrics and rest != kind
  known = [f"{task}/{each}" for task in tasks for each in tasks[task].metric_names()]
  is_computed = is_extra or metric in known
  if is_computed and metric_direction(metric) > 0:
    return
  extra = ", ".join(f"{task}/{kind}" for task in tasks for kind in tasks[task].extra_metrics)
  more = f", and those of {extra}" if extra else ""
  listing = ", ".join(
    each for each in drop_classes(dict.fromkeys(known)) if metric_direction(each) > 0
  )
  fault = "is an error or a spread" if is_computed else "is unknown"
  raise ValueError(
    f"checkpoint.metric {metric!r} {fault}; expected one whose largest value is the best: "
    f"{listing}{more}"
  )


def _check_provided(keys: Iterable[str], descriptor: Descriptor, consumers: str) -> None:
  lacking = sorted(set(keys) - descriptor.provides)
  if lacking:
    raise ValueError(
      f"data set {descriptor.name} gives no {', '.join(lacking)}, which {consumers} need; "
      f"it provides {', '.join(sorted(descriptor.provides))}"
    )
