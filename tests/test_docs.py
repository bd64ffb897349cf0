"""What README and docs say is so."""

import importlib
import pathlib
import re
import shlex

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asmjax.config import methods
from asmjax.config.data import Data
from asmjax.config.load import load_config
from asmjax.config.schema import construct
from asmjax.models.predictors.published import PUBLISHED
from tests.helpers.small_configs import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text, language):
  return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_readme_example_learns_in_a_loop():
  (example,) = blocks((ROOT / "README.md").read_text(), "python")
  assert len([line for line in example.splitlines() if line.strip()]) <= 15
  network, namespace = nn.Dense(3), {}
  namespace["network"] = network
  exec(compile(example, "README.md", "exec"), namespace)
  loss, critic = namespace["loss"], namespace["critic"]
  label = jax.random.randint(jax.random.key(0), (4, 16, 16), 0, 3)
  truth = jax.nn.one_hot(label, 3)
  image = truth @ jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
  params = jax.jit(lambda s, a: {"S": network.init(s, image), "A": critic.init(a, truth)})(
    jax.random.key(1), jax.random.key(2)
  )
  tx = optax.multi_transform({"S": optax.adam(0.1), "A": optax.adam(1e-3)}, {"S": "S", "A": "A"})
  state = tx.init(params)

  @jax.jit
  def step(params, state):
    updates, state = tx.update(jax.grad(loss)(params, image, label), state, params)
    return optax.apply_updates(params, updates), state

  for _ in range(100):
    params, state = step(params, state)
  errors = jnp.mean(network.apply(params["S"], image).argmax(-1) != label)
  assert errors < 0.05


def test_readme_is_short():
  assert len((ROOT / "README.md").read_text().split()) <= 600


def test_readme_has_two_one_line_commands():
  section = (ROOT / "README.md").read_text().split("## Two commands")[1].split("\n## ")[0]
  commands = blocks(section, "bash")
  assert len(commands) == 2 and all(len(c.strip().splitlines()) == 1 for c in commands)
  assert all("-m venv" in command for command in commands)
  words = shlex.split(commands[0])
  config = next(word for word in words if word.startswith("--config="))
  path, _, variant = config.partition("=")[2].partition(":")
  assert (ROOT / path).exists() and methods.join_terms(variant.split("+"))


def test_guide_lists_every_variant():
  named = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "get_started.md").read_text()))
  assert set(methods.METHODS) <= named


def test_models_page_counts_parameters(injections):
  """Of deep networks, which take long to trace, in the long form alone."""
  page = (ROOT / "docs" / "models.md").read_text()
  counts = dict(re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\| ([\d,]+) \|", page, re.M))
  assert set(counts) == set(PUBLISHED)
  image = jnp.zeros((1, 33, 33, 3))
  for name, make in PUBLISHED.items():
    if int(counts[name].replace(",", "")) > 10_000_000 and not injections(0):
      continue
    network = make({"segmentation": 21})
    variables = jax.eval_shape(lambda n=network: n.init(jax.random.key(0), image, train=False))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert f"{count:,}" == counts[name], name


def test_models_page_example_holds():
  (example,) = blocks((ROOT / "docs" / "models.md").read_text(), "python")
  exec(compile(example, "models.md", "exec"), {})


def test_data_page_augments_as_it_says(tmp_path, monkeypatch):
  """Its flags together, with the function that it shows."""
  page = (ROOT / "docs" / "data.md").read_text().split("## Augmentation")[1].split("\n## ")[0]
  (example,) = blocks(page, "python")
  (tmp_path / "mine.py").write_text(example)
  monkeypatch.chdir(tmp_path)
  flags = dict(flag.split("=") for flag in re.findall(r"`--config\.(data\.\S+)`", page))
  data = construct(
    Data, load_config("any:folder", {**flags, "data.random_crop": "True"}).data, "data"
  )
  image = np.full((48, 64, 3), 200, np.uint8)
  rngs = [np.random.default_rng(seed) for seed in range(8)]
  images = [data.train_transform((0, 0, 0))({"image": image}, rng)["image"] for rng in rngs]
  assert len(flags) == 12 and len({image.tobytes() for image in images}) == 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_link_to_existing_files(page):
  links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
  missing = [link for link in links if not (page.parent / link).exists()]
  assert not missing, missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_existing_modules_and_attributes(page):
  for name in re.findall(r"`(asmjax(?:[./][\w./]+)?)[`(]", page.read_text()):
    if "/" in name:
      assert (ROOT / name).exists(), name
    else:
      _resolve(name)


def _resolve(name):
  """The module or attribute with this dotted name."""
  module, attributes = name, []
  while True:
    try:
      target = importlib.import_module(module)
      break
    except ModuleNotFoundError:
      module, _, attribute = module.rpartition(".")
      attributes.insert(0, attribute)
  for attribute in attributes:
    target = getattr(target, attribute)
  return target


def test_pages_name_no_paths_of_a_machine():
  for page in PAGES:
    assert not re.search(r"(?<![\w.])/(?:home|tmp|root|work)/", page.read_text()), page
  assert pathlib.Path(ROOT / "LICENSE").exists()
