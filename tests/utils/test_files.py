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
  files.write_json(path, {"a": {"b": math.nan, "c": 0.1}, "d": [1, "x", {"e": math.inf}]})
  assert files.read_json(path) == {"a": {"b": None, "c": 0.1}, "d": [1, "x", {"e": None}]}


def test_read_jsonl_returns_complete_lines(tmp_path):
  path = tmp_path / "a.jsonl"
  assert files.read_jsonl(path) == []
  files.append_jsonl(path, {"step": 1, "loss": math.inf})
  files.append_jsonl(path, "two\nlines")
  with path.open("a") as file:
    file.write(json.dumps({"step": 2})[:-3])
  assert files.read_jsonl(path) == [{"step": 1, "loss": None}, "two\nlines"]


def test_append_jsonl_begins_a_line_after_one_that_was_cut(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"step": 1}\n{"ste')
  files.append_jsonl(path, {"step": 3})
  damage = []
  assert files.read_jsonl(path, on_damage=damage.append) == [{"step": 1}, {"step": 3}]
  (text,) = damage
  assert text.startswith(f"{path}, line 2, is no JSON (") and "\n" not in text


def test_append_jsonl_misses_a_file_that_should_be_there(tmp_path):
  with pytest.raises(files.WriteError, match=r"a\.jsonl cannot be written: No such file"):
    files.append_jsonl(tmp_path / "a.jsonl", {}, create=False)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "content, line, fault",
  [
    (b'{\n"a": 1,\n}', 3, "is no JSON"),
    (b'{\n"a": "\xff"}', 2, r"is no UTF-8 \(byte 0xff\)"),
    (b"[" * 100_000, 1, "is nested too deeply"),
    (b"", 1, "is no JSON"),
  ],
)
def test_read_json_names_the_file_and_the_line(content, line, fault, tmp_path):
  path = tmp_path / "a.json"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=rf"^{path}, line {line}, {fault}"):
    files.read_json(path)


def test_read_json_object_refuses_other_content(tmp_path):
  files.write_json(tmp_path / "a.json", [1])
  with pytest.raises(ValueError, match=r"a\.json holds list \[1\]; expected an object"):
    files.read_json_object(tmp_path / "a.json")


def test_read_jsonl_names_the_file_and_the_line(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"step": 1}\n[2]\n')
  assert files.read_jsonl(path) == [{"step": 1}, [2]]
  with pytest.raises(
    ValueError, match=rf"^{path}, line 2, holds list \[2\]; expected an object with"
  ):
    files.read_jsonl(path, {"step": int})


def test_atomic_write_leaves_errors_of_reading_alone(tmp_path):
  with pytest.raises(FileNotFoundError) as raised, files.atomic_write(tmp_path / "a.txt"):
    (tmp_path / "b.txt").read_text()
  assert not isinstance(raised.value, files.WriteError)


def test_write_npz_keeps_arrays(tmp_path):
  arrays = {"a": np.arange(3), "b/c": np.eye(2, dtype=np.float32)}
  files.write_npz(tmp_path / "a.npz", arrays)
  with np.load(tmp_path / "a.npz") as stored:
    assert set(stored) == set(arrays)
    for key, value in arrays.items():
      np.testing.assert_array_equal(stored[key], value)
