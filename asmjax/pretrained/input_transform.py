"""The input transform that belongs to weights, by where they come from."""

import pathlib

import flax.linen as nn

from asmjax.config.schema import choose
from asmjax.models.backbones import VGG, MobileNetV1, MobileNetV2, ResNet, ViT, Xception
from asmjax.models.input_transform import (
  IMAGENET,
  INPUT_TRANSFORMS,
  SUBTRACT_MEAN,
  SYMMETRIC,
  InputTransform,
)
from asmjax.pretrained.load import NAMINGS, PYTORCH
from asmjax.utils.files import read_json_object

# TF-Slim's `preprocessing_factory` and the DeepLab model zoo's `_PREPROCESS_FN`, by backbone.
SLIM = {
  MobileNetV1: SYMMETRIC,
  MobileNetV2: SYMMETRIC,
  ResNet: SUBTRACT_MEAN,
  VGG: SUBTRACT_MEAN,
  Xception: SYMMETRIC,
}


def input_transform(path: str | pathlib.Path, format: str, network: nn.Module) -> InputTransform:
  """Finds the input transform that published weights, or those of a run, were trained under.

  That is ImageNet's statistics for weights of PyTorch's networks, what the backbone was trained
  with for those of TF-Slim and of the DeepLab model zoo, and that of its config for a run. No
  weights are read.

  Args:
    path: Path of the weights, as for `asmjax.pretrained.load`.
    format: Format of the weights, as for `asmjax.pretrained.load`.
    network: Network that the weights are for; of a predictor its backbone decides.

  Raises:
    ValueError: The format is unknown, TF-Slim has no such network, weights of such a network are
      published under several transforms, or a run does not say which it had.
    FileNotFoundError: There is no `config.json` of a run at `path`.

  Examples:
    >>> print(input_transform("mobilenet/model.ckpt", "tensorflow", MobileNetV2()).name)
    symmetric
  """
  namings = choose(NAMINGS, format, "format of weights")
  if "asmjax" in namings:
    return _read_from_run(pathlib.Path(path).expanduser())
  backbone = getattr(network, "backbone", network)
  if namings == PYTORCH:
    if isinstance(backbone, ViT) and not backbone.layer_scale:
      raise ValueError(
        "files of a ViT without layer scale do not say which input transform they need: those of "
        "Google's ViT and of DPT 'symmetric', those of DeiT and MAE 'imagenet'; expected that "
        "predictor.input_transform of the config names it"
      )
    return IMAGENET
  kind = type(backbone)
  known = {network.__name__: transform for network, transform in SLIM.items()}
  return choose(known, kind.__name__, "network of TF-Slim's")


def _read_from_run(path: pathlib.Path) -> InputTransform:
  """Reads that of a run from its folder, or from that of a checkpoint, RUN/checkpoints/STEP."""
  folders = (path, *path.absolute().parents[:2])
  files = [folder / "config.json" for folder in folders if (folder / "config.json").is_file()]
  if not files:
    raise FileNotFoundError(
      f"{path} is no folder of a run or of one of its checkpoints: no config.json there says how "
      "images were transformed; expected a run, or a config with predictor.input_transform"
    )
  name = read_json_object(files[0]).get("predictor", {}).get("input_transform")
  if name not in INPUT_TRANSFORMS:
    raise ValueError(
      f"{files[0]}: predictor.input_transform is {name!r}; expected one of "
      f"{', '.join(INPUT_TRANSFORMS)}; give the new run's config the one that the weights need"
    )
  return INPUT_TRANSFORMS[name]
