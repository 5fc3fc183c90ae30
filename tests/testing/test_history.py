"""The judge of calls: each broken promise is told, and none where all is well."""

from __future__ import annotations

import pytest

from fray.errors import ActorDied, Started
from fray.testing import CallRecord, History, Outcome, RunRecord


class Book:
    """Makes records for a history."""

    def __init__(self) -> None:
        self.history = History()

    def call(self, caller: str = "test", *, repeats: int = 0) -> CallRecord:
        number = len(self.history.calls)
        call = CallRecord(number, caller, "actor", "key", "method", repeats, made_at=number)
        self.history.calls.append(call)
        return call

    def run(self, call: CallRecord, *, incarnation: int = 1, at: float = 0.0) -> RunRecord:
        number = len(self.history.runs)
        run = RunRecord(call, "a-1", incarnation, "host/a", number, at, ended_at=at + 1)
        run.ok, run.answer = True, 42
        self.history.began(run)
        return run

    def result(self, call: CallRecord, answer: int = 42) -> None:
        call.outcome, call.answer, call.told = Outcome.RESULT, answer, 1

    def failure(self, call: CallRecord, started: Started) -> None:
        call.outcome, call.told = Outcome.FAILURE, 1
        call.failure = ActorDied("actor", started=started)


@pytest.fixture
def book() -> Book:
    return Book()


def test_a_call_that_ran_once_and_gave_its_result_is_fine(book: Book):
    call = book.call()
    book.run(call)
    book.result(call)
    book.history.check(settled=True)
    assert book.history.count() == {"result": 1}
    assert book.history.of("actor", "method") == [call]


def test_two_outcomes_are_told(book: Book):
    call = book.call()
    book.run(call)
    book.result(call)
    call.told = 2
    assert "told 2 outcomes" in book.history.violations()[0]


@pytest.mark.parametrize(("repeats", "fine"), [(0, False), (1, True)])
def test_a_second_run_is_told_unless_it_is_allowed(book: Book, repeats: int, fine: bool):
    call = book.call(repeats=repeats)
    book.run(call)
    book.run(call, at=5)
    book.result(call)
    assert (book.history.violations() == []) is fine


def test_a_result_that_no_run_gave_is_told(book: Book):
    call = book.call()
    book.run(call)
    book.result(call, answer=43)
    with pytest.raises(AssertionError, match="a result that no run of it gave"):
        book.history.check()


def test_items_that_are_missing_in_the_middle_are_told(book: Book):
    call = book.call()
    run = book.run(call)
    run.items = [1, 2, 3]
    book.failure(call, Started.UNKNOWN)
    call.items = [1, 2]
    assert book.history.violations() == []
    call.items = [1, 3]
    assert "items that no run" in book.history.violations()[0]


def test_a_run_of_what_was_said_not_to_have_started_is_told_also_later(book: Book):
    call = book.call()
    book.failure(call, Started.NO)
    assert book.history.violations() == []
    book.run(call, at=100)
    assert "said not to have started" in book.history.violations()[0]


def test_calls_of_one_caller_that_start_in_another_order_are_told(book: Book):
    first, second, other = book.call(), book.call(), book.call("elsewhere")
    for at, call in enumerate([other, second, first]):
        book.run(call, at=2 * at)
        book.result(call)
    [told] = book.history.violations()
    assert "was made before" in told
    first.resent = 1  # then nothing was promised
    assert book.history.violations() == []


def test_two_at_once_are_told_where_an_actor_serves_one(book: Book):
    first, second = book.call(), book.call()
    runs = [book.run(first, at=0.0), book.run(second, at=0.5)]
    book.result(first)
    book.result(second)
    assert "still ran there" in book.history.violations()[0]
    runs[1].serial = False
    assert book.history.violations() == []


def test_a_run_of_an_incarnation_that_has_a_successor_is_told(book: Book):
    for at, incarnation in enumerate([1, 2, 1]):
        call = book.call()
        book.run(call, incarnation=incarnation, at=2 * at)
        book.result(call)
    [told] = book.history.violations()
    assert "when a later one already served" in told


def test_a_call_without_an_outcome_is_told_while_somebody_waits(book: Book):
    call = book.call()
    assert book.history.violations() == []
    [told] = book.history.violations(settled=True)
    assert "never ended" in told
    call.caller_lives = False
    assert book.history.violations(settled=True) == []
