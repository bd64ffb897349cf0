"""Files that appear complete or not at all."""

import json
import math

import numpy as np
import pytest

from asmjax.utils import files


def test_atomic_write_leaves_the_old_file_and_nothing_else_after_an_error(tmp_path):
  path = tmp_path / "folder" / "a.txt"
  with files.atomic_write(path) as temporary:
    temporary.write_text("old")
    assert not path.exists()
  with pytest.raises(KeyError), files.atomic_write(path) as temporary:
    temporary.write_text("new")
    raise KeyError
  assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_write_json_writes_null_for_numbers_that_are_not_finite(tmp_path):
  path = tmp_path / "a.json"
  files.write_json(path, {"a": {"b": math.nan, "c": 0.1}, "d": [1, "x"]})
  assert files.read_json(path) == {"a": {"b": None, "c": 0.1}, "d": [1, "x"]}


def test_read_jsonl_returns_complete_lines(tmp_path):
  path = tmp_path / "a.jsonl"
  assert files.read_jsonl(path) == []
  files.append_jsonl(path, {"step": 1, "loss": math.inf})
  files.append_jsonl(path, "two\nlines")
  with path.open("a") as file:
    file.write(json.dumps({"step": 2})[:-3])
  assert files.read_jsonl(path) == [{"step": 1, "loss": None}, "two\nlines"]


def test_write_npz_keeps_arrays(tmp_path):
  arrays = {"a": np.arange(3), "b/c": np.eye(2, dtype=np.float32)}
  files.write_npz(tmp_path / "a.npz", arrays)
  with np.load(tmp_path / "a.npz") as stored:
    assert set(stored) == set(arrays)
    for key, value in arrays.items():
      np.testing.assert_array_equal(stored[key], value)
