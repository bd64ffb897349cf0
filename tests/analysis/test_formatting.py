"""Formats of metrics and tables."""

import pytest

from asmjax.analysis.formatting import display_scale, format_change, format_metric, format_value
from asmjax.metrics.names import metric_direction


@pytest.mark.parametrize(
  "metric, scale, direction",
  [
    ("segmentation/boundary/boundary_f", 100, 1),
    ("segmentation/boundary/f/previous", 100, 1),
    ("segmentation/bf/bf", 100, 1),
    ("segmentation/bf/bf_std", 100, 0),
    ("depth/class/rel/previous", 1, -1),
    ("depth/class/rel", 1, -1),
    ("depth/instance/delta_1.25/wall", 100, 1),
    ("normals/class/mean/beam", 1, -1),
    ("segmentation/instance/iou/median", 100, 1),
    ("segmentation/calibration_error", 1, -1),
  ],
)
def test_display_scale_and_metric_direction_do_not_depend_on_the_class(metric, scale, direction):
  assert display_scale(metric) == scale and metric_direction(metric) == direction


def test_format_metric_has_neither_task_nor_repeated_kind():
  assert format_metric("segmentation/boundary/boundary_f") == "boundary F"
  assert (
    format_metric("depth/image/rel") == "image rel" and format_metric("a/mean_iou") == "mean IoU"
  )
  assert format_metric("depth/class/rms") == "class rms in m" and format_metric("rms") == "rms"


def test_format_value_and_format_change_are_in_per_cent_for_fractions():
  assert format_value("a/iou", 0.5) == "50.00" and format_value("a/rms", float("nan")) == "–"
  assert format_change("a/iou", -0.001) == "−0.10" and format_change("a/rms", 0.25) == "+0.250"
