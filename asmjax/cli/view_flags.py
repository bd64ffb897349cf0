"""Flags of how images are looked at, which predicting and evaluating share."""

from absl import flags

_SCALES = flags.DEFINE_list("scales", ["1"], "scales to average over, as 0.5,0.75,1,1.25,1.5,1.75")
_FLIP = flags.DEFINE_bool("flip", False, "average over the image and its flipped image")
_WINDOW = flags.DEFINE_integer(
  "window", 0, "side of sliding windows, best that of training; 0 shows images whole"
)
_OVERLAP = flags.DEFINE_integer(
  "overlap", None, "pixels that windows share at least; a third of the window by default"
)
_BATCH = flags.DEFINE_integer("batch_size", 8, "images or windows at a time")
_CRF = flags.DEFINE_bool("crf", False, "refine the classes' probabilities with a dense CRF")


def crf() -> bool:
  """Whether a dense CRF refines the classes' probabilities."""
  return _CRF.value


def inference(tasks: tuple[str, ...] = ()):
  """How the flags say that images are looked at.

  Args:
    tasks: that are predicted; empty for all.

  Raises:
    ValueError: flags that make no sense.
  """
  from asmjax.inference.multiscale import Inference

  return Inference(
    scales=scales(_SCALES.value),
    flip=_FLIP.value,
    window=_WINDOW.value,
    overlap=_OVERLAP.value,
    batch_size=_BATCH.value,
    tasks=tasks,
  )


def scales(texts: list[str]) -> tuple[float, ...]:
  """Numbers, or ValueError with the flag's name."""
  try:
    return tuple(map(float, texts))
  except ValueError as error:
    raise ValueError(f"--scales={','.join(texts)}: {error}; expected numbers") from error
