"""Training from Python: `asmjax.train` is `train` here, and does what the command does."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Num, UInt8

from asmjax.analysis.runs import Group, format_results
from asmjax.config.build import build_experiment, build_schedule
from asmjax.config.load import format_values, load_config, override_config
from asmjax.config.presets import Config
from asmjax.config.run_dir import (
  find_checkpoint,
  read_results,
  resolve_input_transform,
  write_run_files,
)
from asmjax.data.decode import read_photo
from asmjax.inference.multiscale import make_predict
from asmjax.inference.trained import TrainedPredictor
from asmjax.inference.views import Inference
from asmjax.train.logger import Logger
from asmjax.train.loop import train as train_experiment
from asmjax.utils.files import remove_partial_files
from asmjax.utils.lock import lock_folder
from asmjax.utils.shapes import check_image


def train(
  config: str | Config,
  workdir: str | pathlib.Path,
  *,
  command: Sequence[str] = (),
  loggers: Sequence[Logger] = (),
  **overrides: Any,
) -> "Run":
  """Trains a config, or resumes the run in a folder, and evaluates.

  Args:
    config: `ConfigDict`, or the file and variant of one, as in "scenes:aaf_released"; see
      `asmjax.config.load.load_config`.
    workdir: Folder of the run; it is made if need be.
    command: Command that trains the run, for its `environment.json`; none by default.
    loggers: Loggers beside those of the folder, such as `asmjax.train.trackers.WandbLogger`; none
      by default. One that raises is dropped with a warning.
    **overrides: Values by dotted key of the config, as in `**{"train.steps": 100}`.

  Raises:
    ValueError: A setting is invalid, the data do not fit it, the folder holds a run of another
      config or of other data, or another training is at work in it.
    FileNotFoundError: The config, the data or the weights to start from are missing.
    FloatingPointError: The run diverged.
    asmjax.utils.stopping.Stopped: Ctrl-C, SIGTERM or SIGUSR1 ended it after its present step, which
      is saved.
  """
  if isinstance(config, str):
    config = load_config(config)
  config = override_config(config, format_values(overrides))
  return prepare_run(config, workdir, command=command, loggers=loggers)()


def prepare_run(
  config: Config,
  workdir: str | pathlib.Path,
  *,
  command: Sequence[str] = (),
  loggers: Sequence[Logger] = (),
) -> "Callable[[], Run]":
  """Checks a config and its data, writes them into the folder of a run, and returns what trains it.

  Args:
    config: Config; "auto" in it is replaced by what it stands for.
    workdir: Folder of the run; see `train`, as for `command` and the errors.
    command: Command that trains the run.
    loggers: Loggers beside those of the folder.
  """
  if not str(workdir):
    raise ValueError("workdir is empty; expected the folder of a run, or '.' for this one")
  workdir = pathlib.Path(workdir)
  for logger in loggers:
    if not isinstance(logger, Logger):
      raise TypeError(f"{logger!r} is no logger; expected a subclass of asmjax.train.logger.Logger")
  resolve_input_transform(config, workdir)
  experiment = build_experiment(config)
  schedule = build_schedule(config, experiment)
  experiment.init.check()
  with contextlib.ExitStack() as stack:
    if jax.process_index() == 0:
      stack.enter_context(lock_folder(workdir, "another training"))
      remove_partial_files(workdir)
    write_run_files(workdir, config.to_dict(), experiment, command)
    locked = stack.pop_all()

  def train_and_open() -> Run:
    with locked:
      train_experiment(experiment, workdir, schedule, loggers)
    return Run(workdir)

  return train_and_open


class Run:
  """A finished run, `asmjax.Run(workdir)`: its scores, its predictor and its report.

  Attributes:
    workdir: Folder of the run.
    which: Checkpoint that predicts, "best" or "last".
  """

  def __init__(self, workdir: str | pathlib.Path, which: str = "best"):
    """Opens a run.

    Args:
      workdir: Folder of the run.
      which: Checkpoint that predicts, "best" (the default) or "last".
    """
    self.workdir, self.which = pathlib.Path(workdir), which

  def __repr__(self) -> str:
    return f"Run({str(self.workdir)!r})\n{format_results(self.results)}"

  @property
  def results(self) -> dict[str, Any]:
    """Content of `results.json`: the final metrics, and how they were computed.

    Raises:
      FileNotFoundError: There is no finished run in the folder.
    """
    path = self.workdir / "results.json"
    if not path.exists():
      raise FileNotFoundError(f"{path} does not exist; expected the folder of a finished run")
    return read_results(path)

  @property
  def metrics(self) -> dict[str, float]:
    """Final metrics by name, as in {"segmentation/mean_iou": 0.42}."""
    return self.results["metrics"]

  @property
  def checkpoint(self) -> pathlib.Path:
    """Folder of the checkpoint that predicts."""
    return find_checkpoint(self.workdir, self.which)

  @functools.cached_property
  def predictor(self) -> TrainedPredictor:
    """Trained predictor, with its tasks and its input size."""
    return TrainedPredictor.open(self.workdir, self.which)

  @functools.cached_property
  def _predict(self):
    return make_predict(self.predictor, Inference(batch_size=1))

  def predict(
    self, image: UInt8[np.ndarray, "h w 3"] | str | pathlib.Path
  ) -> dict[str, Num[np.ndarray, "h w *c"]]:
    """Predicts an image at its own size, compiled once for every size.

    Args:
      image: Image in RGB, from 0 to 255, or the path of its file.

    Returns:
      Prediction of each task: class ids (h, w), depths (h, w) in meters or unit normals (h, w, 3).

    Raises:
      ValueError: The image has another shape or type, or the file is no image.
    """
    if isinstance(image, str | pathlib.Path):
      image = read_photo(pathlib.Path(image))
    ((_, maps),) = self._predict([(None, check_image(image))])
    tasks = self.predictor.game.tasks
    return {name: np.asarray(tasks[name].postprocess(maps[name])) for name in maps}

  def report(self, path: str | pathlib.Path | None = None, **options: Any) -> pathlib.Path:
    """Writes a page on the run that needs no network: scores, curves, photos, settings.

    Args:
      path: Path of the HTML file; None, the default, for `report.html` in the run's folder.
      **options: Options of `asmjax.analysis.report.write_report`.

    Returns:
      Path of the file.
    """
    from asmjax.analysis.report import write_report  # Needs the extra `report`.

    path = pathlib.Path(path or self.workdir / "report.html")
    write_report([Group(self.workdir.name, (self.workdir,))], path, **options)
    return path
