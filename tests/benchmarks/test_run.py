"""The table of all benchmarks, from scripts that do what scripts may do."""

import json

from benchmarks import harness, run

SCRIPTS = {
  "good.py": """
import json, os, sys
row = {"row": "a / b", "median": 0.5, "low": 0.4, "high": 0.75, "device": "cpu", "jax": sys.argv[1]}
open(os.environ["ASMJAX_BENCHMARK_ROWS"], "a").write(json.dumps(row) + "\\n")
""",
  "broken.py": "raise SystemExit(3)",
  "slow.py": "import time; time.sleep(60)",
}


def test_run_script_returns_rows_and_says_what_went_wrong(tmp_path, monkeypatch):
  for name, code in SCRIPTS.items():
    (tmp_path / name).write_text(code)
  monkeypatch.setattr(run, "_FOLDER", tmp_path)
  (good,) = run.run_script(("good.py", "1.2"), 60)
  assert good["median"] == 0.5 and good["command"] == "good.py 1.2"
  (broken,) = run.run_script(("broken.py",), 60)
  assert broken == {"row": "ended with status 3", "command": "broken.py"}
  (slow,) = run.run_script(("slow.py",), 0.1)
  assert slow["row"] == "not finished after 0 s"
  table = run.format_table([good, broken, slow]).splitlines()
  assert table[1] == "cpu, JAX 1.2"
  assert table[-3] == "| a / b | **0.500** | 0.400 to 0.750 | `good.py 1.2` |"
  assert table[-2] == "| | ended with status 3 | | `broken.py` |"


def test_suites_name_scripts_that_are_there():
  scripts = {command[0] for suite in run.SUITES.values() for command in suite}
  assert all((run._FOLDER / script).is_file() for script in scripts)


def test_record_ratio_appends_only_where_a_table_is_made(tmp_path, monkeypatch):
  path = tmp_path / "rows.jsonl"
  monkeypatch.delenv(harness.ROWS, raising=False)
  harness.record_ratio("a", 1.0)
  monkeypatch.setenv(harness.ROWS, str(path))
  harness.record_ratio("a / b", [3.0, 1.0, 2.0])
  (row,) = map(json.loads, path.read_text().splitlines())
  assert (row["row"], row["median"], row["low"], row["high"]) == ("a / b", 2, 1, 3)
