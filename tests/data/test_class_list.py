"""Lists of classes in YAML and CSV, and every mistake in one that must be named."""

import pytest

from asmjax.data.class_list import read_classes
from tests.helpers.class_lists import CSV, YAML


def test_read_classes_agrees_for_yaml_and_csv(tmp_path):
  (tmp_path / "a.yaml").write_text(YAML)
  (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
  assert read_classes(tmp_path / "a.yaml") == read_classes(tmp_path / "a.csv")


def test_read_classes_numbers_and_colors_bare_names(tmp_path):
  (tmp_path / "a.yaml").write_text("classes: [{name: x}, {name: y}, {name: z}]")
  (tmp_path / "a.csv").write_text("name\nx\ny\nz\n")
  classes = read_classes(tmp_path / "a.yaml")
  assert classes == read_classes(tmp_path / "a.csv")
  assert classes.names == ("x", "y", "z") and len(set(classes.palette)) == 3
  assert classes.by_id == {0: 0, 1: 1, 2: 2, 255: 255} and classes.by_color == {}


def test_read_classes_generates_distinct_colors_for_255_classes(tmp_path):
  (tmp_path / "a.csv").write_text("name\n" + "\n".join(f"c{index}" for index in range(255)))
  assert len(set(read_classes(tmp_path / "a.csv").palette)) == 255
  (tmp_path / "a.csv").write_text("name\n" + "\n".join(f"c{index}" for index in range(256)))
  with pytest.raises(ValueError, match=r"a\.csv has 256 classes; expected 1\.\.255"):
    read_classes(tmp_path / "a.csv")


def test_read_classes_numbers_plain_names(tmp_path):
  short, long = tmp_path / "short.yaml", tmp_path / "long.yaml"
  short.write_text("classes: [ground, road]")
  long.write_text("classes: [{name: ground, id: 0}, {name: road, id: 1}]")
  assert read_classes(short) == read_classes(long)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", r"no list under `classes`"),
    ("- {name: x}", r"no list under `classes`"),
    ("classes: []", r"has 0 classes; expected 1\.\.255"),
    ("classes: [7]", r"class 1 is 7; expected `classes: \[background, wheel\]`"),
    ("classes: [{id: 1}]", r"class 1 is \{'id': 1\}; expected `classes: \[background, wheel\]`"),
    ("classes: [{name: x}]\nvoid: [1]", r"unknown key 'void'; known: classes, ignored"),
    ("classes: [{name: x, tint: [0, 0, 0]}]", r"class 1 has the unknown key 'tint'; known: na"),
    ("classes: [{name: x}, {name: x}]", r"class 2: name 'x' is taken by .*class 1"),
    ("classes: [{name: no}]", r"class 1: name is False; expected text \(in quotes\?\)"),
    ("classes: [{name: }]", r"class 1: name is ''; expected text"),
    ("classes: [{name: x, id: 1}, {name: y, id: 1}]", r"class 2: id 1 is taken by .*class 1"),
    ("classes: [{name: x, id: 1}, {name: y}]", r"class 2 has no id; expected one for all classes"),
    ("classes: [{name: x, id: -1}]", r"class 1: id is -1; expected a whole number in 0\.\.65535"),
    ("classes: [{name: x, id: 1.0}]", r"id is 1\.0; expected a whole"),
    ("classes: [{name: x, id: yes}]", r"id is True; expected a whole"),
    ("classes: [{name: x, color: [0, 0, 256]}]", r"color is \[0, 0, 256\]; expected three whole"),
    ("classes: [{name: x, color: [0, 0]}]", r"color is \[0, 0\]; expected three whole"),
    ("classes: [{name: x, color: red}]", r"color is 'red'; expected three whole"),
    (
      "classes: [{name: x, color: [0, 0, 1]}, {name: y, color: [0, 0, 1]}]",
      r"class 2: color \(0, 0, 1\) is taken by .*class 1",
    ),
    ("classes: [{name: x, color: [0, 0, 1]}, {name: y}]", r"class 2 has no color; expected one"),
    ("classes: [{name: x}]\nignored: 255", r"ignored is 255; expected a list"),
    ("classes: [{name: x}]\nignored: [void]", r"ignored, entry 1: id is 'void'; expected a whole"),
    ("classes: [{name: x}]\nignored: [null]", r"ignored, entry 1 is empty"),
    ("classes: [{name: x}]\nignored: [1, 0]", r"ignored, entry 2: id 0 is taken by .*class 1"),
    (
      "classes: [{name: x, color: [0, 0, 1]}]\nignored: [[0, 0, 1]]",
      r"ignored, entry 1: color \(0, 0, 1\) is taken by .*class 1",
    ),
    ("classes: [{name: x}", r"is no YAML: .*line 1"),
  ],
)
def test_read_classes_names_the_place_of_an_error_in_yaml(tmp_path, text, message):
  (tmp_path / "a.yaml").write_text(text)
  with pytest.raises(ValueError, match=r"(?s)a\.yaml.*" + message):
    read_classes(tmp_path / "a.yaml")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", r"line 1 is ; expected name,id,r,g,b"),
    ("id,r,g,b\n1,2,3,4", r"line 1 is id,r,g,b; expected name,id,r,g,b"),
    ("name,r,g\nx,1,2", r"line 1 is name,r,g; expected"),
    ("name,color\nx,red", r"line 1 has the unknown key 'color'; known: name, id, r, g, b"),
    ("name,id\nx,1\n\ny,1\n", r"line 4: id 1 is taken by .*line 2"),
    ("name,id\nx,one\n", r"line 2: id is 'one'; expected a whole number in 0\.\.65535"),
    ("name,r,g,b\nx,1,2,300\n", r"line 2: color is \[1, 2, 300\]; expected three whole"),
    ("name,r,g,b\nx,1,,3\n", r"line 2: color is \[1, None, 3\]; expected three whole"),
    ("name,id\nx,1,2\n", r"line 2 has 3 cells; expected 2"),
    ("name,id\nx,1\n,\n", r"line 3 is empty; expected a name, an id or a color"),
  ],
)
def test_read_classes_names_the_line_of_an_error_in_csv(tmp_path, text, message):
  (tmp_path / "a.csv").write_text(text)
  with pytest.raises(ValueError, match=r"a\.csv.*" + message):
    read_classes(tmp_path / "a.csv")


def test_read_classes_refuses_unknown_suffix_and_encoding(tmp_path):
  with pytest.raises(ValueError, match=r"a\.txt is '\.txt'; expected one of \.yaml, \.yml, \.csv"):
    read_classes(tmp_path / "a.txt")
  (tmp_path / "a.yaml").write_bytes("classes: [{name: Straße}]".encode("latin-1"))
  with pytest.raises(ValueError, match=r"a\.yaml is no text"):
    read_classes(tmp_path / "a.yaml")


def test_read_classes_ignores_255_in_csv_by_default(tmp_path):
  (tmp_path / "a.csv").write_text("name,id\nground,0\nfigure,255\n")
  with pytest.raises(ValueError, match=r"a\.csv, ignored by default: id 255 is taken by .*line 3"):
    read_classes(tmp_path / "a.csv")
  (tmp_path / "a.csv").write_text("name,id\nground,0\nfigure,255\n,128\n")
  assert read_classes(tmp_path / "a.csv").by_id == {0: 0, 255: 1, 128: 255}


@pytest.mark.parametrize(
  "content, words",
  [
    ("[" * 5000, "nested too deeply"),
    ("{classes: " + "[" * 500 + "]" * 500 + "}", "nested too deeply|class 1 is"),
    ("a: &a [x, x]\nclasses: [*a, *a]", r"aliases \(\*\) are not read"),
    ("classes: &a [*a]", r"aliases \(\*\) are not read"),
    ("classes: [2000-99-99]", "is no YAML: month"),
    (f"classes: [{{name: a, id: {'9' * 5000}}}]", "is no YAML: Exceeds"),
    ('classes: ["a\\nb"]', r"name is 'a\\nb'; expected text"),
    ('classes: ["\\e[31m"]', r"name is .*x1b\[31m'; expected text"),
    ("classes: [{name: a, ? [1, 2] : 3}]", "is no YAML: while constructing"),
  ],
)
def test_read_classes_refuses_hostile_yaml(tmp_path, content, words):
  (tmp_path / "c.yaml").write_text(content)
  with pytest.raises(ValueError, match=words) as caught:
    read_classes(tmp_path / "c.yaml")
  assert str(tmp_path / "c.yaml") in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", ["name,id\na,\u00b2", f"name,id\na,{'9' * 5000}", "name\na\0b"])
def test_read_classes_refuses_hostile_csv(tmp_path, content):
  (tmp_path / "c.csv").write_text(content)
  with pytest.raises(ValueError, match="c.csv"):
    read_classes(tmp_path / "c.csv")
