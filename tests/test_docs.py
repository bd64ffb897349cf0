"""What README and docs say is so."""

import importlib
import pathlib
import re
import shlex

import jax
import jax.numpy as jnp
import pytest

from asmjax.config import presets
from asmjax.models.predictors.published import PUBLISHED
from tests.helpers.small_configs import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text, language):
  return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_example_of_the_readme_learns(capsys):
  (example,) = blocks((ROOT / "README.md").read_text(), "python")
  assert len(example.strip().splitlines()) <= 30
  exec(compile(example, "README.md", "exec"), {})
  assert float(capsys.readouterr().out.rpartition(" ")[2]) < 0.05


def test_the_readme_has_two_one_line_commands():
  section = (ROOT / "README.md").read_text().split("## Two commands")[1].split("\n## ")[0]
  commands = blocks(section, "bash")
  assert len(commands) == 2 and all(len(c.strip().splitlines()) == 1 for c in commands)
  assert all("-m venv" in command for command in commands)
  words = shlex.split(commands[0])
  config = next(word for word in words if word.startswith("--config="))
  path, _, variant = config.partition("=")[2].partition(":")
  assert (ROOT / path).exists() and variant in presets.METHODS


def test_every_variant_is_in_the_readme():
  named = set(re.findall(r"`(\w+)`", (ROOT / "README.md").read_text()))
  assert set(presets.METHODS) <= named


def test_the_page_on_networks_counts_their_parameters():
  page = (ROOT / "docs" / "models.md").read_text()
  counts = dict(re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\| ([\d,]+) \|", page, re.M))
  assert set(counts) == set(PUBLISHED)
  image = jnp.zeros((1, 33, 33, 3))
  for name, make in PUBLISHED.items():
    network = make({"segmentation": 21})
    variables = jax.eval_shape(lambda n=network: n.init(jax.random.key(0), image, train=False))
    found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert f"{found:,}" == counts[name], name


def test_the_example_on_networks_holds():
  (example,) = blocks((ROOT / "docs" / "models.md").read_text(), "python")
  exec(compile(example, "models.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
  links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
  missing = [link for link in links if not (page.parent / link).exists()]
  assert not missing, missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_everything_named_in_the_package_exists(page):
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
      found = importlib.import_module(module)
      break
    except ModuleNotFoundError:
      module, _, attribute = module.rpartition(".")
      attributes.insert(0, attribute)
  for attribute in attributes:
    found = getattr(found, attribute)
  return found


def test_pages_name_no_paths_of_a_machine():
  for page in PAGES:
    assert not re.search(r"(?<![\w.])/(?:home|tmp|root|work)/", page.read_text()), page
  assert pathlib.Path(ROOT / "LICENSE").exists()
