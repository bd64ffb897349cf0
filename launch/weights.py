"""Runs the command `weights` from a checkout; see `asmjax/cli/weights.py`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from asmjax.cli import run

if __name__ == "__main__":
  run("weights")
