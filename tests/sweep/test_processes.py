"""Commands side by side: order, places, failures, and the end of everything on a signal."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from asmjax.sweep import processes
from asmjax.sweep.processes import Job, Pool, Slot, core_slots, device_slots, tail


def job(tmp_path, name, *codes, needs="", kind="k"):
  """A job of small Python programs, which append to `words`."""
  commands = tuple(
    (sys.executable, "-S", "-c", f"words = open({str(tmp_path / 'words')!r}, 'a')\n{code}")
    for code in codes
  )
  return Job(name, kind, commands, tmp_path / f"{name}.log", needs)


def say(word):
  return f"print({word!r}, file=words)"


def read_words(tmp_path):
  return (tmp_path / "words").read_text().split()


def run(slots, jobs, faults=None, **options):
  progress, faults = [], {} if faults is None else faults
  Pool(slots, say=progress.append, **options).run(jobs, faults)
  return progress, faults


def test_pool_runs_commands_and_jobs_in_order(tmp_path):
  ended = []
  jobs = [job(tmp_path, "a", say("a1"), say("a2")), job(tmp_path, "b", say("b"))]
  progress, faults = run([Slot()], jobs, on_end=lambda job: ended.append(job.name))
  assert read_words(tmp_path) == ["a1", "a2", "b"] and faults == {} and ended == ["a", "b"]
  assert progress[0] == "a started (1 running, 1 waiting)"
  assert re.fullmatch(r"\[1/2\] a finished in \d+:\d\d, about \d+:\d\d left", progress[1])
  assert re.fullmatch(r"\[2/2\] b finished in \d+:\d\d", progress[3])


def test_pool_stops_failing_jobs_and_those_that_need_them_alone(tmp_path):
  jobs = [
    job(tmp_path, "bad", "print('boom', flush=True); raise SystemExit(3)", say("never")),
    job(tmp_path, "child", say("never"), needs="bad"),
    job(tmp_path, "grandchild", say("never"), needs="child"),
    job(tmp_path, "good", say("good")),
  ]
  progress, faults = run([Slot()], jobs)
  assert read_words(tmp_path) == ["good"]
  assert re.fullmatch(r"exit status 3 after \d+:\d\d; see .*bad\.log", faults.pop("bad"))
  assert faults == {
    "child": "not started, since bad failed",
    "grandchild": "not started, since child failed",
  }
  assert tail(tmp_path / "bad.log") == "boom" and progress[-1].startswith("[4/4] good finished")


def test_pool_lets_a_job_wait_for_the_one_it_needs(tmp_path):
  jobs = [
    job(tmp_path, "first", f"import time; time.sleep(0.6); {say('first')}"),
    job(tmp_path, "second", say("second"), needs="first"),
    job(tmp_path, "other", say("other")),
    job(tmp_path, "resumed", say("resumed"), needs="finished before"),
  ]
  run([Slot(), Slot()], jobs)
  assert read_words(tmp_path)[-2:] == ["first", "second"]
  assert set(read_words(tmp_path)[:2]) == {"other", "resumed"}


def test_pool_starts_no_jobs_that_need_earlier_faults(tmp_path):
  _, faults = run([Slot()], [job(tmp_path, "a", say("a"), needs="x")], {"x": "refused"})
  assert faults["a"] == "not started, since x failed" and not (tmp_path / "words").exists()


def test_pool_reports_commands_that_cannot_be_started(tmp_path):
  none, some = ("/no/such/program",), job(tmp_path, "a", say("a"))
  jobs = [
    Job("first", "k", (none,), tmp_path / "log"),
    Job("second", "k", (*some.commands, none), tmp_path / "log"),
    some,
  ]
  _, faults = run([Slot()], jobs)
  assert read_words(tmp_path) == ["a", "a"]
  assert all("/no/such/program" in faults.pop(name) for name in ("first", "second")) and not faults


def test_pool_runs_a_job_in_the_environment_of_each_slot(tmp_path):
  code = "import os, time; time.sleep(0.4); print(os.environ['PLACE'], file=words)"
  progress, _ = run(
    [Slot(environment={"PLACE": "x"}), Slot(environment={"PLACE": "y"})],
    [job(tmp_path, name, code) for name in "abcd"],
  )
  assert sorted(read_words(tmp_path)) == ["x", "x", "y", "y"]
  assert (
    max(int(re.search(r"(\d) running", line)[1]) for line in progress if "running" in line) == 2
  )


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_core_slots_pin_processes_to_cores_of_their_own(tmp_path):
  cores = processes.available_cores()
  code = "import os, time; time.sleep(0.2); print(*os.sched_getaffinity(0), file=words)"
  for slot in core_slots(1, 1):
    assert "--xla_cpu_multi_thread_eigen=false" in slot.environment["XLA_FLAGS"]
    run([slot], [job(tmp_path, "a", code)])
  assert read_words(tmp_path) == [str(cores[0])]


def test_core_slots_share_out_the_cores(monkeypatch):
  monkeypatch.setattr(processes, "available_cores", lambda: [0, 2, 4, 6, 8])
  cores = lambda *arguments: [slot.cores for slot in core_slots(*arguments)]
  assert cores(0, 0) == [(0,), (2,), (4,), (6,), (8,)]
  assert cores(2, 0) == [(0, 2), (4, 6)] and cores(0, 2) == [(0, 2), (4, 6)]
  assert cores(2, 1) == [(0,), (2,)] and cores(0, 5) == [(0, 2, 4, 6, 8)]
  assert "XLA_FLAGS" not in core_slots(2, 2)[0].environment
  with pytest.raises(ValueError, match="3 jobs of 2 threads need 6 cores; available: 5"):
    core_slots(3, 2)


def test_device_slots_take_turns_and_share_memory():
  environments = [slot.environment for slot in device_slots(2, ["3", "5"])]
  assert environments == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
  environments = [slot.environment for slot in device_slots(10, ["0"])]
  assert {slot["CUDA_VISIBLE_DEVICES"] for slot in environments} == {"0"}
  assert sum(float(slot["XLA_PYTHON_CLIENT_MEM_FRACTION"]) for slot in environments) <= 0.9


@pytest.fixture
def handled():
  """Signals as a terminal has them; whoever runs the tests in the background may ignore them."""
  usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
  before = {number: signal.signal(number, handler) for number, handler in usual.items()}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_pool_ends_all_processes_and_their_children_at_a_signal(number, tmp_path, handled):
  child = f"import time\nopen({str(tmp_path / 'child')!r}, 'w').close()\ntime.sleep(60)"
  code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {child!r}])"

  def interrupt():
    while not (tmp_path / "child").exists():
      time.sleep(0.02)
    os.kill(os.getpid(), number)

  threading.Thread(target=interrupt).start()
  before = signal.getsignal(number)
  with pytest.raises(KeyboardInterrupt):
    run([Slot()], [job(tmp_path, "a", code), job(tmp_path, "b", say("b"))])
  assert signal.getsignal(number) == before
  listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
  assert str(tmp_path / "child") not in listed and read_words(tmp_path) == []
