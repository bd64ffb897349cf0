"""Commands in processes of their own that start at once: forks of one that has imported everything.

As a script it is that process: it reads a JSON object a line, and answers with one.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Commands:
  """Processes that run commands, one at a time."""

  def __init__(self, cache):
    """Starts the process that is forked; programs are compiled once, into the folder `cache`."""
    from tests.helpers.xla_flags import xla_flags

    environment = os.environ | {
      "XLA_FLAGS": xla_flags(1),
      "JAX_PLATFORMS": "cpu",
      "JAX_COMPILATION_CACHE_DIR": str(cache),
      # What a process writes when it is killed would be a damaged entry.
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9",
    }
    self._process = subprocess.Popen(
      [sys.executable, __file__],
      env=environment,
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def close(self):
    """Ends the process."""
    self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()

  def run(self, name, *arguments, log, fills_cache=False):
    """Runs a command to its end; its status, and the seconds that it took."""
    start = time.monotonic()
    self._ask(name=name, arguments=arguments, log=str(log), fills_cache=fills_cache)
    return self._ask(), time.monotonic() - start

  def interrupt(self, name, *arguments, log, when, number):
    """Runs a command, waits as `when()` does, and sends a signal; the status in the end."""
    process = self._ask(name=name, arguments=arguments, log=str(log), fills_cache=False)
    when()
    os.kill(process, number)  # At least a zombie, since nobody has waited for it.
    return self._ask()

  def _ask(self, **job):
    self._process.stdin.write(f"{json.dumps(job)}\n")
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())


def _serve():
  """Forks for each job, and waits for the last one where there is none."""
  sys.path.insert(0, str(ROOT))
  import jax
  import tensorboardX  # noqa: F401
  import tensorflow_datasets  # noqa: F401

  import asmjax.analysis.report
  import asmjax.inference.export
  import asmjax.inference.predict
  import asmjax.run  # noqa: F401
  from asmjax.cli import run

  process = 0
  answers = os.fdopen(os.dup(1), "w")
  for line in sys.stdin:
    job = json.loads(line)
    if not job:
      status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
      print(json.dumps(status), file=answers, flush=True)
      continue
    process = os.fork()
    if process:
      print(json.dumps(process), file=answers, flush=True)
      continue
    answers.close()
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
      os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if job["fills_cache"]:
      jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    sys.argv = [f"asmjax {job['name']}", *job["arguments"]]
    run(job["name"])
    return


if __name__ == "__main__":
  _serve()
