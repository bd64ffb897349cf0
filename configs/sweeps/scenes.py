"""Critics and structural losses side by side on rendered rooms."""


def get_sweep() -> dict:
  """21 rows of 1000 steps, twice those of the config."""
  return {
    "runs": {
      "IID": "scenes:iid",
      "ASM": "scenes:asm",
      "ASM released": "scenes:asm_released",
      "IID + ASM": "scenes:iid_asm",
      "affinity field": "scenes:affinity",
      "AAF": "scenes:aaf",
      "AAF released": "scenes:aaf_released",
      "ASM + AAF": "scenes:asm_aaf",
      "ASM + AAF released": "scenes:asm_aaf_released",
      "embedding": "scenes:embedding",
      "Dice": "scenes:dice",
      "Lovász": "scenes:lovasz",
      "boundary": "scenes:boundary",
      "RMI": "scenes:rmi",
      "ASM + Lovász": "scenes:iid_asm+lovasz",
      "AAF released + Dice": "scenes:aaf_released+dice",
      "ASM + AAF released + Dice": "scenes:asm_aaf_released+dice",
      "GAN basic": "scenes:gan_basic",
      "GAN product": "scenes:gan_product",
      "GAN scaling": "scenes:gan_scaling",
      "cGAN": "scenes:cgan",
    },
    "overrides": {"train.steps": 1000, "tasks.segmentation.extra_metrics": ("boundary",)},
    "seeds": (0, 1, 2),
    "baseline": "IID",
    "metrics": (
      {"name": "segmentation/mean_iou", "title": "mean IoU"},
      {"name": "segmentation/boundary/boundary_f", "title": "boundary F"},
    ),
  }
