"""The guard of the step, on numbers that are chosen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from asmjax.models.layers import DEVICES
from asmjax.train.nonfinite import Fault, StepLog, StepReport, guard_step, name_nonfinite_arrays
from asmjax.train.parallel import pmap_step, replicate
from asmjax.train.state import Player, TrainState
from asmjax.train.step import scan_steps


def add(state, batch):
  """Adds the mean of the batch to the parameter of a, never touches b, and reports its loss."""
  mean = jax.lax.pmean(jnp.mean(batch["delta"]), DEVICES)
  loss = jax.lax.pmean(jnp.mean(batch["loss"]), DEVICES)
  player = state.players["a"]
  players = {**state.players, "a": dataclasses.replace(player, params=player.params + mean)}
  return dataclasses.replace(state, step=state.step + 1, players=players), {"loss": loss}


def run(limit, deltas, losses, at_once=1):
  """The states and reports after each call of so many steps, on all devices."""
  step = pmap_step(scan_steps(guard_step(add, limit=limit)), donate=True)
  player = Player(jnp.ones(3), {}, {"count": jnp.int32(7)})
  other = jax.tree.map(jnp.copy, player)
  start = TrainState(jnp.int32(5), {"a": player, "b": other}, jnp.zeros(2, jnp.uint32))
  carry, states, reports, batches = replicate((start, jnp.int32(0))), [], [], []
  for delta, loss in zip(deltas, losses, strict=True):
    spread = lambda x: np.full((jax.device_count(), 2), x, np.float32)
    batch = {"delta": spread(0), "loss": spread(loss)}
    batch["delta"][3] = delta  # One device alone sees it.
    batches.append(batch)
    if len(batches) < at_once:
      continue
    carry, report = step(carry, batches)
    batches = []
    states.append(jax.device_get(carry[0]))
    reports.append(report)
  return states, reports


def params(states):
  return [float(state.players["a"].params[0]) for state in states]


def test_guard_step_leaves_out_what_is_not_finite_in_any_share_of_the_batch():
  devices = jax.device_count()
  deltas = [devices, np.nan, 0, 1e38, devices]
  states, reports = run(9, deltas, [1, 1, np.inf, 1, 1])
  assert params(states) == [2, 2, 2, 2 + np.float32(1e38 / devices), 2 + np.float32(1e38 / devices)]
  assert [bool(report.is_finite) for report in reports] == [True, False, False, True, True]
  finite_players = [report.finite_players for report in reports]
  assert [set(players) for players in finite_players] == [{"a"}] * 5
  assert [bool(players["a"]) for players in finite_players] == [True, False, True, True, True]
  assert [int(state.step) for state in states] == [6, 7, 8, 9, 10]


def test_guard_step_halts_at_the_last_of_a_row_and_stays_there():
  devices = jax.device_count()
  nan = np.nan
  states, reports = run(2, [devices, nan, devices, nan, nan, devices, devices], [1] * 7)
  assert params(states) == [2, 2, 3, 3, 3, 3, 3]
  assert [int(state.step) for state in states] == [6, 7, 8, 9, 9, 9, 9]
  log = StepLog(2, lambda step: [f"of {step}"], polls=True)
  for step, report in enumerate(reports):
    log.add(step, report)
  assert log.find_halt(wait=True) == Fault(4, ("a after the update",), ("a",), ("of 4",))
  means, faults = log.read()
  assert means == {"loss": 1} and [fault.step for fault in faults] == [1, 3, 4]


def test_guard_step_stops_at_the_first_by_a_limit_of_1():
  states, reports = run(1, [np.nan, jax.device_count()], [np.nan, 1])
  assert params(states) == [1, 1] and [int(state.step) for state in states] == [5, 5]
  log = StepLog(1, lambda step: [], polls=False)
  log.add(0, reports[0])
  assert log.find_halt(wait=False) is None  # It must not look before all processes do.
  assert log.find_halt(wait=True).names == ("loss nan", "a after the update")


def test_scan_steps_halts_amid_the_steps_of_a_call():
  devices, nan = jax.device_count(), np.nan
  deltas, losses = [devices, nan, devices, nan, nan, devices], [1, 2, 3, 4, 5, 6]
  (states, reports), at_once = run(2, deltas, losses), run(2, deltas, losses, at_once=3)
  jax.tree.map(np.testing.assert_array_equal, at_once[0], states[2::3])
  logs = []
  for of_calls in (reports, at_once[1]):
    logs.append(StepLog(2, lambda step: [f"of {step}"], polls=True))
    for i, report in enumerate(of_calls):
      logs[-1].add(i * len(reports) // len(of_calls), report)
  single, joined = ((log.find_halt(wait=True), log.read()) for log in logs)
  assert joined == single and joined[0].step == 4 and joined[1][0] == {"loss": 2}


def test_step_log_averages_each_metric_over_the_finite_steps_that_have_it():
  log = StepLog(9, lambda step: [], polls=True)
  for step, metrics in enumerate(({"x": 1.0}, {"x": np.nan, "y": 5.0}, {"x": 4.0, "y": 3.0})):
    report = StepReport(metrics, jnp.isfinite(metrics["x"]), {"a": jnp.array(True)})
    log.add(step, jax.tree.map(lambda x: jnp.asarray(x)[None], report))
  assert log.find_halt(wait=True) is None
  means, (fault,) = log.read()
  assert means == {"x": 2.5, "y": 3.0} and str(fault).startswith("step 1 is not finite (x nan)")
  assert log.read() == ({}, [])


def test_name_nonfinite_arrays_counts_them():
  tree = {"a": [np.ones(3), np.array([1, np.inf, np.nan])], "b": np.arange(2)}
  assert name_nonfinite_arrays(tree) == ["a/1 (2 of 3)"]
