"""Damaged and hostile contents of every file that is read: documented errors only, and bounded.

An error is documented if it is a ValueError or an OSError that names the file, in one line: a
command ends with it, or lists it. With `--injections=N` each reader gets N contents.
"""

import dataclasses
import json
import pathlib
import resource
import shutil
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from asmjax import pretrained
from asmjax.analysis.comparison import compare
from asmjax.analysis.lookahead import History
from asmjax.analysis.report import read_report, render_page
from asmjax.analysis.runs import Group, format_results, select_main_metrics
from asmjax.config.build import build_experiment, build_schedule
from asmjax.config.load import override_config
from asmjax.data import decode, image_files
from asmjax.data.class_list import read_classes
from asmjax.data.descriptor import Descriptor
from asmjax.data.packing import pack
from asmjax.data.sources.folder import Folder
from asmjax.data.tfds import Tfds
from asmjax.inference.inputs import find_inputs
from asmjax.sweep.plan import Row, Sweep
from asmjax.train.checkpoint import Checkpoints
from tests.helpers import lookahead_logs
from tests.helpers import small_configs as small
from tests.helpers.class_lists import CSV, YAML
from tests.helpers.finished_runs import write_run
from tests.helpers.list_source import ListSource
from tests.helpers.mutations import deadline, mutate

_SECONDS = 60
_GIB = 2**20  # In the kilobytes of `getrusage`.

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (12, 20, 3), np.uint8)
IDS = (COLOR[..., 0] % 4).astype(np.uint8)


def check_documented(read, where):
  """Returns whether `read` succeeds; asserts that errors are documented, and memory is bounded."""
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with warnings.catch_warnings(), deadline(_SECONDS):
    warnings.simplefilter("ignore")  # As in a command, where they are no errors.
    try:
      read()
      success = True
    except (ValueError, OSError) as error:
      assert str(where) in str(error), repr(error)
      if where:  # Else it repeats what the user typed.
        assert "\n" not in str(error) and len(str(error)) < 20_000, repr(error)
      success = False
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _GIB
  return success


# Pictures


def palette_image():
  image = Image.fromarray(IDS)
  image.putpalette(RNG.integers(0, 256, 768).tolist())
  return image


def save_pillow(array, **options):
  return lambda path: Image.fromarray(array).save(path, **options)


PICTURES = {
  "color.png": save_pillow(COLOR),
  "gray.png": save_pillow(IDS),
  "palette.png": lambda path: palette_image().save(path, bits=2, transparency=b"\1\2"),
  "wide.png": lambda path: cv2.imwrite(str(path), IDS.astype(np.uint16) * 300),
  "photo.jpg": save_pillow(COLOR, exif=b"Exif\0\0II*\0\10\0\0\0\1\0\22\1\3\0\1\0\0\0\6\0\0\0"),
  "color.bmp": save_pillow(COLOR),
  "palette.gif": lambda path: palette_image().save(path),
  "color.webp": save_pillow(COLOR, lossless=True),
  "photo.webp": save_pillow(COLOR),
  "color.ppm": save_pillow(COLOR),
  "gray.pgm": save_pillow(IDS),
  "plain.pgm": lambda path: path.write_text("P2\n3 2\n9\n1 2 3\n4 5 9\n"),
  "bits.pbm": save_pillow(IDS > 1),
  "color.tif": save_pillow(COLOR),
  "deflated.tif": save_pillow(COLOR, compression="tiff_adobe_deflate"),
  "ids.tif": save_pillow(IDS.astype(np.int32)),
  "floats.tif": save_pillow(IDS.astype(np.float32)),
  "photo.jp2": save_pillow(COLOR, format="JPEG2000"),
}
PICTURE_READERS = (
  decode.read_photo,
  decode.read_gray,
  decode.read_ids,
  decode.read_colors,
  decode.read_raw16,
  decode.is_rotated,
  image_files.count_bytes,
  lambda path: decode.read_labels(path, dict.fromkeys(range(256), 1), {(0, 0, 0): 1}),
)


@pytest.mark.parametrize("name", PICTURES)
def test_readers_of_pictures_raise_documented_errors_only(tmp_path, name, injections):
  path, rng = tmp_path / name, np.random.default_rng(len(name))
  PICTURES[name](path)
  intact = path.read_bytes()
  for _ in range(injections(5)):
    path.write_bytes(mutate(intact, rng))
    for read in PICTURE_READERS:
      check_documented(lambda read=read: read(path), path)


# Lists


def read_folder(root):
  source = Folder(str(root), "train", lists="{split}.txt", images="images", masks="masks")
  return [source[index] for index in range(len(source))]


def make_lists(root):
  for folder in ("images", "masks"):
    (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
      Image.fromarray(COLOR if folder == "images" else IDS).save(root / folder / f"{name}.png")
  (root / "train.txt").write_text("a\nb.png\n")
  (root / "classes.yaml").write_text("classes: [a, b, c, d]")
  return root / "train.txt"


LISTS = {"classes.yaml": YAML, "classes.csv": CSV}


@pytest.mark.parametrize("name", LISTS)
def test_read_classes_raises_documented_errors_only(tmp_path, name, injections):
  path, rng = tmp_path / name, np.random.default_rng(1)
  for _ in range(injections(20)):
    path.write_bytes(mutate(LISTS[name].encode(), rng))
    check_documented(lambda: read_classes(path), path)


def test_lists_of_names_raise_documented_errors_only(tmp_path, injections):
  path, rng = make_lists(tmp_path), np.random.default_rng(2)
  intact = path.read_bytes()
  assert len(read_folder(tmp_path)) == 2
  for _ in range(injections(20)):
    path.write_bytes(mutate(intact, rng))
    check_documented(lambda: read_folder(tmp_path), tmp_path)
    check_documented(lambda: [each.name for each in find_inputs(path).read()], tmp_path)


# Folders of several files


def make_packed(root):
  descriptor = Descriptor("tiny", ("a", "b"), ((0, 0, 0), (9, 9, 9)), ("train",), {"label"})
  examples = [
    {"image": COLOR, "label": (IDS % 2).astype(np.int32)},
    {"image": COLOR[::-1].copy(), "label": (IDS // 2).astype(np.int32)},
  ]
  pack({"train": ListSource(examples, descriptor, "train", [])}, root)


def read_packed(root):
  source = Tfds(str(root), "train")
  return [source[index] for index in range(len(source))], source.descriptor


def make_weights(root):
  from safetensors.numpy import save_file

  root.mkdir()
  arrays = {"a.kernel": np.ones((3, 3, 2, 4), np.float32), "b": np.zeros(5, np.float16)}
  save_file(arrays, root / "x.safetensors")


def make_torch(root):
  torch = pytest.importorskip("torch", reason="weights of PyTorch need PyTorch")
  root.mkdir()
  arrays = {"a.kernel": torch.ones(3, 3, 2, 4), "b": torch.zeros(5, dtype=torch.float16)}
  torch.save({"state_dict": arrays}, root / "x.pth")


def make_tensorflow(root):
  tf = pytest.importorskip("tensorflow", reason="checkpoints of TensorFlow need TensorFlow")
  root.mkdir()
  tf.train.Checkpoint(a=tf.Variable(tf.ones((3, 3, 2, 4))), b=tf.Variable(tf.zeros(5))).write(
    str(root / "model.ckpt")
  )


def make_checkpoint(root):
  params = {"conv": {"kernel": np.ones((3, 3, 2, 4), np.float32), "bias": np.zeros(4, np.float32)}}
  tree = {"players": {"predictor": {"params": params, "opt_state": {"count": np.zeros(2)}}}}
  with Checkpoints(root / "checkpoints", metric="score") as checkpoints:
    checkpoints.save(tree, step=1)


FOLDERS = {
  "packed": (make_packed, read_packed),
  "safetensors": (
    make_weights,
    lambda root: pretrained.read(root / "x.safetensors", "safetensors"),
  ),
  "torch": (make_torch, lambda root: pretrained.read(root / "x.pth", "torch")),
  "tensorflow": (make_tensorflow, lambda root: pretrained.read(root / "model.ckpt", "tensorflow")),
  "orbax": (make_checkpoint, lambda root: pretrained.read(root, "orbax")),
}


# Orbax leaves event loops behind when it meets damage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", FOLDERS)
def test_readers_of_folders_raise_documented_errors_only(tmp_path, kind, injections):
  make, read = FOLDERS[kind]
  intact, damaged, rng = tmp_path / "intact", tmp_path / "damaged", np.random.default_rng(3)
  make(intact)
  read(intact)
  files = sorted(path.relative_to(intact) for path in intact.rglob("*") if path.is_file())
  for number in range(injections(8)):
    shutil.copytree(intact, damaged)
    path = damaged / files[number % len(files)]
    path.write_bytes(mutate(path.read_bytes(), rng))
    check_documented(lambda: read(damaged), damaged)
    shutil.rmtree(damaged)


# Runs


def make_run(root):
  root.mkdir()
  runs = {"pixel": {}, "ahead": {"variant": "load_asm", "changes": small.AHEAD}}
  for name, options in runs.items():
    changes = options.get("changes", {})
    write_run(root / name, RNG.uniform(0, 1, 5), variant=options.get("variant", "iid"), **changes)
  results = (root / "ahead" / "results.json").read_text()
  lookahead_logs.write_log(root / "ahead", lookahead_logs.CYCLES)
  (root / "ahead" / "results.json").write_text(results)
  for name, content in (
    ("warnings.jsonl", {"step": 2, "warning": "V explodes: 2.2 after 1"}),
    ("wall_time.jsonl", {"step": 4, "seconds": 9.5}),
    ("environment.json", {"command": ["asmjax", "train"], "jax": "0.0.1"}),
  ):
    (root / "pixel" / name).write_text(f"{json.dumps(content)}\n")


def read_run(root):
  """As a report and a sweep do."""
  groups = [Group(name, (root / name,)) for name in ("pixel", "ahead")]
  format_results(groups[0].read_results()[0])
  render_page(read_report(groups, count=0))
  compare(groups, select_main_metrics(groups)).to_markdown()
  History.read(root / "ahead")
  sweep = Sweep((Row("pixel", "scenes:iid"),))
  for run in sweep.runs(root):
    dataclasses.replace(run, workdir=root / "pixel").is_finished()


RUN_FILES = ("results.json", "metrics.jsonl", "warnings.jsonl", "wall_time.jsonl")


@pytest.mark.parametrize("name", [*RUN_FILES, "environment.json", "ahead"])
def test_readers_of_runs_raise_documented_errors_only(tmp_path, name, injections):
  root, rng = tmp_path / "runs", np.random.default_rng(6)
  make_run(root)
  path = root / "ahead" / "metrics.jsonl" if name == "ahead" else root / "pixel" / name
  intact = path.read_bytes()
  assert check_documented(lambda: read_run(root), root)
  for number in range(injections(4)):
    content = mutate(intact, rng) if number % 2 else change_json(intact, rng)
    path.write_bytes(content)
    check_documented(lambda: read_run(root), root)


def change_json(content, rng):
  """Replaces a value of one of the objects in a file, which stays JSON."""
  lines = content.splitlines()
  number = int(rng.integers(len(lines)))
  tree = json.loads(content) if content.lstrip().startswith(b"{\n") else json.loads(lines[number])
  change_value(tree, rng)
  lines[number] = json.dumps(tree).encode()
  return b"\n".join(lines) + b"\n"


def test_sweeps_raise_documented_errors_only(injections):
  rng = np.random.default_rng(7)
  for _ in range(injections(20)):
    section = {
      "runs": {"a": "scenes:iid", "b": {"config": "scenes:asm", "overrides": {}, "start": "a"}},
      "seeds": [0, 1],
      "metrics": ["segmentation/mean_iou"],
      "baseline": "a",
      "overrides": {"train.steps": 3},
    }
    change_value(section, rng)
    check_documented(lambda s=section: Sweep.from_dict(s).runs(pathlib.Path("unused")), "")


# Configs

_VALUES = (
  None,
  True,
  -1,
  0,
  10**30,
  0.5,
  -0.5,
  float("nan"),
  float("inf"),
  "",
  "x",
  [],
  {},
  [1, 2],
)
_MORE_VALUES = ({"a": 1}, [[]], "../..", "\x1b[31m", [None], [-1, -1], "os.system")


def change_value(tree, rng):
  """Replaces, removes or adds an entry anywhere in a config, in place."""
  places = [tree]
  for place in places:
    places += [value for value in place.values() if isinstance(value, dict)]
  place = places[rng.integers(len(places))]
  keys = list(place)
  values = _VALUES + _MORE_VALUES
  value = values[rng.integers(len(values))]
  if not keys or rng.random() < 0.1:
    place["unknown"] = value
  elif rng.random() < 0.1:
    del place[keys[rng.integers(len(keys))]]
  else:
    place[keys[rng.integers(len(keys))]] = value


@pytest.mark.parametrize("variant", ["asm", "load"])
def test_configs_raise_documented_errors_only(variant, injections):
  text, rng = json.dumps(small.config(variant).to_dict()), np.random.default_rng(4)
  for _ in range(injections(20)):
    config = json.loads(text)
    for _ in range(rng.integers(1, 3)):
      change_value(config, rng)

    def read(config=config):
      build_schedule(config, build_experiment(config))

    check_documented(read, "")


_OVERRIDES = ("train.steps", "data.size", "terms.structure.weight", "optimizer.predictor.name", "x")


def test_overrides_raise_documented_errors_only(injections):
  config, rng = small.config("asm"), np.random.default_rng(5)
  texts = (b"750", b"(3, 4)", b"linear(0, 1, 0.1, 0.3)", b"'sgd'", b"1e-3")
  for number in range(injections(20)):
    key = _OVERRIDES[number % len(_OVERRIDES)]
    text = mutate(texts[rng.integers(len(texts))], rng).decode("utf-8", "surrogateescape")
    check_documented(lambda key=key, text=text: override_config(config, {key: text}), "")
