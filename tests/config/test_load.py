"""Config files with overrides."""

import pathlib

import pytest

from asmjax.config.build import build_game
from asmjax.config.load import format_values, load_config
from asmjax.data.scenes import Scenes
from asmjax.terms.weight import Ramp
from configs import scenes

FILE = "configs/scenes.py:iid_asm_released"


def test_load_config_returns_what_get_config_does():
  assert load_config("configs/scenes.py:iid_asm").to_dict() == (
    scenes.get_config("iid_asm").to_dict()
  )


def test_load_config_keeps_types():
  config = load_config(
    FILE,
    {"train.steps": "7", "data.size": "(32, 48)", "data.cache": "true", "data.classes": "{'a': 1}"},
  )
  assert (config.train.steps, config.data.size, config.data.cache) == (7, (32, 48), True)
  assert config.data.classes.to_dict() == {"a": 1}


def test_load_config_replaces_numbers_by_schedules_and_schedules_by_numbers():
  overrides = {
    "terms.structure.weight": "linear(0.02, 1)",
    "terms.pixel.weight": "exponential(1, 0.1, 0, 0.5)",
    "terms.structure.critic_weight": "0.5",
  }
  terms = build_game(load_config(FILE, overrides), Scenes.descriptor).terms
  assert terms["structure"].weight == Ramp(0.02, 1.0, "linear")
  assert terms["structure"].critic_weight == 0.5
  assert terms["pixel"].weight == Ramp(1.0, 0.1, end=0.5)


def test_load_config_replaces_schedules_by_schedules_and_their_parts():
  config = load_config(
    FILE, {"terms.structure.critic_weight.start": "0.5", "terms.structure.weight": "0.3"}
  )
  assert config.terms.structure.critic_weight.start == 0.5 and config.terms.structure.weight == 0.3
  config = load_config(FILE, {"terms.structure.critic_weight": "linear(0, 1)"})
  assert config.terms.structure.critic_weight.shape == "linear"


@pytest.mark.parametrize(
  "file, key, text, message",
  [
    (FILE, "terms.structure.weight", "lin(0, 1)", "expected a number, or exponential or linear"),
    (FILE, "terms.structure.weigt", "0.3", "unknown key terms.structure.weigt; .*known: .*weight"),
    (FILE, "train.step", "3", "unknown key train.step; .*known: .*steps"),
    (FILE, "train.steps", "1.5", "^train.steps=1.5; expected a whole number$"),
    (FILE, "data.flip", "maybe", "^data.flip=maybe; expected true or false$"),
    (FILE, "data.classes", "a", r"^data.classes=a; expected a dict, such as \{'a': 1\}$"),
    (FILE, "optimizer.predictor.learning_rate", "x", "learning_rate=x; expected a number$"),
    (FILE, "terms.pixel.weight", "linear(0 1)", r"^terms.pixel.weight: .*\(0 1\)'; expected a nu"),
    (FILE, "terms.pixel.weight", "linear(0, -1)", "^terms.pixel.weight: .*stop=-1.0; expected"),
    ("configs/scenes.py:asn", "seed", "3", r"unknown variant 'asn'; did you mean 'asm'\? known: a"),
  ],
)
def test_load_config_refuses_unknown_keys_and_wrong_types(file, key, text, message):
  with pytest.raises(ValueError, match=message):
    load_config(file, {key: text})


def test_load_config_refuses_a_missing_file():
  with pytest.raises(FileNotFoundError, match=r"scene\.py does not exist; expected a path, or"):
    load_config("configs/scene.py:asm")


def test_load_config_refuses_files_without_a_config_and_arguments_that_none_takes(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("def get_config():\n  return None\n")
  with pytest.raises(ValueError, match=r"mine.py:asm: get_config\(\) of .*mine.py takes no arg"):
    load_config(f"{path}:asm")
  path.write_text("")
  with pytest.raises(ValueError, match=r"mine.py has no get_config\(\); expected one that returns"):
    load_config(str(path))


def test_load_config_finds_the_configs_of_the_library_from_any_folder(tmp_path, monkeypatch):
  expected = load_config(FILE.partition(":")[0] + ":asm").to_dict()
  monkeypatch.chdir(tmp_path)
  assert load_config("scenes:asm").to_dict() == expected


def test_format_values_writes_what_load_config_reads():
  values = {"data.root": pathlib.Path("a b"), "data.size": (16, 24), "train.steps": 7}
  config = load_config(FILE, format_values(values))
  assert (config.data.root, config.data.size, config.train.steps) == ("a b", (16, 24), 7)
