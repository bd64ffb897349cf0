"""The launchers' flags: settings of a config, with a useful message for those that do not exist."""

import contextlib
import runpy
import sys
from collections.abc import Iterator

from absl import app


def parse(arguments: list[str]) -> list[str]:
  """Parses the flags, and refuses an override of an unknown key with the known ones listed."""
  from asmjax.sections import check_path

  try:
    return app.parse_flags_with_usage(arguments)
  except (AttributeError, KeyError):  # What ml_collections makes of an unknown key.
    text = " ".join(arguments).replace("--config ", "--config=")
    values = dict(each.lstrip("-").partition("=")[::2] for each in text.split(" "))
    path, _, variant = values.get("config", "").partition(":")
    if not path:
      raise
    config = runpy.run_path(path)["get_config"](*filter(None, [variant]))
    for key in values:
      if key.startswith("config."):
        try:
          check_path(config, key.removeprefix("config."))
        except ValueError as error:
          sys.exit(f"FATAL Flags parsing error: --{key}: {error}")
    raise


@contextlib.contextmanager
def plainly() -> Iterator[None]:
  """What is wrong with a config or a data set ends the program with the message alone."""
  try:
    yield
  except (ValueError, FileNotFoundError) as error:
    sys.exit(f"FATAL {error}")
