"""How the runs of a report can be reproduced, as far as they recorded it."""

import shlex
from collections.abc import Sequence

from asmjax.analysis.report.contents import RunRecord
from asmjax.config.run_dir import describe_environment

# Config file that returns the content of a run's `config.json`.
RERUN = """\
import json
import pathlib

from ml_collections import ConfigDict


def get_config(path: str) -> ConfigDict:
  return ConfigDict(json.loads(pathlib.Path(path).read_text()))
"""


def list_recorded_commands(runs: Sequence[RunRecord]) -> str:
  """Returns the commands that runs recorded, a line for each; empty if none did."""
  return "\n".join(run.command for run in runs if run.command)


def make_rerun_commands(runs: Sequence[RunRecord]) -> str:
  """Returns commands that repeat the runs without a recorded one from their configs by `RERUN`."""
  return "\n".join(
    shlex.join(
      [
        "asmjax",
        "train",
        f"--config=rerun.py:{run.workdir / 'config.json'}",
        *["--config.data.root=FOLDER"] * bool(run.config["data"]["root"]),
        f"--workdir=again/{run.workdir.name}",
      ]
    )
    for run in runs
    if not run.command and run.config is not None
  )


def collect_environments(runs: Sequence[RunRecord]) -> dict[str, dict[str, str]]:
  """Returns the versions and devices of each run that recorded them, and of this process."""
  recorded = {run.name: run.environment for run in runs if run.environment}
  return recorded | {"this report": describe_environment()}
