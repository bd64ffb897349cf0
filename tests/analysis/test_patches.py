"""Image patches that excite an analyzer's filters most."""

import numpy as np
import pytest

from asmjax.analysis.analyzer import AnalyzerRun
from asmjax.analysis.patches import save_patches, select_strips
from asmjax.analysis.stimuli import LayerField, Stimuli
from tests.helpers.finished_runs import save_untrained


def test_select_strips_takes_one_of_the_filters_of_the_same_images():
  field = LayerField(np.array([[0, 2], [2, 4]]), np.array([[0, 3], [3, 6]])).scale(2, 1)
  example = np.array([[1, 1, 7, 1], [2, 2, 8, 2], [3, 3, 1, 3]])
  stimuli = Stimuli(
    np.ones((3, 4)), example, np.array([[0, 1, 2, 3]] * 3), np.array([2.0, 3.0, 1.0, -np.inf])
  )
  strips = select_strips(stimuli, field, filters=4)
  assert [strip.title for strip in strips] == ["filter 1", "filter 2"]
  # Two structure pixels high and three wide; a pixel is two rows of the photo.
  np.testing.assert_array_equal(strips[0].windows[0], [[0, 4], [3, 6]])
  np.testing.assert_array_equal(strips[1].windows[2], [[4, 8], [0, 3]])
  assert [strip.title for strip in select_strips(stimuli, field, filters=1)] == ["filter 1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of depth and normals that has made no step."""
  workdir = tmp_path_factory.mktemp("run")
  settings = {"data.options.length": 11, "eval.batch_size": 8}
  save_untrained(workdir, "asm,depth+normals", **settings)
  return AnalyzerRun.reopen(workdir)


def test_save_patches_cuts_photos_and_truths_at_the_same_window(run, saved_figures, tmp_path):
  save_patches(run, tmp_path / "patches.png", filters=1, layers=("conv2",))
  (figure,) = saved_figures
  figure.draw_without_rendering()  # Raises where the layout has no room.
  (part,) = figure.subfigs
  assert part._suptitle.get_text() == "conv2: sees 7 x 7 pixels"
  panels = [axes for axes in part.axes if axes.images]
  photos, depths, normals = (panels[i * 10 : (i + 1) * 10] for i in range(3))
  assert len(panels) == 30 and depths[0].get_ylabel() == "depth"
  originals = [run.experiment.validation[index]["image"] for index in range(11)]
  drawn = set()
  for photo, depth, normal in zip(photos, depths, normals, strict=True):
    for axes in (depth, normal):
      assert (axes.get_xlim(), axes.get_ylim()) == (photo.get_xlim(), photo.get_ylim())
    assert np.ptp(photo.get_xlim()) == np.ptp(photo.get_ylim()) == 7
    pixels = photo.images[0].get_array()
    drawn |= {i for i, image in enumerate(originals) if np.array_equal(image, pixels)}
  assert len(drawn) == 10


def test_save_patches_refuses_unknown_layers(run, tmp_path):
  with pytest.raises(ValueError, match="unknown layers .'conv9'. in .*; known: .*conv3"):
    save_patches(run, tmp_path / "patches.png", layers=("conv9",))
