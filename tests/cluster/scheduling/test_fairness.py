"""Users who flood a cluster get their weights of it."""

import pytest

from benchmarks.fairness import Flood


def test_three_users_get_their_weights_of_a_full_day():
    flood = Flood({"ann": 1.0, "bob": 1.0, "cat": 2.0}, {"ann": 1, "bob": 2, "cat": 1})
    flood.run()
    wanted = {"ann": 0.25, "bob": 0.25, "cat": 0.5}
    assert flood.shares() == pytest.approx(wanted, abs=0.02)
    used = sum(flood.used_s.values()) / (flood.now * 4 * 16)
    assert used > 0.97  # nothing is left idle for it
