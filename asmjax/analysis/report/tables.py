"""Tables in HTML."""

from collections.abc import Iterable, Sequence
from html import escape


def table(
  head: Sequence[str],
  rows: Iterable[Sequence[str]],
  caption: str,
  *,
  kinds: Sequence[str] = (),
  words: bool = False,
) -> str:
  """A table that scrolls in a box of its own.

  Args:
    head: HTML of the titles.
    rows: HTML of the cells; the first one names its row.
    caption: text that says what it shows.
    kinds: class of each row.
    words: whether the cells hold words rather than numbers.
  """
  titles = "".join(f'<th scope="col">{each}</th>' for each in head)
  lines = []
  for index, (name, *cells) in enumerate(rows):
    kind = f' class="{kinds[index]}"' if kinds and kinds[index] else ""
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    lines.append(f'<tr{kind}><th scope="row">{name}</th>{body}</tr>')
  # The caption stays where it is when the table scrolls.
  return (
    f"<figure class={'words' if words else 'numbers'}><figcaption>{escape(caption)}</figcaption>"
    f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
    f"<table><thead><tr>{titles}</tr></thead>\n<tbody>{chr(10).join(lines)}</tbody></table>"
    "</div></figure>\n"
  )
