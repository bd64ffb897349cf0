"""Data: sources of examples, transforms of an example, and loaders of batches."""

from asmjax.data.scenes import Scenes
from asmjax.data.sources.ade20k import Ade20k
from asmjax.data.sources.camvid import CamVid
from asmjax.data.sources.cityscapes import Cityscapes
from asmjax.data.sources.coco import Coco
from asmjax.data.sources.coco_panoptic import CocoPanoptic
from asmjax.data.sources.coco_stuff import CocoStuff
from asmjax.data.sources.folder import Folder
from asmjax.data.sources.gta5 import Gta5
from asmjax.data.sources.hypersim import Hypersim
from asmjax.data.sources.kitti import KittiDepth, KittiSemantics
from asmjax.data.sources.labelme import Labelme
from asmjax.data.sources.mapillary import Mapillary
from asmjax.data.sources.nyuv2 import Nyuv2
from asmjax.data.sources.pascal_context import PascalContext
from asmjax.data.sources.pascal_voc import PascalVoc
from asmjax.data.sources.rgbd_sweep import RgbdSweep
from asmjax.data.sources.stanford2d3ds import Stanford2d3ds
from asmjax.data.sources.stanford_background import StanfordBackground
from asmjax.data.sources.weizmann_horse import WeizmannHorse
from asmjax.data.tfds import Tfds

SOURCES = {
  "ade20k": Ade20k,
  "camvid": CamVid,
  "cityscapes": Cityscapes,
  "coco": Coco,
  "coco_panoptic": CocoPanoptic,
  "coco_stuff": CocoStuff,
  "folder": Folder,
  "gta5": Gta5,
  "hypersim": Hypersim,
  "kitti_depth": KittiDepth,
  "kitti_semantics": KittiSemantics,
  "labelme": Labelme,
  "mapillary": Mapillary,
  "nyuv2": Nyuv2,
  "pascal_context": PascalContext,
  "pascal_voc": PascalVoc,
  "rgbd_sweep": RgbdSweep,
  "scenes": Scenes,
  "stanford2d3ds": Stanford2d3ds,
  "stanford_background": StanfordBackground,
  "tfds": Tfds,
  "weizmann_horse": WeizmannHorse,
}
