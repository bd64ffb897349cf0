"""Metrics, usable on plain arrays without the rest of the library.

Each is a state that is made of arrays (`of`), or is empty (`empty`), adds up (`merge`) and is read
at the end (`compute`); `protocol` says in words what was computed. What can be summed on device has
a function for that, whose sums the state takes.
"""

from asmjax.metrics.boundary import BFScore, BoundaryIoU, ContourBenchmark, DavisF
from asmjax.metrics.calibration import Calibration, count_calibration
from asmjax.metrics.confusion import ConfusionMatrix, count_confusions
from asmjax.metrics.contours import Tolerance
from asmjax.metrics.depth import DepthErrors, sum_depth_errors
from asmjax.metrics.grouped import GroupMeans, image_groups, instance_groups
from asmjax.metrics.instance import InstanceIou
from asmjax.metrics.normals import NormalErrors, sum_normal_errors

__all__ = [
  "BFScore",
  "BoundaryIoU",
  "Calibration",
  "ConfusionMatrix",
  "ContourBenchmark",
  "DavisF",
  "DepthErrors",
  "GroupMeans",
  "InstanceIou",
  "NormalErrors",
  "Tolerance",
  "count_calibration",
  "count_confusions",
  "image_groups",
  "instance_groups",
  "sum_depth_errors",
  "sum_normal_errors",
]
