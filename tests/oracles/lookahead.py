"""LoAd's pseudo-code (Jamali-Rad et al. 2022, Algorithms 1, 2 and 3), line by line.

Models are numbers: 0 is the start, n the model after the nth propagation. The numbers in the
comments are the lines of Algorithm 3. What the pseudo-code leaves open: stepping back restores the
mIoU too, and B_max counts all sets.
"""

from typing import NamedTuple

import numpy as np


class Moment(NamedTuple):
  """The values on line 8, before a propagation, or those with which everything stopped."""

  psi: int
  gamma: int
  omega: int
  mu_0: float
  mu_s: float
  mu: float
  mu_best: float
  g_s: int
  g_best: int
  buffer: tuple[int, ...]
  peaks: int  # how many of the buffer's first sets are of peaks


def map_aggregation(buffer, peaks, g_p, g_e, *, most, retain):
  """Algorithm 1 with Retain (Sec. 7); `g_p` is None without a peak."""
  if g_p is not None:
    retained = buffer[:peaks][:retain]  # none: Flush
    return [g_p, *retained, g_e], 1 + len(retained)
  if len(buffer) == most:
    buffer = buffer[:peaks] + buffer[peaks + 1 :]  # Delete(B[1]), the oldest ending
  return [*buffer, g_e], peaks


def lookahead(
  mious, *, cycles, patience, peak_patience, lower, upper, most, retain=0, dynamic=True
):
  """Run Algorithm 3 on the mIoUs of models 0, 1, 2, ... until it stops or they end.

  Without `dynamic` it is Algorithm 2: lines 15 to 20 are left out.

  Returns:
    For each propagation the moment before it and its events, and the last moment. Events are, in
    this order: "best", "start", and where the cycle ends "peak" or "no peak", then "next" or
    "stop".
  """
  mious, log, number = iter(mious), [], 0
  psi, g_s, g_best, buffer, peaks = 0, 0, 0, [0], 1
  mu_s = mu = mu_best = next(mious)  # 1
  while psi < cycles:  # 3
    mu_0 = mu_s  # 4
    gamma = 0  # 5
    omega = 0  # 6
    while mu_s - lower < mu and gamma < patience:  # 7
      values = psi, gamma, omega, mu_0, mu_s, mu, mu_best, g_s, g_best
      moment = Moment(*values, tuple(buffer), peaks)
      mu = next(mious, None)  # 8, 9
      if mu is None:
        return log, moment
      number += 1
      events = []
      log.append((moment, events))
      if mu > mu_s + upper:  # 10
        if mu > mu_best:  # 11
          mu_best = mu  # 12
          g_best = number  # 13
          events.append("best")
        if dynamic and omega > peak_patience:  # 15
          mu_s = mu  # 16
          g_s = number  # 17
          omega = 0  # 18
          gamma = 0  # 19
          events.append("start")
        omega = omega + 1  # 21
      gamma = gamma + 1  # 23
    g_e = number  # 25
    room = {"most": most, "retain": retain}
    if mu_best > mu_0:  # 26
      g_s = g_best  # 27
      mu_s = mu_best  # 28
      buffer, peaks = map_aggregation(buffer, peaks, g_best, g_e, **room)  # 29
      psi = 0  # 30
      events.append("peak")
    else:
      buffer, peaks = map_aggregation(buffer, peaks, None, g_e, **room)  # 32
      psi = psi + 1  # 33
      events.append("no peak")
    mu = mu_s  # the model stepped back to has its own mIoU
    events.append("next" if psi < cycles else "stop")
  values = psi, gamma, omega, mu_0, mu_s, mu, mu_best, g_s, g_best
  return log, Moment(*values, tuple(buffer), peaks)


def random_run(seed):
  """Settings so small that everything happens, and mIoUs.

  Half of the runs are on a grid of 1/16, thresholds included, so that equality is common and exact;
  the others wander about.
  """
  rng = np.random.default_rng(seed)
  retain = int(rng.integers(3))
  settings = {
    "cycles": int(rng.integers(1, 9)),
    "patience": int(rng.integers(1, 9)),
    "peak_patience": int(rng.integers(4)),
    "dynamic": bool(rng.integers(4)),
    "retain": retain,
    "most": retain + int(rng.integers(2, 5)),
  }
  length = int(rng.integers(2, 80))
  if seed % 2:
    levels = rng.integers(2, 16)
    mious = rng.integers(8 - levels // 2, 8 + levels // 2 + 1, length) / 16
    settings |= {"lower": int(rng.integers(1, 6)) / 16, "upper": int(rng.integers(3)) / 16}
  else:
    wander, center = [rng.uniform(0.3, 0.5)], rng.uniform(0.4, 0.7)
    for noise in rng.normal(0, 0.04, length):
      wander.append(np.clip(wander[-1] + 0.15 * (center - wander[-1]) + noise, 0, 1))
    mious = np.array(wander)
    settings |= {"lower": float(rng.uniform(0.02, 0.2)), "upper": float(rng.uniform(0, 0.03))}
  return settings, mious.tolist()
