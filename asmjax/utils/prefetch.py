"""Work that is started ahead of its turn."""

import collections
from collections.abc import Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


def prefetch(started: Iterable[_T], ahead: int) -> Iterator[_T]:
  """Yields items in their order while the next ones are already under way.

  Taking an item from `started` must start its work without waiting for it, as submitting to a
  thread pool or dispatching to a device does. Whoever consumes the result of one item then waits
  while the work on `ahead` more of them goes on.

  Args:
    started: Iterable that starts an item's work when the item is taken from it.
    ahead: Number of items that are under way behind the one that is yielded.

  Examples:
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as pool:
    ...   futures = (pool.submit(pow, 2, n) for n in range(4))
    ...   [future.result() for future in prefetch(futures, ahead=2)]
    [1, 2, 4, 8]
  """
  queue: collections.deque[_T] = collections.deque()
  for item in started:
    queue.append(item)
    if len(queue) > ahead:
      yield queue.popleft()
  while queue:  # Not `yield from`, which would keep the items alive that are done.
    yield queue.popleft()
