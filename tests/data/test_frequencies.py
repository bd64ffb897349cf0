"""The classes' shares and the smallest image, and that a run counts them where it needs them."""

import numpy as np
import pytest

from asmjax.batch import UNLABELED
from asmjax.config.build import build_experiment, build_game
from asmjax.data.descriptor import Descriptor
from asmjax.data.frequencies import class_shares, smallest_diagonal
from asmjax.data.transforms import Augment
from tests.helpers import small_configs as small
from tests.helpers.list_source import ListSource

CLASSES = 3


DESCRIPTOR = Descriptor(
  "labels", ("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), ("train",), frozenset({"label"})
)


def label_source(labels):
  """Source of labels and images of their sizes; None is a file that cannot be read."""
  examples = [
    ValueError(f"{index}.png is cut")
    if label is None
    else {"label": label, "image": np.zeros((*label.shape, 3), np.uint8)}
    for index, label in enumerate(labels)
  ]
  return ListSource(examples, DESCRIPTOR)


def random_labels(count=12):
  """Maps of several sizes and frequencies, with ids that are no class."""
  rng = np.random.default_rng(0)
  ids = np.array([0, 1, 2, 7, UNLABELED], np.int32)
  return tuple(
    rng.choice(ids, rng.integers(1, 6, 2), p=rng.dirichlet(np.ones(len(ids)))) for _ in range(count)
  )


def oracle(labels):
  """The mean over images with any class, pixel by pixel."""
  shares = []
  for label in labels:
    counts = [0] * CLASSES
    for row in label.tolist():
      for c in row:
        if c < CLASSES:
          counts[c] += 1
    if sum(counts):
      shares.append([count / sum(counts) for count in counts])
  return np.mean(shares, axis=0)


def test_class_shares_agree_with_oracle():
  labels = random_labels()
  shares = class_shares(label_source(labels), CLASSES)
  assert shares.dtype == np.float64
  np.testing.assert_allclose(shares, oracle(labels), rtol=1e-12)
  assert shares.sum() == pytest.approx(1, abs=1e-12)


def test_class_shares_weigh_labeled_images_equally():
  small_label, large = np.array([[0]], np.int32), np.full((9, 9), 1, np.int32)
  blank, foreign = np.full((2, 2), UNLABELED, np.int32), np.full((2, 2), CLASSES, np.int32)
  mixed = np.array([[2, 2, 2, 0], [UNLABELED, UNLABELED, UNLABELED, CLASSES]], np.int32)
  source = label_source((small_label, blank, large, foreign, mixed))
  np.testing.assert_allclose(class_shares(source, CLASSES), [1.25 / 3, 1 / 3, 0.75 / 3], rtol=1e-12)


def test_class_shares_raise_or_skip_errors():
  labels = random_labels()
  source = label_source((*labels, None))
  with pytest.raises(ValueError, match="12.png is cut"):
    class_shares(source, CLASSES)
  np.testing.assert_array_equal(
    class_shares(source, CLASSES, on_error="skip"), class_shares(label_source(labels), CLASSES)
  )


@pytest.mark.parametrize("labels", [(), (np.full((2, 2), UNLABELED, np.int32),)])
def test_class_shares_refuse_split_without_labels(labels):
  with pytest.raises(ValueError, match="no example of split 'train' of labels has a labeled pix"):
    class_shares(label_source(labels), CLASSES)


def test_build_experiment_computes_class_shares_of_training_images():
  config = small.config("iid", **{"terms.pixel.balanced": 0.5})
  run = build_experiment(config)
  term = run.game.terms["pixel"]
  classes = run.game.tasks["segmentation"].classes
  assert len(term.shares) == len(classes) and sum(term.shares) == pytest.approx(1)
  labels = [run.source[index]["label"] for index in range(len(run.source))]
  expected = [np.mean([(label == c).mean() for label in labels]) for c in range(len(classes))]
  np.testing.assert_allclose(term.shares, expected, rtol=1e-9)
  assert build_game(config, run.descriptor).terms["pixel"].shares == ()


@pytest.mark.parametrize("balanced, shares", [(0.0, ()), (0.5, (0.2, *[0.1] * 8))])
def test_build_experiment_skips_class_shares_given_or_not_needed(balanced, shares, monkeypatch):
  def read(*_, **__):
    raise AssertionError("the training images were read")

  monkeypatch.setattr("asmjax.config.build.class_shares", read)
  changes = {"terms.pixel.balanced": balanced, "terms.pixel.shares": shares}
  assert build_experiment(small.config("iid", **changes)).game.terms["pixel"].shares == shares


def test_build_experiment_passes_error_policy_to_class_shares(monkeypatch):
  policies = []

  def count(source, classes, *, on_error):
    policies.append(on_error)
    return np.full(classes, 1 / classes)

  monkeypatch.setattr("asmjax.config.build.class_shares", count)
  for policy in ("raise", "skip"):
    build_experiment(
      small.config("iid", **{"terms.pixel.balanced": 0.5, "data.loader.on_error": policy})
    )
  assert policies == ["raise", "skip"]


def test_smallest_diagonal_is_of_resized_images():
  source = label_source((np.zeros((30, 40)), np.zeros((60, 25)), None, np.zeros((80, 60))))
  diagonal = lambda resize: smallest_diagonal(
    source, Augment((60, 80), resize).output_size, on_error="skip"
  )
  assert diagonal("none") == 50 and diagonal("stretch") == 100
  assert diagonal("letterbox") == np.hypot(60, 25)  # The others become 60x80 and 60x45.
  with pytest.raises(ValueError, match="2.png is cut"):
    smallest_diagonal(source, Augment((60, 80)).output_size)
  with pytest.raises(ValueError, match="no example of split 'train' of labels can be read"):
    smallest_diagonal(label_source((None,)), Augment((60, 80)).output_size, on_error="skip")


@pytest.mark.parametrize(
  "changes, theta",
  [
    ({"data.eval_size": (20, 24)}, 5 / np.hypot(16, 16)),
    ({"data.eval_size": (24, 24), "data.eval_resize": "letterbox"}, 5 / np.hypot(24, 24)),
    ({"data.eval_size": (30, 40), "data.eval_resize": "stretch"}, 5 / 50),
    ({"tasks.segmentation.bf_tolerance": 0.0075}, 0.0075),
  ],
)
def test_build_experiment_sets_bf_tolerance_to_5_pixels_of_smallest_image(changes, theta):
  details = {"tasks.segmentation.extra_metrics": ("bf",)}
  run = build_experiment(small.config("iid", **changes, **details))
  assert run.game.tasks["segmentation"].bf_tolerance == pytest.approx(theta)
  assert build_experiment(small.config("iid")).game.tasks["segmentation"].bf_tolerance == 0
