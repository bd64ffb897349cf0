"""Boundary metrics against their definitions."""

import dataclasses
import functools

import numpy as np
import pytest

from asmjax.metrics import BFScore, BoundaryIoU, ContourBenchmark, DavisF, Tolerance
from asmjax.metrics.label_maps import fill_void_bands
from tests.oracles import boundary as slow

CLASSES = 4
METRICS = (ContourBenchmark, BFScore, BoundaryIoU, DavisF)
NEAR = Tolerance(1.5, "pixels")


def blobs(seed, count=3, shape=(13, 17), void=0.1):
  """Blocky label maps, and predictions that are them shifted and disturbed."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, CLASSES, (count, -(-shape[0] // 4), -(-shape[1] // 4)))
  label = coarse.repeat(4, 1).repeat(4, 2)[:, : shape[0], : shape[1]].astype(np.int32)
  guess = np.roll(label, rng.integers(-2, 3, 2), (1, 2))
  guess = np.where(rng.random(guess.shape) < 0.05, rng.integers(0, CLASSES, guess.shape), guess)
  label[rng.random(label.shape) < void] = 255
  label[rng.random(label.shape) < void / 5] = CLASSES
  return label, guess


def _filled(shape, value, *places):
  ids = np.full(shape, value)
  for place, c in places:
    ids[place] = c
  return ids


SQUARE = (9, 9)
PLAIN = _filled(SQUARE, 0)
BLOCK = _filled(SQUARE, 0, (np.s_[2:6, 3:7], 1))
ADVERSARIAL = {
  "nothing predicted": (BLOCK, PLAIN),
  "nothing true": (PLAIN, BLOCK),
  "one class": (PLAIN, PLAIN),
  "another class": (PLAIN, PLAIN + 1),
  "all unlabeled": (PLAIN + 255, BLOCK),
  "one image pixel": (np.ones((1, 1), int), np.zeros((1, 1), int)),
  "one row": (np.array([[0, 0, 1, 1, 2, 2]]), np.array([[0, 1, 1, 1, 1, 2]])),
  "single pixels": (_filled(SQUARE, 0, ((4, 4), 1)), _filled(SQUARE, 0, ((4, 5), 1))),
  "thin lines": (_filled(SQUARE, 0, (np.s_[4], 1)), _filled(SQUARE, 0, (np.s_[:, 4], 1))),
  "at the border": (_filled(SQUARE, 0, (np.s_[:3], 2)), _filled(SQUARE, 0, (np.s_[6:], 2))),
  "touching corners": (
    _filled(SQUARE, 0, (np.s_[:4, :4], 1), (np.s_[4:, 4:], 1)),
    _filled(SQUARE, 0, (np.s_[:4], 1)),
  ),
  "unlabeled outline": (_filled(SQUARE, 0, (np.s_[2:7, 2:7], 255), (np.s_[3:6, 3:6], 1)), BLOCK),
  "every pixel a boundary": (np.indices(SQUARE).sum(0) % 2, np.indices(SQUARE).sum(0) % 3),
}
RANDOM = {f"random {seed}": blobs(seed) for seed in range(4)} | {
  "noise": (blobs(9)[0], np.random.default_rng(9).integers(0, CLASSES, (3, 13, 17)))
}
CASES = {name: (x[None], y[None]) for name, (x, y) in ADVERSARIAL.items()} | RANDOM


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "_"))
def maps(request):
  return CASES[request.param]


def score(metric, maps, tolerance=NEAR, classes=CLASSES):
  return metric.from_batch(*maps[::-1], num_classes=classes, tolerance=tolerance)


def numbers(state):
  """All numbers of a state, whatever it nests."""
  arrays = []
  for value in dataclasses.asdict(state).values():
    nested = value.values() if isinstance(value, dict) else [value]
    arrays += [np.asarray(x, np.float64) for x in nested if not isinstance(x, str)]
  return arrays


def assert_same(a, b):
  for x, y in zip(numbers(a), numbers(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reach", (0, 1, 1.5, 2.9))
def test_contour_benchmark_equals_the_oracle(maps, reach):
  state = score(ContourBenchmark, maps, Tolerance(reach, "pixels"))
  counts, image_mean = slow.contour_benchmark(*maps, CLASSES, reach)
  np.testing.assert_array_equal([state.matched, state.predicted, state.true], counts)
  matched, predicted, true = counts
  ratios = [[slow.over(*x) for x in zip(matched, y, strict=True)] for y in (predicted, true)]
  np.testing.assert_allclose(
    [state.compute_by_class()["precision"], state.compute_by_class()["recall"]], ratios
  )
  expected = [slow.f_of(*x) for x in zip(*ratios, strict=True)]
  np.testing.assert_allclose(state.compute_by_class()["f"], expected)
  np.testing.assert_allclose(
    list(state.compute().values()), [*map(slow.mean, (*ratios, expected)), image_mean]
  )


@pytest.mark.parametrize("reach", (0, 1, 2.5))
def test_bf_score_equals_the_oracle(maps, reach):
  state = score(BFScore, maps, Tolerance(reach, "pixels"))
  images, scores = slow.bf(*maps, CLASSES, reach)
  for i, name in enumerate(("precision", "recall", "f")):
    expected = [slow.mean(column) for column in scores[:, i].T]
    np.testing.assert_allclose(state.compute_by_class()[name], expected)
  known = [x for x in images if not np.isnan(x)]
  expected = (np.mean(known), np.std(known)) if known else (np.nan, np.nan)
  np.testing.assert_allclose(list(state.compute().values()), expected, atol=1e-12)


@pytest.mark.parametrize("reach", (1, 3))
def test_boundary_iou_equals_the_oracle(maps, reach):
  state = score(BoundaryIoU, maps, Tolerance(reach, "pixels"))
  expected = slow.boundary_iou(*maps, CLASSES, reach)
  np.testing.assert_allclose(state.compute_by_class()["iou"], expected)
  np.testing.assert_allclose(state.compute()["boundary_iou"], slow.mean(expected))


@pytest.mark.parametrize("reach", (0, 1, 3))
def test_davis_f_equals_the_oracle(maps, reach):
  state = score(DavisF, maps, Tolerance(reach, "pixels"))
  expected = slow.davis(*maps, CLASSES, reach)
  np.testing.assert_allclose(state.compute_by_class()["f"], expected)
  np.testing.assert_allclose(state.compute()["davis_f"], slow.mean(expected))


def test_contour_benchmark_is_stricter_than_the_closest_match():
  """A thick prediction around a thin line: all of it is near, but only a part finds a partner."""
  line = _filled((20, 20), 0, (np.s_[10], 1))
  noise = _filled((20, 20), 0, (np.s_[9:12:2], 1))
  one_to_one = score(ContourBenchmark, (line, noise), classes=2)
  closest = score(BFScore, (line, noise), classes=2)
  assert closest.compute_by_class()["precision"][1] == closest.compute_by_class()["recall"][1] == 1
  assert (
    one_to_one.compute_by_class()["precision"][1],
    one_to_one.compute_by_class()["recall"][1],
  ) == (0.5, 1)


@pytest.mark.parametrize("metric", (ContourBenchmark, BFScore))
def test_boundary_metrics_swap_precision_and_recall_with_truth_and_prediction(metric):
  label, guess = blobs(3, count=1, void=0)
  forth, back = score(metric, (label, guess)), score(metric, (guess, label))
  np.testing.assert_allclose(
    forth.compute_by_class()["precision"], back.compute_by_class()["recall"]
  )
  np.testing.assert_allclose(
    forth.compute_by_class()["recall"], back.compute_by_class()["precision"]
  )
  np.testing.assert_allclose(forth.compute_by_class()["f"], back.compute_by_class()["f"])
  assert 0 < np.mean(forth.compute_by_class()["f"]) < 1 and np.any(
    forth.compute_by_class()["precision"] != forth.compute_by_class()["recall"]
  )


@pytest.mark.parametrize("metric", (BoundaryIoU, DavisF))
def test_boundary_iou_and_davis_f_are_symmetric(metric):
  label, guess = blobs(3, void=0)
  assert_same(score(metric, (label, guess)), score(metric, (guess, label)))


TURNS = {
  "flip": lambda x: x[:, :, ::-1],
  "upside down": lambda x: x[:, ::-1],
  "transpose": lambda x: x.transpose(0, 2, 1),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("metric", METRICS)
def test_boundary_metrics_are_invariant_to_flips_and_turns(metric, turn):
  label, guess = blobs(4)
  if metric is DavisF and turn != "transpose":
    # Its contour lies on the left of and above steps; the last row and column have no right side.
    label, guess = (np.pad(x, [(0, 0), (4, 4), (4, 4)]) for x in (label, guess))
    label[label == 255] = 0
    label[label == CLASSES] = 0
  assert_same(
    score(metric, (label, guess)), score(metric, (TURNS[turn](label), TURNS[turn](guess)))
  )


@pytest.mark.parametrize("metric", METRICS)
def test_boundary_metrics_follow_the_order_of_classes(metric):
  label, guess = blobs(5)
  order = np.array([2, 0, 3, 1, *range(CLASSES, 256)])
  state, renamed = score(metric, (label, guess)), score(metric, (order[label], order[guess]))
  read = "iou" if metric is BoundaryIoU else "f"
  by_class = state.compute_by_class()[read]
  np.testing.assert_allclose(renamed.compute_by_class()[read][order[:CLASSES]], by_class)
  assert len(set(by_class)) == CLASSES
  for name, value in state.compute().items():
    assert renamed.compute()[name] == pytest.approx(value)


@pytest.mark.parametrize("metric", METRICS)
def test_boundary_metrics_merge_associatively_to_the_full_batch(metric):
  label, guess = blobs(6, count=6)
  label[2] = 255  # An image without a score.
  shards = [score(metric, (label[i], guess[i])) for i in range(6)]
  batch = score(metric, (label, guess))
  a, b, c = shards[0].merge(shards[1]), shards[2].merge(shards[3]), shards[4].merge(shards[5])
  empty = metric.empty(CLASSES, tolerance=NEAR)
  for merged in (
    a.merge(b).merge(c),
    a.merge(b.merge(c)),
    c.merge(a).merge(b),
    empty.merge(batch),
    batch.merge(empty),
    functools.reduce(metric.merge, shards),
  ):
    assert_same(merged, batch)
    assert merged.compute() == pytest.approx(batch.compute())


@pytest.mark.parametrize("metric", METRICS)
def test_boundary_metrics_are_1_if_perfect_and_nan_without_labels(metric):
  label, _ = blobs(7)
  perfect = metric.from_batch(label, label, num_classes=CLASSES)
  assert {k: v for k, v in perfect.compute().items() if k != "bf_std"} == pytest.approx(
    dict.fromkeys(set(perfect.compute()) - {"bf_std"}, 1)
  )
  for nothing in (
    metric.empty(CLASSES),
    metric.from_batch(label, label * 0 + 255, num_classes=CLASSES),
  ):
    assert np.isnan(list(nothing.compute().values())).all()


@pytest.mark.parametrize("metric", METRICS)
def test_boundary_metrics_ignore_predictions_in_unlabeled_pixels(metric):
  label, guess = blobs(8, void=0.3)
  unlabeled = (label < 0) | (label >= CLASSES)
  noise = np.random.default_rng(0).integers(-9, 999, label.shape)
  assert_same(
    score(metric, (label, guess)), score(metric, (label, np.where(unlabeled, noise, guess)))
  )


@pytest.mark.parametrize("width", (1, 2, 3, 5))
def test_fill_void_bands_equals_the_oracle(width):
  for seed, void in enumerate((0.3, 0.7, 0.95, 1.0)):
    (label, *_), _ = blobs(seed, void=void)
    labeled = label < CLASSES
    filled = fill_void_bands(label, labeled, width)
    choices = slow.filled(label, labeled, width)
    assert all(filled[place] in choices[place] for place in np.ndindex(label.shape))


@pytest.mark.parametrize(
  ("metric", "least"), [(ContourBenchmark, 0.94), (BFScore, 1), (BoundaryIoU, 0.54), (DavisF, 1)]
)
def test_boundary_metrics_find_boundaries_within_void_bands(metric, least):
  """An object whose outline is unlabeled, as in PASCAL VOC, beside a large unlabeled region."""
  truth = _filled((40, 60), 0, (np.s_[10:30, 10:30], 1))
  label = _filled((40, 60), 0, (np.s_[8:33, 8:33], 255), (np.s_[13:28, 13:28], 1))
  label[:, 45:] = 255
  options = {"num_classes": 2, "tolerance": NEAR, "void_band": 5}
  score_of = lambda prediction: metric.from_batch(prediction, label, **options)
  first = lambda state: next(iter(state.compute().values()))
  worse = score_of(np.roll(truth, 4, 1))
  # Corners are rounded, and the boundary is known to a pixel.
  assert first(score_of(truth)) >= least and first(worse) < least - 0.15
  complete = fill_void_bands(label, label < 2, 5)
  assert (complete[:, 45:] == 255).all() and (complete[:, :43] < 2).all()
  assert_same(worse, metric.from_batch(np.roll(truth, 4, 1), complete, **options))
  assert "up to 5 px wide have the nearest class" in worse.protocol
  assert_same(metric.empty(2, tolerance=NEAR, void_band=5).merge(worse), worse)


def test_boundary_metrics_see_no_boundary_at_unlabeled_pixels():
  label = _filled(SQUARE, 0, (np.s_[:, 4], 255), (np.s_[:, 5:], 1))
  state = score(ContourBenchmark, (label, np.where(np.arange(9) < 4, 0, 1)[None].repeat(9, 0)))
  assert not state.true.any() and not state.predicted.any()
  assert (
    BoundaryIoU.from_batch(PLAIN, _filled(SQUARE, 255, (np.s_[4, 4], 0)), num_classes=1).union == 0
  )


def test_tolerance_follows_the_diagonal_and_rounds_as_the_benchmarks_do():
  shape = (375, 500)  # Diagonal 625.
  assert Tolerance(0.0075).pixels(shape) == pytest.approx(4.6875)
  line, far = (_filled(shape, 0, (np.s_[:, 200 + i :], 1)) for i in (0, 5))
  near = _filled(shape, 0, (np.s_[:, 204:], 1))
  assert ContourBenchmark.from_batch(near, line, num_classes=2).compute()["boundary_f"] == 1
  assert ContourBenchmark.from_batch(far, line, num_classes=2).compute()["boundary_f"] == 0
  assert BFScore.from_batch(near, line, num_classes=2).compute()["bf"] == 1
  assert BFScore.from_batch(far, line, num_classes=2).compute()["bf"] == 0
  # 0.8 % of 625 are 5 pixels; 0.81 % are 5.06 and rounded up.
  six = _filled(shape, 0, (np.s_[:, 206:], 1))
  assert DavisF.from_batch(six, line, num_classes=2).compute()["davis_f"] == 0
  assert (
    DavisF.from_batch(six, line, num_classes=2, tolerance=Tolerance(0.0081)).compute()["davis_f"]
    == 1
  )
  for part, reach in ((0.02, 12), (0.03, 19)):  # 12.5 is rounded to even, 18.75 to the nearest.
    band = BoundaryIoU.from_batch(line * 0, line * 0, num_classes=1, tolerance=Tolerance(part))
    assert band.union == 375 * 500 - (375 - 2 * reach) * (500 - 2 * reach)


LARGE_AND_SMALL = [blobs(12, shape=(24, 32)), blobs(13, shape=(12, 16))]


def padded(pairs, shape=(25, 32)):
  """One stack of maps of several sizes with anything predicted in the padding, and the sizes."""
  rng = np.random.default_rng(0)
  images = [pair for stack in pairs for pair in zip(*stack, strict=True)]
  label = np.full((len(images), *shape), 255)
  guess = rng.integers(0, CLASSES, label.shape)
  for i, (true, predicted) in enumerate(images):
    height, width = true.shape
    label[i, :height, :width], guess[i, :height, :width] = true, predicted
  return label, guess, np.array([true.shape for true, _ in images], np.int32)


@pytest.mark.parametrize("pixels", (1, 1.5))
def test_bf_score_of_two_sizes_has_the_same_part_of_the_diagonal_as_tolerance(pixels):
  theta = Tolerance.at_smallest(pixels, 20)  # The diagonals are 20 and 40.
  state = functools.reduce(BFScore.merge, (score(BFScore, maps, theta) for maps in LARGE_AND_SMALL))
  parts = [
    slow.bf(*maps, CLASSES, reach)
    for maps, reach in zip(LARGE_AND_SMALL, (2 * pixels, pixels), strict=True)
  ]
  images = [x for part, _ in parts for x in part]
  scores = np.concatenate([part for _, part in parts])
  np.testing.assert_allclose(list(state.compute().values()), [np.mean(images), np.std(images)])
  for i, name in enumerate(("precision", "recall", "f")):
    expected = [slow.mean(column) for column in scores[:, i].T]
    np.testing.assert_allclose(state.compute_by_class()[name], expected)
  fixed = [np.mean(slow.bf(*maps, CLASSES, pixels)[0]) for maps in LARGE_AND_SMALL]
  assert state.compute()["bf"] > np.mean(fixed) + 0.05, "the tolerance does not grow"
  assert f"theta = {pixels / 20:g} of the image diagonal" in state.protocol


@pytest.mark.parametrize("metric", METRICS)
def test_boundary_metrics_are_invariant_to_padding(metric):
  label, guess, sizes = padded(LARGE_AND_SMALL)
  relative = Tolerance(0.06)
  state = metric.from_batch(guess, label, num_classes=CLASSES, tolerance=relative, sizes=sizes)
  alone = (score(metric, maps, relative) for maps in LARGE_AND_SMALL)
  assert_same(state, functools.reduce(metric.merge, alone))
  without = metric.from_batch(guess, label, num_classes=CLASSES, tolerance=relative)
  assert without.compute() != pytest.approx(state.compute())


@pytest.mark.parametrize("sizes", ([[13, 17]] * 2, [[13, 18]] * 3, [[0, 17]] * 3))
def test_boundary_metrics_refuse_sizes_beyond_the_maps(sizes):
  with pytest.raises(ValueError, match=r"sizes \[\[.* of 3 maps of 13x17; expected a height"):
    BFScore.from_batch(*blobs(1)[::-1], num_classes=CLASSES, sizes=sizes)


@pytest.mark.parametrize("metric", (ContourBenchmark, BoundaryIoU, DavisF))
def test_boundary_metrics_are_means_over_classes(metric):
  state, prefix = score(metric, blobs(5)), {ContourBenchmark: "boundary_", DavisF: "davis_"}
  for name, values in state.compute_by_class().items():
    assert values.shape == (CLASSES,) and len(set(values)) == CLASSES
    mean = state.compute()[prefix.get(metric, "boundary_") + name]
    assert mean == pytest.approx(slow.mean(values))


def test_boundary_metrics_of_classes_in_one_map_alone():
  label, guess = _filled(SQUARE, 0, (np.s_[:3], 1)), _filled(SQUARE, 0, (np.s_[:3], 2))
  contour, bf, davis = (score(m, (label, guess)) for m in (ContourBenchmark, BFScore, DavisF))
  np.testing.assert_array_equal(contour.compute_by_class()["f"], [1, 0, 0, np.nan])
  np.testing.assert_array_equal(contour.compute_by_class()["precision"], [1, np.nan, 0, np.nan])
  np.testing.assert_array_equal(contour.compute_by_class()["recall"], [1, 0, np.nan, np.nan])
  np.testing.assert_array_equal(bf.compute_by_class()["f"], [1, 0, np.nan, np.nan])
  assert bf.compute() == {"bf": 0.5, "bf_std": 0}
  np.testing.assert_array_equal(davis.compute_by_class()["f"], [1, 0, 0, np.nan])


@pytest.mark.parametrize("metric", METRICS)
def test_boundary_metrics_refuse_bad_input_and_name_their_tolerance(metric):
  label, guess = blobs(1)
  with pytest.raises(ValueError, match=r"\(3, 13, 17\).*\(2, 13, 17\)"):
    metric.from_batch(guess[:2], label, num_classes=CLASSES)
  with pytest.raises(ValueError, match=r"predicted id 7; expected ids in \[0, 4\)"):
    metric.from_batch(guess * 0 + 7, label, num_classes=CLASSES)
  with pytest.raises(ValueError, match="1.5 px and 0.1 of the image diagonal"):
    score(metric, (label, guess)).merge(metric.empty(CLASSES, tolerance=Tolerance(0.1)))
  with pytest.raises(ValueError, match="void bands of 0 and 3 px"):
    score(metric, (label, guess)).merge(metric.empty(CLASSES, tolerance=NEAR, void_band=3))
  with pytest.raises(ValueError, match="of other numbers of classes"):
    score(metric, (label, guess)).merge(metric.empty(1, tolerance=NEAR))
  with pytest.raises(ValueError, match="void_band=-1; expected a width in pixels"):
    metric.from_batch(guess, label, num_classes=CLASSES, void_band=-1)
  assert "1.5 px" in score(metric, (label, guess)).protocol


def test_tolerance_refuses_unknown_units_and_negative_amounts():
  with pytest.raises(ValueError, match="'meters'.*diagonal, pixels"):
    Tolerance(1, "meters")
  with pytest.raises(ValueError, match="-1"):
    Tolerance(-1)
