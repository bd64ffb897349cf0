"""Contents of reports: pictures, classes, cycles, published numbers, sentences."""

import base64
import json
import re

import numpy as np
import pytest

from asmjax.analysis import report
from asmjax.analysis.report import pictures, published, reproduce
from asmjax.analysis.report.summary import summarize_report
from asmjax.analysis.runs import Group
from asmjax.config import methods
from asmjax.config.run_dir import describe_environment
from asmjax.lookahead.state import End
from configs import stanford_background, voc
from tests.helpers import small_configs as small
from tests.helpers.finished_runs import Parsed, decoded, results, table, write_run
from tests.helpers.lookahead_logs import CYCLES, write_log


@pytest.mark.parametrize("limit", [200, 2_000, 30_000])
def test_encode_shrinks_pictures_until_they_fit(limit):
  noise = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
  uri = pictures.encode(noise, limit)
  picture = decoded(uri)
  assert len(base64.b64decode(uri.partition(",")[2])) <= limit
  if limit == 30_000:
    np.testing.assert_array_equal(picture, noise)
  else:
    assert picture.shape[1] == pytest.approx(1.5 * picture.shape[0], abs=1)
    assert picture.mean() == pytest.approx(noise.mean(), abs=8)


def test_read_report_leaves_out_groups_of_different_classes_with_a_note(tmp_path):
  for name in ("own", "other"):
    write_run(tmp_path / name, (0.5, 0.8, 0.03, 0.9, 0.1))
  path = tmp_path / "other" / "results.json"
  path.write_text(path.read_text().replace("iou/floor", "iou/roof"))
  groups = [Group(name, (tmp_path / name,)) for name in ("own", "other")]
  content = report.read_report(groups, count=0)
  assert [(scores.metric, set(scores.values)) for scores in content.classes] == [
    ("segmentation/iou", {"own"})
  ]
  assert content.notes == ("other has other classes than own, and is left out of their tables",)


def test_render_page_has_a_table_and_bars_of_each_metric_by_class(tmp_path):
  labels = ("IID", "GAN", "ASM & co")
  for index, label in enumerate(labels):
    write_run(tmp_path / label, (0.5, 0.8, 0.03, 0.9, 0.1 + 0.2 * index))
    path = tmp_path / label / "results.json"
    changed = json.loads(path.read_text())
    if label != "GAN":
      changed["metrics"] |= {"segmentation/boundary/boundary_precision": 0.6} | {
        f"segmentation/boundary/precision/{name}": value + 0.125 * index
        for name, value in {"wall": 0.5, "<floor>": 0.25}.items()
      }
    path.write_text(json.dumps(changed))
  content = report.read_report([Group(label, (tmp_path / label,)) for label in labels], count=0)
  assert content.notes[0] == "GAN has no boundary precision of classes"
  (scores,) = content.scores
  assert not [name for name in scores.metrics if name.endswith(("wall", "floor>"))]
  page = report.render_page(content)
  parsed = Parsed(page)
  assert table(parsed, "boundary precision of each class in per cent") == [
    ["class", "IID", "ASM & co"],
    ["wall", "50.00", "75.00 +25.00"],
    ["<floor>", "25.00", "50.00 +25.00"],
    ["mean of classes", "37.50", "62.50 +25.00"],
  ]
  assert ("summary", "boundary precision of each class") in parsed.texts
  charts_of_classes = [
    svg["aria-label"] for svg in parsed.all("svg") if "of each class" in svg.get("aria-label", "")
  ]
  assert [text.partition(":")[0] for text in charts_of_classes] == [
    "IoU of each class",
    "boundary precision of each class",
  ]
  fills = re.findall(r"fill: url\(#([^)]+)\)", page)
  ids = {attributes["id"] for _, attributes in parsed.elements if "id" in attributes}
  assert fills and set(fills) <= ids, "the hatches of the second group are missing"


def test_render_page_has_cycles_instead_of_learning_curves_of_lookahead(tmp_path):
  workdir = write_log(tmp_path / "load", CYCLES)
  lookahead_results = results(0.74, 0.8, 0.03, 0.9, 0.1) | {
    "lookahead": {"decision": {"examples": 2, "start": 0.7, "end": 0.74}}
  }
  (workdir / "results.json").write_text(json.dumps(lookahead_results))
  content = report.read_report([Group("LoAd", (workdir,))], count=0)
  (cycles,) = content.cycles
  assert cycles.history.best.miou == 0.74 and not content.curves
  parsed = Parsed(report.render_page(content))
  head, *rows = table(parsed, "Cycles of LoAd, load")
  assert len(rows) == len(CYCLES) and rows[0][0] == "g0,0" and "mIoU fell" in rows[0]
  (description,) = [svg["aria-label"] for svg in parsed.all("svg") if "role" in svg]
  assert "11 propagations in 5 cycles, from 70.00 % to 74.00 %" in description
  assert [end for _, _, end, _ in CYCLES].count(End.DROP) == sum("fell" in str(x) for x in rows)
  assert any("from 70.00 % at the start to 74.00 %" in text for _, text in parsed.texts)


def test_find_published_is_beside_runs_of_the_same_method(tmp_path):
  config = small.config("asm", "horse", **{"train.steps": 600}).to_dict()
  (match,) = published.find_published(json.loads(json.dumps(config)), "weizmann_horse", "val")
  assert match.row.values == {"segmentation/mean_iou": pytest.approx(0.7962)}
  assert match.differences[0] == "the paper's split is not published"
  assert "train.steps is 600, in the paper 19200" in match.differences
  assert not published.find_published(config, "scenes", "val")
  write_run(tmp_path / "run", (0.5, 0.8, 0.03, 0.9, 0.1))
  (tmp_path / "run" / "config.json").write_text(json.dumps(config))
  path = tmp_path / "run" / "results.json"
  path.write_text(path.read_text().replace('"scenes"', '"weizmann_horse"'))
  parsed = Parsed(
    report.render_page(report.read_report([Group("ASM", (tmp_path / "run",))], count=0))
  )
  _, run, paper = table(parsed, "segmentation: fractions")
  assert run[:2] == ["ASM", "50.00"] and paper[1:] == ["79.62", "", ""]
  assert paper[0].startswith("Hwang et al. 2019, Table 1 paper, another protocol")


def test_find_published_compares_the_settings_of_the_paper():
  config = json.loads(json.dumps(voc.get_config("asm").to_dict()))
  (match,) = published.find_published(config, "pascal_voc", "val")
  assert match.row.network == "pspnet" and match.differences == (
    "not all of the paper's settings are compared",
    "terms.structure.normalize is pixel, in the paper none",
    "terms.structure.margin is 0.8, in the paper 0.0",
  )
  other = json.loads(json.dumps(voc.get_config("iid@pspnet_resnet50").to_dict()))
  (match, _) = published.find_published(other, "pascal_voc", "val[:10%]")
  assert match.differences == (
    "not all of the paper's settings are compared",
    "eval.split is val[:10%], in the paper val",
    "predictor.backbone.blocks is [3, 4, 6, 3], in the paper [3, 4, 23, 3]",
  )
  for network in ("fcn_resnet101", "deeplab_v2_resnet101"):
    same = json.loads(json.dumps(voc.get_config(f"iid@{network}").to_dict()))
    assert all(
      match.differences == ("not all of the paper's settings are compared",)
      for match in published.find_published(same, "pascal_voc", "val")
    )
  stanford = json.loads(json.dumps(stanford_background.get_config("cgan").to_dict()))
  (match,) = published.find_published(stanford, "stanford_background", "luc_val")
  assert match.differences[1:] == (
    "eval.split is luc_val, in the paper luc_test",
    "terms.adversarial.inputs is concatenated, in the paper branches",
    "terms.adversarial.weight is 0.01, in the paper 2.0",
  )
  stanford = json.loads(json.dumps(stanford_background.get_config("iid").to_dict()))
  (match,) = published.find_published(stanford, "stanford_background", "luc_test")
  assert len(match.differences) == 1
  config["data"]["classes"] = {"cat": 0}
  assert not published.find_published(config, "pascal_voc", "val")


def test_read_report_compares_by_no_single_class(tmp_path):
  ranking = {"checkpoint.metric": "segmentation/iou/wall"}
  write_run(tmp_path / "run", (0.5, 0.8, 0.03, 0.9, 0.1), **ranking)
  content = report.read_report([Group("A", (tmp_path / "run",))], count=0)
  assert content.metric == "segmentation/mean_iou" and summarize_report(content)


def test_name_published_method_depends_on_the_terms():
  names = {
    name: published.name_published_method(small.config(name).to_dict())
    for name in methods.METHODS
    if name != "gan_branches"
  }
  assert {name for name, method in names.items() if method == "iid"} == {"iid", "iid_released"}
  assert {name for name, method in names.items() if method == "asm"} == {"asm", "asm_binarized"}
  assert names["aaf"] == names["aaf_released"] == "aaf" and names["affinity"] == ""
  assert names["gan_basic"] == "gan" and names["load"] == "load" and names["load_asm"] == ""


def test_render_page_has_the_environment_that_a_run_recorded(tmp_path):
  write_run(tmp_path / "run", (0.5, 0.8, 0.03, 0.9, 0.1))
  environment = {"command": ["asmjax", "train", "--config=a b"], "jax": "0.0.1", "commit": "c0"}
  (tmp_path / "run" / "environment.json").write_text(json.dumps(environment))
  parsed = Parsed(
    report.render_page(report.read_report([Group("A", (tmp_path / "run",))], count=0))
  )
  rows = {row[0]: row[1:] for row in table(parsed, "Versions")}
  assert rows[""] == ["A, run", "this report"] and rows["jax"] == [
    "0.0.1",
    describe_environment()["jax"],
  ]
  assert rows["commit"][0] == "c0"
  blocks = [text for tag, text in parsed.texts if tag == "pre"]
  assert "asmjax train '--config=a b'" in blocks and reproduce.RERUN not in blocks


@pytest.mark.parametrize(
  ("first", "second", "ending"),
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
def test_summarize_report_tells_how_certain_it_is(tmp_path, first, second, ending):
  groups = []
  for label, values in (("A", first), ("B", second)):
    folders = tuple(tmp_path / f"{label}{index}" for index in range(len(values)))
    for folder, value in zip(folders, values, strict=True):
      write_run(folder, (value, 0.8, 0.03, 0.9, 0.1))
    groups.append(Group(label, folders))
  text = summarize_report(report.read_report(groups, count=0))
  assert text.endswith(ending)
  assert text.startswith(
    f"2 groups, {len(first + second)} runs in all, evaluated on the 5 "
    "examples of scenes val after 4 training steps on batches of 8."
  )
