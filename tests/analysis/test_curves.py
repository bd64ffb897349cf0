"""Charts of critics' health."""

import json

import numpy as np
import pytest
from PIL import Image

from asmjax.analysis import curves
from asmjax.analysis.runs import Group


@pytest.fixture
def group(tmp_path):
  """Makes a group of one run that logged the given metrics, each falling over two steps."""

  def make(*metrics):
    lines = [{"step": step, **dict.fromkeys(metrics, 1 / step)} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "results.json").write_text("{}")
    return Group("run", (tmp_path,))

  return make


def save_health(group, path):
  return curves.save_charts(curves.critic_health([group], curves.group_styles([group])), path)


def test_every_critic_is_drawn_and_a_discriminator_in_more_panels(group, tmp_path):
  kinds = ("gradient_norm/predictor", "gradient_norm/a", "gradient_norm_from/a")
  judged = tuple(
    f"a/{part}_{side}" for part in ("accuracy", "discriminator_loss") for side in ("real", "fake")
  )
  inked = []
  for metrics in (kinds, kinds + judged):
    assert save_health(group(*metrics), tmp_path / "health.png")
    pixels = np.asarray(Image.open(tmp_path / "health.png").convert("RGB")).astype(int)
    inked.append(np.sum(np.ptp(pixels, axis=-1) > 60))
  assert 0 < inked[0] < 0.75 * inked[1]


def test_without_a_critic_nothing_is_written(group, tmp_path):
  assert not save_health(
    group("gradient_norm/predictor", "gradient_norm_from/pixel"), tmp_path / "health.png"
  )
  assert not (tmp_path / "health.png").exists()
