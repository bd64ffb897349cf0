"""Depth or surface normals of rendered rooms: structure matching beside the pixel loss."""

from asmjax.config.schema import choose

_METRICS = {
  "depth": (
    "depth/delta_1.25",
    "depth/delta_1.25^0.5",
    "depth/delta_1.25^0.25",
    "depth/rel",
    "depth/rms",
  ),
  "normals": (
    "normals/within_11.25",
    "normals/within_5.63",
    "normals/within_2.82",
    "normals/mean",
    "normals/median",
  ),
}


def get_sweep(task: str = "depth") -> dict:
  """Three rows of 1000 steps, scored at a loose and two tight thresholds and on average.

  Args:
    task: "depth" or "normals".
  """
  return {
    "runs": {
      "IID": f"scenes:iid,{task}",
      "ASM": f"scenes:asm,{task}",
      "IID + ASM": f"scenes:iid_asm,{task}",
    },
    "overrides": {"train.steps": 1000},
    "seeds": (0, 1, 2),
    "baseline": "IID",
    "metrics": choose(_METRICS, task, "argument"),
  }
