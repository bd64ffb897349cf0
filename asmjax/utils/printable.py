"""Texts from elsewhere, such as names of files and classes, made fit to be shown."""

import difflib
import re
from collections.abc import Iterable

# What moves a terminal's cursor, colors it, or turns the order of letters around, and what stands
# for bytes of a name that are no UTF-8 (PEP 383).
_UNPRINTABLE = re.compile(
  "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
  r"""Escapes the characters of a text that a terminal, a page or a font cannot show.

  Line feeds and tabs stay; see `one_line`.

  Args:
    text: Text, perhaps with surrogates in place of bytes that are no UTF-8.

  Examples:
    >>> printable("\x1b[31mred\udcff")
    '\\x1b[31mred\\xff'
  """
  return _UNPRINTABLE.sub(lambda match: _escape(match[0]), text)


def one_line(text: str) -> str:
  r"""Escapes line feeds, too, so that a text cannot look like several.

  Args:
    text: Text, as for `printable`.

  Examples:
    >>> one_line("a\nFATAL b")
    'a\\nFATAL b'
  """
  return printable(text.replace("\n", "\\n").replace("\t", "\\t"))


def list_known(name: object, known: Iterable[str]) -> str:
  """Lists what may stand in place of an unknown name, first the one that is probably meant.

  Args:
    name: Unknown name, or what stands in its place.
    known: Known names, in the order in which to list them.

  Examples:
    >>> list_known("asn", ["aaf", "asm"])
    "did you mean 'asm'? known: aaf, asm"
    >>> list_known("gan", ["aaf", "asm"])
    'known: aaf, asm'
  """
  known = list(known)
  meant = difflib.get_close_matches(str(name), known, n=1)
  listing = f"known: {', '.join(known) or 'none'}"
  return f"did you mean {meant[0]!r}? {listing}" if meant else listing


def _escape(character: str) -> str:
  code = ord(character)
  if 0xDC80 <= code <= 0xDCFF:  # A byte.
    code -= 0xDC00
  return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
