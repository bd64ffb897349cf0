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
from asmjax.utils.files import read_json_object, write_json

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
  """Reads the descriptor of a run's data, which itself may be gone; None if it has none.

  Raises:
    ValueError: The file is damaged, or holds something else.
  """
  path = pathlib.Path(workdir) / DATA_SET
  return _read(path)[0] if path.exists() else None


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
  descriptor, sources = _read(path)
  as_listed = lambda value: list(value) if isinstance(value, tuple) else value
  stored, now = (
    {key: as_listed(described.to_dict()[key]) for key in _COMPARED}
    for described in (descriptor, experiment.descriptor)
  )
  differing = [
    f"{key}: {stored[key]} -> {now[key]}" for key in _COMPARED if stored[key] != now[key]
  ]
  for source in _sources(experiment):
    before = sources.get(source.split)
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


def _read(path: pathlib.Path) -> tuple[Descriptor, dict[str, dict[str, Any]]]:
  """Reads the descriptor, and the facts of each split, from the file in a run's folder."""
  stored = read_json_object(path)
  try:
    sources = {
      split: {key: facts[key] for key in ("examples", "files")}
      for split, facts in stored.get("sources", {}).items()
    }
    return Descriptor.from_dict(stored), sources
  except (AttributeError, KeyError, TypeError) as error:
    raise ValueError(f"{path} is no description of a data set ({error!r})") from error


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
