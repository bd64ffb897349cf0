"""What a run leaves behind."""

import json

from asmjax.train.record import Skips


def test_every_fault_is_listed_once_over_all_parts_of_a_run(tmp_path, capsys):
  path = tmp_path / "run" / "skipped.0.jsonl"
  skips = Skips(path)
  assert not path.exists()
  for fault in ("a.png is cut", "b.png is cut", "a.png is cut"):
    skips.add(fault)
  resumed = Skips(path)
  resumed.add("b.png is cut")
  resumed.add("c.png is cut")
  listed = [json.loads(line) for line in path.read_text().splitlines()]
  assert listed == ["a.png is cut", "b.png is cut", "c.png is cut"]
  assert capsys.readouterr().err.count("skipped:") == 3
