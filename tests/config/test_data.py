"""The section `data`: every setting of augmentation reaches the transform."""

import dataclasses

from asmjax.config.data import Data
from asmjax.data.distortions import Distortions
from asmjax.data.transforms import Augment

DATA = Data(
  "folder",
  (24, 40),
  eval_size=(30, 50),
  resize="letterbox",
  eval_resize="stretch",
  flip=False,
  scale=(0.5, 2.0),
  scale_depth=False,
  random_crop=True,
  max_class_share=0.5,
  distortions=Distortions(rotation=10.0),
)


def test_train_transform_has_every_setting_of_the_section():
  augment, usual = DATA.train_transform((1, 2, 3)), Data("folder", (1, 1))
  shared = {field.name for field in dataclasses.fields(Data)} & {
    field.name for field in dataclasses.fields(Augment)
  }
  assert len(shared) == 9
  for name in shared - {"transform"}:
    assert getattr(augment, name) == getattr(DATA, name) != getattr(usual, name), name
  assert augment.fill == (1, 2, 3)


def test_eval_transform_changes_nothing_but_the_size():
  assert DATA.eval_transform((1, 2, 3)) == Augment((30, 50), "stretch", fill=(1, 2, 3))
  by_default = dataclasses.replace(DATA, eval_size=(), eval_resize="")
  assert by_default.eval_transform((1, 2, 3)) == Augment((24, 40), "letterbox", fill=(1, 2, 3))
