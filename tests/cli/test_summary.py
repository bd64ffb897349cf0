"""The launcher without a data set."""

import re

import pytest

from asmjax.cli.summary import describe_output_grid
from tests.helpers import small_configs as small


def test_summary_command_prints_networks_without_a_data_set():
  code, output = small.launch(
    "summary.py",
    "--config=configs/horse.py:asm_aaf",
    "--critics",
    "--size=64,96",
    "--config.predictor.levels=2",
    "--config.predictor.width=4",
    "--config.terms.structure.critic.filters=(4,6)",
    devices=1,
  )
  assert code == 0, output
  assert max(map(len, output.splitlines())) <= 100
  lines = output.splitlines()
  titles = [line.strip() for line in lines if line.startswith(("predictor", "critic"))]
  assert titles == ["predictor", "critic of affinity", "critic of structure"]
  # Stride 2; kernels and, for each normalized channel, a scale and a bias.
  first = next(line for line in lines if line.startswith("down1_1"))
  assert re.split(r"\s{2,}", first.strip()) == [
    "down1_1",
    "conv",
    "3x3 /2",
    "32x48x4",
    "116",
    "165.89 k",
    "3",
    "2",
  ]
  assert "total for 1x64x96x3: " in output and "total for 1x32x48x2: " in output


@pytest.mark.parametrize(
  "size, output_size, stride, verdict",
  [
    ((336, 336), (24, 24), 14, "fits"),
    ((100, 336), (8, 24), 14, "does not fit, 112x336 does"),
    ((97, 64), (49, 32), 2, "does not fit, 98x64 does"),
    ((90, 96), (6, 6), 16, "does not fit, 96x96 does"),
  ],
)
def test_describe_output_grid_of_any_stride(size, output_size, stride, verdict):
  text = describe_output_grid(size, output_size, align_corners=False)
  assert f"pixel {stride} i + {(stride - 1) / 2:g}; " in text and text.endswith(f" {verdict}")


def test_summary_command_asks_for_a_data_set_that_alone_knows_its_classes():
  code, output = small.launch("summary.py", "--config=configs/any.py:folder", devices=1)
  assert code == 1 and output.startswith("FATAL data.root is ''")
