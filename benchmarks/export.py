"""Times exported predictors against the model in Python, and predictors of several runs.

  python benchmarks/export.py --workdir=RUN
  python benchmarks/export.py --compare=RUN,RUN

The first: until a first result is there, and for each further one, in a fresh process each time.

  python  `TrainedPredictor.open` and one compiled function, as this library predicts.
  fixed   the artifact for images of the one size that evaluation makes them.
  any     the artifact for images of any size, called with that one.

The second: seconds a call of artifacts of the runs, in turns in one process. The runs have one
architecture, and whatever they were trained with, they should take the same time: it is also said
whether their programs differ in anything but the weights.
Compilation caches are not used; the time that Python itself takes to start is not counted.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import numpy as np

from asmjax.inference.export import FixedSizeOnlyError, export, save
from asmjax.inference.trained import TrainedPredictor

# How a process begins, makes `predict` of what it is given, and ends.
BEGIN = """
import json, sys, time
start = time.perf_counter()
source, *shape, calls = sys.argv[1], *map(int, sys.argv[2:])
import jax
import numpy as np
"""
ARTIFACT = """
import jax.export
imported = time.perf_counter()
with open(source, "rb") as file:
  predict = jax.jit(jax.export.deserialize(bytearray(file.read())).call)
"""
PYTHON = """
from asmjax.inference.trained import TrainedPredictor
imported = time.perf_counter()
trained = TrainedPredictor.open(source)

@jax.jit
def conclude(variables, image):
  outputs = trained.game.predict(variables, image)
  size, aligned = image.shape[1:3], {"align_corners": trained.game.align_corners}
  return {
    name: task.predict(outputs[name], size, **aligned)
    for name, task in trained.game.tasks.items()
  }

predict = lambda image: conclude(trained.variables, image)
"""
END = """
loaded = time.perf_counter()
image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
ends = [loaded]
for _ in range(1 + calls):
  jax.block_until_ready(predict(image))
  ends.append(time.perf_counter())
print(json.dumps({
  "import": imported - start, "load": loaded - imported, "first call": ends[1] - loaded,
  "until a result": ends[1] - start, "next call": np.median(np.diff(ends[1:])),
}))
"""


def ran(middle: str, source: pathlib.Path, shape: tuple[int, ...], calls: int) -> dict[str, float]:
  """Seconds of what a process of its own has done."""
  done = subprocess.run(
    [sys.executable, "-c", BEGIN + middle + END, str(source), *map(str, (*shape, calls))],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    check=True,
    text=True,
  )
  return json.loads(done.stdout)


def platform() -> str:
  """Of this process, as exports call it."""
  backend = jax.default_backend()
  return {"gpu": "cuda"}.get(backend, backend)


def against_python(workdir: pathlib.Path, args: argparse.Namespace) -> None:
  """Prints medians and ratios of the artifacts and the model in Python."""
  trained = TrainedPredictor.open(workdir)
  size = trained.prepare.size
  with tempfile.TemporaryDirectory() as folder:
    sides = {"python": (PYTHON, workdir)}
    for name, wanted in (("fixed", size), ("any", None)):
      path = pathlib.Path(folder) / f"{name}.stablehlo"
      try:
        save(export(trained, size=wanted, platforms=(platform(),)), path)
      except FixedSizeOnlyError as error:
        print(f"without {name}: {error}")
        continue
      sides[name] = ARTIFACT, path
    times = {name: [] for name in sides}
    for _ in range(args.rounds):
      for name, (middle, source) in sides.items():
        times[name].append(ran(middle, source.absolute(), (args.batch, *size, 3), args.calls))
  print(f"JAX {jax.__version__} on {platform()}; {args.batch} of {size[0]}x{size[1]}")
  for part in times["python"][0]:
    print(f"  {part}")
    seconds = {name: np.array([each[part] for each in rounds]) for name, rounds in times.items()}
    show(seconds, "python")


def between(workdirs: list[pathlib.Path], args: argparse.Namespace) -> None:
  """Prints medians and ratios of the runs' artifacts."""
  runs = {
    f"{index}: {workdir.name}": TrainedPredictor.open(workdir)
    for index, workdir in enumerate(workdirs)
  }
  (base, first), *others = runs.items()
  for name, each in others:
    if (each.game.predictor, each.prepare) != (first.game.predictor, first.prepare):
      raise ValueError(f"{name} is of another network or size than {base}; expected the same")
  size = first.prepare.size
  image = np.random.default_rng(0).integers(0, 256, (args.batch, *size, 3), np.uint8)
  exported = {
    name: export(each, size=size, platforms=(platform(),)).exported for name, each in runs.items()
  }
  programs = {re.sub("dense<[^>]*>", "dense", each.mlir_module()) for each in exported.values()}
  print(f"programs that differ in more than weights: {len(programs) - 1}")
  calls = {name: jax.jit(each.call) for name, each in exported.items()}
  for call in calls.values():
    jax.block_until_ready(call(image))
  seconds = {name: [] for name in calls}
  for _ in range(args.rounds * args.calls):
    for name, call in calls.items():
      seconds[name].append(timed(call, image))
  print(
    f"JAX {jax.__version__} on {platform()}; {args.batch} of {size[0]}x{size[1]}; "
    f"{args.rounds} rounds of {args.calls} calls"
  )
  medians = {
    name: np.median(np.reshape(each, (args.rounds, args.calls)), axis=1)
    for name, each in seconds.items()
  }
  show(medians, base)


def timed(call: Callable, image: np.ndarray) -> float:
  """Seconds of a call."""
  start = time.perf_counter()
  jax.block_until_ready(call(image))
  return time.perf_counter() - start


def show(seconds: dict[str, np.ndarray], base: str) -> None:
  """A line each: the median of the rounds, and of the rounds' ratios to `base`."""
  for name, each in seconds.items():
    ratios = each / seconds[base]
    ratio = f"{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f}) of {base}"
    print(f"    {name:24} {np.median(each):8.4f} s" + (f"  {ratio}" if name != base else ""))


def parse() -> argparse.Namespace:
  """The flags."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument("--workdir", type=pathlib.Path, help="folder of a run")
  what.add_argument("--compare", help="folders of runs of one architecture, by commas")
  parser.add_argument("--batch", type=int, default=1, help="images a call")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--calls", type=int, default=20, help="a round, after the first")
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse()
  if args.workdir:
    against_python(args.workdir, args)
  else:
    between([pathlib.Path(each) for each in args.compare.split(",")], args)


if __name__ == "__main__":
  main()
