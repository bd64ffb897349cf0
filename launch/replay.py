"""Runs the command `replay` from a checkout; see `asmjax/cli/replay.py`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from asmjax.cli import run

if __name__ == "__main__":
  run("replay")
