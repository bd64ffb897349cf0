"""Errors of the operating system that mean that something is used up or cannot be written."""

import errno

# Errors of a disk that takes nothing more: full, over its quota, or read-only.
FULL_OR_READ_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

# The same of a disk, memory, or the number of open files; other work on the machine may cause them,
# and end them.
NO_ROOM = (*FULL_OR_READ_ONLY, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class WriteError(OSError):
  """Error of a file that cannot be written; `filename` is its path."""

  def __str__(self) -> str:
    return f"{self.filename} {self.strerror}"
