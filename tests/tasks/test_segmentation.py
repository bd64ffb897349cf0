"""Pictures of classes."""

import numpy as np

from asmjax.tasks.segmentation import WRONG_COLOR, Segmentation


def test_draw_predictions_shows_errors_over_the_gray_image_and_no_class_there():
  label = np.array([[[0, 1, 255], [1, 0, 0]]])
  predicted = np.array([[[0, 0, 1], [1, 1, 0]]])
  image = np.full((1, 2, 3, 3), (30, 90, 240), np.uint8)
  palette = np.array([(0, 0, 0), (9, 99, 199)], np.uint8)
  task = Segmentation(("floor", "wheel"))
  wrong = predicted != label
  wrong[label == 255] = False
  for truth, gray in (({"label": label, "image": image}, 60), ({"label": label}, 40)):
    error = task.draw_predictions(predicted, truth, palette)["error"]
    assert (error[wrong] == WRONG_COLOR).all() and (error[label == 255] == 255).all()
    assert (error[~wrong & (label != 255)] == gray).all()
