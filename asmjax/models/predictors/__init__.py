"""Predictors: networks from an image to one map per task."""

from asmjax.models.predictors.base import Predictor
from asmjax.models.predictors.deeplab import DeepLab, DeepLabV2
from asmjax.models.predictors.dilated import Dilated
from asmjax.models.predictors.dpt import DPT
from asmjax.models.predictors.farabet import Farabet
from asmjax.models.predictors.fcn import FCN
from asmjax.models.predictors.fcrn import FCRN
from asmjax.models.predictors.hrnet_v2 import HRNetV2
from asmjax.models.predictors.pspnet import PSPNet
from asmjax.models.predictors.segformer import SegFormer
from asmjax.models.predictors.unet import UNet
from asmjax.models.predictors.upernet import UPerNet
from asmjax.models.predictors.vit_linear import ViTLinear

PREDICTORS: dict[str, type[Predictor]] = {
  "deeplab": DeepLab,
  "deeplab_v2": DeepLabV2,
  "dilated": Dilated,
  "dpt": DPT,
  "farabet": Farabet,
  "fcn": FCN,
  "fcrn": FCRN,
  "hrnet_v2": HRNetV2,
  "pspnet": PSPNet,
  "segformer": SegFormer,
  "unet": UNet,
  "upernet": UPerNet,
  "vit_linear": ViTLinear,
}
