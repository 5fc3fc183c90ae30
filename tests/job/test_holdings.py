"""From whom values are fetched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.job.holdings import FAN_OUT, FIRST_COPIES, Holdings


def test_whoever_has_a_value_fetches_it_nowhere():
    holdings = Holdings()
    holdings.add(1, 7, 100)
    assert holdings.fetch(1, 7) == 7


def test_the_first_holder_serves_few_and_then_others_do():
    holdings = Holdings()
    holdings.add(1, 0, 100)
    assert [holdings.fetch(1, taker) for taker in (1, 2, 3)] == [0, 0, None]
    assert holdings.fetched(1, 1, whole=True)
    assert holdings.fetch(1, 3) == 1
    assert holdings.fetch(1, 4) == 1
    assert holdings.fetch(1, 5) is None


def test_the_first_holder_serves_again_when_all_others_are_gone():
    holdings = Holdings()
    holdings.add(1, 0, 100)
    for taker in (1, 2):
        holdings.fetch(1, taker)
        holdings.fetched(1, taker, whole=True)
    assert holdings.lose(1) == ([1], [])
    holdings.lose(2)
    assert holdings.fetch(1, 3) == 0


def test_a_value_is_gone_with_its_last_holder():
    holdings = Holdings()
    holdings.add(1, 5, 100)
    assert holdings.lose(5) == ([1], [1])
    with pytest.raises(KeyError):
        holdings.fetch(1, 6)


def test_what_was_released_while_it_was_fetched_is_not_kept():
    holdings = Holdings()
    holdings.add(1, 0, 100)
    holdings.fetch(1, 4)
    assert holdings.release(1) == [0]
    assert not holdings.fetched(1, 4, whole=True)


def test_somebody_outside_is_not_counted():
    holdings = Holdings()
    holdings.add(1, 0, 100)
    assert [holdings.fetch(1, -n) for n in range(1, 9)] == [0] * 8
    assert holdings.fetch(1, 1) == 0


@given(workers=st.integers(1, 60), order=st.randoms(use_true_random=False), loss=st.floats(0, 0.4))
def test_everybody_gets_it_and_nobody_serves_too_many(workers, order, loss):
    holdings = Holdings()
    holdings.add(1, 0, 1 << 30)
    waiting = list(range(1, workers + 1))
    fetching: list[tuple[int, int]] = []
    from_first = losses = 0
    while waiting or fetching:
        order.shuffle(waiting)
        left = []
        for taker in waiting:
            source = holdings.fetch(1, taker)
            if source is None:
                left.append(taker)
            else:
                from_first += source == 0
                fetching.append((taker, source))
        waiting = left
        busy = [source for _, source in fetching]
        assert all(busy.count(source) <= FAN_OUT for source in busy)
        assert fetching, "nobody fetches, and somebody waits"
        taker, source = fetching.pop(order.randrange(len(fetching)))
        whole = order.random() >= loss
        losses += not whole
        holdings.fetched(1, taker, whole=whole)
        if not whole:
            waiting.append(taker)
    assert sorted(holdings.holders(1)) == list(range(workers + 1))
    assert from_first <= FIRST_COPIES + losses
