"""Methods by name: what a predictor is trained by, as published, as released and bounded."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from asmjax.config.schema import choose, defaults
from asmjax.models.critics import CRITICS

# The settings of the authors' script for segmentation where they differ from the paper's.
RELEASED = {
  "normalize": "pixel",
  "margin": 0.8,
  "critic_weight": {"start": 0.012, "stop": 0.0012},
  "reconstruction_weight": 1.0,
  "binarize": True,
  "count_partial_cells": False,
  "balance": 0.0,
  "critic": {"filters": (16, 64, 128, 128, 128)},
}


# Structure matching that no growth of the analyzer's weights can blow up, and that beside a pixel
# loss has a quarter of its say; without that limit it sends two to three times the pixel loss's
# gradient on the rooms.
BOUNDED = {"normalize": "pixel", "margin": 0.8, "binarize": True, "balance": 0.25}

# A discriminator that meets a predictor which knows nothing: it sets in slowly, sends at most
# three tenths of the pixel loss's gradient, and does not learn to be sure.
GAN_FROM_SCRATCH = {
  "weight": {"start": 0.0, "stop": 0.1, "shape": "linear", "begin": 0.1, "end": 0.3},
  "balance": 0.3,
  "label_smoothing": 0.1,
}


def critic(name: str, **changes: Any) -> dict[str, Any]:
  """Returns the config section of a critic network.

  Args:
    name: Key of `asmjax.models.critics.CRITICS`.
    **changes: Fields of the network that are not its defaults.
  """
  return {"name": name, **defaults(CRITICS[name], **changes)}


# The cGAN that was released with ASM, for SGD; with Adam see `reset_critic_weights`.
CGAN = {"inputs": "concatenated", "weight": 0.01, "critic_weight": 0.01, "critic": critic("patch")}

# What Luc et al. show the two branches of their network for Stanford Background.
BRANCHES = {"inputs": "branches", "critic": critic("two_branch")}

# 10^(-t / T).
DECAY = {"start": 1.0, "stop": 0.1}

# Adaptive affinity fields as published and as released.
AAF = {
  "weight": DECAY,
  "adaptive": True,
  "sizes": (3, 5, 7),
  "neighbors": "full",
  "weight_by": "channel",
}
AAF_RELEASED = {
  "weight": DECAY,
  "adaptive": True,
  "sizes": (3, 5, 7),
  "neighbors": "corners",
  "weight_by": "center",
  "ignore": "opposite",
}

# The boundary loss is in pixels: it sets in slowly, as there, and sends at most half of the pixel
# loss's gradient.
GROWING_BOUNDARY = {
  "weight": {"start": 0.01, "stop": 1.0, "shape": "linear", "begin": 0.0, "end": 1.0},
  "balance": 0.5,
}

# The discriminator of LoAd sees the photo split by classes (Jamali-Rad and Szabo 2022, Fig. 2), in
# batches of truths and label maps (Sec. 4). Such maps are decided, so the predictor's are as well.
# It meets a trained predictor, with lambda 1 from the start and nothing of `GAN_FROM_SCRATCH`, the
# default where predictors start untrained.
LOAD = {
  "inputs": "product",
  "weight": 1.0,
  "balance": 0.0,
  "label_smoothing": 0.0,
  "joint_batch": True,
  "hard": True,
  "critic": critic("mobilenet"),
}


class Method(NamedTuple):
  """What a predictor is trained by.

  Attributes:
    description: What it is, in one line.
    terms: By kind of term, what it changes in the term's settings.
    released: Whether depth and normals have the losses of the code released with ASM, where all
      methods have them, cGAN and the pixel loss among them.
  """

  description: str
  terms: dict[str, dict[str, Any]]
  released: bool = False


METHODS = {
  "iid": Method("pixel loss alone", {"pixel": {}}),
  "iid_released": Method(
    "pixel loss alone, of normals as in the code released with ASM", {"pixel": {}}, released=True
  ),
  "iid_balanced": Method(
    "pixel loss with weights against rare classes (Farabet et al. 2013)",
    {"pixel": {"balanced": 1 / 3}},
  ),
  "asm": Method(
    "Adversarial Structure Matching on conv1 and conv2 (Hwang et al. 2019)", {"structure": {}}
  ),
  "asm_conv1": Method("structure matching on conv1 alone", {"structure": {"layers": ("conv1",)}}),
  "asm_conv2": Method("structure matching on conv2 alone", {"structure": {"layers": ("conv2",)}}),
  "asm_conv3": Method("structure matching on conv3 alone", {"structure": {"layers": ("conv3",)}}),
  "asm_conv1_3": Method(
    "structure matching on conv1, conv2 and conv3",
    {"structure": {"layers": ("conv1", "conv2", "conv3")}},
  ),
  "asm_no_rec": Method(
    "structure matching without reconstruction by the analyzer",
    {"structure": {"reconstruction_weight": 0.0}},
  ),
  "asm_no_adv": Method(
    "structure matching with an analyzer that only reconstructs",
    {"structure": {"critic_weight": 0.0}},
  ),
  "asm_binarized": Method(
    "structure matching with an analyzer that climbs on decided predictions",
    {"structure": {"binarize": True}},
  ),
  "asm_released": Method(
    "structure matching with the settings of the authors' script",
    {"structure": RELEASED},
    released=True,
  ),
  "iid_asm": Method("pixel loss and structure matching", {"pixel": {}, "structure": {}}),
  "iid_asm_released": Method(
    "pixel loss and structure matching with the settings of the authors' script",
    {"pixel": {}, "structure": RELEASED},
    released=True,
  ),
  "gan_basic": Method(
    "pixel loss and a discriminator of label maps (Luc et al. 2016)",
    {"pixel": {}, "adversarial": {"inputs": "basic"}},
  ),
  "gan_product": Method(
    "pixel loss and a discriminator of photos times label maps",
    {"pixel": {}, "adversarial": {"inputs": "product"}},
  ),
  "gan_scaling": Method(
    "pixel loss and a discriminator that sees truths as soft as predictions",
    {"pixel": {}, "adversarial": {"inputs": "scaling"}},
  ),
  "gan_branches": Method(
    "pixel loss and a discriminator with a branch for the photo",
    {"pixel": {}, "adversarial": BRANCHES},
  ),
  "cgan": Method(
    "pixel loss and the conditional patch discriminator released with ASM",
    {"pixel": {}, "adversarial": CGAN},
    released=True,
  ),
  "affinity": Method(
    "pixel loss and affinity fields of one size (Ke et al. 2018)",
    {"pixel": {}, "affinity": {"weight": DECAY}},
  ),
  "aaf": Method(
    "pixel loss and adaptive affinity fields as published (Ke et al. 2018)",
    {"pixel": {}, "affinity": AAF},
  ),
  "aaf_released": Method(
    "pixel loss and adaptive affinity fields as in the authors' code",
    {"pixel": {}, "affinity": AAF_RELEASED},
  ),
  "focal": Method("focal loss of every pixel (Lin et al. 2017)", {"pixel": {"focal_gamma": 2.0}}),
  "ohem": Method(
    "pixel loss of the hardest pixels (Shrivastava et al. 2016)", {"pixel": {"hard_threshold": 0.7}}
  ),
  "label_smoothing": Method(
    "pixel loss of smoothed labels (Szegedy et al. 2016)", {"pixel": {"label_smoothing": 0.1}}
  ),
  "inverse_frequency": Method(
    "pixel loss with classes weighted by their inverse frequency",
    {"pixel": {"inverse_frequency": True}},
  ),
  "dice": Method(
    "pixel loss and soft Dice loss (Milletari et al. 2016)", {"pixel": {}, "dice": {}}
  ),
  "generalized_dice": Method(
    "pixel loss and generalized Dice loss (Sudre et al. 2017)",
    {"pixel": {}, "generalized_dice": {}},
  ),
  "tversky": Method(
    "pixel loss and Tversky loss (Salehi et al. 2017)", {"pixel": {}, "tversky": {}}
  ),
  "focal_tversky": Method(
    "pixel loss and focal Tversky loss (Abraham and Khan 2019)",
    {"pixel": {}, "tversky": {"gamma": 0.75}},
  ),
  "lovasz": Method(
    "pixel loss and Lovász-softmax loss (Berman et al. 2018)", {"pixel": {}, "lovasz": {}}
  ),
  "boundary": Method(
    "pixel loss, Dice loss and a growing boundary loss (Kervadec et al. 2019)",
    {"pixel": {}, "dice": {}, "boundary": GROWING_BOUNDARY},
  ),
  "cl_dice": Method(
    "pixel loss, Dice loss and that of centerlines (Shit et al. 2021)",
    {"pixel": {}, "dice": {"weight": 0.5}, "cl_dice": {"weight": 0.5}},
  ),
  "rmi": Method(
    "pixel loss and region mutual information, half each (Zhao et al. 2019)",
    {"pixel": {"weight": 0.5}, "region_mutual_information": {"weight": 0.5}},
  ),
  "embedding": Method(
    "pixel loss and a contrastive loss of the predictor's features", {"pixel": {}, "embedding": {}}
  ),
  "asm_aaf": Method(
    "pixel loss, structure matching and adaptive affinity fields",
    {"pixel": {}, "structure": {}, "affinity": AAF},
  ),
  "asm_aaf_released": Method(
    "pixel loss, structure matching and adaptive affinity fields as in the authors' code",
    {"pixel": {}, "structure": {}, "affinity": AAF_RELEASED},
  ),
  "load": Method(
    "LoAd: lookahead with rollback against a discriminator (Jamali-Rad and Szabo 2022)",
    {"pixel": {}, "adversarial": LOAD},
  ),
  "load_asm": Method(
    "LoAd's schedule with structure matching", {"pixel": {}, "structure": BOUNDED}
  ),
  "alternating": Method(
    "LoAd's discriminator, trained in turn with the predictor", {"pixel": {}, "adversarial": LOAD}
  ),
}

# These start from a predictor that the pixel loss has trained.
FINETUNED = ("load", "load_asm", "alternating")


def join_terms(names: Sequence[str]) -> dict[str, dict[str, Any]]:
  """Returns the terms of a method of `METHODS`, or those of several together; see `Method.terms`.

  Args:
    names: Names of the methods, as ("dice", "asm").

  Raises:
    ValueError: A name is unknown, or methods cannot be joined: they set the same key of a term to
      different values, or one of them is of `FINETUNED`.
  """
  variant = "+".join(names)
  methods = {name: choose(METHODS, name, "variant") for name in names}
  if len(methods) > 1 and (alone := methods.keys() & set(FINETUNED)):
    raise ValueError(
      f"variant {variant!r}: {', '.join(sorted(alone))} cannot be joined with others"
    )
  terms: dict[str, dict[str, Any]] = {}
  for name, method in methods.items():
    for kind, settings in method.terms.items():
      joined = terms.setdefault(kind, {})
      for key, value in settings.items():
        if joined.setdefault(key, value) != value:
          raise ValueError(
            f"variant {variant!r}: {name} sets {kind}.{key} to {value}, another method to "
            f"{joined[key]}; expected methods that agree"
          )
  return terms
