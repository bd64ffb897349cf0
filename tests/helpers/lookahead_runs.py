"""A small run of LoAd whose every step back is compared with a copy; also a script."""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import jax
import numpy as np

from asmjax.config.build import build_experiment
from asmjax.config.schema import construct
from asmjax.data.loader import train_batches
from asmjax.game import PREDICTOR
from asmjax.lookahead.settings import Lookahead
from asmjax.lookahead.train import LookaheadSchedule
from asmjax.train.loop import train
from tests.helpers import small_configs as small


class CheckedSchedule(LookaheadSchedule):
  """Copies every best model to the host when it is kept, and asserts that it comes back."""

  def restore(self, checkpoints):
    """Copies the start."""
    result = super().restore(checkpoints)
    self.num_step_backs = self.num_returns = 0
    self._copy = (0, jax.device_get(result.state.players[PREDICTOR]), 0)
    return result

  def _open_buffer(self):
    """Notes how many steps the round may have."""
    super()._open_buffer()
    sets = [maps.model for maps in self.progress.sets]
    num_maps = sum(len(maps.indices) for maps in self._buffer._store.read(sets, "train"))
    assert len(self._buffer.examples) == num_maps
    self.limits = [*getattr(self, "limits", []), max(1, round(0.5 * num_maps / 8))]

  def step_inputs(self):
    """Reads some batches again."""
    for step_input in super().step_inputs():
      if self.done % 3 == 0:
        sampler, size, number = self.locate_batch(self.done)
        again = next(train_batches(sampler, batch_size=size, start=number))
        for key, value in again.items():
          expected = np.asarray(step_input.batches[0][key]).reshape(value.shape)
          np.testing.assert_array_equal(value, expected)
      yield step_input

  def after_steps(self, state, count):
    """Copies first: the state is not to be touched any more once it has been handed on."""
    before, copy, pauses = self.progress, jax.device_get(state), self.pauses_after(count)
    result = super().after_steps(state, count)
    assert pauses or not result.scores
    if self.progress.cycle.best_model != self._copy[0]:
      self._copy = (self.progress.predictor_steps, copy.players[PREDICTOR], int(copy.step))
    if self.progress.num_cycles > before.num_cycles:
      self._assert_back(result.state, copy)
    if before.retraining:
      taken = self.progress.critic_steps - before.phase_start
      assert taken <= self.limits[-1]
      over = taken == self.limits[-1] or self.progress.evals_without_gain == 1
      assert over is not self.progress.retraining
    if before.retraining and not self.progress.retraining:
      self._assert_same(result.state.players[PREDICTOR], self._copy[1])
      assert int(result.state.step) == self._copy[2]
      loss = self._evaluate_critics(result.state, self._buffer.decision_batches)
      np.testing.assert_allclose(loss, self.progress.best_critic_loss, rtol=1e-5)
      self.num_returns += 1
    return result

  def _assert_back(self, state, copy):
    _, best, step = self._copy
    self._assert_same(state.players[PREDICTOR], best)
    for critic in self._experiment.game.critics:
      self._assert_same(state.players[critic], copy.players[critic])
    if self.progress.predictor_steps != self._copy[0]:
      leaves = zip(*map(jax.tree.leaves, (copy.players[PREDICTOR], best)), strict=True)
      assert not all(np.array_equal(a, b) for a, b in leaves)
    if self.progress.finished:
      assert int(state.step) == step
    else:
      assert int(state.step) == self.progress.critic_steps
    self.num_step_backs += 1

  def _assert_same(self, actual, expected):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(actual), expected)


def run(
  workdir: pathlib.Path,
  variant: str = "load_asm",
  schedule: type[LookaheadSchedule] = CheckedSchedule,
  **changes,
) -> tuple[LookaheadSchedule, dict]:
  """The schedule of a small run after its end, and its results."""
  config = small.config(
    variant,
    **small.AHEAD
    | {"train.steps": 16, "optimizer.predictor.ema_decay": 0.9, "predictor.norm.kind": "sync_batch"}
    | changes,
  )
  settings = construct(Lookahead, config.lookahead, "lookahead")
  schedules = []

  def make(*arguments):
    schedules.append(schedule(*arguments, settings))
    return schedules[0]

  results = train(build_experiment(config), workdir, make)
  return schedules[0], results


# Two tasks, and all that a run may do otherwise.
OTHERWISE = {
  "checkpoint.metric": "depth/delta_1.25",
  "lookahead.only_seen": True,
  "lookahead.retain": 1,
  "lookahead.maps_per_model": 8,
}


if __name__ == "__main__":
  with tempfile.TemporaryDirectory() as folder:
    schedule, results = run(pathlib.Path(folder), "load_asm,depth", **OTHERWISE)
  counts = schedule.num_step_backs, schedule.num_returns
  assert min(counts) >= 3, counts
  assert np.isfinite(results["lookahead"]["decision"]["end"])
  print(f"{jax.device_count()} device: {counts[0]} steps back, {counts[1]} returns")
