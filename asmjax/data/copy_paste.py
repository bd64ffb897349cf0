"""Copy-paste of instances from one example onto another (Ghiasi et al. 2021)."""

import numpy as np

from asmjax.data.transforms import Example


def choose_instances(instance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Chooses instances at random, each with probability 1/2; returns their pixels, bool (h, w).

  Args:
    instance: Map of instances, int32 (h, w), 0 = none.
    rng: Generator of the choice.
  """
  ids = np.unique(instance[instance > 0])
  return np.isin(instance, ids[rng.random(len(ids)) < 0.5])


def paste(example: Example, donor: Example, mask: np.ndarray) -> Example:
  """Pastes pixels of another example, with all their truth, at the same place.

  What is pasted lies in front, whatever its depth. Its instances get numbers of their own, above
  those of the example.

  Args:
    example: Example to paste onto.
    donor: Example of the same size and keys.
    mask: Pixels to paste, bool (h, w).
  """
  pasted = {
    key: np.where(mask if value.ndim == 2 else mask[..., None], donor[key], value)
    for key, value in example.items()
  }
  if "instance" in example:
    first = int(example["instance"].max(initial=0))
    # Ids of some data sets are large: numbers from 1 on stay within 32 bits.
    _, numbers = np.unique(donor["instance"], return_inverse=True)
    numbers = first + 1 + numbers.reshape(mask.shape).astype(np.int32)
    numbers = np.where(donor["instance"] > 0, numbers, 0)
    pasted["instance"] = np.where(mask, numbers, example["instance"]).astype(np.int32)
  return pasted
