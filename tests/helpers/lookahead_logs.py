"""Logs of LoAd runs that took no training."""

import json

from asmjax.lookahead.state import End

# Cycles: mIoUs after their propagations, the ones kept as best, how they ended, what they led to.
CYCLES = (
  ((0.70, 0.64), (), End.DROP, 0),
  ((0.705, 0.72, 0.73, 0.71), (1, 2), End.PATIENCE, 5),
  ((0.66,), (), End.DROP, 5),
  ((0.72, 0.729), (), End.PATIENCE, 5),
  ((0.735, 0.74), (0, 1), End.BUDGET, 10 + 1),
)


def write_log(workdir, cycles, start=0.7):
  """Writes the log of a run, among lines of other things, and empty results."""
  workdir.mkdir(exist_ok=True)
  lines, number = [_line(0, start)], 0
  for mious, kept, end, back_to in cycles:
    for index, miou in enumerate(mious):
      number += 1
      is_ending = index == len(mious) - 1 and end is not End.OPEN
      ending = {"lookahead/cycle_end": float(end.value), "lookahead/back_to": float(back_to)}
      lines += [
        _line(number, miou, kept=index in kept, **ending if is_ending else {}),
        {"step": 20 * number + 5, "lookahead/critic_loss": 0.3},
      ]
  (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  (workdir / "results.json").write_text("{}")
  return workdir


def _line(number, miou, kept=False, **more):
  return {
    "step": 20 * number,
    "lookahead/propagation": float(number),
    "lookahead/model": float(number),
    "lookahead/miou": miou,
    "lookahead/kept_best": float(kept),
    "lookahead/cycle_end": 0.0,
    **more,
  }
