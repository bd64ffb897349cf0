"""Names of metrics by class."""

import pytest

from asmjax.metrics.names import drop_classes, drop_extra_classes, group_by_class, split_class

METRICS = {
  "segmentation/mean_iou": 1,
  "segmentation/iou/wall": 2,
  "segmentation/iou/tv/monitor": 3,
  "segmentation/boundary/boundary_f": 4,
  "segmentation/boundary/f/wall": 5,
  "segmentation/boundary/f/tv/monitor": 6,
  "depth/class/rel": 7,
  "depth/class/rel/iou": 8,
}


@pytest.mark.parametrize(
  "name, parts",
  [
    ("segmentation/iou/tv/monitor", ("segmentation/iou", "tv/monitor")),
    ("depth/instance/delta_1.25/iou", ("depth/instance/delta_1.25", "iou")),
    ("segmentation/instance/iou/box", ("segmentation/instance/iou", "box")),
    ("segmentation/instance/instance_mean_iou", ("segmentation/instance/instance_mean_iou", None)),
    ("decision/segmentation/mean_iou", ("decision/segmentation/mean_iou", None)),
    ("loss", ("loss", None)),
  ],
)
def test_split_class_separates_the_metric_and_the_class(name, parts):
  assert split_class(name) == parts


def test_group_by_class_and_drop_classes_share_out_the_metrics():
  assert group_by_class(METRICS) == {
    "segmentation/iou": {"wall": 2, "tv/monitor": 3},
    "segmentation/boundary/f": {"wall": 5, "tv/monitor": 6},
    "depth/class/rel": {"iou": 8},
  }
  assert sorted(drop_classes(METRICS).values()) == [1, 4, 7]


def test_drop_extra_classes_drops_extra_metrics_of_classes_alone():
  assert sorted(drop_extra_classes(METRICS).values()) == [1, 2, 3, 4, 7]
