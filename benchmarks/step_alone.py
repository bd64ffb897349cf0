"""The training step alone, on one batch that stays on the device."""

from collections.abc import Callable
from typing import Any

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
