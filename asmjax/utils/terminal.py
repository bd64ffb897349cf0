"""The terminal, to which names from elsewhere go only in characters that it can show."""

import sys
from typing import Any, TextIO

from asmjax.utils.printable import printable


class PrintableStream:
  """Text stream that escapes what a name could do to a terminal; see `printable`."""

  def __init__(self, stream: TextIO):
    """Wraps a stream; whatever else it can do, this one can, too."""
    self.raw = stream

  def write(self, text: str) -> int:
    """Writes a text; characters that the stream's encoding lacks are escaped as well."""
    encoding = getattr(self.raw, "encoding", None) or "utf-8"
    text = printable(text).encode(encoding, "backslashreplace").decode(encoding)
    return self.raw.write(text)

  def writelines(self, lines: Any) -> None:
    """Writes several texts."""
    for line in lines:
      self.write(line)

  def __getattr__(self, name: str) -> Any:
    return getattr(self.raw, name)


def protect_terminal() -> None:
  """Escapes all that this process prints from now on; see `make_console`."""
  if not isinstance(sys.stdout, PrintableStream):
    sys.stdout, sys.stderr = PrintableStream(sys.stdout), PrintableStream(sys.stderr)


def make_console(*, stderr: bool = False, **options: Any) -> Any:
  """Makes a Rich console, which may move the cursor and color texts on purpose.

  Args:
    stderr: Whether it writes to the standard error instead of the standard output.
    **options: Further arguments of `rich.console.Console`.
  """
  from rich.console import Console

  stream = sys.stderr if stderr else sys.stdout
  return Console(file=getattr(stream, "raw", stream), **options)
