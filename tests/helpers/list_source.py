"""A source over a list of examples."""

import dataclasses

from asmjax.data.descriptor import Descriptor


@dataclasses.dataclass
class ListSource:
  """Source over a list, in which an example may be an exception to raise, with optional files."""

  examples: list
  descriptor: Descriptor
  split: str = "train"
  paths: list = dataclasses.field(default_factory=list)

  def __len__(self):
    return len(self.examples)

  def __getitem__(self, index):
    if isinstance(self.examples[index], BaseException):
      raise self.examples[index]
    return dict(self.examples[index])

  def files(self, index):
    return self.paths[index] if self.paths else {}
