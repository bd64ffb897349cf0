"""The training step alone, on one batch that stays on the device."""

from collections.abc import Callable
from typing import Any

from asmjax.config.build import build_experiment
from asmjax.config.load import load_config
from asmjax.train.experiment import Experiment
from asmjax.train.loop import make_take_steps
from asmjax.train.parallel import replicate
from asmjax.train.schedule import FixedSteps


def make_step_alone(run: Experiment) -> Callable[[], Any]:
  """Makes a function that takes `train.steps_per_call` steps, and compiles it.

  Returns:
    Function that returns the new state and reports, which a device may not have computed yet.
  """
  schedule = FixedSteps(run, print)
  step_input = next(iter(schedule.step_inputs()))
  take_steps = make_take_steps(run)
  state = replicate(run.init_state())

  def step_alone() -> Any:
    nonlocal state
    state, reports = take_steps(step_input, state)
    return state, reports

  step_alone()
  return step_alone


def make_step_of(config: str, data_root: str | None = None) -> Callable[[], Any]:
  """Makes the same function of a config, by name, with its photos in a folder or on rooms."""
  # Rooms are rendered on the fly: a few are enough for a batch.
  overrides = {"data.root": data_root} if data_root else {"data.options.length": "16"}
  return make_step_alone(build_experiment(load_config(config, overrides)))
