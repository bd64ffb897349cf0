"""Times the training steps of several methods side by side: what each costs beside the first.

A step is everything from a batch to all players' new parameters, on one batch that stays on the
device; augmentation, evaluation and checkpoints, which all methods share, are left out. On CPUs
seconds are the processor's, which leave out the time that other work takes.

  python benchmarks/methods.py --configs=scenes:iid,scenes:dice,scenes:asm
  taskset -c 0 python benchmarks/methods.py --configs=horse:iid,horse:asm --data_root=FOLDER
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.harness import (
  add_device_flag,
  choose_clock,
  count_calls,
  format_ratio,
  make_parser,
  record_ratio,
  time_in_turns,
  use_device,
)
from benchmarks.step_alone import make_step_of


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
  first, *_ = names = args.configs.split(",")
  steps = {name: make_step_of(name, args.data_root) for name in names}
  seconds = time_in_turns(steps, args.rounds, calls=count_calls(device), clock=choose_clock(device))
  for name in names:
    ratios = seconds[name] / seconds[first]
    print(f"{name:40}{1e3 * np.median(seconds[name]):9.1f} ms  {format_ratio(ratios)}")
    if name != first:
      record_ratio(f"step: {name} / {first}", ratios)


if __name__ == "__main__":
  main()
