"""Prints the layers of a config's predictor: shapes, costs and fields of view.

`python launch/summary.py --config=configs/FILE.py:VARIANT [--size=H,W] [--critics]` needs no data
set, unless its classes are only known from there, and computes no weights.
"""

import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging
from ml_collections import config_flags

from asmjax.cli.overrides import exit_on_config_error, parse

_CONFIG = config_flags.DEFINE_config_file("config", help_string="configs/FILE.py:VARIANT")
_SIZE = flags.DEFINE_list("size", None, "H,W of the image; by default that of training")
_CRITICS = flags.DEFINE_boolean("critics", False, "also print every critic's layers")


def main(_: list[str]) -> None:
  """Reads the config, prints a table for each network."""
  import jax
  from rich.console import Console

  from asmjax.analysis.network.summary import critic_summary, summary
  from asmjax.config.build import Data, read_facts
  from asmjax.config.build import build_game as networks
  from asmjax.config.schema import construct

  logging.set_verbosity(logging.ERROR)
  console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
  config = _CONFIG.value
  with exit_on_config_error():
    size = read_size(_SIZE.value or config.data.size)
    game = networks(config, read_facts(construct(Data, config.data, "data")))
  show(console, "predictor", summary(game.predictor, size))
  images = jax.ShapeDtypeStruct((1, *size, 3), "float32")
  outputs, _ = jax.eval_shape(
    lambda x: game.predictor.init_with_output(jax.random.key(0), x, train=False), images
  )
  judged = next(iter(outputs.values())).shape[1:3]
  console.print(f"{grid(size, judged, game.align_corners)}\n")
  if _CRITICS.value:
    for name in game.critics:
      show(console, f"critic of {name}", critic_summary(game.terms[name], game.tasks, judged))


def read_size(size) -> tuple[int, int]:
  """(h, w) as a flag or a config has it.

  Raises:
    ValueError: anything but two positive numbers.
  """
  found = [int(side) if str(side).isdecimal() else 0 for side in size]
  if len(found) != 2 or min(found) < 1:
    raise ValueError(f"--size={','.join(map(str, size))}; expected H,W, two positive numbers")
  return tuple(found)


def show(console, title, summary) -> None:
  """Prints the table and the totals of one network."""
  from rich.table import Table

  table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
  table.add_column("layer", overflow="fold")
  for name in ("kind", "window"):
    table.add_column(name, no_wrap=True)
  for name in ("output", "parameters", "mult-adds", "sees", "every"):
    table.add_column(name, justify="right", no_wrap=True)
  for layer in summary.layers:
    table.add_row(
      layer.name or "-",
      layer.kind,
      window(layer),
      "x".join(map(str, layer.shape[1:])),
      f"{layer.parameters:,}" if layer.parameters else "",
      amount(layer.multiply_adds),
      pair(layer.field),
      pair(layer.jump),
    )
  console.print(table)
  shapes = ", ".join("x".join(map(str, shape)) for shape in summary.inputs) or "no images"
  console.print(
    f"total for {shapes}: {summary.parameters:,} parameters, "
    f"{amount(summary.multiply_adds) or 'no'} multiply-adds"
    + (f", and {amount(summary.resizing)} of resizes" if summary.resizing else "")
  )
  console.print(
    "window: kernel, /stride, *dilation, groups; sees: field of view, every: distance of outputs, "
    "both in pixels of the input\n"
  )


def grid(size, outputs, align_corners: bool) -> str:
  """Where the outputs lie in an image of `size`, and the next size that fits if this does not."""
  from asmjax.ops.resize import stride_of

  stride = max(map(stride_of, size, outputs))
  more = int(align_corners)
  place = f"{stride} i" if align_corners or stride == 1 else f"{stride} i + {(stride - 1) / 2:g}"
  fits = "x".join(str(-(-(side - more) // stride) * stride + more) for side in size)
  sizes = f"{stride} k + 1" if align_corners else f"{stride} k"
  found = "x".join(map(str, size))
  verdict = "fits" if fits == found else f"does not fit, {fits} does"
  return f"output i stands for pixel {place}; sizes of {sizes} fit: {found} {verdict}"


def window(layer) -> str:
  """Kernel, stride, dilation and groups, as far as they are not 1."""
  parts = [pair(layer.kernel, always=True)] if layer.kernel else []
  for sign, value in (("/", layer.stride), ("*", layer.dilation)):
    parts += [sign + pair(value)] if max(value) > 1 else []
  return " ".join(parts + ([f"g{layer.groups}"] if layer.groups > 1 else []))


def pair(values, always: bool = False) -> str:
  """(h, w), once if both are the same."""
  texts = ["all" if math.isinf(value) else f"{float(value):.5g}" for value in values]
  return texts[0] if texts[0] == texts[1] and not always else "x".join(texts)


def amount(number: int) -> str:
  """In thousands, millions or billions."""
  for unit, name in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
    if number >= unit:
      return f"{number / unit:.2f}{name}"
  return str(number) if number else ""


if __name__ == "__main__":
  flags.mark_flags_as_required(["config"])
  app.run(main, flags_parser=parse)
