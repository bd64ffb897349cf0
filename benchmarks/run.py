"""Runs the benchmarks one after the other, and writes their ratios as one table.

Each script is a process of its own; what it prints goes to the terminal. A script that fails, or
that would end after the given minutes, gives a row that says so: no number is made up.

  python benchmarks/run.py --device=cpu --out=table.md
  python benchmarks/run.py --device=gpu --minutes=8 --out=table.md

Without PyTorch and pydensecrf2 the rows that need them are missing.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.harness import PLATFORMS, ROWS, make_parser

_FOLDER = pathlib.Path(__file__).resolve().parent

# Scripts and their flags by device, the rows that matter most first.
_ON_CPU = ("--device=cpu",)
_ON_GPU = ("--device=gpu",)
_DEEPLAB = "--only=deeplab_v3_resnet50"
_LARGE_STEP = ("--preset=paper", "--batch=16", "--size=288x384")
_METHODS = "scenes:iid,scenes:dice,scenes:lovasz,scenes:rmi,scenes:aaf_released,scenes:iid_asm"
SUITES: Mapping[str, Sequence[tuple[str, ...]]] = {
  "cpu": (
    ("step.py", *_ON_CPU, "--rounds=7"),
    ("affinity.py", *_ON_CPU, "--rounds=5"),
    ("predictors.py", *_ON_CPU, "--size=129x129", "--rounds=3", "--no-compile"),
    ("loop.py", *_ON_CPU, "--config=scenes:iid", "--rounds=4"),
    ("loop.py", *_ON_CPU, "--config=scenes:asm_aaf_released", "--rounds=4"),
    ("methods.py", *_ON_CPU, f"--configs={_METHODS}", "--rounds=5"),
    ("roofline.py", *_ON_CPU, "--config=scenes:asm"),
    ("pages.py", "--configs=scenes:iid", "--rounds=5"),
    ("start.py", *_ON_CPU, "--configs=scenes:iid,scenes:asm_aaf_released"),
    ("lookahead.py", *_ON_CPU, "--config=scenes:load", "--rounds=1", "--config.train.steps=100"),
    ("input.py", "--rounds=3"),
    ("crf.py", "--rounds=3"),
    ("boundary.py", "--images=30"),
    ("imports.py", "--repeats=5"),
    ("decades.py", *_ON_CPU),
  ),
  "gpu": (
    ("step.py", *_ON_GPU, "--rounds=5"),
    ("step.py", *_ON_GPU, "--rounds=5", *_LARGE_STEP, "--compile"),
    ("affinity.py", *_ON_GPU, "--rounds=5"),
    ("methods.py", *_ON_GPU, f"--configs={_METHODS}", "--rounds=5"),
    ("loop.py", *_ON_GPU, "--config=scenes:asm", "--rounds=4"),
    ("loop.py", *_ON_GPU, "--config=scenes:asm", "--rounds=4", "--config.train.steps_per_call=10"),
    ("predictors.py", *_ON_GPU, _DEEPLAB, "--size=513x513", "--batch=8", "--rounds=3"),
    (
      *("predictors.py", *_ON_GPU, _DEEPLAB, "--size=513x513", "--batch=8", "--rounds=3"),
      "--dtype=bfloat16",
    ),
    ("predictors.py", *_ON_GPU, "--only=unet7", "--size=256x256", "--batch=8", "--rounds=3"),
    ("roofline.py", *_ON_GPU, "--config=scenes:asm"),
    ("roofline.py", *_ON_GPU, "--config=voc:asm@deeplab_v3_resnet50"),
    ("start.py", *_ON_GPU, "--configs=scenes:asm"),
    ("memory.py", *_ON_GPU, "--sizes=513", "--batch=16"),
  ),
}


def run_script(
  command: Sequence[str], seconds: float, platforms: str = "cpu"
) -> list[dict[str, Any]]:
  """Runs a script for so many seconds at most; returns the rows that it recorded.

  The last row says what went wrong, if something did. `platforms` are those that JAX may use.
  """
  name = " ".join(command)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "rows.jsonl"
    fault = ""
    try:
      result = subprocess.run(
        [sys.executable, str(_FOLDER / command[0]), *command[1:]],
        cwd=_FOLDER.parent,
        env=os.environ | {ROWS: str(path), "JAX_PLATFORMS": platforms},
        timeout=seconds,
      )
      fault = f"ended with status {result.returncode}" if result.returncode else ""
    except subprocess.TimeoutExpired:
      fault = f"not finished after {seconds:.0f} s"
    lines = path.read_text().splitlines() if path.exists() else []
  rows = [{**json.loads(line), "command": name} for line in lines]
  return [*rows, {"row": fault, "command": name}] if fault else rows


def format_table(rows: Iterable[Mapping[str, Any]]) -> str:
  """Formats the rows as a Markdown table, below a line for each machine and set of versions."""
  rows = list(rows)
  versions = dict.fromkeys(
    f"{row['device']}, JAX {row['jax']}" + (f", PyTorch {row['torch']}" if "torch" in row else "")
    for row in rows
    if "device" in row
  )
  head = [f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"]
  lines = [
    *head,
    *versions,
    "",
    "| row | ratio | range of rounds | script |",
    "| --- | --- | --- | --- |",
  ]
  for row in rows:
    script = f"`{row['command']}`"
    if "median" in row:
      spread = f"{row['low']:.3f} to {row['high']:.3f}"
      lines.append(f"| {row['row']} | **{row['median']:.3f}** | {spread} | {script} |")
    else:
      lines.append(f"| | {row['row']} | | {script} |")
  return "\n".join(lines) + "\n"


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--device", choices=tuple(SUITES), default="cpu")
  parser.add_argument("--minutes", type=float, default=60.0, help="for all scripts together")
  parser.add_argument("--only", help="names of scripts, separated by commas, such as step,loop")
  parser.add_argument("--out", type=pathlib.Path, required=True, help="Markdown file to write")
  return parser.parse_args()


def main() -> None:
  """Runs what the flags say; the table is written anew after every script."""
  args = parse_flags()
  end = time.monotonic() + 60 * args.minutes
  names = args.only.split(",") if args.only else None
  rows: list[dict[str, Any]] = []
  for command in SUITES[args.device]:
    if names and command[0].removesuffix(".py") not in names:
      continue
    print(f"\n$ python benchmarks/{' '.join(command)}", flush=True)
    rows += run_script(command, max(end - time.monotonic(), 0.0), PLATFORMS[args.device])
    args.out.write_text(format_table(rows))


if __name__ == "__main__":
  main()
