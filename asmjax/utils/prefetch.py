"""Work that is started ahead of its turn."""

import collections
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


def prefetch(
  started: Iterable[_T],
  ahead: int,
  *,
  cost: Callable[[_T], float] = lambda _: 0,
  max_cost: float = math.inf,
) -> Iterator[_T]:
  """Yields items in their order while the next ones are already under way.

  Taking an item from `started` must start its work without waiting for it, as submitting to a
  thread pool or dispatching to a device does. Whoever consumes the result of one item then waits
  while the work on `ahead` more of them goes on.

  Args:
    started: Iterable that starts an item's work when the item is taken from it.
    ahead: Number of items that are under way behind the one that is yielded.
    cost: Function that returns what an item takes while it is under way, such as bytes.
    max_cost: Largest cost of all items under way; an item that takes more is under way alone.

  Examples:
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as pool:
    ...   futures = (pool.submit(pow, 2, n) for n in range(4))
    ...   [future.result() for future in prefetch(futures, ahead=2)]
    [1, 2, 4, 8]
  """
  queue: collections.deque[tuple[_T, float]] = collections.deque()
  total = 0.0
  for item in started:
    queue.append((item, cost(item)))
    total += queue[-1][1]
    del item  # Here and below: no name may keep alive what is done.
    while len(queue) > ahead or (queue and total > max_cost):
      total -= queue[0][1]
      yield queue.popleft()[0]
  while queue:
    yield queue.popleft()[0]
