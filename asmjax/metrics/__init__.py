"""Metrics, usable on plain arrays without the rest of the library.

Each is a state; see `asmjax.metrics.base.Metric`. What can be summed on device has a function for
that, `count_...` or `sum_...`, whose result the state takes.
"""

from asmjax.metrics.base import Metric
from asmjax.metrics.bf_score import BFScore
from asmjax.metrics.boundary import Tolerance
from asmjax.metrics.boundary_iou import BoundaryIoU
from asmjax.metrics.calibration import Calibration, count_calibration
from asmjax.metrics.confusion import ConfusionMatrix, count_confusions
from asmjax.metrics.contour_benchmark import ContourBenchmark
from asmjax.metrics.davis import DavisF
from asmjax.metrics.depth import DepthErrors, sum_depth_errors
from asmjax.metrics.grouped import ClassMeans, GroupMeans, image_groups, instance_groups
from asmjax.metrics.instance import InstanceIoU
from asmjax.metrics.normals import NormalErrors, sum_normal_errors

__all__ = [
  "BFScore",
  "BoundaryIoU",
  "Calibration",
  "ClassMeans",
  "ConfusionMatrix",
  "ContourBenchmark",
  "DavisF",
  "DepthErrors",
  "GroupMeans",
  "InstanceIoU",
  "Metric",
  "NormalErrors",
  "Tolerance",
  "count_calibration",
  "count_confusions",
  "image_groups",
  "instance_groups",
  "sum_depth_errors",
  "sum_normal_errors",
]
