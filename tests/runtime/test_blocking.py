from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fray.errors import JobStopped
from fray.runtime.blocking import CURRENT_STOP, StopToken, check_stopped, wait

SOON_S = 10.0
"""Longer than anything here takes."""


class JobThread:
    """Runs a function on a thread of a job."""

    def __init__(self, token: StopToken | None, fn: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        context = contextvars.Context()
        context.run(CURRENT_STOP.set, token)
        self._thread = threading.Thread(target=context.run, args=(self._run, fn), daemon=True)
        self._thread.start()

    def _run(self, fn: Callable[[], Any]) -> None:
        try:
            self.result = fn()
        except BaseException as exc:
            self.error = exc

    def join(self) -> JobThread:
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()
        return self


class Watched(threading.Event):
    """An event that can be asked whether somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_for.release()
        return super().wait(timeout)

    def wait_for_waiters(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.waited_for.acquire(timeout=SOON_S)


def test_waiting_ends_when_the_event_is_set():
    event = Watched()
    for token in (None, StopToken()):
        event.clear()
        thread = JobThread(token, lambda: wait(event))
        event.wait_for_waiters()
        event.set()
        assert thread.join().result is True


def test_waiting_ends_when_the_time_is_up():
    for token in (None, StopToken()):
        thread = JobThread(token, lambda: wait(threading.Event(), 0.001))
        assert thread.join().result is False


def test_stopping_wakes_every_thread_of_the_job_and_says_why():
    token = StopToken()
    events = [Watched() for _ in range(5)]
    threads = [JobThread(token, lambda event=event: wait(event)) for event in events]
    for event in events:
        event.wait_for_waiters()
    assert not token.stopped
    token.stop("its user stopped it")
    assert token.stopped
    for thread in threads:
        assert isinstance(thread.join().error, JobStopped)
        assert str(thread.error) == "its user stopped it"


def test_stopping_wakes_all_who_wait_for_the_same_event():
    token = StopToken()
    event = Watched()
    brief = JobThread(token, lambda: wait(event, 0.01))
    event.wait_for_waiters()
    long = [JobThread(token, lambda: wait(event)) for _ in range(2)]
    event.wait_for_waiters(2)
    assert brief.join().result is False
    token.stop("enough")
    for thread in long:
        assert isinstance(thread.join().error, JobStopped)


def test_a_stopped_job_cannot_wait_any_more_even_for_what_has_happened():
    token = StopToken()
    token.stop("enough")
    happened = threading.Event()
    happened.set()
    for attempt in (lambda: wait(happened), lambda: wait(threading.Event(), 0), check_stopped):
        assert isinstance(JobThread(token, attempt).join().error, JobStopped)


def test_the_first_reason_counts():
    token = StopToken()
    token.stop("first")
    token.stop("second")
    with pytest.raises(JobStopped, match="first"):
        token.check()


def test_stopping_a_job_disturbs_no_other():
    token, other = StopToken(), StopToken()
    event = Watched()
    threads = [JobThread(each, lambda: wait(event)) for each in (None, other)]
    event.wait_for_waiters(2)
    token.stop("enough")
    assert JobThread(other, check_stopped).join().error is None
    event.set()
    assert [thread.join().result for thread in threads] == [True, True]


def test_a_thread_that_belongs_to_no_job_is_never_stopped():
    check_stopped()


def test_except_exception_does_not_keep_a_stopped_job_alive():
    token = StopToken()
    event = Watched()
    survived: list[str] = []

    def job() -> None:
        while True:
            try:
                wait(event)
            except Exception as exc:
                survived.append(str(exc))

    thread = JobThread(token, job)
    event.wait_for_waiters()
    token.stop("enough")
    assert isinstance(thread.join().error, JobStopped)
    assert survived == []


def test_a_stop_that_races_with_a_wait_is_never_missed():
    for _ in range(200):
        token = StopToken()
        thread = JobThread(token, lambda: wait(threading.Event(), SOON_S))
        token.stop("enough")
        assert isinstance(thread.join().error, JobStopped)
