"""Pages of reports: numbers, pictures and HTML, and their behavior in a browser."""

import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from asmjax.analysis import report
from asmjax.analysis.report import contents, page, reproduce
from asmjax.analysis.report.pictures import Gallery
from asmjax.analysis.runs import Group
from asmjax.config.build import build_experiment
from asmjax.train.loop import make_draw_predictions, open_checkpoints
from tests.helpers.finished_runs import Parsed, decoded, table, write_run

STRANGE = '<b>IID</b> & "co"'


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Groups of two runs and of one; the first run of each has a checkpoint."""
  folder = tmp_path_factory.mktemp("runs")
  scores = {
    "iid_0": (0.5, 0.8, 0.03, 0.9, 0.1),
    "iid_1": (0.6, 0.7, 0.05, 0.8, 0.4),
    "asm_0": (0.7, 0.6, None, 0.9, 0.5),
  }
  for seed, (name, values) in enumerate(scores.items()):
    variant = name.partition("_")[0]
    health = (
      {"gradient_norm/structure": 100.0, "gradient_norm_from/structure": 0.1}
      if variant == "asm"
      else {}
    )
    config = write_run(folder / name, values, variant=variant, log=health, seed=seed)
    if seed != 1:
      run = build_experiment(config)
      with open_checkpoints(run, folder / name) as checkpoints:
        checkpoints.save(run.random_state())
  warning = {"step": 3, "warning": "structure: V explodes: 2.21e+03 after 20.1"}
  lines = [warning, {"step": 4, "warning": warning["warning"].replace("20.1", "3")}]
  (folder / "asm_0" / "warnings.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
  return (Group(STRANGE, (folder / "iid_0", folder / "iid_1")), Group("ASM", (folder / "asm_0",)))


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
  """The content of the report on the runs, and its file."""
  path = tmp_path_factory.mktemp("report") / "report.html"
  command = ["asmjax", "report", "--group=a b"]
  return report.write_report(runs, path, count=3, command=command), path


@pytest.fixture(scope="module")
def parsed(written):
  return Parsed(written[1].read_text(encoding="utf-8"))


def test_render_page_has_the_scores_of_the_results(parsed):
  head, first, second = table(parsed, "segmentation: means over runs")
  assert [name.split("\N{NO-BREAK SPACE}") for name in head[1:]] == [
    ["mean IoU", "↑"],
    ["pixel accuracy", "↑"],
    ["calibration error", "↓"],
  ]
  assert first == [STRANGE, "55.00|50.00, 60.00", "75.00|80.00, 70.00", "0.040|0.030, 0.050"]
  assert second == ["ASM", "70.00 +15.00", "60.00 −15.00", "–"]
  head, wall, floor, mean = table(parsed, "IoU of each class")
  assert head == ["class", STRANGE, "ASM"]
  assert wall == ["wall", "85.00", "90.00 +5.00"] and floor == ["floor", "25.00", "50.00 +25.00"]
  assert mean == ["mean of classes", "55.00", "70.00 +15.00"]


def test_format_score_cell_is_bold_if_best_and_prefers_smaller_errors(parsed):
  bold = [text for tag, text in parsed.texts if tag == "b"]
  # An error that one group has is none; the last is the mean of the classes.
  assert bold == ["75.00", "70.00", "90.00", "50.00", "70.00"]
  kinds = [span["class"] for span in parsed.all("span") if "change" in span.get("class", "")]
  assert kinds == ["change better", "change worse", *["change better"] * 3]
  means = np.array([0.2, 0.1])
  cell = page.format_score_cell("depth/rel", np.array([0.1]), means, 1, 0)
  assert cell == page.ScoreCell("0.100", is_best=True, change="−0.100", trend="better")


def test_render_page_refers_to_no_other_file(parsed, written):
  text = written[1].read_text(encoding="utf-8")
  for tag, attributes in parsed.elements:
    for name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href"):
      assert re.match("data:image/webp;base64,|#", attributes.get(name) or "#"), (tag, name)
  assert not parsed.all("link") + parsed.all("base") + parsed.all("iframe")
  assert all(start == "#" for start in re.findall(r"url\(['\"]?(.)", text))
  assert "@import" not in text and "http:" not in text and "https:" not in text
  (policy,) = [meta["content"] for meta in parsed.all("meta") if "http-equiv" in meta]
  assert policy.startswith("default-src 'none'; img-src data:;")


def test_render_page_is_a_valid_tree_whose_references_resolve(parsed, written):
  assert written[1].read_text(encoding="utf-8").startswith('<!DOCTYPE html>\n<html lang="en">')
  ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
  assert len(set(ids)) == len(ids)
  references = set()
  for _, attributes in parsed.elements:
    references |= {attributes["href"][1:]} if "href" in attributes else set()
    references |= {attributes["aria-labelledby"]} if "aria-labelledby" in attributes else set()
    references |= set(re.findall(r"url\(#([^)]+)\)", " ".join(map(str, attributes.values()))))
  assert references and references <= set(ids)
  assert any(meta.get("name") == "viewport" for meta in parsed.all("meta"))
  assert all(img["alt"] for img in parsed.all("img"))
  assert all("aria-label" in svg or "aria-hidden" in svg for svg in parsed.all("svg"))


def test_render_page_escapes_labels_and_protocols(parsed, written):
  assert len(parsed.all("script")) == 1
  texts = [text for _, text in parsed.texts]
  assert STRANGE in texts and "a < b" in texts
  assert written[0].title in texts and written[0].title.startswith(STRANGE)
  assert f"val[0]: {STRANGE}" in [img["alt"] for img in parsed.all("img")]


def test_render_page_escapes_what_no_page_can_hold(written):
  title = "\udcff\x1b[31m</title><script>alert(1)</script>"
  text = page.render_page(dataclasses.replace(written[0], title=title))
  text.encode("utf-8")
  parsed = Parsed(text)
  assert len(parsed.all("script")) == 1
  assert "\\xff\\x1b[31m</title><script>alert(1)</script>" in [text for _, text in parsed.texts]


def flattened(tree, path=()):
  """Returns the leaves of a config, empty sections among them, as an oracle."""
  if isinstance(tree, dict) and tree:
    return {
      key: leaf
      for name, section in tree.items()
      for key, leaf in flattened(section, (*path, name)).items()
    }
  return {".".join(path): tree}


def test_find_differences_lists_exactly_the_settings_that_differ(parsed, written, runs):
  configs = [
    flattened(json.loads((workdir / "config.json").read_text()))
    for group in runs
    for workdir in group.workdirs
  ]
  keys = {key for config in configs for key in config}
  expected = {
    key
    for key in keys
    if any(key not in config or config[key] != configs[0].get(key) for config in configs)
  }
  assert set(written[0].differences) == expected
  assert {"seed", "terms.pixel.weight", "terms.structure.layers"} <= expected
  assert "train.steps" not in expected
  listed = [
    row
    for caption, rows in parsed.tables.items()
    if caption.startswith("Settings that")
    for row in rows[1:]
  ]
  assert {row[0] for row in listed} == expected
  values = {row[0]: row[1:] for row in listed}
  assert values["seed"] == ["0, 1", "2"]
  assert values["terms.structure.layers"] == ["–", '["conv1", "conv2"]']


def test_make_gallery_has_the_predictions_of_the_checkpoints(written, runs, parsed):
  photos = written[0].gallery.photos
  assert len(photos) == 3 and written[0].gallery.names[0] == "val[0]"
  expected = {}
  for group in runs:
    run = build_experiment(contents.read_config(group.workdirs[0]))
    drawn = make_draw_predictions(run, count=3)(run.random_state())
    expected |= {
      "input": drawn["input"],
      "truth": drawn["segmentation/truth"],
      group.label: drawn["segmentation/prediction"],
    }
  assert np.any(expected[STRANGE] != expected["ASM"])
  for index, photo in enumerate(photos):
    assert [picture.title for picture in photo] == ["input", "truth", STRANGE, "ASM"]
    for picture in photo:
      np.testing.assert_array_equal(decoded(picture.uri), expected[picture.title][index])
  on_page = [img["src"] for img in parsed.all("img")]
  assert on_page == [picture.uri for photo in photos for picture in photo]


def test_read_report_notes_missing_files(tmp_path):
  for name, value in (("a", 0.5), ("b", 0.6)):
    write_run(tmp_path / name, (value, 0.8, 0.03, 0.9, 0.1))
  (tmp_path / "a" / "metrics.jsonl").unlink()
  (tmp_path / "b" / "config.json").unlink()
  groups = [Group("A", (tmp_path / "a",)), Group("B", (tmp_path / "b",))]
  content = report.read_report(groups)
  assert len(content.notes) == 4
  for note, start in zip(
    content.notes,
    (
      f"B: {tmp_path / 'b' / 'config.json'} is missing",
      "A: a run left no metrics.jsonl",
      f"A: no pictures, since no last checkpoint in {tmp_path / 'a'}/checkpoints",
      f"B: no pictures, since {tmp_path / 'b' / 'config.json'} does not exist",
    ),
    strict=True,
  ):
    assert note.startswith(start)
  parsed = Parsed(report.render_page(content))
  assert set(content.notes) <= {text for tag, text in parsed.texts if tag == "li"}
  assert not parsed.all("img") and content.curves[0].curves[0].label == "B"


def test_write_report_is_atomic(runs, tmp_path, monkeypatch):
  def fail(_):
    raise RuntimeError("out of ink")

  monkeypatch.setattr(report, "render_page", fail)
  with pytest.raises(RuntimeError, match="out of ink"):
    report.write_report(runs, tmp_path / "report.html", count=0)
  assert not list(tmp_path.iterdir())


def test_read_report_refuses_groups_that_cannot_be_compared(runs, tmp_path):
  with pytest.raises(ValueError, match="the baseline 'GAN' is none of the groups: .*ASM"):
    report.read_report(runs, baseline="GAN")
  with pytest.raises(ValueError, match="labels are ASM, ASM; expected different ones"):
    report.read_report([runs[1], runs[1]])
  with pytest.raises(ValueError, match="labels are truth; .* none of them 'input' or 'truth'"):
    report.read_report([Group("truth", runs[1].workdirs)])
  write_run(tmp_path / "other", (0.5, 0.8, 0.03, 0.9, 0.1))
  path = tmp_path / "other" / "results.json"
  path.write_text(path.read_text().replace('"scenes"', '"cats"'))
  with pytest.raises(ValueError, match="different examples, .*asm_0 on scenes val, 5 .*on cats"):
    report.read_report([runs[1], Group("other", (tmp_path / "other",))])


def test_read_report_has_curves_of_critics_and_counts_warnings(written, parsed):
  titles = {chart.title: chart for chart in written[0].health}
  assert set(titles) == {
    "norm of the critic's gradient",
    "norm of the term's gradient for the predictor",
  }
  (curve,) = titles["norm of the critic's gradient"].curves
  assert curve.label == "ASM" and curve.style == 1 and curve.values.tolist() == [[100, 100]]
  (row,) = table(parsed, "What looked wrong")[1:]
  assert row == ["ASM, asm_0", "3", "2", "structure: V explodes: 2.21e+03 after 20.1"]


def test_make_rerun_commands_repeat_a_run_from_its_config(runs, parsed):
  workdir = runs[1].workdirs[0]
  blocks = [text for tag, text in parsed.texts if tag == "pre"]
  assert reproduce.RERUN in blocks
  (commands,) = [text for text in blocks if "--config=rerun.py" in text]
  assert f"--config=rerun.py:{workdir}/config.json --workdir=again/asm_0" in commands
  assert "data.root" not in commands  # Rooms are drawn.
  scope = {}
  exec(reproduce.RERUN, scope)
  config = scope["get_config"](str(workdir / "config.json"))
  assert json.loads(json.dumps(config.to_dict())) == json.loads(
    (workdir / "config.json").read_text()
  )
  assert build_experiment(config).training.steps == 12
  assert any(json.loads(text) == config.to_dict() for text in blocks if text.startswith("{"))
  assert "asmjax report '--group=a b'" in blocks


@pytest.fixture
def browser():
  """Chromium without a window."""
  webdriver = pytest.importorskip("selenium.webdriver")
  names = ("chromium", "chromium-browser", "google-chrome")
  program, driver = next(filter(None, map(shutil.which, names)), ""), shutil.which("chromedriver")
  if not program or not driver:
    pytest.skip(
      "needs a Chromium and its chromedriver; as root on Debian: "
      "apt-get install chromium chromium-driver"
    )
  options = webdriver.ChromeOptions()
  options.binary_location = program
  # So tall that nothing need be scrolled.
  for flag in (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "window-size=1200,2500",
  ):
    options.add_argument(f"--{flag}")
  chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
  yield chrome
  chrome.quit()


def screenshot(element):
  return np.array(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def test_page_sliders_wipe_between_predictions(browser, written):
  content, path = written
  browser.get(path.as_uri())
  stage = browser.find_element("css selector", ".stage")
  slider = browser.find_element("css selector", ".wipe input")
  assert slider.accessible_name == f"val[0]: {STRANGE} over ASM"
  before = screenshot(stage)
  assert before.std() > 5
  ends = {}
  for key, title in (("\ue010", STRANGE), ("\ue011", "ASM")):  # End and Home.
    slider.send_keys(key)
    ends[title] = screenshot(stage)
    assert np.any(ends[title] != before)
  height, width = before.shape[:2]
  # Between the names, which lie on the corners.
  inside = np.s_[height // 4 : -height // 8, width // 8 : -width // 8]
  for title, pixels in ends.items():
    distances = {}
    for picture in content.gallery.photos[0]:
      image = Image.fromarray(decoded(picture.uri))
      image = image.resize((width, height), Image.Resampling.BILINEAR)
      distances[picture.title] = np.abs(np.asarray(image, int) - pixels)[inside].mean()
    assert min(distances, key=distances.get) == title
  assert not browser.get_log("browser")


def test_page_without_scripts_has_all_pictures_side_by_side(browser, written):
  browser.get(written[1].as_uri())
  pictures = browser.find_elements("css selector", ".row img")
  assert [picture.is_displayed() for picture in pictures] == 3 * [True, True, False, False]
  browser.find_element("css selector", ".choice input").click()
  assert all(picture.is_displayed() for picture in pictures)
  browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
  browser.refresh()
  pictures = browser.find_elements("css selector", ".row img")
  assert len(pictures) == 12 and all(picture.is_displayed() for picture in pictures)
  assert not browser.find_elements("css selector", ".stage")


def test_page_scrolls_tables_in_their_boxes_on_a_phone(browser, written):
  browser.execute_cdp_cmd(
    "Emulation.setDeviceMetricsOverride",
    {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True},
  )
  browser.get(written[1].as_uri())
  assert browser.execute_script("return document.documentElement.scrollWidth") == 390
  wide = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > 390).length"
  browser.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
  assert browser.execute_script(wide) > 0
  assert browser.execute_script("return document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(
  "predictions, expected",
  [
    ({}, ("input", "truth")),
    ({"A": ("A",)}, ("A", "truth")),
    ({"A": ("A",), "B": ("B",)}, ("B", "A")),
    ({"A": ("depth: A", "normals: A")}, ("depth: A", "depth: truth")),
    ({"A": ("depth: A", "normals: A"), "B": ("depth: B", "normals: B")}, ("depth: B", "depth: A")),
    ({"A": ("normals: A",), "B": ("depth: B",)}, ("depth: B", "depth: truth")),
  ],
)
def test_choose_pictures_compares_one_task(predictions, expected):
  gallery = Gallery(predictions, (), (), {}, ())
  assert page._choose_pictures(gallery, "B") == expected
