"""Reader of a user's list of classes, a YAML or CSV file."""

import csv
import dataclasses
import pathlib
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from yaml.composer import ComposerError

from asmjax.batch import UNLABELED
from asmjax.data import decode
from asmjax.data.sources.pascal_voc import color_map
from asmjax.utils.printable import list_known, one_line

_KEYS = ("name", "id", "color")
_FORMS = "`classes: [background, wheel]`, or entries {name: wheel, id: 1, color: [128, 64, 128]}"


@dataclasses.dataclass(frozen=True)
class ClassList:
  """List of classes, with their ids and colors in a mask.

  Attributes:
    names: Names of the classes, in the order of their labels.
    palette: Colors of the classes, (r, g, b) in 0..255.
    by_id: Label of each id; `UNLABELED` for ignored ids.
    by_color: Label of each color, `UNLABELED` for ignored colors; empty if the file gives the
      classes no colors.
  """

  names: tuple[str, ...]
  palette: tuple[decode.Color, ...]
  by_id: Mapping[int, int]
  by_color: Mapping[decode.Color, int]

  @property
  def ignored(self) -> frozenset[int]:
    """Ids that are read as unlabeled."""
    return frozenset(id for id, label in self.by_id.items() if label == UNLABELED)


def read_classes(path: pathlib.Path) -> ClassList:
  """Reads a list of classes from a YAML or CSV file.

  A YAML file has `classes`, a list of names such as `[ground, road]`, or of entries
  `{name: road, id: 3, color: [128, 64, 128]}`, and optionally `ignored`, a list of ids and colors
  that are read as unlabeled, by default 255.  A CSV file has a header with `name` and optionally
  `id` and `r`, `g`, `b`; the ids and colors of lines without a name are read as unlabeled, or the
  id 255 if there are no such lines.

  Either all classes have an id or none has, in which case they are numbered from 0.  Either all
  have a color or none has, in which case pictures use PASCAL VOC's colors.

  Args:
    path: Path of the file, which ends in .yaml, .yml or .csv.

  Raises:
    ValueError: The file has another form, or a name, an id or a color twice; the message names the
      file and the place.
    FileNotFoundError: The file does not exist.
  """
  readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".csv": _read_csv}
  if path.suffix.lower() not in readers:
    raise ValueError(f"{path} is {path.suffix!r}; expected one of {', '.join(readers)}")
  entries = readers[path.suffix.lower()](path)
  classes = [entry for entry in entries if entry.name is not None]
  ignored = [entry for entry in entries if entry.name is None]
  if not 0 < len(classes) <= UNLABELED:
    raise ValueError(f"{path} has {len(classes)} classes; expected 1..{UNLABELED}")
  if not _all_have(classes, "id"):
    classes = [dataclasses.replace(entry, id=number) for number, entry in enumerate(classes)]
  colored = _all_have(classes, "color")
  for key in _KEYS:
    _check_unique([*classes, *ignored], key)
  return ClassList(
    names=tuple(entry.name for entry in classes),
    palette=tuple(entry.color for entry in classes) if colored else color_map(len(classes)),
    by_id=_map_to_labels(classes, ignored, "id"),
    by_color=_map_to_labels(classes, ignored, "color") if colored else {},
  )


@dataclasses.dataclass(frozen=True)
class _Entry:
  """Entry of a list: a class or, without a name, an id or a color to ignore."""

  where: str  # File and place of the entry, for error messages.
  name: Any = None  # Text.
  id: Any = None  # Whole number; None if the file gives none.
  color: Any = None  # Three whole numbers; None if the file gives none.

  def __post_init__(self) -> None:
    if self.name is not None and not _is_text(self.name):
      raise ValueError(f"{self.where}: name is {_show(self.name)}; expected text (in quotes?)")
    if self.id is not None and not _is_in_range(self.id, 65535):
      raise ValueError(f"{self.where}: id is {_show(self.id)}; expected a whole number in 0..65535")
    if self.name is None and self.id is None and self.color is None:
      raise ValueError(f"{self.where} is empty; expected a name, an id or a color")
    if self.color is not None:
      channels = self.color if isinstance(self.color, list | tuple) else []
      if len(channels) != 3 or not all(_is_in_range(channel, 255) for channel in channels):
        raise ValueError(
          f"{self.where}: color is {_show(self.color)}; expected three whole numbers in 0..255"
        )
      object.__setattr__(self, "color", tuple(channels))


class _Loader(yaml.SafeLoader):
  """Loader that refuses aliases, by which a short file can stand for one without end."""

  def compose_node(self, parent: Any, index: Any) -> Any:
    """Composes a node that is no alias."""
    if self.check_event(yaml.AliasEvent):
      mark = self.peek_event().start_mark
      raise ComposerError(None, None, "aliases (*) are not read; write it out", mark)
    return super().compose_node(parent, index)


def _read_yaml(path: pathlib.Path) -> list[_Entry]:
  """Reads the entries of a YAML file, ignored ones last."""
  text = decode.read_text(path)
  try:
    document = yaml.load(text, _Loader)
  except RecursionError as error:
    raise ValueError(f"{path} is nested too deeply; expected {_FORMS}") from error
  except (yaml.YAMLError, ValueError, ArithmeticError) as error:  # As of a date like 2000-99-99.
    raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
  if not isinstance(document, dict) or not isinstance(document.get("classes"), list):
    raise ValueError(f"{path} has no list under `classes`; expected {_FORMS}")
  _check_keys(document, ("classes", "ignored"), str(path))
  ignored = document.get("ignored", [UNLABELED])
  if not isinstance(ignored, list):
    raise ValueError(f"{path}: ignored is {_show(ignored)}; expected a list of ids and colors")
  entries = []
  for number, fields in enumerate(document["classes"], 1):
    where = f"{path}, class {number}"
    if isinstance(fields, str):
      fields = {"name": fields}
    if not isinstance(fields, dict) or "name" not in fields:
      raise ValueError(f"{where} is {_show(fields)}; expected {_FORMS}")
    _check_keys(fields, _KEYS, where)
    name = "" if fields["name"] is None else fields["name"]
    entries.append(_Entry(where, name, fields.get("id"), fields.get("color")))
  section = "ignored" if "ignored" in document else "ignored by default"
  for number, value in enumerate(ignored, 1):
    key = "color" if isinstance(value, list) else "id"
    entries.append(_Entry(f"{path}, {section}, entry {number}", **{key: value}))
  return entries


def _read_csv(path: pathlib.Path) -> list[_Entry]:
  """Reads the entries of a CSV file, one for each line."""
  try:
    return _read_rows(csv.reader(decode.read_text(path).splitlines()), path)
  except csv.Error as error:
    raise ValueError(f"{path} is no CSV: {error}") from error


def _read_rows(rows: Any, path: pathlib.Path) -> list[_Entry]:
  header = [cell.strip() for cell in next(rows, [])]
  _check_keys(header, ("name", "id", *"rgb"), f"{path}, line 1")
  if "name" not in header or len(set("rgb") & set(header)) not in (0, 3):
    raise ValueError(f"{path}, line 1 is {','.join(header)}; expected name,id,r,g,b")
  entries = []
  for cells in filter(None, rows):
    where = f"{path}, line {rows.line_num}"
    if len(cells) != len(header):
      raise ValueError(f"{where} has {len(cells)} cells; expected {len(header)}")
    fields = {key: cell.strip() or None for key, cell in zip(header, cells, strict=True)}
    color = [_parse_int(fields.get(channel)) for channel in "rgb"]
    if color == [None, None, None]:
      color = None
    entries.append(_Entry(where, fields["name"], _parse_int(fields.get("id")), color))
  if all(entry.name for entry in entries):
    entries.append(_Entry(f"{path}, ignored by default", id=UNLABELED))
  return entries


def _parse_int(cell: str | None) -> int | str | None:
  return int(cell) if cell and cell.isdecimal() and len(cell) < 20 else cell


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and bool(value.strip()) and one_line(value) == value


def _show(value: Any) -> str:
  return one_line(reprlib.repr(value))


def _is_in_range(value: Any, highest: int) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def _map_to_labels(classes: list[_Entry], ignored: list[_Entry], key: str) -> dict[Any, int]:
  """Returns the label of each id or color, as `key` says."""
  labels = {getattr(entry, key): label for label, entry in enumerate(classes)}
  labels |= {getattr(entry, key): UNLABELED for entry in ignored}
  labels.pop(None, None)
  return labels


def _all_have(classes: list[_Entry], key: str) -> bool:
  """Returns whether the classes have a key, which either all or none of them must have."""
  lacking = [entry for entry in classes if getattr(entry, key) is None]
  if lacking and len(lacking) < len(classes):
    raise ValueError(f"{lacking[0].where} has no {key}; expected one for all classes or for none")
  return not lacking


def _check_unique(entries: list[_Entry], key: str) -> None:
  places: dict[Any, str] = {}
  for entry in entries:
    value = getattr(entry, key)
    if value in places:
      raise ValueError(
        f"{entry.where}: {key} {value!r} is taken by {places[value]}; expected it once"
      )
    if value is not None:
      places[value] = entry.where


def _check_keys(keys: Iterable[Any], known: tuple[str, ...], where: str) -> None:
  unknown = [key for key in keys if key not in known]
  if unknown:
    raise ValueError(
      f"{where} has the unknown key {_show(unknown[0])}; {list_known(unknown[0], known)}"
    )
