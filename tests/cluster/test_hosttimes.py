"""How long hosts may be silent: one number, and nothing that contradicts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cluster.hosttimes import LEASE_S, LEASE_S_MIN, HostTimes
from fray.cluster.worker.lease import WRITE_S
from fray.errors import InvalidRequestError

TICK_S = 1.0
"""How often a supervisor looks at the lease."""


@given(st.floats(LEASE_S_MIN, 86_400))
def test_a_host_is_given_up_only_after_everything_on_it_must_have_ended(lease_s: float) -> None:
    times = HostTimes(lease_s)
    by_agent_s = lease_s + times.orders_wait_s + times.answer_s  # a question may just be open
    assert by_agent_s < times.lost_s
    supervisor_s = lease_s + times.supervisor_margin_s + TICK_S + times.fence_grace_s
    assert supervisor_s + 1.0 <= times.lost_s


@given(st.floats(LEASE_S_MIN, 86_400))
def test_who_is_heard_as_often_as_agreed_is_neither_doubted_nor_ended(lease_s: float) -> None:
    times = HostTimes(lease_s)
    pause_s = times.orders_wait_s + times.answer_s
    assert times.orders_wait_s < times.suspect_s < lease_s
    assert 3 * pause_s < lease_s  # three answers in a row must be lost
    # What supervisors read of the lease may be a write old.
    assert lease_s < lease_s + times.supervisor_margin_s - WRITE_S
    assert times.look_s < times.suspect_s


def test_times_of_an_ordinary_cluster() -> None:
    times = HostTimes()
    assert (times.lease_s, times.lost_s, times.suspect_s) == (LEASE_S, LEASE_S + 30, 14.0)
    assert (times.orders_wait_s, times.answer_s, times.look_s) == (10.0, 4.0, 2.0)


@pytest.mark.parametrize("lease_s", [0.0, -1.0, 2.9, float("nan"), float("inf")])
def test_a_lease_that_is_none_is_refused(lease_s: float) -> None:
    with pytest.raises(InvalidRequestError, match="at least 3 s"):
        HostTimes(lease_s)
