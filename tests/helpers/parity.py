"""Functions of ours beside those of other libraries: what a test asserts, and the docs print.

`python -m tests.helpers.parity` prints the tables of docs/methods.md.
"""

import dataclasses
import importlib
import importlib.metadata
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# Names of libraries by those of their modules; without capitals, what they are installed by.
LIBRARIES = {
  "kornia": "Kornia",
  "monai": "MONAI",
  "segmentation_models_pytorch": "segmentation-models-pytorch",
  "sklearn": "scikit-learn",
  "torch": "torch",
  "torchmetrics": "Torchmetrics",
  "transformers": "transformers",
}

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Case:
  """A function of ours, and one of another library that agrees if arguments are mapped so.

  Attributes:
    reference: Path of the other library's function or class.
    make: Function that makes the inputs.
    ours: Function of the inputs: a loss, or numbers.
    theirs: The same by the other library. Inputs are tensors in double precision, or int64, with
      channels last; where `differentiable` is false they are arrays.
    differences: How the definitions differ otherwise, in the words of the docs.
    differentiable: Whether there is a gradient by the first input.
  """

  reference: str
  make: Callable[[], Arrays]
  ours: Callable[..., Any]
  theirs: Callable[..., Any]
  differences: str = ""
  differentiable: bool = True


def find(path: str) -> Any:
  """Returns what a path such as "monai.losses.DiceLoss" names; skips a test without the library."""
  module, _, name = path.rpartition(".")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # What a library warns of when it is imported.
    pytest.importorskip(path.partition(".")[0])
    return getattr(importlib.import_module(module), name)


def compute(case: Case) -> tuple[Any, np.ndarray]:
  """Computes our value, and its gradient by the first input; NaN where there is none."""
  first, *others = case.make()
  if not case.differentiable:
    return case.ours(first, *others), np.array(np.nan)
  value, gradient = jax.jit(jax.value_and_grad(case.ours))(jnp.asarray(first), *others)
  return float(value), np.asarray(gradient)


def compute_reference(case: Case) -> tuple[Any, np.ndarray]:
  """Computes the reference's value and gradient; skips a test without the library."""
  find(case.reference)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # What libraries warn of their own code.
    if not case.differentiable:
      return case.theirs(*case.make()), np.array(np.nan)
    first, *others = (to_tensor(x) for x in case.make())
    first.requires_grad_(True)
    value = case.theirs(first, *others)
    value.backward()
  return value.item(), first.grad.numpy()


def to_tensor(x: np.ndarray) -> Any:
  """Returns an array as a tensor of PyTorch's: real numbers in double precision, ids as int64."""
  return find("torch.tensor")(x.astype(np.float64 if x.dtype.kind == "f" else np.int64))


def measure_error(ours: Any, theirs: Any) -> float:
  """Returns the largest difference in parts of the reference's largest number."""
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


def summarize(value: float, gradient: np.ndarray) -> list[float]:
  """Lists a value, the length of its gradient, and the slope along a direction drawn by NumPy."""
  direction = np.random.default_rng(0).normal(size=gradient.shape)
  return [value, float(np.linalg.norm(gradient)), float(np.sum(direction * gradient))]


def describe(name: str, case: Case) -> dict[str, str]:
  """Measures a case and describes it in the columns of a Markdown table."""
  pairs = zip(compute(case), compute_reference(case), strict=True)
  value, gradient = (
    "" if np.isnan(x) else f"{x:.0e}" for x in map(measure_error, *zip(*pairs, strict=True))
  )
  module, *_, reference = case.reference.split(".")
  library = LIBRARIES[module]
  version = importlib.metadata.version(library.lower()).partition("+")[0]
  function, *variant = name.split(", ")
  return {
    "function": ", ".join([f"`{function}`", *variant]),
    "reference": f"{library} {version}: `{reference}`",
    "value": value,
    "gradient": gradient,
    "what differs there": case.differences,
  }


def print_table(cases: Mapping[str, Case], without: str = "") -> None:
  """Prints a Markdown table of cases, perhaps without one of the columns."""
  rows = [describe(name, case) for name, case in cases.items()]
  columns = [column for column in rows[0] if column != without]
  for cells in (columns, ["---"] * len(columns), *([row[c] for c in columns] for row in rows)):
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
  losses, metrics = (
    importlib.import_module(f"tests.{part}.test_parity").CASES for part in ("losses", "metrics")
  )
  print_table(losses)
  print()
  print_table(metrics, without="gradient")
