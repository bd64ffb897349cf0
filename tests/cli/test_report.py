"""The launcher, on runs that have left no checkpoints."""

import shlex

import pytest

from tests.helpers import small_configs as small
from tests.helpers.finished_runs import Parsed, write_run


@pytest.fixture
def runs(tmp_path):
  for name, value in (("a", 0.5), ("b", 0.6)):
    write_run(tmp_path / name, (value, 0.8, 0.03, 0.9, 0.1))
  return tmp_path


def test_report_command_writes_a_page_and_names_missing_parts(runs):
  out = runs / "reports" / "report.html"
  flags = [f"--group=A={runs / 'a'}", f"--group=B={runs / 'b'}", f"--out={out}", "--baseline=B"]
  code, output = small.launch("report.py", *flags, devices=1)
  assert code == 0 and f"{out}: 0." in output
  assert f"missing: A: no pictures, since no last checkpoint in {runs / 'a'}" in output
  texts = [text for _, text in Parsed(out.read_text(encoding="utf-8")).texts]
  assert any(text.endswith("By mean IoU none is better than B, at 60.00.") for text in texts)
  (command,) = [text for text in texts if text.startswith("asmjax report ")]
  assert shlex.split(command)[2:] == flags


def test_report_command_refuses_a_run_without_results(runs):
  (runs / "b" / "results.json").unlink()
  out = runs / "report.html"
  code, output = small.launch("report.py", f"--group=A={runs / 'a'},{runs / 'b'}", f"--out={out}")
  assert code == 1 and not out.exists()
  assert output.startswith(f"FATAL {runs / 'b' / 'results.json'} is missing")
