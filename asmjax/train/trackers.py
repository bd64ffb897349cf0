"""Loggers to experiment trackers, for `asmjax.train(..., loggers=[...])`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from asmjax.train.logger import Logger


class WandbLogger(Logger):
  """Logger to a run of Weights & Biases.

  Attributes:
    run: What `wandb.init` returned; who made it finishes it.
  """

  def __init__(self, run: Any):
    """Logs to `run`, the result of `wandb.init`."""
    self.run = run

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Logs the metrics of a step."""
    self.run.log({**means, **scores}, step=step)

  def log_warnings(self, step: int, warnings: Iterable[str]) -> None:
    """Sends an alert for each warning."""
    for warning in warnings:
      self.run.alert(title="asmjax", text=f"step {step}: {warning}")

  def log_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Logs pictures, those of one name side by side."""
    import wandb  # pyright: ignore[reportMissingImports]  # Installed where there is a run.

    pictures = {name: [wandb.Image(x) for x in images] for name, images in draw().items()}
    self.run.log(pictures, step=step)


class MlflowLogger(Logger):
  """Logger to a run of MLflow.

  Attributes:
    client: An `mlflow.MlflowClient`.
    run_id: Id of the run, as in `mlflow.start_run().info.run_id`; who started it ends it.
  """

  def __init__(self, client: Any, run_id: str):
    """Logs to the run with the id `run_id` of `client`, an `mlflow.MlflowClient`."""
    self.client, self.run_id = client, run_id

  def log_metrics(self, step: int, means: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Logs the metrics of a step."""
    for name, value in {**means, **scores}.items():
      self.client.log_metric(self.run_id, name, value, step=step)

  def log_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Logs pictures, those of one name side by side in one image."""
    for name, images in draw().items():
      sheet = np.concatenate(list(images), axis=1)
      self.client.log_image(self.run_id, sheet, key=name.replace("/", "_"), step=step)
