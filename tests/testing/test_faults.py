from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.testing.faults import (
    HOLD,
    PASS,
    RESET,
    RETRANSMISSION_S,
    Action,
    Delay,
    Faults,
    Loss,
    Packet,
    PacketKind,
    Partition,
    Route,
    When,
    delayed,
)


def packet(src: str, dst: str) -> Packet:
    return Packet(PacketKind.MESSAGE, src, dst)


def route(a: str | None, b: str | None, *, both_ways: bool = True) -> Route:
    sides = (frozenset(side) if side is not None else None for side in (a, b))
    return Route(*sides, both_ways)


@pytest.mark.parametrize(
    ("a", "b", "both_ways", "covered"),
    [
        ("a", "b", True, {"ab", "ba"}),
        ("a", "b", False, {"ab"}),
        ("a", None, True, {"aa", "ab", "ac", "ba", "ca"}),
        ("a", None, False, {"aa", "ab", "ac"}),
        (None, "a", False, {"aa", "ba", "ca"}),
        ("ab", "c", True, {"ac", "bc", "ca", "cb"}),
        (None, None, False, {x + y for x in "abc" for y in "abc"}),
    ],
)
def test_a_route_covers_exactly_its_pairs_of_hosts(a, b, both_ways, covered):
    way = route(a, b, both_ways=both_ways)
    assert {x + y for x in "abc" for y in "abc" if way.covers(packet(x, y))} == covered


@given(st.text("abc", max_size=3), st.text("abc", max_size=3), st.sampled_from("abc"))
def test_a_partition_never_cuts_a_host_off_from_itself(a, b, host):
    assert Partition(route(a or None, b or None)).judge(packet(host, host)) is None


def test_no_rule_lets_everything_pass():
    assert Faults(print).judge(packet("a", "b")) is PASS


def test_rules_decide_in_order_and_delays_add_up():
    faults = Faults(lambda event: None)
    faults.add(When(lambda p: True, delayed(1)))
    decisive = faults.add(When(lambda p: p.src == "a", HOLD))
    faults.add(When(lambda p: True, delayed(2)))
    faults.add(When(lambda p: p.src in "ab", RESET))
    assert faults.judge(packet("a", "c")).action is Action.HOLD
    assert faults.judge(packet("b", "c")).action is Action.RESET
    assert faults.judge(packet("c", "c")).delay_s == 3
    assert decisive.judged == 1
    decisive.remove()
    assert faults.judge(packet("a", "c")).action is Action.RESET


def test_a_fault_ends_with_its_block_and_says_so():
    events: list[str] = []
    faults = Faults(events.append)
    with faults.add(Partition(route("a", "b", both_ways=False))) as fault:
        assert len(faults) == 1
        assert list(faults) == [fault]
    fault.remove()
    assert len(faults) == 0
    assert events == ["fault: partition a -> b", "fault over: partition a -> b"]


def test_a_delay_lies_within_its_bounds_and_on_its_route():
    rule = Delay(route("a", "b"), 1, 2, random.Random(1))
    assert all(1 <= rule.judge(packet("b", "a")).delay_s <= 2 for _ in range(100))
    assert rule.judge(packet("a", "c")) is None
    assert str(rule) == "delay a <-> b by 1 to 2 s"


def test_each_loss_doubles_the_wait_up_to_a_bound():
    rule = Loss(route(None, "b"), 0.9, random.Random(1))
    verdicts = [rule.judge(packet("a", "b")) for _ in range(999)]
    waits = {round(verdict.delay_s / RETRANSMISSION_S) if verdict else 0 for verdict in verdicts}
    assert waits == {0, 1, 3, 7, 15, 31, 63}
    assert rule.judge(packet("b", "a")) is not None
    assert Loss(route("a", None), 0.9, random.Random(1)).judge(packet("b", "c")) is None
    assert str(rule) == "loss any <-> b of 90.0%"
