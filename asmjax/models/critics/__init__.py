"""Critics: networks that compare structures, or tell true from predicted ones."""

from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.models.critics.discriminators import LucNet, PatchNet, TwoBranchNet
from asmjax.models.critics.mobilenet import MobileNetCritic

CRITICS = {
  "autoencoder": StructureAutoencoder,
  "luc": LucNet,
  "mobilenet": MobileNetCritic,
  "patch": PatchNet,
  "two_branch": TwoBranchNet,
}
