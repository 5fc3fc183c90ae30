from __future__ import annotations

import random
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.runtime.restart import (
    UNLIMITED,
    Child,
    RestartPlan,
    RestartPolicy,
    RestartTracker,
    RestartType,
    Strategy,
    is_restarted,
    plan_restart,
    shutdown_order,
)


class Always:
    """Dice that show the same every time."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def at_once(**changes: Any) -> RestartPolicy:
    """OTP's own rules: no delays."""
    return RestartPolicy(backoff_min_s=0, backoff_max_s=0, **changes)


def escalations(policy: RestartPolicy, times: list[float]) -> list[bool]:
    tracker = RestartTracker(policy)
    return [tracker.record(now, Always()).escalate for now in times]


# ---- intensity


def test_more_restarts_than_allowed_within_the_period_escalate() -> None:
    assert escalations(at_once(max_restarts=2, period_s=5), [0, 1, 2]) == [False, False, True]


def test_restarts_before_the_period_do_not_count() -> None:
    assert escalations(at_once(max_restarts=1, period_s=5), [0, 5.1, 10.2]) == [False] * 3


def test_a_restart_exactly_one_period_ago_counts_as_in_otp() -> None:
    assert escalations(at_once(max_restarts=1, period_s=5), [0, 5]) == [False, True]


def test_without_restarts_the_first_failure_escalates() -> None:
    assert escalations(at_once(max_restarts=0), [0]) == [True]


def test_unlimited_restarts_never_escalate() -> None:
    assert not any(escalations(at_once(max_restarts=UNLIMITED), [0.0] * 1000))


def test_an_infinite_period_counts_the_whole_life() -> None:
    policy = at_once(max_restarts=3, period_s=inf)
    assert escalations(policy, [0, 1e6, 2e6, 3e6]) == [False, False, False, True]


def test_an_escalation_says_how_many_failures_there_were() -> None:
    tracker = RestartTracker(at_once(max_restarts=1, period_s=60))
    assert tracker.record(0, Always()).message == (
        "restart 1 of at most 1 within 60 s of running, in 0 s"
    )
    assert tracker.record(1, Always()).message == (
        "2 failures within 60 s of running, more than the 1 restarts that are allowed"
    )


@given(
    times=st.lists(st.floats(0, 100), max_size=30).map(sorted),
    max_restarts=st.integers(0, 5),
    period_s=st.floats(0.1, 50),
)
def test_escalation_is_the_count_within_the_period(
    times: list[float], max_restarts: int, period_s: float
) -> None:
    tracker = RestartTracker(at_once(max_restarts=max_restarts, period_s=period_s))
    start = times[0] if times else 0.0
    running = [now - start for now in times]
    for index, now in enumerate(times):
        count = sum(1 for t in running[: index + 1] if t >= running[index] - period_s)
        decision = tracker.record(now, Always())
        # Adding up small steps may put a restart on the other side of the edge.
        if all(abs(t - (running[index] - period_s)) > 1e-6 for t in running):
            assert decision.escalate is (count > max_restarts)


# ---- delays


def test_delays_double_up_to_the_largest() -> None:
    policy = RestartPolicy(max_restarts=UNLIMITED, backoff_min_s=1, backoff_max_s=10)
    tracker = RestartTracker(policy)
    delays, now = [], 0.0
    for _ in range(6):
        delay_s = tracker.record(now, Always()).delay_s
        assert delay_s is not None
        delays.append(delay_s)
        now += delay_s + 1  # it runs for a second
    assert delays == [1, 2, 4, 8, 10, 10]


def test_a_healthy_run_brings_the_least_delay_back() -> None:
    policy = RestartPolicy(max_restarts=UNLIMITED, backoff_min_s=1, backoff_max_s=10, healthy_s=60)
    tracker = RestartTracker(policy)
    assert [tracker.record(now, Always()).delay_s for now in (0, 2, 5)] == [1, 2, 4]
    assert tracker.record(9 + 59.9, Always()).delay_s == 8
    assert tracker.record(9 + 59.9 + 8 + 60, Always()).delay_s == 1


def test_delays_longer_than_the_period_do_not_prevent_escalation() -> None:
    policy = RestartPolicy(max_restarts=3, period_s=5, backoff_min_s=20, backoff_max_s=20, jitter=0)
    tracker = RestartTracker(policy)
    now, decisions = 0.0, []
    while not decisions or not decisions[-1].escalate:
        decisions.append(tracker.record(now, Always()))
        now += (decisions[-1].delay_s or 0) + 0.5  # it fails half a second after each start
    assert len(decisions) == 4


def test_jitter_shortens_a_delay_by_at_most_its_part() -> None:
    def delay_s(dice: float, jitter: float) -> float | None:
        policy = RestartPolicy(backoff_min_s=8, backoff_max_s=8, jitter=jitter)
        return RestartTracker(policy).record(0, Always(dice)).delay_s

    assert delay_s(0.0, 0.5) == 8
    assert delay_s(0.5, 0.5) == 6
    assert delay_s(0.999, 0.0) == 8


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1), st.floats(1, 1e6))
def test_every_delay_is_within_its_bounds(
    seed: int, jitter: float, least_s: float, most_s: float
) -> None:
    policy = RestartPolicy(
        max_restarts=UNLIMITED, backoff_min_s=least_s, backoff_max_s=most_s, jitter=jitter
    )
    tracker = RestartTracker(policy)
    dice = random.Random(seed)
    for _ in range(100):
        delay_s = tracker.record(0, dice).delay_s
        assert delay_s is not None
        assert least_s * (1 - jitter) - 1e-9 <= delay_s <= most_s


def test_the_same_dice_give_the_same_delays() -> None:
    def run() -> list[float | None]:
        dice = random.Random(7)
        tracker = RestartTracker(RestartPolicy(max_restarts=UNLIMITED))
        return [tracker.record(now, dice).delay_s for now in range(10)]

    assert run() == run()


# ---- preemption


def test_preemptions_are_counted_apart_from_failures() -> None:
    tracker = RestartTracker(at_once(max_restarts=1, period_s=60, max_preemptions=3))
    assert not any(tracker.record(now, Always(), preempted=True).escalate for now in (0, 1, 2))
    assert not tracker.record(3, Always()).escalate
    assert tracker.record(4, Always(), preempted=True).escalate
    assert (tracker.preemptions, tracker.recent) == (4, 1)


def test_preemptions_do_not_lengthen_the_delays() -> None:
    tracker = RestartTracker(
        RestartPolicy(max_restarts=9, period_s=60, backoff_min_s=1, backoff_max_s=10)
    )
    delays = [tracker.record(now, Always(), preempted=True).delay_s for now in range(5)]
    assert delays == [1] * 5
    assert tracker.record(5, Always()).delay_s == 1
    assert tracker.record(6, Always()).delay_s == 2


# ---- policies


@pytest.mark.parametrize(
    "changes",
    [
        {"max_restarts": -2},
        {"max_preemptions": -2},
        {"period_s": 0},
        {"period_s": float("nan")},
        {"backoff_min_s": -1},
        {"backoff_min_s": 2, "backoff_max_s": 1},
        {"backoff_max_s": inf},
        {"jitter": 1.5},
        {"jitter": -0.1},
        {"healthy_s": -1},
    ],
)
def test_policies_out_of_bounds_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        RestartPolicy(**changes)


# ---- who is restarted


P, T, N = RestartType.PERMANENT, RestartType.TRANSIENT, RestartType.TEMPORARY
CHILDREN = [Child("a"), Child("b"), Child("c"), Child("d")]


@pytest.mark.parametrize(
    ("restart", "normal", "expected"),
    [
        (P, True, True),
        (P, False, True),
        (T, True, False),
        (T, False, True),
        (N, True, False),
        (N, False, False),
    ],
)
def test_restart_types_say_whose_end_counts(
    restart: RestartType, normal: bool, expected: bool
) -> None:
    assert is_restarted(restart, normal=normal) is expected


def test_one_for_one_restarts_only_the_child_that_failed() -> None:
    plan = plan_restart(Strategy.ONE_FOR_ONE, CHILDREN, "b", normal=False)
    assert plan == RestartPlan(start=("b",))


def test_one_for_all_stops_the_others_backwards_and_starts_all_forwards() -> None:
    plan = plan_restart(Strategy.ONE_FOR_ALL, CHILDREN, "b", normal=False)
    assert plan == RestartPlan(stop=("d", "c", "a"), start=("a", "b", "c", "d"))


def test_rest_for_one_restarts_the_child_and_those_after_it() -> None:
    plan = plan_restart(Strategy.REST_FOR_ONE, CHILDREN, "b", normal=False)
    assert plan == RestartPlan(stop=("d", "c"), start=("b", "c", "d"))


def test_temporary_siblings_are_stopped_and_not_started_again() -> None:
    children = [Child("a"), Child("b", N), Child("c", T)]
    plan = plan_restart(Strategy.ONE_FOR_ALL, children, "a", normal=False)
    assert plan == RestartPlan(stop=("c", "b"), start=("a", "c"), forget=("b",))


def test_a_temporary_child_that_ends_is_forgotten_and_disturbs_nobody() -> None:
    children = [Child("a"), Child("b", N)]
    for strategy in Strategy:
        plan = plan_restart(strategy, children, "b", normal=False)
        assert plan == RestartPlan(forget=("b",))


def test_a_transient_child_that_ends_well_disturbs_nobody_and_stays_known() -> None:
    children = [Child("a"), Child("b", T)]
    for strategy in Strategy:
        assert plan_restart(strategy, children, "b", normal=True) == RestartPlan()
        assert "b" in plan_restart(strategy, children, "b", normal=False).start


def test_children_are_shut_down_in_the_reverse_order_of_their_start() -> None:
    assert shutdown_order(CHILDREN) == ("d", "c", "b", "a")


def test_an_unknown_child_is_an_error() -> None:
    with pytest.raises(ValueError, match="z"):
        plan_restart(Strategy.ONE_FOR_ONE, CHILDREN, "z", normal=False)
