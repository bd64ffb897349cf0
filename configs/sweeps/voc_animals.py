"""Structural losses side by side on the animals of PASCAL VOC, from ImageNet weights."""


def get_sweep() -> dict:
  """Twelve rows of 500 steps.

  The data set comes with `--set=data.root=FOLDER`, the weights of MobileNetV2 with
  `--set=init.path=FILE`.
  """
  return {
    "runs": {
      "IID": "voc_animals:iid",
      "Dice": "voc_animals:dice",
      "Lovász": "voc_animals:lovasz",
      "RMI": "voc_animals:rmi",
      "boundary": "voc_animals:boundary",
      "AAF released": "voc_animals:aaf_released",
      "ASM": "voc_animals:asm",
      "IID + ASM": "voc_animals:iid_asm",
      "ASM + AAF released": "voc_animals:asm_aaf_released",
      "ASM + Lovász": "voc_animals:iid_asm+lovasz",
      "AAF released + Dice": "voc_animals:aaf_released+dice",
      "ASM + AAF released + Dice": "voc_animals:asm_aaf_released+dice",
    },
    "overrides": {"eval.every": 500, "tasks.segmentation.extra_metrics": ("boundary",)},
    "seeds": (0, 1, 2),
    "baseline": "IID",
    "metrics": (
      {"name": "segmentation/mean_iou", "title": "mean IoU"},
      {"name": "segmentation/boundary/boundary_f", "title": "boundary F"},
    ),
  }
