"""Settings that the launchers' flags change."""

import sys

import pytest
from absl import flags
from ml_collections import config_flags

from asmjax.cli import overrides
from asmjax.config.build import build_game
from asmjax.data.scenes import Scenes
from asmjax.terms.weight import Ramp

# By ml_collections itself, as it loads a config.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = "--config=configs/scenes.py:iid_asm_released"


@pytest.fixture
def parsed(monkeypatch):
  """`parsed(*arguments)`: the config that a launcher would see."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  monkeypatch.setattr(flags, "FLAGS", values)
  monkeypatch.setattr(overrides.app, "parse_flags_with_usage", values)

  def parse(*arguments):
    monkeypatch.setattr(sys, "argv", ["launch/main.py", *arguments])  # ml_collections reads it.
    overrides.parse(sys.argv)
    return values.config

  return parse


def test_a_weight_may_become_a_schedule_and_a_schedule_a_number(parsed):
  config = parsed(
    CONFIG,
    "--config.terms.structure.weight=linear(0.02, 1)",
    "--config.train.steps=7",
    "--config.terms.pixel.weight=exponential(1, 0.1, 0, 0.5)",
    "--config.terms.structure.critic_weight=0.5",
  )
  assert config.train.steps == 7
  terms = build_game(config, Scenes.descriptor).terms
  assert terms["structure"].weight == Ramp(0.02, 1.0, "linear")
  assert terms["structure"].critic_weight == 0.5
  assert terms["pixel"].weight == Ramp(1.0, 0.1, end=0.5)


def test_part_of_a_schedule_and_a_plain_number_are_set_as_ever(parsed):
  config = parsed(
    CONFIG,
    "--config.terms.structure.critic_weight.start=0.5",
    "--config.terms.structure.weight=0.3",
  )
  assert config.terms.structure.critic_weight.start == 0.5 and config.terms.structure.weight == 0.3


@pytest.mark.parametrize(
  "argument, message",
  [
    ("--config.terms.structure.weight=lin(0, 1)", "expected a number, or exponential or linear"),
    ("--config.terms.structure.weigt=0.3", "unknown key terms.structure.weigt; known: .*weight"),
    ("--config.train.step=3", "unknown key train.step; known: .*steps"),
  ],
)
def test_what_is_no_setting_is_refused(parsed, argument, message):
  with pytest.raises(SystemExit, match=f"FATAL Flags parsing error: .*{message}"):
    parsed(CONFIG, argument)
