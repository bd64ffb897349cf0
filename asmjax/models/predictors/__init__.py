"""Predictors: networks from an image to one map a task."""

from asmjax.models.predictors.fcrn import FCRN
from asmjax.models.predictors.unet import UNet

PREDICTORS = {"fcrn": FCRN, "unet": UNet}
