"""Errors of the operating system that mean that something is used up."""

import errno

# Memory, a disk, a quota, or the number of open files; other work on the machine may cause them,
# and end them.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
