"""HDF5 files for tests."""

import h5py


def save(path, arrays):
  """Writes arrays by their names; a dict of arrays becomes a group."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with h5py.File(path, "w") as file:
    for key, value in arrays.items():
      for name, array in value.items() if isinstance(value, dict) else (("", value),):
        file[f"{key}/{name}".rstrip("/")] = array
