"""Times the training steps of several methods side by side: what each costs beside the first.

A step is everything from a batch to all players' new parameters, on one batch that stays on the
device; augmentation, evaluation and checkpoints, which all methods share, are left out.

  python benchmarks/methods.py --configs=scenes:iid,scenes:dice,scenes:asm
  taskset -c 0 python benchmarks/methods.py --configs=horse:iid,horse:asm --data_root=FOLDER
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np

from asmjax.config.build import build_experiment
from asmjax.config.load import load_config
from benchmarks.harness import (
  add_device_flag,
  count_calls,
  format_ratio,
  make_parser,
  record_ratio,
  time_in_turns,
  use_device,
)
from benchmarks.step_alone import make_step_alone


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--configs", required=True, help="separated by commas, the baseline first")
  parser.add_argument("--data_root", help="config.data.root of all of them")
  parser.add_argument("--rounds", type=int, default=7, help="of all sides, in turn")
  add_device_flag(parser)
  return parser.parse_args()


def main() -> None:
  """Prints milliseconds of a step by config, and their ratio to the first one's in each round."""
  args = parse_flags()
  device = use_device(args.device)
  # Rooms are rendered on the fly: a few are enough for a batch.
  overrides = {"data.root": args.data_root} if args.data_root else {"data.options.length": "16"}
  first, *_ = names = args.configs.split(",")
  steps = {name: make_step_alone(build_experiment(load_config(name, overrides))) for name in names}
  seconds = time_in_turns(steps, args.rounds, calls=count_calls(device))
  for name in names:
    ratios = seconds[name] / seconds[first]
    print(f"{name:40}{1e3 * np.median(seconds[name]):9.1f} ms  {format_ratio(ratios)}")
    if name != first:
      record_ratio(f"step: {name} / {first}", ratios)


if __name__ == "__main__":
  main()
