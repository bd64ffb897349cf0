"""What all configs share: every default, and the methods by name."""

from ml_collections import ConfigDict

from asmjax.config import choose, defaults
from asmjax.models.predictors import UNet
from asmjax.tasks import TASKS
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


def base(argument: str, tasks: str = "segmentation", **structure) -> ConfigDict:
  """Everything but the data set and the schedule.

  Args:
    argument: METHOD, METHOD,TASKS or METHOD,TASKS,apart: a key of `METHODS`; one or several of
      "segmentation", "depth" and "normals", joined by "+", or "all"; and whether each task has a
      critic of its own.
    tasks: those of the data set where the argument names none.
    **structure: the data set's own settings of the structure terms; what the method says comes
      first.

  Raises:
    ValueError: an unknown method or task; the message lists the known ones.
  """
  method, tasks, apart = _parsed(argument, tasks)
  terms = {}
  for name, changes in choose(METHODS, method, "variant").items():
    if name != "structure":
      terms[name] = defaults(_TERMS[name], **changes)
      continue
    settings = {**structure, **changes}
    for names in ([(task,) for task in tasks] if apart else [()]):
      suffix = "".join(f"_{task}" for task in names)
      terms[name + suffix] = {
        "kind": name, **defaults(_TERMS[name], **{**settings, "tasks": names})
      }
  released = {"released": True} if method.endswith("released") else {}
  return ConfigDict({
    "seed": 0,
    "tasks": {task: _task(task, released) for task in tasks},
    "predictor": {"name": "unet", **defaults(UNet)},
    "terms": terms,
    "optimizer": {"predictor": defaults(Optimizer), "critic": defaults(Optimizer)},
    "eval": defaults(Evaluation),
    "checkpoint": defaults(Checkpointing, metric=_BEST[tasks[0]]),
  })


def _task(name: str, released: dict) -> dict:
  section = defaults(TASKS[name], **(released if name != "segmentation" else {}))
  section.pop("classes", None)  # The data set's own.
  return section


def _parsed(argument: str, tasks: str) -> tuple[str, tuple[str, ...], bool]:
  method, *rest = argument.split(",")
  named, *rest = rest or [tasks]
  tasks = tuple(TASKS) if named == "all" else tuple(named.split("+"))
  for task in tasks:
    choose(TASKS, task, "task")
  if rest not in ([], ["apart"]):
    raise ValueError(f"variant {argument!r}; expected METHOD,TASKS or METHOD,TASKS,apart")
  return method, tasks, bool(rest)


# By what the best checkpoint of a task is known.
_BEST = {
  "segmentation": "segmentation/mean_iou",
  "depth": "depth/delta_1.25",
  "normals": "normals/within_11.25",
}

_TERMS = {"pixel": Pixel, "structure": Structure}
