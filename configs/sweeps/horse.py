"""Table 1 of Hwang et al. (2019), and other structural losses, on the Weizmann horses."""


def get_sweep() -> dict:
  """13 rows of 100 epochs; the data set comes with `--set=data.root=FOLDER`.

  The paper has batches of one image and twice the steps.
  """
  config = "configs/horse.py"
  return {
    "runs": {
      "IID": f"{config}:iid",
      "ASM conv1": f"{config}:asm_conv1",
      "ASM conv2": f"{config}:asm_conv2",
      "ASM conv1-2": f"{config}:asm",
      "ASM conv3": f"{config}:asm_conv3",
      "ASM conv1-3": f"{config}:asm_conv1_3",
      "ASM w/o rec.": f"{config}:asm_no_rec",
      "ASM w/o adv.": f"{config}:asm_no_adv",
      "IID + ASM": f"{config}:iid_asm",
      "ASM released": f"{config}:asm_released",
      "AAF": f"{config}:aaf",
      "cGAN": f"{config}:cgan",
      "ASM + AAF": f"{config}:asm_aaf",
    },
    "overrides": {
      "train.batch_size": 2,
      "train.steps": 9600,
      "eval.every": 2400,
      "tasks.segmentation.extra_metrics": ("boundary",),
    },
    "seeds": (0, 1, 2),
    "baseline": "IID",
    "metrics": (
      {"name": "segmentation/mean_iou", "title": "mean IoU"},
      {"name": "segmentation/pixel_accuracy", "title": "pixel accuracy"},
      {"name": "segmentation/boundary/boundary_f", "title": "boundary F"},
    ),
  }
