"""Predictors: networks from an image to one map a task."""

from asmjax.models.predictors.unet import UNet

PREDICTORS = {"unet": UNet}
