"""Numbers that papers report, and how far a run's settings are from theirs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict

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
}
_ROOMS = {
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
}
_ASM, _AAF = "Hwang et al. 2019", "Ke et al. 2018"
_LUC, _LOOKAHEAD = "Luc et al. 2016", "Jamali-Rad and Szabo 2022"


class Published(NamedTuple):
  """A row of a paper's table.

  Attributes:
    data_set: Name of the data set in `results.json`.
    method: Name of the method; see `published_method`.
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
  settings: Mapping[str, Any] = MappingProxyType({})
  caveat: str = ""
  network: str = ""


def _gain(
  data_set: str,
  source: str,
  networks: Mapping[str, tuple[float, float]],
  to: str,
  settings: Mapping[str, Any] = MappingProxyType({}),
  caveat: str = "",
) -> list[Published]:
  """Rows of mean IoU in per cent by network: of the pixel loss, and of the method `to`."""
  return [
    Published(data_set, method, source, {_IOU: value / 100}, settings, caveat, network)
    for network, values in networks.items()
    for method, value in zip(("iid", to), values, strict=True)
  ]


def _rooms(before: Mapping[str, float], after: Mapping[str, float]) -> list[Published]:
  rows = {"iid": before, "asm": after}
  return [
    Published("stanford2d3ds", method, _ASM, values, _ROOMS) for method, values in rows.items()
  ]


_SPLIT = "the paper's split is not published"
_INCOMPLETE = "not all of the paper's settings are compared"

PUBLISHED: Sequence[Published] = (
  *_gain("weizmann_horse", f"{_ASM}, Table 1", {"unet": (77.28, 79.62)}, "asm", _HORSE, _SPLIT),
  *_gain(
    "pascal_voc",
    _ASM,
    {"fcn": (68.91, 72.14), "deeplab": (77.54, 78.05), "pspnet": (80.12, 81.43)},
    "asm",
    _VOC,
  ),
  *_gain("pascal_voc", _AAF, {"pspnet": (80.12, 82.39), "fcn": (68.91, 71.95)}, "aaf", _VOC),
  *_gain("cityscapes", _AAF, {"pspnet": (76.72, 79.24)}, "aaf", _CITIES),
  Published(
    "pascal_voc",
    "iid",
    _LUC,
    {_IOU: 0.7179, "segmentation/bf/bf": 0.4736},
    caveat=_INCOMPLETE,
    network="dilated",
  ),
  Published(
    "pascal_voc",
    "gan",
    _LUC,
    {_IOU: 0.7204, "segmentation/bf/bf": 0.4785},
    caveat=_INCOMPLETE,
    network="dilated",
  ),
  *(
    Published(
      "stanford_background",
      name,
      _LUC,
      {"segmentation/mean_class_accuracy": mean, "segmentation/pixel_accuracy": pixel, _IOU: iou},
      caveat=_INCOMPLETE,
      network="farabet",
    )
    for name, mean, pixel, iou in (("iid", 0.665, 0.733, 0.513), ("gan", 0.687, 0.752, 0.543))
  ),
  *(
    row
    for data_set, network, values in (
      ("pascal_voc", "Xception-65", (82.20, 83.08)),
      ("pascal_voc", "MobileNetV2", (75.32, 75.70)),
      ("cityscapes", "", (70.67, 71.57)),
      ("stanford_background", "", (74.33, 75.05)),
    )
    for row in _gain(
      data_set,
      ", ".join(filter(None, (_LOOKAHEAD, network))),
      {"deeplab": values},
      "load",
      caveat=_INCOMPLETE,
    )
  ),
  *_rooms(
    {"depth/rel_by_prediction": 0.267, "depth/delta_1.25": 0.466},
    {"depth/rel_by_prediction": 0.252, "depth/delta_1.25": 0.540},
  ),
  *_rooms(
    {"normals/median": 9.20, "normals/within_11.25": 0.5801},
    {"normals/median": 8.28, "normals/within_11.25": 0.6329},
  ),
)


class PublishedMatch(NamedTuple):
  """A published row beside a run.

  Attributes:
    row: Published row.
    differences: Reasons why it is another protocol; empty if the run is comparable.
  """

  row: Published
  differences: tuple[str, ...]


def find_published(config: Mapping[str, Any], data_set: str) -> list[PublishedMatch]:
  """Finds the published rows of a run's method, network and data set.

  Args:
    config: Config of the run.
    data_set: Data set that it was evaluated on; with other classes than the published ones there
      is no row.
  """
  if config["data"]["classes"]:
    return []
  flat = flatten_dict(config, sep=".", keep_empty_nodes=True)
  name, network = published_method(config), config["predictor"]["name"]
  return [
    PublishedMatch(row, _differences(row, flat))
    for row in PUBLISHED
    if (row.data_set, row.method) == (data_set, name) and row.network in ("", network)
  ]


def published_method(config: Mapping[str, Any]) -> str:
  """Names the published method by which a run trains; empty if it is none of them.

  "iid" is the pixel loss alone, "asm" structure matching alone on conv1 and conv2, bounded or not,
  "aaf" adaptive affinity fields, "gan" a discriminator, both beside the pixel loss, and "load"
  lookahead with a discriminator.
  """
  terms = {section.get("kind", name): section for name, section in config["terms"].items()}
  kinds = "+".join(sorted(terms))
  if kinds == "pixel":
    return "" if terms["pixel"].get("balanced") else "iid"
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


# What the paper has of the structure term, beside what its rows say.
_PUBLISHED_STRUCTURE = {"terms.structure.normalize": "none", "terms.structure.margin": 0.0}


def _differences(row: Published, config: Mapping[str, Any]) -> tuple[str, ...]:
  settings = {**row.settings, **(_PUBLISHED_STRUCTURE if row.method == "asm" else {})}
  as_json = lambda value: list(value) if isinstance(value, tuple) else value  # Has no tuples.
  differing = tuple(
    f"{key} is {config.get(key)}, in the paper {value}"
    for key, value in settings.items()
    if as_json(config.get(key)) != value
  )
  return (row.caveat,) * bool(row.caveat) + differing
