"""Symptoms of games that have gone wrong, and when they are reported."""

import dataclasses
import json

import numpy as np
import pytest

from asmjax.config import methods
from asmjax.config.build import build_experiment
from asmjax.data.scenes import Scenes
from asmjax.terms import Adversarial, Affinity, Embedding, Pixel
from asmjax.terms.base import Term, TermOutput
from asmjax.train.health import GameMonitor
from asmjax.train.loop import train
from tests.helpers import small_configs as small
from tests.helpers import tiny_games as games


def judged(real, fake, discriminator_loss_real, discriminator_loss_fake):
  return {
    "accuracy_real": real,
    "accuracy_fake": fake,
    "discriminator_loss_real": discriminator_loss_real,
    "discriminator_loss_fake": discriminator_loss_fake,
    "generator_loss": 1.0,
  }


@pytest.mark.parametrize(
  "figures, expected",
  [
    (judged(1.0, 0.0, 0.6, 0.8), ["collapsed"]),
    (judged(0.0, 1.0, 0.8, 0.6), ["collapsed"]),
    (judged(0.54, 0.55, 0.69, 0.69), ["collapsed"]),
    (judged(0.56, 0.55, 0.69, 0.69), []),
    (judged(1.0, 1.0, 1e-3, 1e-3), ["saturated"]),
    (judged(0.995, 0.99, 0.02, 0.02), ["saturated"]),
    (judged(1.0, 1.0, 0.1, 0.1), []),  # Sure, but not too sure.
    (judged(0.95, 0.95, 0.01, 0.01), []),
    (judged(0.97, 0.96, 0.1, 0.1), []),
    (judged(0.9, 0.85, 0.25, 0.25), []),
  ],
)
def test_adversarial_diagnose_finds_collapse_and_saturation(figures, expected):
  problems = Adversarial().diagnose(figures, {})
  assert list(problems) == expected
  for words in problems.values():
    assert f"{figures['accuracy_real']:.3f}" in words and "give it" in words


@pytest.mark.parametrize(
  "now, first, explodes",
  [
    ((0.5, 0.7), (0.4, 0.5), False),
    ((40.0, 50.0), (0.4, 0.5), False),  # Below 100, whatever the start.
    ((60.0, 60.0), (0.01, 0.01), True),
    ((900.0, 900.0), (10.0, 10.0), False),
    ((1000.0, 1100.0), (10.0, 10.0), True),
  ],
)
def test_structure_diagnose_finds_growth_by_a_hundred(now, first, explodes):
  layers = lambda values: {
    "conv1": values[0],
    "conv2": values[1],
    "analyzer_conv1": 1e9,
    "smallest_norm_conv1": 1.0,
    "smallest_norm_conv2": 1.0,
  }
  problems = games.structure().diagnose(layers(now), layers(first))
  assert list(problems) == ["explodes"] * explodes
  if explodes:
    assert f"{sum(now):.3g} after {sum(first):.3g}" in problems["explodes"]


HEALTHY = {
  "conv1": 0.3,
  "conv2": 0.4,
  "smallest_norm_conv1": 0.8,
  "smallest_norm_conv2": 0.7,
  "gradient_norm": 0.5,
}


@pytest.mark.parametrize("normalize", ["none", "pixel", "image"])
@pytest.mark.parametrize(
  "changes, symptom, words",
  [
    ({}, None, ""),
    ({"gradient_norm": 99.0}, None, ""),
    ({"gradient_norm": 101.0}, "gradient", "norm is 101 after 0.5 at the start"),
    ({"smallest_norm_conv2": 5e-3}, "vanishing", "at conv2 has the length 0.005"),
    ({"smallest_norm_conv1": 0.0}, None, ""),  # Nothing was labeled.
  ],
)
def test_structure_diagnose_knows_every_normalization(normalize, changes, symptom, words):
  problems = games.structure(normalize=normalize).diagnose(HEALTHY | changes, HEALTHY)
  assert list(problems) == [symptom] * (symptom is not None)
  assert not symptom or words in problems[symptom]


@pytest.mark.parametrize(
  "normalize, distance, saturated",
  [
    ("none", 50.0, False),
    ("pixel", 1.7, False),
    ("pixel", 1.9, True),
    ("image", 0.8, False),
    ("image", 0.95, True),
  ],
)
def test_structure_diagnose_finds_orthogonal_features(normalize, distance, saturated):
  problems = games.structure(normalize=normalize).diagnose(HEALTHY | {"conv1": distance}, HEALTHY)
  assert list(problems) == ["saturated"] * saturated
  assert not saturated or "truth at conv1 have little in common" in problems["saturated"]


def test_adversarial_diagnose_accounts_for_smoothed_targets():
  """Its loss is never below 0.325, the entropy of (0.1, 0.9)."""
  figures = judged(1.0, 1.0, 0.33, 0.01)
  assert not Adversarial().diagnose(figures, {})
  assert list(Adversarial(label_smoothing=0.1).diagnose(figures, {})) == ["saturated"]


@pytest.mark.parametrize(
  "edge, non_edge, expected",
  [
    (0.4, 0.6, []),
    (0.99, 0.9, []),
    (0.995, 0.6, ["one_hot_edge"]),
    (1.0, 0.999, ["one_hot_edge", "one_hot_non_edge"]),
  ],
)
def test_affinity_diagnose_finds_one_hot_weights(edge, non_edge, expected):
  figures = {"max_weight_edge": edge, "max_weight_non_edge": non_edge}
  problems = games.AAF.diagnose(figures, {})
  assert list(problems) == expected
  assert all(kind.removeprefix("one_hot_") in words for kind, words in problems.items())
  assert Affinity().diagnose({"edge_3": 1.0}, {}) == {}
  assert Affinity(adaptive=True, sizes=(3,)).diagnose(figures, {}) == {}


@pytest.mark.parametrize("term", [Pixel(), Embedding()])
def test_diagnose_is_empty_for_a_term_without_a_critic(term):
  assert term.diagnose({"segmentation": 1e9, "same": 1e9}, {}) == {}


class Fever(Term):
  """Is hot above 1 and has grown if it is above its start."""

  def diagnose(self, now, first):
    problems = {"hot": "too hot"} if now["heat"] > 1 else {}
    return problems | (
      {"grown": f"grown from {first['heat']}"} if now["heat"] > first["heat"] else {}
    )

  def __call__(self, context):
    return TermOutput({})


def check(monitor, *heats, name="a"):
  """Returns the problems reported at each of the checks."""
  return [monitor.check({f"{name}/heat": heat, "other/heat": 9.0}) for heat in heats]


def test_game_monitor_reports_a_problem_once_until_it_has_gone():
  monitor = GameMonitor({"a": Fever()}, [{"a/heat": 5.0}, {"a/heat": 0.0}])
  assert check(monitor, 0.5, 2, 3, 0.5, 0.7, 2) == [[], ["a: too hot"], [], [], [], ["a: too hot"]]


def test_game_monitor_passes_each_term_its_own_metrics():
  logged = [dict.fromkeys(("a/heat", "ab/heat"), heat) for heat in (5.0, 0.0)]
  monitor = GameMonitor({"a": Fever(), "ab": Fever()}, logged)
  assert monitor.check({"a/heat": 0.0, "ab/heat": 2.0, "gradient_norm_from/a": 9.0}) == [
    "ab: too hot"
  ]
  both = monitor.check({"a/heat": 2.0, "ab/heat": 6.0})
  assert both == ["a: too hot", "ab: grown from 5.0"]


def test_game_monitor_compares_with_the_first_interval_of_the_run():
  assert check(GameMonitor({"a": Fever()}), 0.2, 0.1, 0.3) == [[], [], ["a: grown from 0.2"]]
  logged = [{"step": 5, "a/heat": 0.2}, {"step": 10, "a/heat": 0.1}]
  assert check(GameMonitor({"a": Fever()}, logged), 0.3) == [["a: grown from 0.2"]]


def test_game_monitor_knows_the_problems_of_a_resumed_run():
  heats = (0.2, 2.0, 3.0, 0.1, 4.0)
  for killed in range(1, 5):
    logged = [{"a/heat": heat} for heat in heats[:killed]]
    remaining = check(GameMonitor({"a": Fever()}, logged), *heats[killed:])
    assert remaining == check(GameMonitor({"a": Fever()}), *heats)[killed:]


def run(workdir, **changes):
  """Trains a shipped config with a tiny discriminator; what was warned of."""
  config = small.config(
    "gan_basic",
    **{"train.steps": 6, "train.log_every": 2, "eval.every": 0, "checkpoint.every": 0, **changes},
  )
  config.terms.adversarial.critic = methods.critic("patch", filters=(4, 6), norm={"kind": "none"})
  train(build_experiment(config), workdir)
  path = workdir / "warnings.jsonl"
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_train_warns_of_a_discriminator_that_does_not_learn(tmp_path, capsys):
  settings, *warnings = run(
    tmp_path, **{"optimizer.critic.learning_rate": 0.0, "terms.adversarial.critic_weight": 0.5}
  )
  assert settings["step"] == 0 and "multiplied by 0.5, which Adam divides" in settings["warning"]
  assert warnings and warnings[0]["step"] in (2, 4, 6)
  assert warnings[0]["warning"].startswith("adversarial: the discriminator has collapsed")
  printed = capsys.readouterr().err
  for each in (settings, warnings[0]):
    assert f"step {each['step']}: {each['warning']}" in printed
  metrics = small.logged(tmp_path)
  assert {"gradient_norm_from/adversarial", "gradient_norm_from/pixel"} <= set(metrics[0])


def means(loss, norm=1.0, **more):
  return {"loss": loss, "gradient_norm/predictor": norm, "pixel/segmentation": loss, **more}


def test_game_monitor_finds_predictors_that_do_not_learn():
  monitor = GameMonitor({"pixel": Pixel()})
  assert monitor.check(means(0.3)) == monitor.check(means(0.2)) == []
  (text,) = monitor.check(means(0.2))
  assert "its loss was 0.2 in two log intervals" in text
  assert monitor.check(means(0.2)) == [] == monitor.check(means(0.1))
  unlabeled = monitor.check(means(0.0, 0.0))
  assert len(unlabeled) == 2 and "its gradient was 0" in unlabeled[0]
  assert unlabeled[1].startswith("pixel: the loss of segmentation was exactly 0")


@pytest.mark.parametrize("losses", [(0.3, 0.2, 0.2, 0.2, 0.1, 0.1), (0.2, 0.2, 0.2)])
def test_game_monitor_finds_constant_losses_anew_after_no_resume(losses):
  expected = check_losses(GameMonitor({"pixel": Pixel()}), losses)
  for killed in range(1, len(losses)):
    resumed = GameMonitor({"pixel": Pixel()}, [means(loss) for loss in losses[:killed]])
    assert check_losses(resumed, losses[killed:]) == expected[killed:]


def check_losses(monitor, losses):
  return [len(monitor.check(means(loss))) for loss in losses]


def test_train_warns_once_of_labels_of_one_class_out_of_several(tmp_path, monkeypatch, capsys):
  """As masks of 0 and 255 are read without a class of the id 255."""
  read = Scenes.__getitem__

  def read_one_class(source, index):
    example = read(source, index)
    return example | {"label": np.where(example["label"] == 0, 0, 255).astype(np.int32)}

  monkeypatch.setattr(Scenes, "__getitem__", read_one_class)
  monkeypatch.setattr(
    Scenes, "descriptor", dataclasses.replace(Scenes.descriptor, ignored=frozenset({255}))
  )
  warnings = run(tmp_path, **{"train.steps": 4, "eval.every": 2})
  first, *others = [line for line in warnings if "labeled pixels" in line["warning"]]
  assert first["step"] == 2 and not others
  assert "are of the class 'wall'; expected several classes" in first["warning"]
  assert "masks of 0 and 255 need a class with `id: 255`" in first["warning"]
  assert f"step 2: {first['warning']}" in capsys.readouterr().err
  assert json.loads((tmp_path / "results.json").read_text())["warnings"] == [first["warning"]]


def test_train_warns_of_a_single_class(tmp_path):
  warnings = run(tmp_path, **{"data.classes": {"wall": 0}})
  assert any("the loss of segmentation was exactly 0" in line["warning"] for line in warnings)
