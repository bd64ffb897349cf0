"""Published weights: reading them, and placing them into a network by explicit name maps.

    network = DeepLab({"segmentation": 21}, MobileNetV2(top=False), rates=())
    variables, coverage = load(
      "mobilenet_v2.safetensors", "safetensors", network, variables, part="backbone"
    )
    print(coverage)
    transform = input_transform("mobilenet_v2.safetensors", "safetensors", network)
    logits = network.apply(variables, transform(image), train=False)["segmentation"]

A network without a map needs one, a short function that joins the entries of its layers:

    def name_map() -> NameMap:
      return torch_layer("conv1", "features.0.0", "features.0.1", shift=0.0)

    variables, coverage = transfer(variables, read(path, "safetensors"), name_map())
"""

from asmjax.pretrained.input_transform import input_transform
from asmjax.pretrained.load import load
from asmjax.pretrained.maps import name_map
from asmjax.pretrained.names import NameMap, WeightSource
from asmjax.pretrained.readers import read
from asmjax.pretrained.transfer import Coverage, transfer

__all__ = [
  "Coverage",
  "NameMap",
  "WeightSource",
  "input_transform",
  "load",
  "name_map",
  "read",
  "transfer",
]
