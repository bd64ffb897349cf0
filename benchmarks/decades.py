"""Measures how costs grow over a decade of image size, classes, batch, buffer and data set.

  structure  a training step of both players, networks of few layers, which compile in seconds
  affinity   adaptive affinity fields alone, forward and backward from logits
  replay     reading 32 examples from LoAd's buffer, whose models have each predicted all images

Times are medians of rounds in which all points take turns, in seconds of the processor, on GPUs of
the clock; memory is what the compiled program holds at its peak, and for the buffer the maps on the
disk. A straight line through the logarithms gives the exponent: 1 where ten times as much costs ten
times as much. A part of a cost that does not grow, such as the optimizers' of a small step, makes
it smaller.

  python benchmarks/decades.py --plot=decades.png
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.analysis.plotting import add_legend, make_panels, save_figure, trim_axes
from asmjax.data.scenes import Scenes
from asmjax.data.wrappers import InMemory, SelectKeys
from asmjax.game import PREDICTOR
from asmjax.lookahead.maps import AggregatedMaps, MapStore
from asmjax.losses.affinity import affinity_loss
from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.train.parallel import pmap_step, shard_batch
from asmjax.train.step import make_step
from benchmarks.harness import (
  add_device_flag,
  choose_clock,
  make_parser,
  record_ratio,
  use_device,
  wait_for,
)
from benchmarks.step_setting import CRITIC, make_setting

# A decade of each quantity; while it varies, the others stay at their middle.
DECADES = {
  "image size": (32, 100, 320),
  "classes": (2, 6, 20),
  "batch": (2, 6, 20),
  "buffer": (2, 6, 20),
  "images": (32, 100, 320),
}
_MIDDLE = {quantity: values[1] for quantity, values in DECADES.items()}
_UNITS = {"image size": "side in pixels", "buffer": "models", "images": "of the data set"}
# Quantities that the cost of each subject can depend on.
SUBJECTS = {
  "structure": ("image size", "classes", "batch"),
  "affinity": ("image size", "classes", "batch"),
  "replay": ("buffer", "images"),
}
_NETWORK = {"levels": 2, "width": 8, "stride": 2}
_FILTERS = (8, 16)  # Of the analyzer.
_READS = 32


@dataclasses.dataclass
class Cost:
  """Cost of a function at one value of each quantity.

  Attributes:
    run: Function whose cost it is.
    memory: Bytes that it needs.
    seconds: Seconds of each call.
  """

  run: Callable[[], Any]
  memory: int
  seconds: list[float] = dataclasses.field(default_factory=list)


# By subject and quantity, the cost at each value.
Costs = dict[tuple[str, str], dict[int, Cost]]


def make_structure(values: Mapping[str, int]) -> tuple[Callable[[], Any], int]:
  """Compiles a step of structure matching; returns it and the bytes of its program."""
  side, n = values["image size"], values["batch"]
  args = argparse.Namespace(batch=n, size=(side, side), **_NETWORK)
  setting = make_setting("paper", args, tuple(map(str, range(values["classes"]))))
  term = dataclasses.replace(setting.term, critic=StructureAutoencoder(_FILTERS))
  game = dataclasses.replace(setting.game, terms={CRITIC: term})
  setting = dataclasses.replace(setting, game=game)
  step = make_step(
    setting.game,
    setting.make_transformations(),
    active_players=(PREDICTOR, CRITIC),
    steps=setting.steps,
  )
  devices = jax.local_devices()[:1]
  mapped: Any = pmap_step(step, devices=devices)
  inputs = (setting.init_state(), shard_batch(setting.batch, devices=devices))
  compiled = mapped.lower(*inputs).compile()
  return lambda: compiled(*inputs), _count_bytes(compiled)


def make_affinity(values: Mapping[str, int]) -> tuple[Callable[[], Any], int]:
  """Compiles the gradient of affinity fields; returns it and the bytes of its program."""
  rng, side = np.random.default_rng(0), values["image size"]
  shape = (values["batch"], side, side, values["classes"])
  logits = rng.standard_normal(shape, np.float32)
  inputs = jax.device_put((logits, rng.integers(0, shape[-1], shape[:-1]).astype(np.int32)))
  loss = lambda logits, label: affinity_loss(jax.nn.softmax(logits), label).mean()
  compiled = jax.jit(jax.value_and_grad(loss)).lower(*inputs).compile()
  return lambda: compiled(*inputs), _count_bytes(compiled)


def make_replay(values: Mapping[str, int], folder: pathlib.Path) -> tuple[Callable[[], Any], int]:
  """Writes the maps of a buffer; returns the reading of some examples, and the bytes on disk."""
  source = InMemory(SelectKeys(Scenes("train", size=(64, 64), length=values["images"]), {"label"}))
  folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
  store, models = MapStore(folder, cache_bytes=0), range(values["buffer"])
  for model in models:
    shifted = (np.roll(source[i]["label"], 2 * model) for i in range(len(source)))
    store.write(model, "train", ((i, {"label": label}) for i, label in enumerate(shifted)))
  pairs = AggregatedMaps(source, store.read(models, "train"), lambda example: example)
  rng = np.random.default_rng(0)
  size = sum(path.stat().st_size for path in folder.rglob("*.zip"))
  return lambda: [pairs[i] for i in rng.integers(0, len(pairs), _READS)], size


def _count_bytes(compiled: Any) -> int:
  """Counts the bytes of a compiled program's arguments, results and intermediate arrays."""
  memory = compiled.memory_analysis()
  sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
  return sum(getattr(memory, size) for size in sizes)


def measure(rounds: int, folder: pathlib.Path, clock: Callable[[], float]) -> Costs:
  """Measures all subjects at all values, which take turns, after a round that does not count."""
  make = {
    "structure": make_structure,
    "affinity": make_affinity,
    "replay": lambda values: make_replay(values, folder),
  }
  costs: Costs = {}
  for subject, quantities in SUBJECTS.items():
    middle = Cost(*make[subject](_MIDDLE))
    for quantity in quantities:
      low, value, high = DECADES[quantity]
      ends = {end: Cost(*make[subject](_MIDDLE | {quantity: end})) for end in (low, high)}
      costs[subject, quantity] = {low: ends[low], value: middle, high: ends[high]}
      print(f"  {subject}, {quantity}: ready", flush=True)
  each = {id(cost): cost for by_value in costs.values() for cost in by_value.values()}.values()
  for i in range(rounds + 1):
    for cost in each:
      start = clock()
      wait_for(cost.run())
      if i:
        cost.seconds.append(clock() - start)
  return costs


def fit_exponent(values: np.ndarray, costs: np.ndarray) -> float:
  """Fits b in cost = a value^b, by least squares of the logarithms."""
  return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def draw(costs: Costs, path: pathlib.Path) -> None:
  """Draws a panel for each quantity: times as lines, memory as broken lines, both relative."""
  figure, panels = make_panels(len(DECADES), len(DECADES), (2.3 * len(DECADES), 3))
  for axes, (quantity, values) in zip(panels, DECADES.items(), strict=True):
    for i, subject in enumerate(SUBJECTS):
      if quantity in SUBJECTS[subject]:
        seconds, memory = _columns(costs[subject, quantity])
        style: dict[str, Any] = {"color": f"C{i}", "marker": ".", "linewidth": 1.2}
        axes.loglog(values, seconds / seconds[0], label=f"{subject}, time", **style)
        axes.loglog(values, memory / memory[0], "--", label=f"{subject}, memory", **style)
    axes.set_xlabel(f"{quantity} ({_UNITS[quantity]})" if quantity in _UNITS else quantity)
    axes.set_xticks(values, list(map(str, values)))
    axes.minorticks_off()
    axes.set_ylim(0.5, 200)
    trim_axes(axes)
  panels[0].set_ylabel("cost / that of the smallest")
  add_legend(figure, 6)
  save_figure(figure, path, dpi=120)


def _columns(by_value: Mapping[int, Cost]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the median seconds and the bytes at each value."""
  rows = [(np.median(cost.seconds), cost.memory) for cost in by_value.values()]
  seconds, memory = np.array(rows, float).T
  return seconds, memory


def report(costs: Costs) -> None:
  """Prints a Markdown table of the exponents, with the costs at both ends, and records them."""
  print("| | over | exponent of time | ms | exponent of memory | MiB |\n" + "| --- " * 6 + "|")
  for (subject, quantity), by_value in costs.items():
    values = np.array(list(by_value))
    seconds, memory = _columns(by_value)
    exponents = fit_exponent(values, seconds), fit_exponent(values, memory)
    ends = [f"{x[0]:.3g} to {x[-1]:.3g}" for x in (1e3 * seconds, memory / 2**20)]
    over = f"{quantity}, {values[0]} to {values[-1]}"
    cells = (subject, over, f"{exponents[0]:.2f}", ends[0], f"{exponents[1]:.2f}", ends[1])
    print(f"| {' | '.join(cells)} |")
    for cost, exponent in zip(("time", "memory"), exponents, strict=True):
      record_ratio(f"exponent of {subject}'s {cost} over {over}", exponent)


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  parser.add_argument("--rounds", type=int, default=5, help="measured after one that is not")
  parser.add_argument("--plot", type=pathlib.Path, help="PNG file to draw; none by default")
  add_device_flag(parser)
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse_flags()
  clock = choose_clock(use_device(args.device))
  print(f"JAX {jax.__version__}, {jnp.zeros(()).device.device_kind}")
  with tempfile.TemporaryDirectory() as folder:
    costs = measure(args.rounds, pathlib.Path(folder), clock)
  report(costs)
  if args.plot:
    draw(costs, args.plot)


if __name__ == "__main__":
  main()
