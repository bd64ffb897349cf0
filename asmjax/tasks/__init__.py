"""Tasks: what a predictor's map means, and how it and its truth become a structure."""

from asmjax.tasks.depth import Depth
from asmjax.tasks.normals import Normals
from asmjax.tasks.segmentation import Segmentation

TASKS = {"segmentation": Segmentation, "depth": Depth, "normals": Normals}
