"""Flags of test-time augmentation and tiling, shared by the commands `predict` and `evaluate`."""

from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
  from asmjax.inference.views import Inference

flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines the flags of scales, flips, windows, batches and the CRF."""
  flags.DEFINE_list("scales", ["1"], "scales to average over, as 0.5,0.75,1,1.25,1.5,1.75")
  flags.DEFINE_bool("flip", False, "average over the image and its flipped image")
  flags.DEFINE_integer(
    "window",
    0,
    "side of sliding windows, best that of training or a multiple of 32; 0 shows images whole",
  )
  flags.DEFINE_integer(
    "overlap", None, "pixels that windows share at least; a third of the window by default"
  )
  flags.DEFINE_integer("batch_size", 8, "images or windows at a time, fewer if memory is small")
  flags.DEFINE_float("memory", 0, "GiB to use of the host and of each device; 0 for what is free")
  flags.DEFINE_bool("crf", False, "refine the classes' probabilities with a dense CRF")


def read_inference(tasks: tuple[str, ...] = ()) -> "Inference":
  """Returns the settings of inference that the flags ask for.

  Args:
    tasks: Names of the tasks to predict; all if empty.

  Raises:
    ValueError: A flag has no valid value.
  """
  from asmjax.inference.views import Inference

  values = flags.FLAGS
  return Inference(
    scales=parse_scales(values.scales),
    flip=values.flip,
    window=values.window,
    overlap=values.overlap,
    batch_size=values.batch_size,
    tasks=tasks,
    memory=values.memory,
  )


def parse_scales(texts: list[str]) -> tuple[float, ...]:
  """Returns the numbers of `--scales`.

  Raises:
    ValueError: A text is no number; the message names the flag.
  """
  try:
    return tuple(map(float, texts))
  except ValueError as error:
    raise ValueError(f"--scales={','.join(texts)}: {error}; expected numbers") from error
