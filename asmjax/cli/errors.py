"""Errors of the user, which end a command with a message and no traceback."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def exit_on_config_error() -> Iterator[None]:
  """Makes a context in which invalid configs and data sets exit with the message alone.

  Raises:
    SystemExit: The body raises ValueError or FileNotFoundError.
  """
  try:
    yield
  except (ValueError, FileNotFoundError) as error:
    sys.exit(f"FATAL {error}")
