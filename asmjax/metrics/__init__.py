"""Metrics, usable on plain arrays without the rest of the library."""

from asmjax.metrics.confusion import ConfusionMatrix, count_confusions

__all__ = ["ConfusionMatrix", "count_confusions"]
