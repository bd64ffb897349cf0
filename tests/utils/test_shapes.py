import inspect

import jax
import numpy as np
import pytest

from asmjax.losses import affinity_loss, cross_entropy
from asmjax.metrics import ConfusionMatrix
from asmjax.utils.shapes import check_shapes


def test_check_shapes_accepts_what_fits_and_skips_none():
  maps, ids = np.ones((2, 4, 6, 3)), np.ones((2, 4, 6))
  check_shapes(maps=(maps, "n h w c"), ids=(ids, "n h w"), mask=(None, "n h w 1"))
  check_shapes(maps=(maps, "*shape c"), ids=(ids, "*shape"), vectors=(maps, "*shape 3"))


@pytest.mark.parametrize(
  "shapes, message",
  [
    ({"a": ((2, 4), "n h w")}, r"^a has shape \(2, 4\); expected \(n, h, w\)$"),
    (
      {"a": ((2, 4, 6, 3), "n h w c"), "b": ((2, 5, 6), "n h w")},
      r"^b has shape \(2, 5, 6\); expected \(n, h, w\) = \(2, 4, 6\), by a \(2, 4, 6, 3\)$",
    ),
    ({"a": ((2, 4), "n 3")}, r"^a has shape \(2, 4\); expected \(n, 3\) = \(n, 3\)$"),
    (
      {"a": ((2, 4, 3), "*shape c"), "b": ((2,), "*shape")},
      r"^b has shape \(2,\); expected \(\*shape\) = \(2, 4\), by a \(2, 4, 3\)$",
    ),
    ({"a": ((), "*shape c")}, r"^a has shape \(\); expected \(\*shape, c\)$"),
  ],
)
def test_check_shapes_says_what_was_found_and_expected(shapes, message):
  with pytest.raises(ValueError, match=message):
    check_shapes(**{name: (np.ones(shape), axes) for name, (shape, axes) in shapes.items()})


def test_losses_and_metrics_refuse_what_does_not_fit():
  label = np.zeros((1, 4, 4), int)
  with pytest.raises(ValueError, match=r"label has shape \(1, 4, 4\); expected .* \(1, 2, 2\)"):
    # As users have it: the suite itself checks annotations before.
    jax.eval_shape(inspect.unwrap(cross_entropy), np.ones((1, 2, 2, 3)), label)
  with pytest.raises(ValueError, match=r"targets has shape \(1, 4, 4\); expected .* = \(1, 4\)"):
    ConfusionMatrix.from_batch(label[0, :1], label, num_classes=2)


def test_affinity_loss_refuses_logits():
  logits = np.array([-3.0, 2.5]).reshape(1, 1, 1, 2)
  with pytest.raises(ValueError, match=r"probabilities from -3 to 2.5; .* apply jax.nn.softmax"):
    affinity_loss(logits, np.zeros((1, 1, 1), int))
