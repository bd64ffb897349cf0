"""Data: sources of examples, transforms of an example, and loaders of batches."""

from asmjax.data.scenes import Scenes
from asmjax.data.sources.weizmann_horse import WeizmannHorse

SOURCES = {"scenes": Scenes, "weizmann_horse": WeizmannHorse}
