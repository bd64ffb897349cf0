"""The flag of the config, with overrides."""

import pytest
from absl import flags

from asmjax.cli import config_flag
from tests.helpers import small_configs as small


@pytest.fixture
def read(monkeypatch):
  """`read(*arguments)`: the config that a command would get."""
  values = flags.FlagValues()
  flags.DEFINE_string("config", None, "", flag_values=values)
  flags.DEFINE_string("workdir", None, "", flag_values=values)
  monkeypatch.setattr(flags, "FLAGS", values)
  flags.DEFINE_integer("count", 1, "", flag_values=values)
  flags.mark_flag_as_required("workdir", flag_values=values)
  return lambda *arguments: config_flag.read_config(
    config_flag.parse(["launch/main.py", *arguments])
  )


def test_read_config_takes_overrides_before_and_after_other_flags(read):
  config = read(
    "--config.terms.structure.weight=linear(0.02, 1)",
    "--config=configs/scenes.py:asm",
    "--workdir=a",
    "--config.train.steps=7",
    "--config.data.options.length",
    "-1",
    "--noconfig.data.flip",
    "--config.data.cache",
    "--config.eval.split=val=2",
  )
  assert config.terms.structure.weight.to_dict() == {
    "start": 0.02,
    "stop": 1.0,
    "shape": "linear",
    "begin": 0.0,
    "end": 1.0,
  }
  assert (config.train.steps, config.data.options.length) == (7, -1)
  assert (config.data.flip, config.data.cache, config.eval.split) == (False, True, "val=2")


@pytest.mark.parametrize(
  "arguments, message",
  [
    ((), "--workdir=... is required"),
    (("runs/x", "runs/y"), "unexpected argument 'runs/x'"),
    (("--workdir=a", "--count=2.5"), "flag --count=2.5; expected a whole number"),
    (("--workdir=a", "--wrkdir=a"), "Unknown command line flag 'wrkdir'. Did you mean: workdir ?"),
  ],
)
def test_parse_names_wrong_and_missing_flags_in_one_line(arguments, message, read):
  with pytest.raises(SystemExit) as raised:
    read("--config.train.steps=7", *arguments)
  assert str(raised.value) == f"FATAL {message}; see launch/main.py --help"


def test_parse_refuses_overrides_of_commands_without_a_config():
  code, output = small.launch("evaluate.py", "--workdir=a", "--config.train.steps=7", devices=1)
  assert code == 1 and "Unknown command line flag 'config.train.steps'" in output


def test_read_config_ends_commands_without_a_traceback():
  arguments = ("--config=configs/scenes.py", "--config.train.step=3")
  code, output = small.launch("summary.py", *arguments, devices=1)
  assert code == 1 and output.startswith("FATAL unknown key train.step; did you mean 'steps'?")
