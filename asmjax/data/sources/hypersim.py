"""Hypersim (Roberts et al. 2021): rendered rooms with labels, instances, depth and normals."""

import csv
import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.descriptor import Descriptor
from asmjax.data.files import FileSource
from asmjax.data.hdf5 import read_arrays
from asmjax.data.image_files import check_exists
from asmjax.data.sources.nyuv2 import Nyuv2
from asmjax.data.transforms import Example

_LIST = "metadata_images_split_scene_v1.csv"
_COLUMNS = ("scene_name", "camera_name", "frame_id", "split_partition_name")
_RELEASED = "included_in_public_release"
_ARRAYS = {
  "label": "semantic",
  "instance": "semantic_instance",
  "depth": "depth_meters",
  "normals": "normal_cam",
}
_LABEL_BY_ID = {-1: UNLABELED, 0: UNLABELED} | {label + 1: label for label in range(40)}
# Angle of view between the left and the right border, of all cameras.
_ANGLE = math.radians(60)


@dataclasses.dataclass(frozen=True)
class Hypersim(FileSource):
  """Source of Hypersim: rendered rooms of 1024x768 pixels in the 40 classes of NYU Depth V2.

  The published distances from the camera's center become depths along its axis, and the published
  normals, whose y points up, point down.  Cameras are taken as pinholes that see 60 degrees: the
  few scenes whose lens is tilted or shifted are not treated apart.  Scenes that are not there are
  left out.

  Attributes:
    root: Path of the folder with the scenes and the owners' list of the splits.
    split: "train", "val" or "test" (59543, 7386 and 7690 images).
  """

  descriptor: ClassVar[Descriptor] = dataclasses.replace(
    Nyuv2.descriptor,
    name="hypersim",
    splits=("train", "val", "test"),
    provides=frozenset(_ARRAYS),
    ignored=frozenset({-1, 0}),
  )
  marker_path: ClassVar[str] = _LIST
  layout: ClassVar[str] = (
    f"ROOT/{_LIST}, ROOT/SCENE/images/scene_CAMERA_final_preview/frame.NUMBER.tonemap.jpg and "
    "scene_CAMERA_geometry_hdf5/frame.NUMBER.{semantic,semantic_instance,depth_meters,normal_cam}"
    ".hdf5"
  )

  @functools.cached_property
  def names(self) -> tuple[str, ...]:
    """Names SCENE/CAMERA/NUMBER of the split's images, in the order of the owners' list."""
    path = self.folder / _LIST
    check_exists(path, f"expected {self.layout}")
    rows = csv.DictReader(decode.read_lines(path))
    missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
      raise ValueError(f"{path} has no column {missing[0]}; expected {', '.join(_COLUMNS)}")
    chosen = [
      row
      for row in rows
      if row["split_partition_name"] == self.split and row.get(_RELEASED, "True") == "True"
    ]
    present = {row["scene_name"] for row in chosen}
    present = {scene for scene in present if (self.folder / scene).is_dir()}
    for row in chosen:
      if not row["frame_id"].isdecimal():
        raise ValueError(f"{path} has the frame_id {row['frame_id']!r}; expected a whole number")
    return tuple(
      f"{row['scene_name']}/{row['camera_name']}/{int(row['frame_id']):04d}"
      for row in chosen
      if row["scene_name"] in present
    )

  def files(self, index: int) -> Mapping[str, pathlib.Path]:
    """Returns the paths of an image and its maps."""
    scene, camera, number = self.names[index].split("/")
    folder = self.folder / scene / "images"
    maps = folder / f"scene_{camera}_geometry_hdf5"
    image = folder / f"scene_{camera}_final_preview" / f"frame.{number}.tonemap.jpg"
    return {"image": image} | {
      key: maps / f"frame.{number}.{name}.hdf5" for key, name in _ARRAYS.items()
    }

  def read(self, files: Mapping[str, pathlib.Path]) -> Example:
    """Reads an image, its labels, instances, depth and normals."""
    arrays = {key: read_arrays(files[key], ["dataset"])["dataset"] for key in _ARRAYS}
    for key, array in arrays.items():
      if array.ndim != (3 if key == "normals" else 2) or array.dtype.kind not in "iuf":
        raise ValueError(f"{files[key]} is {array.dtype}{array.shape}; expected a map of {key}")
    rays = _make_rays(arrays["normals"].shape[:2])
    distance = arrays["depth"].astype(np.float32)
    if distance.shape != rays.shape[:2]:
      raise ValueError(f"{files['depth']} is {distance.shape}; expected {rays.shape[:2]}")
    depth = distance / np.linalg.norm(rays, axis=-1)
    label = decode.look_up_ids(arrays["label"], _LABEL_BY_ID, files["label"])
    instance = arrays["instance"].astype(np.int32)
    return {
      "image": decode.read_photo(files["image"]),
      "label": label,
      "instance": np.where(instance < 0, 0, instance + 1).astype(np.int32),
      "depth": np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32),
      "normals": _orient(arrays["normals"].astype(np.float32), rays),
    }


def _make_rays(size: tuple[int, ...]) -> np.ndarray:
  """Returns the direction of each pixel's ray, float32 (h, w, 3): x right, y down, z = 1 ahead."""
  height, width = size
  focal = width / 2 / math.tan(_ANGLE / 2)
  x, y = np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2
  rays = np.ones((height, width, 3), np.float32)
  rays[..., 0], rays[..., 1] = x / focal, y[:, None] / focal
  return rays


def _orient(vectors: np.ndarray, rays: np.ndarray) -> np.ndarray:
  """Returns unit normals that face the camera, float32 (h, w, 3), 0 where missing.

  Args:
    vectors: Normals with x to the right, y up and z towards the camera, not finite where missing.
    rays: Direction of each pixel's ray.
  """
  vectors = np.where(np.isfinite(vectors).all(-1, keepdims=True), vectors, 0)
  length = np.linalg.norm(vectors, axis=-1, keepdims=True)
  normals = vectors / np.where(length > 0, length, 1) * np.array([1, -1, 1], np.float32)
  # Both sides of a thin surface may have the normal of one; what one sees is the front.
  faces_away = (normals * rays * np.array([1, 1, -1], np.float32)).sum(-1, keepdims=True) > 0
  return np.where(faces_away, -normals, normals).astype(np.float32)
