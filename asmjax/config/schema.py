"""Sections of a config: the keyword arguments of one constructor each.

Whatever a section names wrongly is refused, with what is known.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import flax.linen as nn

from asmjax.models.backbones import BACKBONES
from asmjax.models.critics import CRITICS
from asmjax.utils.printable import list_known

# What a section says by `name` where networks of several kinds may stand.
NETWORKS = {**BACKBONES, **CRITICS}

# Values of the types that tuples hold, as they stand on a command line.
_EXAMPLES = {int: "64", float: "0.5", str: "'a'"}

T = TypeVar("T")


def construct(constructor: type[T], section: Mapping[str, Any], path: str, **given: Any) -> T:
  """Returns a dataclass or Linen module made from a config section.

  Args:
    constructor: Class whose fields are the known keys.
    section: Values by field name.
    path: Path of the section in the config, for messages.
    **given: Fields that the section may not set.

  Raises:
    ValueError: A key is unknown or missing, or a value has a wrong type.
  """
  values = arguments(constructor, section, path, given)
  try:
    return constructor(**values, **given)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def arguments(
  constructor: type, section: Mapping[str, Any], path: str, given: Iterable[str]
) -> dict[str, Any]:
  """Returns a section's entries, converted to their fields' annotations; see `construct`."""
  if not isinstance(section, Mapping) and not hasattr(section, "items"):
    known = ", ".join(field.name for field in fields_of(constructor))
    raise ValueError(f"{path} is {section!r}; expected a section with {known}")
  fields = [field for field in fields_of(constructor) if field.name not in given]
  required = [field.name for field in fields if _default_value(field) is dataclasses.MISSING]
  check_keys(section, [field.name for field in fields], required, path)
  hints = typing.get_type_hints(constructor, include_extras=True)
  return {key: coerce(value, hints[key], f"{path}.{key}") for key, value in section.items()}


def defaults(constructor: type, **overrides: Any) -> dict[str, Any]:
  """Returns a section with every optional field of a class, nested classes as nested sections.

  Required fields and the compute type of modules are left out.
  """
  return _section(constructor, _default_value) | overrides


def as_section(instance: Any) -> dict[str, Any]:
  """Returns the section from which `construct` makes an equal instance, without required fields."""
  return _section(type(instance), lambda field: getattr(instance, field.name))


def _section(kind: type, value: Callable[[dataclasses.Field], Any]) -> dict[str, Any]:
  hints = typing.get_type_hints(kind)
  fields = [field for field in fields_of(kind) if _default_value(field) is not dataclasses.MISSING]
  return {field.name: _expand_value(value(field), hints[field.name]) for field in fields}


def _expand_value(value: Any, hint: Any) -> Any:
  """Returns a field's value as a section has it: with its name where the hint allows several."""
  if not dataclasses.is_dataclass(value):
    return value
  kinds = {kind: name for name, kind in NETWORKS.items()}
  several = len(_section_classes(typing.get_args(hint) or (hint,))) > 1
  return ({"name": kinds[type(value)]} if several else {}) | as_section(value)


def check_path(config: Mapping[str, Any], path: str) -> None:
  """Raises ValueError unless `path`, keys joined by dots, leads to a value of the config."""
  section, parts = config, path.split(".")
  for depth, key in enumerate(parts, start=1):
    known = list(section.keys()) if hasattr(section, "keys") else []
    if key not in known:
      raise ValueError(f"unknown key {'.'.join(parts[:depth])}; {list_known(key, sorted(known))}")
    section = section[key]


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values of a config by path, as in "train.steps"; tuples become lists."""
  leaves = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      leaves |= {f"{key}.{path}": leaf for path, leaf in flatten(value).items()}
    else:
      leaves[key] = as_lists(value)
  return leaves


def as_lists(value: Any) -> Any:
  """Returns a value with lists in place of its tuples, as JSON has it."""
  return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def choose(table: Mapping[str, T], name: Any, what: str) -> T:
  """Returns `table[name]`, or raises a ValueError that lists the known names."""
  if not isinstance(name, str) or name not in table:
    raise ValueError(f"unknown {what} {name!r}; {list_known(name, sorted(table))}")
  return table[name]


def get_section(config: Mapping[str, Any], name: str, path: str = "config") -> Mapping[str, Any]:
  """Returns a section of a config; ValueError if it is missing, or no section."""
  check_section(config, path)
  if name not in config:
    raise ValueError(f"missing key {path}.{name}")
  return check_section(config[name], f"{path}.{name}")


def check_section(value: Any, path: str) -> Mapping[str, Any]:
  """Returns a value that is a section, that is, maps names to values; else raises ValueError."""
  if not hasattr(value, "items"):
    raise ValueError(f"{path} is {value!r}, a {type(value).__name__}; expected a section")
  return value


def check_keys(section: Any, known: Any, required: Any, path: str) -> None:
  """Raises ValueError for a key that is not known, or a required one that is missing."""
  unknown = [key for key in section if key not in known]
  if unknown:
    raise ValueError(f"unknown key {path}.{unknown[0]}; {list_known(unknown[0], sorted(known))}")
  missing = [key for key in required if key not in section]
  if missing:
    raise ValueError(f"missing key {path}.{missing[0]}")


def fields_of(constructor: type) -> list[dataclasses.Field]:
  """Returns the fields that a section may set.

  Of a module these are neither Linen's own fields nor those that only code sets.
  """
  injected = ("activation", "conv", "dtype", "parent", "name")
  reserved = injected if issubclass(constructor, nn.Module) else ()
  return [field for field in dataclasses.fields(constructor) if field.name not in reserved]


def _default_value(field: dataclasses.Field) -> Any:
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def coerce(value: Any, hint: Any, path: str) -> Any:
  """Returns a value converted to a type hint, sections constructed.

  Raises:
    ValueError: The value is of another type, or outside of its range.
  """
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin is Annotated:
    value = coerce(value, args[0], path)
    for limits in args[1:]:
      limits.check(value, path)
    return value
  if origin in (typing.Union, types.UnionType):
    return _coerce_to_one(value, args, path)
  if isinstance(hint, type) and dataclasses.is_dataclass(hint):
    return _coerce_to_one(value, (hint,), path)
  if origin is tuple and isinstance(value, list | tuple):
    if args[-1] is ...:
      args = args[:1] * len(value)
    if len(args) == len(value):
      return tuple(
        coerce(v, h, f"{path}[{i}]") for i, (v, h) in enumerate(zip(value, args, strict=True))
      )
  entries = getattr(value, "items", None)
  if origin is not None and issubclass(origin, Mapping) and entries is not None:
    return {k: coerce(v, args[1], f"{path}.{k}") for k, v in entries()}
  if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
    if not math.isfinite(value):
      raise ValueError(f"{path} is {value}; expected a finite number")
    return float(value)
  if hint is Any or (isinstance(hint, type) and type(value) is hint):
    return value
  raise ValueError(f"{path} is {value!r}, a {type(value).__name__}; expected {_format_hint(hint)}")


def _coerce_to_one(value: Any, options: Iterable[Any], path: str) -> Any:
  """Returns a value converted to one of several types: a network to the one that it names."""
  if not hasattr(value, "items"):
    others = [option for option in options if not dataclasses.is_dataclass(option)]
    if others:
      return coerce(value, others[0], path)
  kinds = _section_classes(options)
  if len(kinds) == 1 or not hasattr(value, "items"):
    return construct(kinds[0], value, path)
  known = {name: kind for name, kind in NETWORKS.items() if kind in kinds}
  settings = dict(value.items())
  return construct(choose(known, settings.pop("name", None), f"{path}.name"), settings, path)


def _section_classes(options: Iterable[Any]) -> list[type]:
  """Returns the classes that a section may construct: of a base of networks all with a name."""
  classes: list[type] = []
  for kind in options:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
      networks = [network for network in NETWORKS.values() if kind in network.__mro__]
      classes.extend(networks or [kind])
  return classes


def _format_hint(hint: Any) -> str:
  if typing.get_origin(hint) is tuple:
    items = [item for item in typing.get_args(hint) if item is not ...]
    items = items * 2 if ... in typing.get_args(hint) else items
    if all(item in _EXAMPLES for item in items):
      return f"{hint}, such as ({', '.join(_EXAMPLES[item] for item in items)})"
  return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
