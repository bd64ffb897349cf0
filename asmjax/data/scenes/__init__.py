"""Procedural rooms with furniture: images, labels, depths, normals and instances."""

from asmjax.data.scenes.source import Scenes

__all__ = ["Scenes"]
