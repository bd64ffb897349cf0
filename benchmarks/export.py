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
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import numpy as np

from asmjax.inference.export import FixedSizeOnlyError, export, save
from asmjax.inference.trained import TrainedPredictor
from benchmarks.harness import add_device_flag, format_ratio, make_parser, time_in_turns, use_device

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
def predict_tasks(variables, image):
  outputs = trained.game.predict(variables, image)
  size, aligned = image.shape[1:3], {"align_corners": trained.game.align_corners}
  return {
    name: task.predict(outputs[name], size, **aligned)
    for name, task in trained.game.tasks.items()
  }

predict = lambda image: predict_tasks(trained.variables, image)
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


def run_in_new_python(
  middle: str, source: pathlib.Path, shape: tuple[int, ...], calls: int
) -> dict[str, float]:
  """Measures the seconds of each part of a process of its own."""
  process = subprocess.run(
    [sys.executable, "-c", BEGIN + middle + END, str(source), *map(str, (*shape, calls))],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    check=True,
    text=True,
  )
  return json.loads(process.stdout)


def find_platform() -> str:
  """Returns the platform of this process, as exports call it."""
  backend = jax.default_backend()
  return {"gpu": "cuda"}.get(backend, backend)


def compare_with_python(workdir: pathlib.Path, args: argparse.Namespace) -> None:
  """Prints medians and ratios of the artifacts and the model in Python."""
  trained = TrainedPredictor.open(workdir)
  size = trained.prepare.size
  with tempfile.TemporaryDirectory() as folder:
    sides = {"python": (PYTHON, workdir)}
    for name, export_size in (("fixed", size), ("any", None)):
      path = pathlib.Path(folder) / f"{name}.stablehlo"
      try:
        save(export(trained, size=export_size, platforms=(find_platform(),)), path)
      except FixedSizeOnlyError as error:
        print(f"without {name}: {error}")
        continue
      sides[name] = ARTIFACT, path
    times = {name: [] for name in sides}
    for _ in range(args.rounds):
      for name, (middle, source) in sides.items():
        shape = (args.batch, *size, 3)
        times[name].append(run_in_new_python(middle, source.absolute(), shape, args.calls))
  print(f"JAX {jax.__version__} on {find_platform()}; {args.batch} of {size[0]}x{size[1]}")
  for part in times["python"][0]:
    print(f"  {part}")
    seconds = {name: np.array([run[part] for run in runs]) for name, runs in times.items()}
    report(seconds, "python")


def compare_runs(workdirs: list[pathlib.Path], args: argparse.Namespace) -> None:
  """Prints medians and ratios of the runs' artifacts."""
  runs = {
    f"{index}: {workdir.name}": TrainedPredictor.open(workdir)
    for index, workdir in enumerate(workdirs)
  }
  base, first = next(iter(runs.items()))
  for name, trained in runs.items():
    if (trained.game.predictor, trained.prepare) != (first.game.predictor, first.prepare):
      raise ValueError(f"{name} is of another network or size than {base}; expected the same")
  size = first.prepare.size
  image = np.random.default_rng(0).integers(0, 256, (args.batch, *size, 3), np.uint8)
  exported = {
    name: export(trained, size=size, platforms=(find_platform(),)).exported
    for name, trained in runs.items()
  }
  programs = {
    re.sub("dense<[^>]*>", "dense", program.mlir_module()) for program in exported.values()
  }
  print(f"programs that differ in more than weights: {len(programs) - 1}")

  def make_side(call: Callable) -> Callable[[], None]:
    compiled = jax.jit(call)
    return lambda: jax.block_until_ready(compiled(image))

  sides = {name: make_side(program.call) for name, program in exported.items()}
  seconds = time_in_turns(sides, args.rounds * args.calls)
  print(
    f"JAX {jax.__version__} on {find_platform()}; {args.batch} of {size[0]}x{size[1]}; "
    f"{args.rounds} rounds of {args.calls} calls"
  )
  by_round = {name: s.reshape(args.rounds, args.calls) for name, s in seconds.items()}
  report({name: np.median(s, axis=1) for name, s in by_round.items()}, base)


def report(seconds: dict[str, np.ndarray], base: str) -> None:
  """Prints a line for each side: the median of the rounds, and of their ratios to `base`."""
  for name, of_side in seconds.items():
    ratio = f"  {format_ratio(of_side / seconds[base])} of {base}" if name != base else ""
    print(f"    {name:24} {np.median(of_side):8.4f} s{ratio}")


def parse_flags() -> argparse.Namespace:
  """Parses the flags."""
  parser = make_parser(__doc__)
  runs = parser.add_mutually_exclusive_group(required=True)
  runs.add_argument("--workdir", type=pathlib.Path, help="folder of a run")
  runs.add_argument("--compare", help="folders of runs of one architecture, by commas")
  parser.add_argument("--batch", type=int, default=1, help="images a call")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--calls", type=int, default=20, help="a round, after the first")
  add_device_flag(parser)
  return parser.parse_args()


def main() -> None:
  """Benchmarks what the flags say."""
  args = parse_flags()
  use_device(args.device)
  if args.workdir:
    compare_with_python(args.workdir, args)
  else:
    compare_runs([pathlib.Path(workdir) for workdir in args.compare.split(",")], args)


if __name__ == "__main__":
  main()
