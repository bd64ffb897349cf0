"""Inference with trained predictors."""
