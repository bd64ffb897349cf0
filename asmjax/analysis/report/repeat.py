"""How the runs of a report can be repeated, as far as they recorded it."""

import json
import shlex
from html import escape

from asmjax.analysis.report.contents import Report, Run
from asmjax.analysis.report.tables import table
from asmjax.config.run_dir import describe_environment

# A config file that says what a run's `config.json` says.
RERUN = """\
import json
import pathlib

from ml_collections import ConfigDict


def get_config(path: str) -> ConfigDict:
  return ConfigDict(json.loads(pathlib.Path(path).read_text()))
"""


def repeating(report: Report) -> str:
  """HTML: commands, configs, and the machines of the runs and of the report."""
  said = [_commands(report.runs), _configs(report.runs), _environments(report)]
  if report.command:
    said.append(f"<h3>This report</h3><pre>{escape(report.command)}</pre>")
  return "".join(said)


def _commands(runs: tuple[Run, ...]) -> str:
  recorded = "\n".join(run.command for run in runs if run.command)
  said = f"<p>The runs were started with</p><pre>{escape(recorded)}</pre>" if recorded else ""
  if all(run.command for run in runs) or not any(run.config for run in runs):
    return said
  without = [run for run in runs if not run.command and run.config is not None]
  lines = "\n".join(
    shlex.join(
      [
        "python",
        "launch/main.py",
        f"--config=rerun.py:{run.workdir / 'config.json'}",
        *["--config.data.root=FOLDER"] * bool(run.config["data"]["root"]),
        f"--workdir=again/{run.workdir.name}",
      ]
    )
    for run in without
  )
  return (
    f"{said}<p>{'The others' if recorded else 'The runs'} recorded all their settings, but not the "
    "command and the config file that they came from. With this file, <code>rerun.py</code>,</p>"
    f"<pre>{escape(RERUN)}</pre><p>these commands repeat them from the configs in their folders "
    "(which are also listed below), with the data set in <code>FOLDER</code> where one is read:</p>"
    f"<pre>{escape(lines)}</pre>"
  )


def _configs(runs: tuple[Run, ...]) -> str:
  return "".join(
    f"<details><summary>Whole config of {escape(run.label)}, {escape(str(run.workdir))}</summary>"
    f"<pre>{escape(json.dumps(run.config, indent=2))}</pre></details>"
    for run in runs
    if run.config is not None
  )


def _environments(report: Report) -> str:
  recorded = {
    f"{run.label}, {run.workdir.name}": run.environment for run in report.runs if run.environment
  }
  columns = recorded | {"this report": describe_environment()}
  keys = dict.fromkeys(key for own in columns.values() for key in own)
  note = (
    ""
    if recorded
    else (
      "<p>The runs recorded neither versions nor devices; these are of the machine that made the "
      "report and its pictures.</p>"
    )
  )
  rows = [
    [escape(key), *(escape(str(own.get(key, "–"))) for own in columns.values())] for key in keys
  ]
  return f"<h3>Environment</h3>{note}" + table(
    ["", *map(escape, columns)], rows, "Versions and devices", words=True
  )
