"""Reader of HDF5 files, which MATLAB's newer .mat files are too; needs the extra `hdf5`."""

import pathlib
from collections.abc import Iterable
from types import EllipsisType

import numpy as np

from asmjax.data.image_files import check_exists
from asmjax.utils.extras import naming_extra


def read_arrays(
  path: pathlib.Path, keys: Iterable[str], index: int | EllipsisType = ...
) -> dict[str, np.ndarray]:
  """Reads arrays of an HDF5 file.

  Args:
    path: Path of the file.
    keys: Names of the arrays.
    index: Position along their first axis; by default all of them are read.

  Raises:
    FileNotFoundError: The file does not exist.
    ValueError: It is no HDF5 file, is damaged, lacks an array or the position.
    MissingExtraError: The package has been installed without the extra `hdf5`.
  """
  check_exists(path)
  with naming_extra(f"reading {path.name}"):
    import h5py
  try:
    with h5py.File(path, "r") as file:
      arrays = {}
      for key in keys:
        array = file[key] if key in file else None
        if not isinstance(array, h5py.Dataset):
          raise ValueError(f"{path} has no array {key!r}; known: {', '.join(sorted(file))}")
        arrays[key] = np.asarray(array[index])
      return arrays
  except (OSError, IndexError) as error:  # What is no HDF5 file raises an OSError without its name.
    text = " ".join(str(error).split())
    raise ValueError(f"{path} cannot be read ({text}); expected a whole HDF5 file") from error
