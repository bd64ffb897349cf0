"""Facts about the data of a run, which are written with it and held against the data ever after.

A network's outputs mean nothing without them: with other classes, or the same in another order, a
trained run would be evaluated, or go on, without complaint and wrongly.
"""

import hashlib
import os
import pathlib
from typing import Any

from asmjax.data.descriptor import Descriptor, Source
from asmjax.train.experiment import Experiment
from asmjax.utils.files import read_json, write_json

# Name of the file in a run's folder; also what predicting needs instead of the data set.
DATA_SET = "data_set.json"

# Facts of a descriptor that give the network's outputs their meaning.
_COMPARED = ("name", "classes", "ignored")


def write_facts(workdir: str | pathlib.Path, experiment: Experiment) -> None:
  """Writes the facts about the data of an experiment into the folder of its run."""
  sources = {source.split: _describe(source) for source in _sources(experiment)}
  write_json(
    pathlib.Path(workdir) / DATA_SET, experiment.descriptor.to_dict() | {"sources": sources}
  )


def read_facts(workdir: str | pathlib.Path) -> Descriptor | None:
  """Reads the descriptor of a run's data, which itself may be gone; None if it has none."""
  path = pathlib.Path(workdir) / DATA_SET
  return Descriptor.from_dict(read_json(path)) if path.exists() else None


def check_same_data(workdir: str | pathlib.Path, experiment: Experiment) -> None:
  """Holds the data of an experiment against the facts in the folder of its run, if there are any.

  Name, classes and ignored ids must be the same, and of each split that both have the number and
  the names of the files.

  Raises:
    ValueError: They differ; the message says in what, and how to go on on purpose.
  """
  path = pathlib.Path(workdir) / DATA_SET
  if not path.exists():
    return
  stored, now = read_json(path), experiment.descriptor.to_dict()
  now = {key: list(value) if isinstance(value, tuple) else value for key, value in now.items()}
  differing = [
    f"{key}: {stored[key]} -> {now[key]}" for key in _COMPARED if stored[key] != now[key]
  ]
  for source in _sources(experiment):
    before = stored.get("sources", {}).get(source.split)
    if before is None:
      continue
    after = _describe(source)
    if before["examples"] != after["examples"]:
      differing.append(f"{source.split}: {before['examples']} -> {after['examples']} examples")
    elif before["files"] != after["files"]:
      differing.append(f"{source.split}: other files, or in another order")
  if differing:
    raise ValueError(
      f"the data are not those that {path} describes ({'; '.join(differing)}); give the run's data "
      f"set, or delete {path} if the change is meant"
    )


def _sources(experiment: Experiment) -> tuple[Source, Source]:
  return experiment.source, experiment.validation


def _describe(source: Source) -> dict[str, Any]:
  """Returns the number of a source's examples and a fingerprint of the names of their files."""
  digest = hashlib.sha256()
  for index in range(len(source)):
    # With their folders, but not with the root, which may have moved.
    names = ("/".join(path.parts[-2:]) for _, path in sorted(source.files(index).items()))
    digest.update(os.fsencode("\n".join((*names, ""))))
  return {"examples": len(source), "files": digest.hexdigest()[:16]}
