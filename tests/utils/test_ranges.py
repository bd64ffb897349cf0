import dataclasses
import math
from collections.abc import Mapping

import pytest

from asmjax.config.build import build_experiment
from asmjax.terms import Adversarial, Affinity, Pixel, Structure
from asmjax.terms.weight import Ramp
from asmjax.utils.ranges import (
  BelowOne,
  Count,
  NonNegative,
  Positive,
  PositiveInt,
  Range,
  check_ranges,
)
from tests.helpers import small_configs as small
from tests.helpers import tiny_games as games


@dataclasses.dataclass
class Settings:
  steps: Count = 0
  batch: PositiveInt = 1
  rate: Positive = 1.0
  decay: BelowOne = 0.0
  name: str = ""
  weight: NonNegative | Ramp = 1.0
  scales: tuple[Positive, ...] = (1.0,)
  pair: tuple[Count, Positive] = (0, 1.0)
  rates: Mapping[str, NonNegative] = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
  "values, message",
  [
    ({"steps": -1}, "steps=-1; expected at least 0"),
    ({"batch": 0}, "batch=0; expected at least 1"),
    ({"rate": 0.0}, "rate=0.0; expected a number above 0"),
    ({"rate": math.inf}, "rate=inf; expected a number above 0"),
    ({"decay": 1.0}, r"decay=1.0; expected a number in \[0, 1\)"),
    ({"decay": math.nan}, r"decay=nan; expected a number in \[0, 1\)"),
    ({"weight": -1.0}, "weight=-1.0; expected at least 0"),
    ({"scales": (1.0, math.nan)}, r"scales\[1\]=nan; expected a number above 0"),
    ({"pair": (0, 0.0)}, r"pair\[1\]=0.0; expected a number above 0"),
    ({"rates": {"^head": -1.0}}, r"rates\['\^head'\]=-1.0; expected at least 0"),
  ],
)
def test_check_ranges_names_the_field_and_the_range(values, message):
  check_ranges(Settings())
  with pytest.raises(ValueError, match=message):
    check_ranges(Settings(**values))


def test_range_includes_its_limits_unless_told():
  assert all(x in Range(0, 1) for x in (0, 0.5, 1)) and 1.1 not in Range(0, 1)
  assert 0 not in Range(0, 1, above=True) and 1 not in Range(0, 1, below=True)
  assert str(Range(0, 1, above=True)) == "a number in (0, 1]"


@pytest.mark.parametrize(
  "key, value",
  [
    ("seed", -1),
    ("train.batch_size", 0),
    ("eval.every", -5),
    ("checkpoint.every", -1),
    ("checkpoint.keep", 0),
    ("optimizer.predictor.learning_rate", -1.0),
    ("optimizer.predictor.momentum", 2.0),
    ("optimizer.predictor.weight_decay", -1.0),
    ("optimizer.predictor.ema_decay", 1.5),
    ("optimizer.predictor.power", -1.0),
    ("optimizer.predictor.warmup_steps", -1),
    ("optimizer.predictor.lr_multipliers", {"^head": -1.0}),
    ("predictor.levels", 0),
    ("predictor.width", 0),
    ("predictor.stride", 0),
    ("terms.pixel.weight", -1.0),
    ("terms.pixel.weight", math.nan),
    ("tasks.segmentation.weight", math.inf),
  ],
)
def test_build_experiment_refuses_numbers_out_of_range(key, value):
  with pytest.raises(ValueError, match=rf"{key}[^ ]*( is |=).*; expected "):
    build_experiment(small.config("iid", **{key: value}))


@pytest.mark.parametrize("metric", ["segmentation/miou", "depth/rel", "segmentation/boundary/f"])
def test_build_experiment_refuses_to_rank_checkpoints_by_what_is_not_computed(metric):
  with pytest.raises(ValueError, match=rf"checkpoint.metric '{metric}' is unknown; .*best: segm"):
    build_experiment(small.config("iid", **{"checkpoint.metric": metric}))
  extra = {"tasks.segmentation.extra_metrics": ("boundary",)}
  ranked = small.config("iid", **extra, **{"checkpoint.metric": "segmentation/boundary/boundary_f"})
  build_experiment(ranked)


@pytest.mark.parametrize("metric", ["depth/rel", "normals/mean"])
def test_build_experiment_refuses_to_rank_checkpoints_by_errors(metric):
  config = small.config("iid,depth+normals", **{"checkpoint.metric": metric})
  with pytest.raises(
    ValueError, match=f"'{metric}' is an error .* best: depth/delta_1.25, .*within"
  ):
    build_experiment(config)


@pytest.mark.parametrize("term", [Pixel, Structure, Affinity, Adversarial])
def test_game_refuses_terms_with_negative_weights(term):
  with pytest.raises(ValueError, match=r"weight=-0\.5; expected at least 0"):
    games.game(pixel=Pixel(), a=term(weight=-0.5))


def test_ramp_refuses_negative_weights():
  with pytest.raises(ValueError, match="start=-1.0; expected at least 0"):
    Ramp(-1.0, 1.0, shape="linear")
