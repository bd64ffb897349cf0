"""Critics and structural losses side by side on rendered rooms."""


def get_sweep() -> dict:
  """13 rows of 1000 steps."""
  config = "configs/scenes.py"
  return {
    "runs": {
      "IID": f"{config}:iid",
      "ASM": f"{config}:asm",
      "ASM released": f"{config}:asm_released",
      "IID + ASM": f"{config}:iid_asm",
      "affinity field": f"{config}:affinity",
      "AAF": f"{config}:aaf",
      "AAF released": f"{config}:aaf_released",
      "ASM + AAF": f"{config}:asm_aaf",
      "embedding": f"{config}:embedding",
      "GAN basic": f"{config}:gan_basic",
      "GAN product": f"{config}:gan_product",
      "GAN scaling": f"{config}:gan_scaling",
      "cGAN": f"{config}:cgan",
    },
    "overrides": {"tasks.segmentation.extra_metrics": ("boundary",)},
    "seeds": (0, 1, 2),
    "baseline": "IID",
    "metrics": (
      {"name": "segmentation/mean_iou", "title": "mean IoU"},
      {"name": "segmentation/boundary/boundary_f", "title": "boundary F"},
    ),
  }
