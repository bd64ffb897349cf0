"""What reports compute: curves, published numbers, pictures, cycles, sentences."""

import base64
import json
import re

import numpy as np
import pytest

from asmjax.analysis import curves, report
from asmjax.analysis.formatting import format_change, format_metric, format_value
from asmjax.analysis.report import pictures, published, reproduce
from asmjax.analysis.report.summary import summarize
from asmjax.analysis.runs import Group
from asmjax.config import presets
from asmjax.config.run_dir import describe_environment
from asmjax.lookahead.state import End
from configs import voc
from tests.analysis.test_lookahead import SMALL
from tests.analysis.test_lookahead import write as write_cycles
from tests.helpers import small_configs as small
from tests.helpers.finished_runs import Parsed, decoded, results, table, write_run


@pytest.mark.parametrize("limit", [200, 2_000, 30_000])
def test_large_pictures_are_shrunk_until_they_fit(limit):
  noise = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
  uri = pictures.encode(noise, limit)
  found = decoded(uri)
  assert len(base64.b64decode(uri.partition(",")[2])) <= limit
  if limit == 30_000:
    np.testing.assert_array_equal(found, noise)
  else:
    assert found.shape[1] == pytest.approx(1.5 * found.shape[0], abs=1)
    assert found.mean() == pytest.approx(noise.mean(), abs=8)


def test_other_classes_are_left_out_with_a_note(tmp_path):
  for name in ("own", "other"):
    write_run(tmp_path / name, (0.5, 0.8, 0.03, 0.9, 0.1))
  path = tmp_path / "other" / "results.json"
  path.write_text(path.read_text().replace("iou/floor", "iou/roof"))
  groups = [Group(name, (tmp_path / name,)) for name in ("own", "other")]
  made = report.collect(groups, count=0)
  assert [(each.metric, set(each.values)) for each in made.classes] == [
    ("segmentation/iou", {"own"})
  ]
  assert made.notes == ("other has other classes than own, and is left out of their tables",)


def test_details_of_classes_are_tables_to_be_opened_and_bars_of_changes(tmp_path):
  labels = ("IID", "GAN", "ASM & co")
  for place, label in enumerate(labels):
    write_run(tmp_path / label, (0.5, 0.8, 0.03, 0.9, 0.1 + 0.2 * place))
    path = tmp_path / label / "results.json"
    held = json.loads(path.read_text())
    if label != "GAN":
      held["metrics"] |= {"segmentation/boundary/boundary_precision": 0.6} | {
        f"segmentation/boundary/precision/{name}": value + 0.125 * place
        for name, value in {"wall": 0.5, "<floor>": 0.25}.items()
      }
    path.write_text(json.dumps(held))
  made = report.collect([Group(label, (tmp_path / label,)) for label in labels], count=0)
  assert made.notes[0] == "GAN has no boundary precision of classes"
  (scores,) = made.scores
  assert not [name for name in scores.metrics if name.endswith(("wall", "floor>"))]
  page = report.render(made)
  parsed = Parsed(page)
  assert table(parsed, "boundary precision of each class in per cent") == [
    ["class", "IID", "ASM & co"],
    ["wall", "50.00", "75.00 +25.00"],
    ["<floor>", "25.00", "50.00 +25.00"],
    ["mean of classes", "37.50", "62.50 +25.00"],
  ]
  assert ("summary", "boundary precision of each class") in parsed.texts
  charts_of_classes = [
    each["aria-label"]
    for each in parsed.all("svg")
    if "of each class" in each.get("aria-label", "")
  ]
  assert [text.partition(":")[0] for text in charts_of_classes] == [
    "IoU of each class",
    "boundary precision of each class",
  ]
  fills = re.findall(r"fill: url\(#([^)]+)\)", page)
  ids = {each["id"] for _, each in parsed.elements if "id" in each}
  assert fills and set(fills) <= ids, "the hatches of the second group are not there"


def test_curves_are_means_where_runs_logged_together_and_a_line_each_elsewhere(tmp_path):
  for name, value, steps in (("a", 0.4, (2, 4)), ("b", 0.6, (2, 4)), ("c", 0.8, (1, 3, 4))):
    write_run(tmp_path / name, (value, 0.8, 0.03, 0.9, 0.1), steps=steps)
  find = lambda *names: curves.read_curves(
    5, "A", Group("A", tuple(tmp_path / name for name in names)), "segmentation/mean_iou"
  )
  (together,) = find("a", "b")
  assert together.steps.tolist() == [2, 4] and together.style == 5
  np.testing.assert_allclose(together.values, [[20, 40], [30, 60]])
  first, second = find("a", "c")
  assert first.steps.tolist() == [2, 4] and second.steps.tolist() == [1, 3, 4]
  np.testing.assert_allclose(second.values, [[20, 60, 80]])


def test_long_curves_are_smoothed_to_means_of_neighbors():
  steps, values = np.arange(10, 910, 10), np.random.default_rng(0).normal(size=(2, 90))
  places, means = curves.smooth(steps, values)
  assert len(places) == means.shape[1] == curves.MAX_POINTS and places[-1] == 900
  np.testing.assert_allclose(means[:, 0], values[:, :2].mean(1))
  np.testing.assert_allclose(means[:, -1], values[:, -1])
  same = curves.smooth(steps[:60], values[:, :60])
  np.testing.assert_array_equal(same[1], values[:, :60])


def test_no_two_styles_look_the_same():
  styles = [curves.line_style(index) for index in range(280)]
  assert len({(x["color"], x["linestyle"], x["marker"]) for x in styles}) == 280
  # Without colors too, as long as there are fewer curves than a legend can hold.
  assert len({(x["linestyle"], x["marker"]) for x in styles[:40]}) == 40


def test_cycles_are_told_and_have_no_learning_curve(tmp_path):
  workdir = write_cycles(tmp_path / "load", SMALL)
  found = results(0.74, 0.8, 0.03, 0.9, 0.1) | {
    "lookahead": {"decision": {"examples": 2, "start": 0.7, "end": 0.74}}
  }
  (workdir / "results.json").write_text(json.dumps(found))
  made = report.collect([Group("LoAd", (workdir,))], count=0)
  (cycles,) = made.cycles
  assert cycles.history.best.miou == 0.74 and not made.curves
  parsed = Parsed(report.render(made))
  head, *rows = table(parsed, "Cycles of LoAd, load")
  assert len(rows) == len(SMALL) and rows[0][0] == "g0,0" and "mIoU fell" in rows[0]
  (drawn,) = [each["aria-label"] for each in parsed.all("svg") if "role" in each]
  assert "11 propagations in 5 cycles, from 70.00 % to 74.00 %" in drawn
  assert [end for _, _, end, _ in SMALL].count(End.DROP) == sum("fell" in str(x) for x in rows)
  assert any("from 70.00 % at the start to 74.00 %" in text for _, text in parsed.texts)


def test_published_numbers_stand_beside_runs_of_the_same_method(tmp_path):
  config = small.config("asm", "horse", **{"train.steps": 600}).to_dict()
  (found,) = published.find_published(json.loads(json.dumps(config)), "weizmann_horse")
  assert found.row.values == {"segmentation/mean_iou": pytest.approx(0.7962)}
  assert found.differences[0] == "the paper's split is not published"
  assert "train.steps is 600, in the paper 19200" in found.differences
  assert not published.find_published(config, "scenes")
  write_run(tmp_path / "run", (0.5, 0.8, 0.03, 0.9, 0.1))
  (tmp_path / "run" / "config.json").write_text(json.dumps(config))
  path = tmp_path / "run" / "results.json"
  path.write_text(path.read_text().replace('"scenes"', '"weizmann_horse"'))
  parsed = Parsed(report.render(report.collect([Group("ASM", (tmp_path / "run",))], count=0)))
  _, own, paper = table(parsed, "segmentation: means")
  assert own[:2] == ["ASM", "50.00"] and paper[1:] == ["79.62", "", ""]
  assert paper[0].startswith("Hwang et al. 2019, Table 1 paper, another protocol")


def test_the_papers_own_settings_are_their_protocol():
  config = json.loads(json.dumps(voc.get_config("asm").to_dict()))
  (found,) = published.find_published(config, "pascal_voc")
  assert found.row.network == "pspnet" and found.differences == (
    "terms.structure.normalize is pixel, in the paper none",
    "terms.structure.margin is 0.8, in the paper 0.0",
  )
  config["data"]["classes"] = {"cat": 0}
  assert not published.find_published(config, "pascal_voc")


def test_methods_are_told_by_their_terms():
  known = {
    name: published.published_method(small.config(name).to_dict())
    for name in presets.METHODS
    if name != "gan_branches"
  }
  assert {name for name, found in known.items() if found == "iid"} == {"iid", "iid_released"}
  assert {name for name, found in known.items() if found == "asm"} == {"asm", "asm_binarized"}
  assert known["aaf"] == known["aaf_released"] == "aaf" and known["affinity"] == ""
  assert known["gan_basic"] == "gan" and known["load"] == "load" and known["load_asm"] == ""


def test_what_a_run_recorded_of_its_machine_is_shown(tmp_path):
  write_run(tmp_path / "run", (0.5, 0.8, 0.03, 0.9, 0.1))
  facts = {"command": ["python", "launch/main.py", "--config=a b"], "jax": "0.0.1", "commit": "c0"}
  (tmp_path / "run" / "environment.json").write_text(json.dumps(facts))
  parsed = Parsed(report.render(report.collect([Group("A", (tmp_path / "run",))], count=0)))
  rows = {row[0]: row[1:] for row in table(parsed, "Versions")}
  assert rows[""] == ["A, run", "this report"] and rows["jax"] == [
    "0.0.1",
    describe_environment()["jax"],
  ]
  assert rows["commit"][0] == "c0"
  blocks = [text for tag, text in parsed.texts if tag == "pre"]
  assert "python launch/main.py '--config=a b'" in blocks and reproduce.RERUN not in blocks


@pytest.mark.parametrize(
  ("first", "second", "said"),
  [
    (
      (0.5, 0.6),
      (0.7,),
      "By mean IoU B is best: 70.00 against 55.00 of A (+15.00). "
      "Every run of B is better than every run of A.",
    ),
    (
      (0.5, 0.6),
      (0.59, 0.9),
      "74.50 against 55.00 of A (+19.50). The ranges of their runs overlap.",
    ),
    ((0.5,), (0.7,), "(+20.00). With a single run of each, chance is not ruled out."),
    ((0.7,), (0.5,), "By mean IoU none is better than A, at 70.00."),
  ],
)
def test_the_summary_says_how_sure_it_is(tmp_path, first, second, said):
  groups = []
  for label, values in (("A", first), ("B", second)):
    folders = tuple(tmp_path / f"{label}{index}" for index in range(len(values)))
    for folder, value in zip(folders, values, strict=True):
      write_run(folder, (value, 0.8, 0.03, 0.9, 0.1))
    groups.append(Group(label, folders))
  text = summarize(report.collect(groups, count=0))
  assert text.endswith(said)
  assert text.startswith(
    f"2 groups, {len(first + second)} runs in all, evaluated on the 5 "
    "examples of scenes val after 12 training steps on batches of 8."
  )


def test_words_are_those_of_readers():
  assert format_metric("segmentation/boundary/boundary_f") == "boundary f"
  assert (
    format_metric("depth/image/rel") == "image rel" and format_metric("a/mean_iou") == "mean IoU"
  )
  assert curves._curve_title("pixel/surface_normals") == "pixel loss of surface normals"
  assert curves._curve_title("depth/rms") == "rms of held-out examples"
  assert format_value("a/iou", 0.5) == "50.00" and format_value("a/rms", float("nan")) == "–"
  assert format_change("a/iou", -0.001) == "−0.10" and format_change("a/rms", 0.25) == "+0.250"
