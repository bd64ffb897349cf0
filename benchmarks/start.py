"""Times the start of a training: from the command until its first step is logged.

  cold  nothing is compiled yet: an empty cache of programs.
  warm  the same command again.

Each is a process of its own, which is stopped after the step. Seconds of the wall clock and of the
processor; the latter matter where other work runs.

  python benchmarks/start.py --configs=scenes:asm_aaf_released,scenes:iid
  python benchmarks/start.py --configs=horse:asm --data_root=FOLDER
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.harness import PLATFORMS, add_device_flag, make_parser, record_ratio

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def time_first_step(config: str, overrides: list[str], cache: str) -> tuple[float, float]:
  """Measures seconds until the first step is logged: of the clock, and of the processor.

  Raises:
    RuntimeError: The command ended before.
  """
  with tempfile.TemporaryDirectory() as workdir:
    command = [sys.executable, "-m", "asmjax.cli", "train", f"--config={config}"]
    command += [f"--workdir={workdir}/run", "--config.train.log_every=1", *overrides]
    environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": cache,
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    before, start = _processor_seconds(), time.perf_counter()
    process = subprocess.Popen(
      command, env=environment, cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    reached = any(line.startswith("step 1") for line in process.stdout)
    seconds = time.perf_counter() - start
    process.kill()
    process.wait()
    if not reached:
      raise RuntimeError(f"{' '.join(command)} ended without a step")
    return seconds, _processor_seconds() - before


def _processor_seconds() -> float:
  """Returns the processor seconds of all child processes that have ended."""
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--configs", default="scenes:asm_aaf_released", help="separated by commas")
  parser.add_argument("--data_root", help="config.data.root of all of them")
  parser.add_argument("--rounds", type=int, default=1, help="of both sides, in turn")
  add_device_flag(parser)
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse_flags()
  if args.device:
    os.environ["JAX_PLATFORMS"] = PLATFORMS[args.device]
  overrides = [f"--config.data.root={args.data_root}"] if args.data_root else []
  for config in args.configs.split(","):
    for _ in range(args.rounds):
      with tempfile.TemporaryDirectory() as cache:
        times = {name: time_first_step(config, overrides, cache) for name in ("cold", "warm")}
      for name, (seconds, processor) in times.items():
        print(f"{config}: {name} {seconds:.1f} s, {processor:.1f} s of the processor", flush=True)
      ratio = times["warm"][1] / times["cold"][1]
      record_ratio(f"start of {config}, processor time until the first step: warm / cold", ratio)


if __name__ == "__main__":
  main()
