"""Numbers that papers report, and how far a run's settings are from theirs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from asmjax.config.schema import flatten
from asmjax.terms.pixel import CLASS_OPTIONS

_IOU = "segmentation/mean_iou"

# Settings by dotted key, as far as the papers report them.
_HORSE = {
  "predictor.name": "unet",
  "predictor.levels": 4,
  "train.batch_size": 1,
  "train.steps": 19200,
  "data.flip": True,
  "optimizer.predictor.name": "adam",
  "optimizer.predictor.learning_rate": 5e-4,
  "optimizer.predictor.weight_decay": 1e-5,
}
_VOC = {
  "train.batch_size": 8,
  "train.steps": 30_000,
  "data.size": [336, 336],
  "data.scale": [0.5, 2.0],
  "optimizer.predictor.name": "sgd",
  "optimizer.predictor.learning_rate": 1e-3,
  "optimizer.predictor.weight_decay": 5e-4,
  "data.split": "train_aug",
  "eval.split": "val",
  "init.required": True,
}
_ROOMS = {
  "predictor.name": "unet",
  "predictor.levels": 9,
  "data.split": "fold1_train",
  "eval.split": "fold1_test",
  "init.path": "",
  "train.batch_size": 8,
  "train.steps": 120_000,
  "data.size": [512, 512],
  "data.eval_size": [540, 540],
  "optimizer.predictor.learning_rate": 1e-2,
  "optimizer.predictor.weight_decay": 5e-4,
}
_CITIES = {
  "train.batch_size": 8,
  "train.steps": 90_000,
  "data.size": [720, 720],
  "optimizer.predictor.learning_rate": 1e-3,
  "optimizer.predictor.weight_decay": 5e-4,
  "data.split": "train",
  "eval.split": "val",
  "init.required": True,
}
_VAL = {"eval.split": "val"}
_RESNET101 = {
  "predictor.backbone.name": "resnet",
  "predictor.backbone.blocks": [3, 4, 23, 3],
  "predictor.backbone.output_stride": 8,
}
# Settings that a method has and its pixel loss has not.
_OF_METHOD = ("terms.structure.", "terms.adversarial.", "optimizer.critic.")
_STRUCTURE = {"terms.structure.normalize": "none", "terms.structure.margin": 0.0}
_BRANCHES = {
  "terms.adversarial.inputs": "branches",
  "terms.adversarial.weight": 2.0,
  "optimizer.critic.learning_rate": 1e-3,
}
_ASM, _AAF = "Hwang et al. 2019", "Ke et al. 2018"
_LUC, _LOAD = "Luc et al. 2016", "Jamali-Rad and Szabo 2022"


class Published(NamedTuple):
  """A row of a paper's table.

  Attributes:
    data_set: Name of the data set in `results.json`.
    method: Name of the method; see `name_published_method`.
    source: Paper and table.
    values: Values by metric, in the units of `results.json`.
    settings: Settings that the paper reports, by dotted key of a config.
    caveat: Reason why no run is comparable, whatever its settings.
    network: Name of the predictor in a config; empty if any one compares.
  """

  data_set: str
  method: str
  source: str
  values: Mapping[str, float]
  settings: Mapping[str, Any]
  caveat: str
  network: str


_SPLIT = "the paper's split is not published"
_PARTIAL = "not all of the paper's settings are compared"

# Data set, source, network, method, values of the pixel loss and of the method by metric, settings
# and caveat.
_COMPARISONS = (
  (
    "weizmann_horse",
    f"{_ASM}, Table 1",
    "unet",
    "asm",
    {_IOU: (0.7728, 0.7962)},
    _HORSE | _STRUCTURE,
    _SPLIT,
  ),
  (
    "pascal_voc",
    _ASM,
    "fcn",
    "asm",
    {_IOU: (0.6891, 0.7160)},
    _VOC | _RESNET101 | _STRUCTURE,
    _PARTIAL,
  ),
  (
    "pascal_voc",
    _ASM,
    "deeplab_v2",
    "asm",
    {_IOU: (0.7754, 0.7805)},
    _VOC | _RESNET101 | _STRUCTURE,
    _PARTIAL,
  ),
  (
    "pascal_voc",
    _ASM,
    "pspnet",
    "asm",
    {_IOU: (0.8012, 0.8143)},
    _VOC | _RESNET101 | _STRUCTURE,
    _PARTIAL,
  ),
  ("pascal_voc", _AAF, "pspnet", "aaf", {_IOU: (0.8012, 0.8239)}, _VOC | _RESNET101, _PARTIAL),
  ("pascal_voc", _AAF, "fcn", "aaf", {_IOU: (0.6891, 0.7195)}, _VOC | _RESNET101, _PARTIAL),
  ("cityscapes", _AAF, "pspnet", "aaf", {_IOU: (0.7672, 0.7924)}, _CITIES | _RESNET101, _PARTIAL),
  (
    "pascal_voc",
    _LUC,
    "dilated",
    "gan",
    {_IOU: (0.7179, 0.7204), "segmentation/bf/bf": (0.4736, 0.4785)},
    _VAL,
    _PARTIAL,
  ),
  (
    "stanford_background",
    _LUC,
    "farabet",
    "gan",
    {
      "segmentation/mean_class_accuracy": (0.665, 0.687),
      "segmentation/pixel_accuracy": (0.733, 0.752),
      _IOU: (0.513, 0.543),
    },
    {"eval.split": "luc_test"} | _BRANCHES,
    _PARTIAL,
  ),
  (
    "pascal_voc",
    f"{_LOAD}, Xception-65",
    "deeplab",
    "load",
    {_IOU: (0.822, 0.8308)},
    _VAL,
    _PARTIAL,
  ),
  (
    "pascal_voc",
    f"{_LOAD}, MobileNetV2",
    "deeplab",
    "load",
    {_IOU: (0.7532, 0.757)},
    _VAL,
    _PARTIAL,
  ),
  ("cityscapes", _LOAD, "deeplab", "load", {_IOU: (0.7067, 0.7157)}, _VAL, _PARTIAL),
  (
    "stanford_background",
    _LOAD,
    "deeplab",
    "load",
    {_IOU: (0.7433, 0.7505)},
    {"eval.split": "load_test"},
    _PARTIAL,
  ),
  (
    "stanford2d3ds",
    _ASM,
    "",
    "asm",
    {"depth/rel_by_prediction": (0.267, 0.252), "depth/delta_1.25": (0.466, 0.540)},
    _ROOMS | _STRUCTURE,
    "",
  ),
  (
    "stanford2d3ds",
    _ASM,
    "",
    "asm",
    {"normals/median": (9.20, 8.28), "normals/within_11.25": (0.5801, 0.6329)},
    _ROOMS | _STRUCTURE,
    "",
  ),
)

PUBLISHED = tuple(
  Published(
    data_set,
    name,
    source,
    {metric: pair[index] for metric, pair in values.items()},
    {key: value for key, value in settings.items() if index or not key.startswith(_OF_METHOD)},
    caveat,
    network,
  )
  for data_set, source, network, method, values, settings, caveat in _COMPARISONS
  for index, name in enumerate(("iid", method))
)


class PublishedMatch(NamedTuple):
  """A published row beside a run.

  Attributes:
    row: Published row.
    differences: Reasons why it is another protocol; empty if the run is comparable.
  """

  row: Published
  differences: tuple[str, ...]


def find_published(config: Mapping[str, Any], data_set: str, split: str) -> list[PublishedMatch]:
  """Finds the published rows of a run's method, network and data set.

  Args:
    config: Config of the run.
    data_set: Data set that it was evaluated on; with other classes than the published ones there
      is no row.
    split: Split that it was evaluated on.
  """
  if config["data"]["classes"]:
    return []
  flat = {**flatten(config), "eval.split": split}
  name, network = name_published_method(config), config["predictor"]["name"]
  return [
    PublishedMatch(row, _find_differences(row, flat))
    for row in PUBLISHED
    if (row.data_set, row.method) == (data_set, name) and row.network in ("", network)
  ]


def name_published_method(config: Mapping[str, Any]) -> str:
  """Names the published method by which a run trains; empty if it is none of them.

  "iid" is the pixel loss alone, "asm" structure matching alone on conv1 and conv2, bounded or not,
  "aaf" adaptive affinity fields, "gan" a discriminator, both beside the pixel loss, and "load"
  lookahead with a discriminator.
  """
  terms = {section.get("kind", name): section for name, section in config["terms"].items()}
  kinds = "+".join(sorted(terms))
  if kinds == "pixel":
    changed = [name for name in CLASS_OPTIONS if terms["pixel"].get(name)]
    return "" if changed or terms["pixel"].get("hard_threshold", 1) < 1 else "iid"
  if kinds == "structure":
    settings = terms["structure"]
    paper = (
      list(settings["layers"]) == ["conv1", "conv2"]
      and settings["critic_weight"] == 1
      and settings["reconstruction_weight"]
    )
    return "asm" if paper else ""
  if kinds == "affinity+pixel":
    return "aaf" if terms["affinity"]["adaptive"] else ""
  if kinds == "adversarial+pixel":
    return "load" if "lookahead" in config else "gan"
  return ""


def _find_differences(row: Published, config: Mapping[str, Any]) -> tuple[str, ...]:
  differing = tuple(
    f"{key} is {config.get(key)}, in the paper {value}"
    for key, value in row.settings.items()
    if config.get(key) != value
  )
  return (row.caveat,) * bool(row.caveat) + differing
