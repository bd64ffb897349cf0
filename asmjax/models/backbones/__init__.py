"""Backbones: classification networks that predictors take their features from."""
