"""What a training prints when it has ended."""

from tests.helpers import small_configs as small

CONFIG = """
from tests.helpers import small_configs as small

def get_config(variant):
  config = small.config(variant, **{"train.steps": 1, "eval.every": 0})
  config.reference = {
    "label": "pixel loss", "command": "repeat SEED",
    "scores": {"0": {"segmentation/mean_iou": 0.25}},
  }
  return config
"""


def test_train_command_compares_a_run_to_the_scores_in_its_config(tmp_path):
  path = tmp_path / "tiny.py"
  path.write_text(CONFIG)
  code, output = small.launch("main.py", f"--config={path}:iid", f"--workdir={tmp_path / 'run'}")
  assert code == 0, output
  _, row = [line for line in output.splitlines() if line.startswith("segmentation/mean_iou")]
  score, stored, difference = map(float, row.split()[1:])
  assert stored == 0.25 and abs(score - stored - difference) < 2e-4
  assert "stored, from: repeat 0" in output
