"""The command, on runs without classes."""

import json
import shutil

from tests.helpers.documented_commands import call_asmjax
from tests.helpers.finished_runs import results, save_untrained


def test_analyze_compares_runs_without_classes_to_a_baseline(tmp_path):
  runs = [tmp_path / name for name in ("a", "b")]
  runs[0].mkdir()
  save_untrained(runs[0], "iid,depth", **{"data.options.length": 2, "eval.batch_size": 8})
  (runs[0] / "metrics.jsonl").write_text('{"step": 1, "depth/rms": 2.0}\n')
  shutil.copytree(*runs)
  for run, rms in zip(runs, (2.0, 1.5), strict=True):
    scores = {"depth/rms": rms, "depth/rel": 0.5, "depth/delta_1.25": 0.25}
    content = results(*[0.0] * 5, protocol={"depth": "meters"}, metrics=scores)
    (run / "results.json").write_text(json.dumps(content))
  groups = [f"--group={name}={run}" for name, run in zip("AB", runs, strict=True)]
  out = tmp_path / "figures"
  flags = [*groups, f"--out={out}", "--baseline=A", "--count=1", "--metrics=depth/rms"]
  assert not call_asmjax("analyze", flags)
  assert "| B | 1.50 | -0.500, 1 of 1 |" in (out / "tables.md").read_text()
  assert (out / "predictions.png").exists() and not (out / "classes.png").exists()
  # What was compared stays where there are no checkpoints any more to draw from.
  shutil.rmtree(runs[1] / "checkpoints")
  assert call_asmjax("analyze", [*flags, f"--out={tmp_path / 'again'}"])
  assert "| B | 1.50 |" in (tmp_path / "again" / "tables.md").read_text()
