"""Exports a trained run: `asmjax export --workdir=DIR --out=NAME.stablehlo`.

Writes a function from images to predictions, with all weights, that JAX runs without this library,
and NAME.json, which says what is what; see `asmjax/inference/export.py`. Needs no data set.
`examples/load_exported.py` reads both.
"""

import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of `export`."""
  flags.DEFINE_string("workdir", None, "folder of the run")
  flags.DEFINE_string("out", None, "file, as NAME.stablehlo")
  flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "which checkpoint")
  flags.DEFINE_string(
    "size", None, "of the images: HxW or any; by default any, or that of evaluation if need be"
  )
  flags.DEFINE_string("batch", "any", "images at a time: a number or any")
  flags.DEFINE_list("tasks", [], "tasks to predict; all by default")
  flags.DEFINE_list("platforms", ["cpu", "cuda", "tpu"], "where it is to run")
  flags.DEFINE_bool("probabilities", False, "also return the classes' probabilities")
  flags.mark_flags_as_required(["workdir", "out"])


def main(_: list[str]) -> None:
  """Restores the predictor, exports it, and prints how to load the file."""
  from asmjax.inference.export import check_path, export, export_for_any_size, save
  from asmjax.inference.trained import TrainedPredictor
  from asmjax.utils.files import check_file

  values = flags.FLAGS
  check_path(values.out)
  check_file(pathlib.Path(values.out))
  size = parse_size(values.size) if values.size else None
  settings: dict[str, Any] = {
    "batch": parse_batch(values.batch),
    "tasks": tuple(values.tasks),
    "platforms": tuple(values.platforms),
    "probabilities": values.probabilities,
  }
  trained = TrainedPredictor.open(values.workdir, values.checkpoint)
  if values.size:
    artifact = export(trained, size=size, **settings)
  else:
    warn = lambda reason: print(reason, file=sys.stderr)
    artifact = export_for_any_size(trained, warn=warn, **settings)
  save(artifact, values.out)
  print(describe_artifact(pathlib.Path(values.out), artifact.metadata))


def parse_batch(text: str) -> int | None:
  """Returns the batch size of `--batch`, None for "any".

  Raises:
    ValueError: The text is neither "any" nor a number above 0.
  """
  if text != "any" and not re.fullmatch("[1-9][0-9]*", text):
    raise ValueError(f"--batch={text}; expected any, or a number above 0")
  return None if text == "any" else int(text)


def parse_size(text: str) -> tuple[int, int] | None:
  """Returns (height, width) of `--size`, None for "any".

  Raises:
    ValueError: The text is neither "any" nor of the form HxW.
  """
  match = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", text)
  if match:
    return int(match[1]), int(match[2])
  if text == "any":
    return None
  raise ValueError(f"--size={text}; expected any or HxW, as 144x192")


def describe_artifact(path: pathlib.Path, metadata: Mapping[str, Any]) -> str:
  """Returns lines on an exported file: its inputs and outputs, and how to load it.

  Args:
    path: Path of the StableHLO file.
    metadata: Content of the JSON file beside it.
  """
  from asmjax.inference.export import metadata_path

  lines = [
    f"{path}, {path.stat().st_size / 1e6:.2f} MB, and {metadata_path(path).name}; "
    f"runs on {', '.join(metadata['platforms'])}"
  ]
  for kind in ("inputs", "outputs"):
    for name, array in metadata[kind].items():
      shape = ", ".join(map(str, array["shape"]))
      lines.append(f"{kind[:-1]:7} {name} {array['dtype']} ({shape})")
  if metadata["sides"]:
    min_side, multiple, extra = (metadata["sides"][key] for key in ("min", "multiple", "extra"))
    plus = f" plus {extra}" if extra else ""
    padded = f", padded to multiples of {multiple}{plus}" if multiple > 1 else ""
    lines.append(f"sides   of at least {min_side}{padded}")
  resize, (height, width) = metadata["evaluation"]["resize"], metadata["evaluation"]["size"]
  lines += [
    f"best    resized as evaluation does: {resize}, {height}x{width}",
    "",
    "To load it, with jax, flatbuffers and numpy installed:",
    "  import jax, jax.export",
    f'  stored = open("{path}", "rb").read()',
    "  predict = jax.jit(jax.export.deserialize(bytearray(stored)).call)",
    f"  outputs = predict(image)  # {', '.join(metadata['outputs'])}",
  ]
  return "\n".join(lines)
