"""Prints the layers of a config's predictor: shapes, costs and fields of view.

`asmjax summary --config=FILE:VARIANT [--size=H,W] [--critics]` needs no data
set, unless its classes are only known from there, and computes no weights.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from absl import flags

from asmjax.cli import config_flag

if TYPE_CHECKING:
  from rich.console import Console

  from asmjax.analysis.network.summary import Layer, NetworkSummary

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `summary`."""
  config_flag.define_flags()
  flags.DEFINE_list("size", None, "H,W of the image; by default that of training")
  flags.DEFINE_boolean("critics", False, "also print every critic's layers")


def main(arguments: list[str]) -> None:
  """Builds the networks of the config, and prints a table for each."""
  import jax

  from asmjax.analysis.network.summary import summarize, summarize_critic
  from asmjax.config.build import build_game
  from asmjax.config.data import Data, find_descriptor
  from asmjax.config.schema import construct
  from asmjax.utils.terminal import make_console

  console = make_console(width=None if sys.stdout.isatty() else 100, highlight=False)
  config = config_flag.read_config(arguments)
  size = parse_size(flags.FLAGS.size or config.data.size)
  game = build_game(config, find_descriptor(construct(Data, config.data, "data")))
  print_summary(console, "predictor", summarize(game.predictor, size))
  images = jax.ShapeDtypeStruct((1, *size, 3), "float32")
  outputs, _ = jax.eval_shape(
    lambda x: game.predictor.init_with_output(jax.random.key(0), x, train=False), images
  )
  output_size = next(iter(outputs.values())).shape[1:3]
  console.print(f"{describe_output_grid(size, output_size, game.align_corners)}\n")
  if flags.FLAGS.critics:
    for name in game.critics:
      layers = summarize_critic(game.terms[name], game.tasks, output_size)
      print_summary(console, f"critic of {name}", layers)


def parse_size(sides: Iterable[str | int]) -> tuple[int, int]:
  """Returns (height, width) from a flag or a config.

  Raises:
    ValueError: They are anything but two positive numbers.
  """
  texts = [str(side) for side in sides]
  numbers = [int(text) if text.isdecimal() else 0 for text in texts]
  if len(numbers) != 2 or min(numbers) < 1:
    raise ValueError(f"--size={','.join(texts)}; expected H,W, two positive numbers")
  return numbers[0], numbers[1]


def print_summary(console: "Console", title: str, summary: "NetworkSummary") -> None:
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
      format_window(layer),
      "x".join(map(str, layer.shape[1:])),
      f"{layer.parameters:,}" if layer.parameters else "",
      format_count(layer.multiply_adds),
      format_pair(layer.receptive_field),
      format_pair(layer.effective_stride),
    )
  console.print(table)
  shapes = ", ".join("x".join(map(str, shape)) for shape in summary.inputs) or "no images"
  resizes = format_count(summary.resize_multiply_adds)
  console.print(
    f"total for {shapes}: {summary.parameters:,} parameters, "
    f"{format_count(summary.multiply_adds) or 'no'} multiply-adds"
    + (f", and {resizes} of resizes" if resizes else "")
  )
  console.print(
    "window: kernel, /stride, *dilation, groups; sees: field of view, every: distance of outputs, "
    "both in pixels of the input\n"
  )


def describe_output_grid(
  size: tuple[int, int], output_size: tuple[int, int], align_corners: bool
) -> str:
  """Returns a line on where outputs lie in an image, and which size fits if this one does not.

  Args:
    size: (height, width) of the image.
    output_size: (height, width) of the predictor's outputs.
    align_corners: Whether the centers of the corner pixels coincide; see `asmjax.ops.resize`.
  """
  from asmjax.ops.resize import find_stride

  pairs = list(zip(size, output_size, strict=True))
  if align_corners:
    stride = max(find_stride(*pair) for pair in pairs)
  else:
    covers = lambda stride: all(-(-side // stride) == pixels for side, pixels in pairs)
    strides = list(filter(covers, range(1, max(size) + 1)))
    if not strides:
      raise ValueError(f"no stride makes outputs of {output_size} of an image of {size}")
    # Where a size does not fit several do, and those of most networks are powers of two: a guess.
    stride = max([each for each in strides if each.bit_count() == 1] or strides)
  more = int(align_corners)
  place = f"{stride} i" if align_corners or stride == 1 else f"{stride} i + {(stride - 1) / 2:g}"
  fitting = "x".join(str(-(-(side - more) // stride) * stride + more) for side in size)
  sizes = f"{stride} k + 1" if align_corners else f"{stride} k"
  actual = "x".join(map(str, size))
  verdict = "fits" if fitting == actual else f"does not fit, {fitting} does"
  return f"output i stands for pixel {place}; sizes of {sizes} fit: {actual} {verdict}"


def format_window(layer: "Layer") -> str:
  """Returns a layer's kernel, stride, dilation and groups, as far as they are not 1."""
  parts = ["x".join(map(str, layer.kernel))] if layer.kernel else []
  for sign, value in (("/", layer.stride), ("*", layer.dilation)):
    parts += [sign + format_pair(value)] if max(value) > 1 else []
  return " ".join(parts + ([f"g{layer.groups}"] if layer.groups > 1 else []))


def format_pair(values: Sequence[float | Fraction]) -> str:
  """Returns (height, width) as text, one number if both are the same."""
  height, width = ("all" if math.isinf(x) else f"{float(x):.5g}" for x in values)
  return height if height == width else f"{height}x{width}"


def format_count(number: int) -> str:
  """Returns a number in thousands, millions or billions; nothing for 0."""
  for unit, name in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
    if number >= unit:
      return f"{number / unit:.2f}{name}"
  return str(number) if number else ""
