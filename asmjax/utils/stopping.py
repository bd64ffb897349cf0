"""Leaving on a signal at a moment that loses nothing."""

import contextlib
import signal
import threading
from collections.abc import Iterator

# Of schedulers and preemption, and Ctrl-C.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(KeyboardInterrupt):
  """Work that was left because of a signal.

  Attributes:
    by_keyboard: Whether the signal was that of Ctrl-C.
  """

  def __init__(self, number: signal.Signals, text: str):
    """Says in `text` what was kept, and how to go on."""
    super().__init__(f"{number.name}: {text}")
    self.by_keyboard = number == signal.SIGINT


class StopRequest:
  """Signal that asked to leave, if any."""

  def __init__(self):
    self.signal: signal.Signals | None = None

  def receive(self, number: int, frame: object) -> None:
    """Remembers a signal; raises KeyboardInterrupt if it is the second Ctrl-C."""
    del frame
    if self.signal == number == signal.SIGINT:
      raise KeyboardInterrupt
    self.signal = signal.Signals(number)


@contextlib.contextmanager
def stop_request(enabled: bool = True) -> Iterator[StopRequest]:
  """Receives signals that ask to leave, instead of ending at once; in the main thread alone.

  Args:
    enabled: Whether to receive any. Processes that work together would have to leave at the same
      step, which signals do not tell.
  """
  request = StopRequest()
  if not enabled or threading.current_thread() is not threading.main_thread():
    yield request
    return
  before = {number: signal.signal(number, request.receive) for number in _SIGNALS}
  try:
    yield request
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
