"""Counts the memory of a training step, and what each setting that saves some leaves of it.

  plain    the config as it is.
  accum    `train.grad_accum_steps`: the batch in four parts.
  remat    `predictor.backbone.remat`: activations of the backbone are computed twice.
  bf16     `train.dtype=bfloat16`: networks compute in bfloat16.

The arrays that the compiled program holds at once on each device are counted: parameters and
optimizers of all players, the batch, and what lies between. Nothing is computed. On CPUs the last
two save nothing: XLA merges there what is computed twice, and widens bfloat16 to float32. A U-Net
has no backbone: `--settings=plain,accum`.

  python benchmarks/memory.py --configs=voc:asm@deeplab_v3_mobilenet_v2 --sizes=129
  python benchmarks/memory.py --device=gpu --sizes=321,513,769 --batch=16
"""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Mapping

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from asmjax.config.load import load_config
from benchmarks.abstract_step import lower_step
from benchmarks.harness import add_device_flag, make_parser, record_ratio, use_device

_ACCUM = {"train.grad_accum_steps": "4"}
_REMAT = {"predictor.backbone.remat": "True"}
_BF16 = {"train.dtype": "bfloat16"}
SETTINGS: Mapping[str, Mapping[str, str]] = {
  "plain": {},
  "accum": _ACCUM,
  "remat": _REMAT,
  "accum + remat": _ACCUM | _REMAT,
  "bf16": _BF16,
  "accum + remat + bf16": _ACCUM | _REMAT | _BF16,
}


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--configs", default="voc:asm@deeplab_v3_resnet50", help="by commas")
  parser.add_argument("--sizes", default="321,513", help="sides of the images, by commas")
  parser.add_argument("--batch", type=int, default=8, help="images a step: a multiple of 4")
  parser.add_argument("--settings", default=",".join(SETTINGS), help="by commas, plain first")
  add_device_flag(parser)
  return parser.parse_args()


def count_bytes(config: str, overrides: Mapping[str, str]) -> int:
  """Counts the bytes of all arrays that a step holds at once."""
  memory = lower_step(load_config(config, overrides)).lowered.compile().memory_analysis()
  assert memory is not None
  return memory.argument_size_in_bytes + memory.temp_size_in_bytes


def main() -> None:
  """Prints MiB by config, size and setting, and their ratio to the first setting's."""
  args = parse_flags()
  use_device(args.device)
  first, *_ = names = args.settings.split(",")
  for config, side in itertools.product(args.configs.split(","), args.sizes.split(",")):
    print(f"{config}, {side}x{side}, batch {args.batch}")
    size = {"data.size": f"({side},{side})", "train.batch_size": str(args.batch)}
    counts: dict[str, int] = {}
    for name in names:
      counts[name] = count_bytes(config, size | SETTINGS[name])
      ratio = counts[name] / counts[first]
      print(f"  {name:22}{counts[name] / 2**20:9.0f} MiB  {ratio:.2f}", flush=True)
      if name != first:
        record_ratio(f"{config}, {side}x{side}, memory: {name} / {first}", ratio)


if __name__ == "__main__":
  main()
