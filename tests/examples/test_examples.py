"""The examples run with small settings, and what they show is so."""

import contextlib
import functools
import io
import json
import re
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import asmjax
from asmjax import run
from asmjax.tasks import Segmentation
from tests.helpers import tiny_games as games
from tests.helpers.small_configs import ROOT
from tests.oracles import boundary as slow

CLASSES = ("wall", "floor", "furniture")


def play(name, *arguments):
  """The variables of a script at its end, and what it printed."""
  printed = io.StringIO()
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
    patch.setattr(sys, "argv", [name, *map(str, arguments)])
    patch.setattr(sys, "path", [*sys.path])
    return runpy.run_path(str(ROOT / "examples" / name)), printed.getvalue()


def save(path, ids):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(ids.astype(np.uint8)).save(path)


def moved(params, grads, name, length=0.002):
  """The parameters after one player's step of a given length against its gradient."""
  rate = length / optax.tree.norm(grads[name])
  return params | {name: jax.tree.map(lambda p, g: p - rate * g, params[name], grads[name])}


# A loop of one's own


@pytest.fixture(scope="module")
def loop():
  return play("asm_in_your_loop.py", "--steps=60", "--size=16", "--scenes=16")


def test_asm_in_your_loop_lowers_value_and_error(loop):
  history = loop[0]["history"]
  assert len(history) == 60
  for name in ("V", "wrong"):
    start, end = (np.mean([step[name] for step in part]) for part in (history[:10], history[-10:]))
    assert end < 0.9 * start, name


def test_asm_in_your_loop_prints_the_error_on_validation_scenes(loop):
  script, printed = loop
  image, label = script["validation"]
  logits = script["network"].apply({"params": script["params"]["S"]}, image)
  wrong = np.mean(np.argmax(np.asarray(logits), -1) != label)
  assert float(printed.split()[-1]) == pytest.approx(wrong, abs=6e-4)


def test_asm_in_your_loop_lets_the_network_descend_and_the_critic_climb(loop):
  script, _ = loop
  image, label, params = script["images"][:8], script["labels"][:8], script["params"]
  value = jax.jit(lambda params: script["value"](params, image, label)[1]["V"])
  before, grads = jax.value_and_grad(value)(params)
  assert value(moved(params, grads, "S")) < before < value(moved(params, grads, "A"))


# Masks of one's own


def write_folder(root):
  """Photos whose red channel tells the three classes apart; some pixels are unlabeled."""
  rng = np.random.default_rng(0)
  for split, length in (("train", 16), ("val", 4)):
    for index in range(length):
      mask = rng.integers(0, 3, (4, 5)).repeat(4, 0).repeat(4, 1)
      photo = rng.integers(100, 156, (*mask.shape, 3))
      photo[..., 0] = np.array([0, 128, 255])[mask]
      mask[rng.random(mask.shape) < 0.1] = 255
      save(root / "images" / split / f"{index}.png", photo)
      save(root / "masks" / split / f"{index}.png", mask)
  (root / "classes.yaml").write_text(
    "classes:\n" + "".join(f"  - {{name: {name}, id: {i}}}\n" for i, name in enumerate(CLASSES))
  )


@pytest.fixture(scope="module")
def own_masks(tmp_path_factory):
  root, out = (tmp_path_factory.mktemp(name) for name in ("mine", "run"))
  write_folder(root)
  script, printed = play(
    "own_masks.py", f"--root={root}", f"--out={out}", "--steps=80", "--size=16", "--levels=2"
  )
  return script, printed, root, out


def test_own_masks_are_learned(own_masks):
  script, _, _, out = own_masks
  lines = list(map(json.loads, (out / "metrics.jsonl").read_text().splitlines()))
  assert lines[-1]["pixel/segmentation"] < 0.7 * lines[0]["pixel/segmentation"]
  # Twice what guessing three classes by chance reaches: (1/9) / (5/9).
  assert script["metrics"]["segmentation/mean_iou"] > 2 / 5


def test_own_masks_are_drawn_as_they_are_scored(own_masks):
  script, printed, _, out = own_masks
  sheet = np.array(Image.open(out / "predictions.png")).astype(int)
  truth, predicted = sheet[:, 16:32], sheet[:, 32:48]
  labeled = (truth != 255).any(-1)
  for name, color in zip(CLASSES, script["run"].predictor.descriptor.palette, strict=True):
    real, drawn = (labeled & (part == color).all(-1) for part in (truth, predicted))
    iou = (real & drawn).sum() / (real | drawn).sum()
    assert float(re.search(rf"IoU {name} +(\S+)", printed)[1]) == pytest.approx(iou, abs=6e-4)


def test_own_masks_draws_masks_that_fit_their_photos(own_masks):
  script, _, root, _ = own_masks
  script["draw_folder"]("drawn", 4, seed=2)
  names = set()
  for path in (root / "masks" / "drawn").iterdir():
    mask, photo = (
      np.array(Image.open(root / kind / "drawn" / path.name)) for kind in ("masks", "images")
    )
    colored = (photo != photo[..., :1]).any(-1)
    np.testing.assert_array_equal(colored, mask > 0)
    names |= set(np.unique(mask).tolist())
  assert names == {0, 1, 2}


# A term of one's own


@pytest.fixture(scope="module")
def new_term(tmp_path_factory):
  out = tmp_path_factory.mktemp("run")
  return play("new_term.py", f"--out={out}", "--steps=24", "--size=16", "--levels=2")


def test_new_term_counts_border_pixels_by_their_light(new_term):
  script, _ = new_term
  term, task = script["Borders"](), Segmentation(classes=("a", "b", "c"))
  rng = np.random.default_rng(0)
  label = rng.integers(0, 3, (2, 3, 3)).repeat(4, 1).repeat(4, 2)
  label[:, 5, 5:8] = 255
  logits = rng.normal(size=(2, 12, 12, 3)).astype(np.float32)
  tasks, truth = {"segmentation": task}, {"label": jnp.asarray(label)}
  shapes = jax.eval_shape(lambda: term.init(jax.random.key(0), tasks, (12, 12)))
  critic = jax.tree.map(lambda x: 0.3 * rng.normal(size=x.shape).astype(np.float32), shapes)
  light = np.asarray(term.critic.apply(critic, jax.nn.one_hot(label, 3)))[..., 0]
  assert light.max() > 2 * light.min()

  surprise = (
    np.log(np.exp(logits).sum(-1))
    - np.take_along_axis(logits, np.minimum(label, 2)[..., None], -1)[..., 0]
  )
  value, count, lit = 0.0, 0, []
  for n in range(2):
    places = [
      (i, j)
      for i, j in np.ndindex(12, 12)
      if label[n, i, j] != 255
      and len(set(label[n, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].ravel()) - {255}) > 1
    ]
    share = np.array([light[n][place] for place in places])
    share /= share.mean()
    value += sum(s * surprise[n][place] for s, place in zip(share, places, strict=True))
    count += len(places)
    lit.append(1 / np.mean(share**2))
  outputs = jax.jit(
    lambda critic, logits: (
      games.evaluate(term, tasks, {"segmentation": logits}, truth, critic=critic).losses
    )
  )(critic, logits)
  assert 0 < count < (label != 255).sum()
  assert outputs["value"].value.count == count
  np.testing.assert_allclose(outputs["value"].value.mean(), value / count, rtol=1e-4)
  np.testing.assert_allclose(outputs["lit"].value.mean(), np.mean(lit), rtol=1e-4)


def test_new_term_moves_predictor_and_critic_the_right_way(new_term):
  script, printed = new_term
  after = script["after"]
  assert after["predictor"] < script["before"] < after["borders"]
  assert f"{after['borders']:.4f} after a step of borders alone" in printed


def test_new_term_is_trained_by_the_loop_which_reports_its_health(new_term):
  script, _ = new_term
  lines = list(map(json.loads, (script["out"] / "metrics.jsonl").read_text().splitlines()))
  assert lines[-1]["borders/unlit"] < lines[0]["borders/unlit"]
  assert lines[-1]["borders/lit"] < lines[0]["borders/lit"] <= 1 + 1e-6
  assert all(line["borders/value"] > line["borders/unlit"] for line in lines[1:])
  assert all(line["gradient_norm_from/borders"] > 0 for line in lines)
  term = script["Borders"]()
  assert term.diagnose({"lit": 0.5}, {}) == {}
  assert "lights 1.0% of the borders" in term.diagnose({"lit": 0.01}, {})["stares"]


# Masks of any tool


def write_masks(root):
  """Truths of several sizes with unlabeled pixels, disturbed predictions, and instances."""
  rng = np.random.default_rng(1)
  images = {}
  for index, shape in enumerate(((12, 16), (16, 12), (8, 20))):
    label = rng.integers(0, 3, (-(-shape[0] // 4), -(-shape[1] // 4))).repeat(4, 0).repeat(4, 1)
    guess = np.where(rng.random(shape) < 0.1, rng.integers(0, 3, shape), label)
    instance = np.where(label > 0, 1 + np.arange(shape[1]) // 8, 0) + 2 * (label == 2)
    label = np.where(rng.random(shape) < 0.05, 255, label)
    images[f"{index}.png"] = label, guess, instance
    for kind, ids in zip(("truth", "predicted", "instances"), images[f"{index}.png"], strict=True):
      save(root / kind / f"{index}.png", ids)
  return images


def folders(root):
  return [f"--{kind}={root / kind}" for kind in ("truth", "predicted", "instances")]


def iou_of(label, guess, c):
  known = label != 255
  either = (known & ((label == c) | (guess == c))).sum()
  return (known & (label == c) & (guess == c)).sum() / either if either else np.nan


def instance_mean(images):
  """Ke et al.: each image's IoU of a class as often as it has instances of the class."""
  weighted, number = np.zeros(3), np.zeros(3)
  for label, guess, instance in images:
    for each in np.unique(instance[(instance > 0) & (label != 255)]):
      c = np.bincount(label[(instance == each) & (label != 255)]).argmax()
      weighted[c] += iou_of(label, guess, c)
      number[c] += 1
  return np.mean(weighted[number > 0] / number[number > 0])


def test_score_masks_prints_the_scores_of_the_definitions(tmp_path):
  images = write_masks(tmp_path)
  done = subprocess.run(
    [sys.executable, str(ROOT / "examples" / "score_masks.py"), *folders(tmp_path)],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  scores = {k: float(v) for k, v in re.findall(r"^  (\S.*?) +(\S+)$", done.stdout, re.M)}
  flat = [np.concatenate([each[i].ravel() for each in images.values()]) for i in range(2)]
  expected = {f"IoU of {name}": iou_of(*flat, c) for c, name in enumerate(CLASSES)}
  expected["mean_iou"] = np.mean(list(expected.values()))
  expected["pixel_accuracy"] = np.mean((flat[0] == flat[1])[flat[0] != 255])
  expected["instance_mean_iou"] = instance_mean(images.values())
  counts = sum(
    slow.contour_benchmark([label], [guess], 3, 0.0075 * np.hypot(*label.shape))[0]
    for label, guess, _ in images.values()
  )
  expected["boundary_f"] = np.mean(2 * counts[0] / (counts[1] + counts[2]))
  assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=6e-5)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["instances", "predicted", "truth"]


def test_score_masks_merges_states_in_any_order():
  script, _ = play("score_masks.py")
  states = [script["score"](name) for name in reversed(script["names"])]
  halves = (functools.reduce(script["merge"], part) for part in (states[::2], states[1::2]))
  total = script["merge"](*halves)
  scores = {"mean_iou": total.pop("pixels").mean_iou()}
  for state in total.values():
    scores |= state.compute()
  assert 0.5 < scores["mean_iou"] < 1
  assert scores == pytest.approx({name: script["scores"][name] for name in scores})


@pytest.mark.parametrize(
  ("kind", "ids", "message"),
  [
    (
      "predicted",
      np.zeros((5, 7)),
      r"predicted/0\.png is 5x7 .* expected 12x16, as .*truth/0\.png",
    ),
    ("instances", np.zeros((16, 12)), r"instances/0\.png is 16x12 .* expected 12x16"),
    ("predicted", np.full((12, 16), 9), r"predicted/0\.png holds the ids 9; expected 0\.\.2"),
    ("predicted", None, r"predicted/0\.png does not exist"),
  ],
)
def test_score_masks_names_masks_that_do_not_fit(tmp_path, kind, ids, message):
  write_masks(tmp_path)
  (tmp_path / kind / "0.png").unlink()
  if ids is not None:
    save(tmp_path / kind / "0.png", ids)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    play("score_masks.py", *folders(tmp_path))


def test_score_masks_refuses_one_folder_alone(tmp_path, capsys):
  with pytest.raises(SystemExit):
    play("score_masks.py", f"--truth={tmp_path}")
  assert "--truth and --predicted go together" in capsys.readouterr().err


# The notebook


def test_quickstart_runs_from_top_to_bottom(monkeypatch):
  tiny = {"data.options.length": 32, "predictor.levels": 2, "predictor.width": 4}
  train = lambda *arguments, **overrides: run.train(*arguments, **overrides | tiny)
  monkeypatch.setattr(asmjax, "train", train)  # The networks of the notebook compile for long.
  monkeypatch.setenv("ASMJAX_QUICKSTART_STEPS", "1")
  monkeypatch.setenv("MPLBACKEND", "agg")
  notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())
  variables = {}
  for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
      exec(compile("".join(cell["source"]), "quickstart.ipynb", "exec"), variables)
  assert [len(axis.images) for axis in variables["axes"].flat] == [1] * 16
