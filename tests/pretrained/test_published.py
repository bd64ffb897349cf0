"""The list of published weights, as the command and the docs show it."""

import re
import subprocess
import sys

import pytest

from asmjax.cli.config_flag import split_overrides
from asmjax.config.load import load_config
from asmjax.pretrained.load import NAMINGS
from asmjax.pretrained.published import CONVERSION, PUBLISHED_WEIGHTS
from tests.helpers import small_configs as small


@pytest.mark.parametrize("weights", PUBLISHED_WEIGHTS, ids=lambda weights: weights.address)
def test_published_weights_have_flags_that_a_config_takes(weights):
  overrides, others = split_overrides(weights.flags.split())
  assert not others and weights.format in NAMINGS
  network = "deeplab_v3_resnet50" if "placement" in weights.flags else "deeplab_v3_mobilenet_v2"
  values = dict(override.split("=", 1) for override in overrides)
  config = load_config(f"voc:iid@{network}", values)
  assert config.init.format == weights.format and config.init.part == weights.part


def test_published_weights_of_torchvision_begin_with_their_checksum():
  for weights in PUBLISHED_WEIGHTS:
    assert bool(weights.checksum) == ("//download.pytorch.org/" in weights.address)
    assert re.fullmatch("[0-9a-f]{8}|", weights.checksum)


def test_docs_list_all_published_weights():
  page = (small.ROOT / "docs" / "models.md").read_text()
  assert CONVERSION in page
  for weights in PUBLISHED_WEIGHTS:
    row = f"| {weights.network} | <{weights.address}> | {weights.license} |"
    assert row in page and f"`{weights.network_flags}`" in page or not weights.network_flags


def test_weights_command_lists_those_of_a_network():
  command = [sys.executable, "-m", "asmjax.cli", "weights"]
  run = lambda *flags: subprocess.run(
    [*command, *flags], cwd=small.ROOT, capture_output=True, text=True
  )
  output = run("--network=ResNet").stdout
  assert "resnet50-0676ba61.pth, SHA-256 0676ba61..." in output and "mobilenet" not in output
  failed = run("--network=alexnet")
  assert failed.returncode == 1 and failed.stderr.startswith("FATAL no weights of 'alexnet'; known")
