"""Procedural rooms with furniture: a source of images, labels, depths, normals and instances."""

from asmjax.data.scenes.source import Scenes

__all__ = ["Scenes"]
