"""Table 1 of Hwang et al. (2019), and other structural losses, on the Weizmann horses."""

from asmjax.config.methods import BOUNDED

# A balance needs a pixel loss.
_BOUND = {f"terms.structure.{key}": BOUNDED[key] for key in BOUNDED if key != "balance"}


def get_sweep() -> dict:
  """17 rows of 100 epochs; the data set comes with `--set=data.root=FOLDER`.

  The paper has batches of one image and twice the steps.
  """
  return {
    "runs": {
      "IID": "horse:iid",
      "ASM conv1": "horse:asm_conv1",
      "ASM conv2": "horse:asm_conv2",
      "ASM conv1-2": "horse:asm",
      "ASM conv3": "horse:asm_conv3",
      "ASM conv1-3": "horse:asm_conv1_3",
      "ASM w/o rec.": "horse:asm_no_rec",
      "ASM w/o adv.": "horse:asm_no_adv",
      "IID + ASM": "horse:iid_asm",
      "ASM released": "horse:asm_released",
      "ASM binarized": "horse:asm_binarized",
      "ASM bounded": {"config": "horse:asm", "overrides": _BOUND},
      "ASM by image": {
        "config": "horse:asm",
        "overrides": {"terms.structure.normalize": "image", "terms.structure.binarize": True},
      },
      "ASM bounded filters": {
        "config": "horse:asm",
        "overrides": {"terms.structure.critic.max_norm": 1.0, "terms.structure.binarize": True},
      },
      "AAF": "horse:aaf",
      "cGAN": "horse:cgan",
      "ASM + AAF": "horse:asm_aaf",
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
