"""Work that is started ahead of its turn."""

import pytest

from asmjax.utils.prefetch import prefetch


@pytest.mark.parametrize("ahead", [0, 1, 3, 9])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_prefetch_keeps_order_and_number(count, ahead):
  assert [*prefetch(range(count), ahead)] == [*range(count)]


def test_prefetch_starts_items_ahead_of_their_turn_but_not_all_at_once():
  started = []
  items = prefetch((started.append(i) or i for i in range(9)), ahead=3)
  assert next(items) == 0 and started == [0, 1, 2, 3]
  assert next(items) == 1 and started == [0, 1, 2, 3, 4]


def test_prefetch_keeps_to_the_cost_of_what_is_under_way():
  started = []

  def start():
    for cost in (3, 3, 3, 9, 1, 1, 1):
      started.append(cost)
      yield cost

  under_way, done = [], 0
  for cost in prefetch(start(), ahead=2, cost=float, max_cost=7):
    under_way.append(sum(started[done:]) - cost)
    done += 1
  assert done == len(started)
  # Behind each item, with what made it leave: no more than the limit, or one item alone.
  assert under_way == [6, 12, 9, 0, 2, 1, 0]
