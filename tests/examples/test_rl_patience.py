"""Calls that outlast a restart of their actor."""

import pytest

pytest.importorskip("numpy", reason="the reinforcement learning example needs NumPy")

from examples.rl import patience
from examples.rl.patience import Patient


class GoneError(Exception):
    """Nobody answers."""


class Flaky:
    def __init__(self, failures: int) -> None:
        self.failures = failures

    def add(self, left: int, *, right: int) -> int:
        if self.failures:
            self.failures -= 1
            raise GoneError
        return left + right

    def fail(self) -> None:
        self.failures += 1
        raise KeyError("its own error")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(patience, "RETRY_PAUSE_S", 0.0)


def test_a_call_is_made_again_until_somebody_answers():
    assert Patient(Flaky(3), (GoneError,), patience_s=60.0).add(1, right=2) == 3


def test_patience_ends():
    with pytest.raises(GoneError):
        Patient(Flaky(10**9), (GoneError,), patience_s=0.0).add(1, right=2)


def test_the_actor_s_own_errors_are_not_retried():
    flaky = Flaky(0)
    with pytest.raises(KeyError):
        Patient(flaky, (GoneError,), patience_s=60.0).fail()
    assert flaky.failures == 1
