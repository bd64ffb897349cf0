"""What a config can be made of, by name: shown by `asmjax COMMAND --help`."""

import ast
from collections.abc import Mapping


def describe_choices() -> str:
  """Lists configs, methods, networks, tasks and sources, each with a line on what it is."""
  from asmjax.config.library import list_configs
  from asmjax.config.methods import METHODS
  from asmjax.data import SOURCES
  from asmjax.models.predictors.published import DESCRIPTIONS
  from asmjax.tasks import TASKS

  first_line = lambda thing: (thing.__doc__ or "").partition("\n")[0]
  sections = {
    "configs, as in --config=scenes:METHOD@NETWORK,TASK+TASK": {
      name: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
      for name, path in list_configs().items()
    },
    "methods": {name: method.description for name, method in METHODS.items()},
    "networks; without one, the config's own": DESCRIPTIONS,
    "tasks": {name: first_line(task) for name, task in TASKS.items()},
    "sources of data, as in --config=any:SOURCE": {
      name: first_line(source) for name, source in SOURCES.items()
    },
  }
  return "\n\n".join(_format_section(title, lines) for title, lines in sections.items())


def _format_section(title: str, lines: Mapping[str, str]) -> str:
  width = max(map(len, lines)) + 2
  rows = (
    f"  {name:{width}}{line.removeprefix('Source of ').rstrip('.')}" for name, line in lines.items()
  )
  return "\n".join([f"{title}:", *rows])
