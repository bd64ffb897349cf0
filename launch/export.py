"""Exports a trained run: `python launch/export.py --workdir=DIR --out=NAME.stablehlo`.

Writes a function from images to predictions, with all weights, that JAX runs without this library,
and NAME.json, which says what is what; see `asmjax/inference/export.py`. Needs no data set.
`examples/load_exported.py` reads both.
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from absl import app, flags, logging

from asmjax.cli.overrides import exit_on_config_error

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_OUT = flags.DEFINE_string("out", None, "file, as NAME.stablehlo")
_WHICH = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "which checkpoint")
_SIZE = flags.DEFINE_string(
  "size", None, "of the images: HxW or any; by default any, or that of evaluation if need be"
)
_BATCH = flags.DEFINE_string("batch", "any", "images at a time: a number or any")
_TASKS = flags.DEFINE_list("tasks", [], "tasks to predict; all by default")
_PLATFORMS = flags.DEFINE_list("platforms", ["cpu", "cuda", "tpu"], "where it is to run")
_PROBABILITIES = flags.DEFINE_bool("probabilities", False, "also return the classes' probabilities")


def main(_: list[str]) -> None:
  """Reads the predictor, exports it, and says what came out."""
  from asmjax.inference.export import export, export_widely, save
  from asmjax.inference.trained import Trained

  logging.set_verbosity(logging.ERROR)
  with exit_on_config_error():
    settings = {
      "batch": number(_BATCH.value),
      "tasks": tuple(_TASKS.value),
      "platforms": tuple(_PLATFORMS.value),
      "probabilities": _PROBABILITIES.value,
    }
    if _SIZE.value:
      settings["size"] = sides(_SIZE.value)
    trained = Trained.open(_WORKDIR.value, _WHICH.value)
    if _SIZE.value:
      artifact = export(trained, **settings)
    else:
      artifact = export_widely(trained, say=lambda why: print(why, file=sys.stderr), **settings)
    save(artifact, _OUT.value)
  print(described(pathlib.Path(_OUT.value), artifact.facts))


def number(text: str) -> int | None:
  """A number above 0, None for "any", or ValueError with the flag's name."""
  if text != "any" and not re.fullmatch("[1-9][0-9]*", text):
    raise ValueError(f"--batch={text}; expected any, or a number above 0")
  return None if text == "any" else int(text)


def sides(text: str) -> tuple[int, int] | None:
  """(h, w), None for "any", or ValueError with the flag's name."""
  match = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", text)
  if text != "any" and not match:
    raise ValueError(f"--size={text}; expected any or HxW, as 144x192")
  return (int(match[1]), int(match[2])) if match else None


def described(path: pathlib.Path, facts: dict) -> str:
  """What was written, what goes in and out, and how to load it."""
  from asmjax.inference.export import facts_path

  lines = [
    f"{path}, {path.stat().st_size / 1e6:.2f} MB, and {facts_path(path).name}; "
    f"runs on {', '.join(facts['platforms'])}"
  ]
  for kind in ("inputs", "outputs"):
    for name, each in facts[kind].items():
      shape = ", ".join(map(str, each["shape"]))
      lines.append(f"{kind[:-1]:7} {name} {each['dtype']} ({shape})")
  if facts["sides"]:
    least, multiple, more = (facts["sides"][key] for key in ("least", "multiple", "more"))
    plus = f" plus {more}" if more else ""
    padded = f", padded to multiples of {multiple}{plus}" if multiple > 1 else ""
    lines.append(f"sides   of at least {least}{padded}")
  resize, (height, width) = facts["evaluated"]["resize"], facts["evaluated"]["size"]
  lines += [
    f"best    resized as evaluation does: {resize}, {height}x{width}",
    "",
    "To load it, with jax, flatbuffers and numpy installed:",
    "  import jax, jax.export",
    f'  stored = open("{path}", "rb").read()',
    "  predict = jax.jit(jax.export.deserialize(bytearray(stored)).call)",
    f"  found = predict(image)  # {', '.join(facts['outputs'])}",
  ]
  return "\n".join(lines)


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "out"])
  app.run(main)
