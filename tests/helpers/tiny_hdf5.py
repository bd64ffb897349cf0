"""HDF5 files for tests: by h5py where it is installed, else by a stand-in that reads NPZ files."""

import sys
import types

import numpy as np
import pytest


class _File(dict):
  """What `h5py.File(path, "r")` gives, of an NPZ file."""

  def __init__(self, path, mode):
    assert mode == "r"
    try:
      with np.load(path) as arrays:
        super().__init__(arrays)
    except ValueError as error:
      raise OSError("Unable to open file (file signature not found)") from error

  def __enter__(self):
    return self

  def __exit__(self, *error):
    pass


def choose_library(monkeypatch, name):
  """Lets HDF5 files be read by "h5py", or skips the test without it, or by the "stand-in"."""
  if name == "stand-in":
    monkeypatch.setitem(sys.modules, "h5py", types.SimpleNamespace(File=_File, __name__="h5py"))
  else:
    pytest.importorskip("h5py")


def save(path, arrays):
  """Writes arrays by the library that reads them."""
  import h5py

  path.parent.mkdir(parents=True, exist_ok=True)
  if h5py.File is _File:
    with path.open("wb") as file:
      np.savez(file, **arrays)
    return
  with h5py.File(path, "w") as file:
    for key, value in arrays.items():
      file[key] = value
