"""The table of commands, and how they are started without a launcher."""

import subprocess
import sys

import pytest

from asmjax.cli import COMMANDS
from asmjax.config.library import list_configs
from asmjax.config.methods import METHODS
from asmjax.data import SOURCES
from asmjax.models.predictors.published import PUBLISHED
from asmjax.tasks import TASKS
from tests.helpers import small_configs as small

# Imports every command, as one process may, and prints what else came with them.
IMPORTS = """
import importlib, sys
from absl import flags
from asmjax.cli import COMMANDS
for command in COMMANDS.values():
  importlib.import_module(f"asmjax.cli.{command.module}")
heavy = {"jax", "flax", "matplotlib", "tensorflow_datasets", "cv2"}
print(sorted(heavy & set(sys.modules)), "workdir" in flags.FLAGS)
"""


def execute(*arguments):
  process = subprocess.run(
    [sys.executable, *arguments], cwd=small.ROOT, capture_output=True, text=True
  )
  return process.returncode, process.stdout + process.stderr


def test_commands_define_no_flags_and_import_nothing_slow():
  assert execute("-c", IMPORTS) == (0, "[] False\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_run_prints_the_usage_and_flags_of_every_command(name):
  code, output = execute("-m", "asmjax.cli", name, "--help")
  assert code == 1  # As absl has it.
  assert f"`asmjax {name} " in output and f"asmjax {name}:\n  --" in output


def test_run_lists_what_a_config_can_be_made_of():
  code, output = execute("-m", "asmjax.cli", "train", "--help")
  assert code == 1
  parts = (line.split(maxsplit=1) for line in output.splitlines() if line.startswith("  "))
  lines = {name: rest[0] for name, *rest in parts if rest}
  for names in (list_configs(), METHODS, PUBLISHED, TASKS, SOURCES):
    assert set(names) <= set(lines)
  assert lines["aaf"] == "pixel loss and adaptive affinity fields as published (Ke et al. 2018)"


def test_main_lists_the_commands_and_refuses_unknown_ones():
  code, output = execute("-m", "asmjax.cli")
  assert code == 0 and all(f"\n  {name}" in output for name in COMMANDS)
  code, output = execute("-m", "asmjax.cli", "trian")
  assert code == 1 and output.startswith("FATAL unknown command 'trian'\nusage: asmjax COMMAND")


def test_run_shows_flags_without_importing_jax():
  code, output = execute("-X", "importtime", "launch/main.py", "--helpshort")
  assert code == 1 and "launch/main.py:\n  --config:" in output
  assert "any, cityscapes, horse" in output.replace("\n    ", " ")
  assert "absl.app" in output and "| jax\n" not in output and "asmjax.train" not in output


def test_run_names_the_extra_that_has_a_missing_module():
  without = "import sys; sys.modules['ml_collections'] = None; sys.argv = sys.argv[1:]\n"
  call = "from asmjax.cli import main; main()"
  arguments = ("asmjax", "train", "--config=scenes:iid", "--workdir=unused")
  code, output = execute("-c", without + call, *arguments)
  assert code == 1
  assert "FATAL train needs ml_collections: pip install 'asmjax[train]'" in output
