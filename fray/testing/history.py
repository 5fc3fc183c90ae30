"""What became of every call: a record, and what must be true of it.

A `History` has one `CallRecord` for each call that anybody made, with what its caller was told, and
one `RunRecord` for each time that it was run at an actor. `History.violations` compares the two: it
is fray's promises about calls, as a program. A test of one's own actors reads the records, too: how
often something ran, where, and what was told to whom.

Here is only data and the judgement of it. Who writes it down is `fray.testing.recorder`; a
simulated cluster has it switched on (`SimCluster.history`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from fray.errors import CallError, Started

VIOLATIONS_MAX = 20
"""So many broken promises are told in words; one is enough to fail a test."""


class Outcome(StrEnum):
    """How a call ended for its caller."""

    PENDING = "pending"
    RESULT = "result"
    """The method returned; of a stream: it came to its end."""
    ERROR = "error"
    """The method raised."""
    FAILURE = "failure"
    """fray said so: died, unavailable, cancelled, too late, refused."""


@dataclass(slots=True, eq=False)
class RunRecord:
    """One time that a call was run at an actor.

    Attributes:
        call: Which call.
        actor_id: Which actor.
        incarnation: Which incarnation of it.
        process: The simulated process.
        number: Counts the runs of the whole history from 0.
        began_at: Virtual time.
        ended_at: Virtual time; None if it never ended, or was cut off.
        ok: Whether it returned; None if it never ended.
        answer: Checksum of what it returned or raised; a generator has none.
        items: Checksums of what a generator yielded.
        serial: Whether the actor runs one call after the other, this one too.
        plain: Whether a plain method was run, in one go.
    """

    call: CallRecord
    actor_id: str
    incarnation: int
    process: str
    number: int
    began_at: float
    ended_at: float | None = None
    ok: bool | None = None
    answer: int | None = None
    items: list[int] = field(default_factory=list[int])
    serial: bool = True
    plain: bool = False


@dataclass(slots=True, eq=False)
class CallRecord:
    """One call, as its caller saw it.

    Attributes:
        number: Counts the calls of the whole history from 0.
        caller: The simulated process that made it.
        actor: The actor's label, for people.
        key: Which actor, as the caller knows it: the calls of one caller to one key have an order.
        method: Its name.
        repeats: How often it may be run again after a failure that left its fate unknown.
        made_at: Virtual time.
        outcome: How it ended.
        failure: What fray said, where `outcome` is a failure; also how a stream was cut off.
        answer: Checksum of what the caller got.
        items: Checksums of the items of a stream that the caller got.
        ended_at: Virtual time; None while it is pending.
        told: How often the caller was told a terminal outcome.
        resent: How often it was sent again.
        runs: When and where it was run.
        caller_lives: Whether somebody is still there to be told.
    """

    number: int
    caller: str
    actor: str
    key: str
    method: str
    repeats: int
    made_at: float
    outcome: Outcome = Outcome.PENDING
    failure: BaseException | None = None
    answer: int | None = None
    items: list[int] = field(default_factory=list[int])
    ended_at: float | None = None
    told: int = 0
    resent: int = 0
    runs: list[RunRecord] = field(default_factory=list[RunRecord])
    caller_lives: bool = True

    def __str__(self) -> str:
        return f"call {self.number} ({self.actor}.{self.method} by {self.caller})"

    @property
    def claims_not_started(self) -> bool:
        """Whether the caller was told that it never began."""
        return isinstance(self.failure, CallError) and self.failure.started is Started.NO


class History:
    """All calls of a simulation, and all runs of them, in order.

    Attributes:
        calls: The calls, in the order in which they were made.
        runs: The runs, in the order in which they began.
        stale: Runs of incarnations that had a successor which had begun to serve.
    """

    def __init__(self) -> None:
        self.calls: list[CallRecord] = []
        self.runs: list[RunRecord] = []
        self.stale: list[RunRecord] = []
        self._incarnations: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<History of {len(self.calls)} calls, {len(self.runs)} runs>"

    # ---- writing

    def began(self, run: RunRecord) -> None:
        """A call runs.

        Args:
            run: It.
        """
        self.runs.append(run)
        run.call.runs.append(run)
        newest = self._incarnations.get(run.actor_id, 0)
        if run.incarnation < newest:
            self.stale.append(run)
        else:
            self._incarnations[run.actor_id] = run.incarnation

    # ---- reading

    def pending(self) -> list[CallRecord]:
        """Calls without an outcome whose callers are still there."""
        return [c for c in self.calls if c.outcome is Outcome.PENDING and c.caller_lives]

    def of(self, actor: str, method: str = "") -> list[CallRecord]:
        """The calls to an actor.

        Args:
            actor: Its label: its name, or its class's.
            method: Only to this method; all if empty.
        """
        return [c for c in self.calls if c.actor == actor and method in ("", c.method)]

    def count(self) -> Counter[str]:
        """How many calls ended how; failures by the name of their exception."""
        return Counter(
            type(c.failure).__name__ if c.failure is not None else c.outcome.value
            for c in self.calls
        )

    # ---- judging

    def violations(self, *, settled: bool = False) -> list[str]:
        """Every broken promise, as a sentence; nothing where all is well.

        * A call has one terminal outcome, never two.
        * It runs at most once, and once more for each repeat that its method allows.
        * What the caller got is what a run of it gave; of a stream, its items from the first on.
        * What is said not to have started never runs, not later either.
        * Calls of one caller to one incarnation start in the order in which they were made, where
          the actor serves one after the other and none had to be sent again.
        * An actor that serves one call after the other serves no two at once.
        * An incarnation runs nothing once its successor has run something.

        Args:
            settled: Whether no call may be pending any more.
        """
        found = [text for call in self.calls for text in _of_call(call)]
        found += [
            f"{run.call} ran in incarnation {run.incarnation} of {run.actor_id} "
            f"({run.process}, t={run.began_at:.3f}) when a later one already served"
            for run in self.stale
        ]
        found += _out_of_order(self.runs)
        found += _at_once(self.runs)
        if settled:
            found += [f"{call} of t={call.made_at:.3f} never ended" for call in self.pending()]
        return found

    def check(self, *, settled: bool = False) -> None:
        """Raises if a promise was broken.

        Args:
            settled: Whether no call may be pending any more.

        Raises:
            AssertionError: With the broken promises in words.
        """
        found = self.violations(settled=settled)
        if found:
            more = f"\n... and {len(found) - VIOLATIONS_MAX} more"
            told = "\n".join(found[:VIOLATIONS_MAX])
            raise AssertionError(
                f"{len(found)} promises about calls were broken:\n{told}"
                f"{more if len(found) > VIOLATIONS_MAX else ''}"
            )


def _of_call(call: CallRecord) -> Iterator[str]:
    if call.told > 1:
        yield f"{call} was told {call.told} outcomes"
    if len(call.runs) > 1 + call.repeats:
        places = ", ".join(f"{r.process} at t={r.began_at:.3f}" for r in call.runs)
        yield f"{call} ran {len(call.runs)} times, allowed were {1 + call.repeats}: {places}"
    if call.claims_not_started and call.runs:
        yield (
            f"{call} was said not to have started ({type(call.failure).__name__}: {call.failure}), "
            f"and ran on {call.runs[0].process} at t={call.runs[0].began_at:.3f}"
        )
    if call.outcome in (Outcome.RESULT, Outcome.ERROR):
        ok = call.outcome is Outcome.RESULT
        if not any(
            run.ok is ok and run.answer == call.answer and run.items == call.items
            for run in call.runs
        ):
            yield f"{call} ended with a {call.outcome} that no run of it gave"
    elif call.items and not any(_starts_with(run.items, call.items) for run in call.runs):
        yield f"{call} got {len(call.items)} items that no run of it gave in this order"


def _starts_with(items: list[int], first: list[int]) -> bool:
    return items[: len(first)] == first


def _out_of_order(runs: list[RunRecord]) -> Iterator[str]:
    last: dict[tuple[str, str, str, int], CallRecord] = {}
    for run in runs:
        call = run.call
        if call.resent or not run.serial:
            continue
        way = (call.caller, call.key, run.actor_id, run.incarnation)
        before = last.get(way)
        if before is not None and before.number > call.number:
            yield f"{call} was made before {before}, and started after it in {run.process}"
        last[way] = call


def _at_once(runs: list[RunRecord]) -> Iterator[str]:
    last: dict[tuple[str, int], RunRecord] = {}
    for run in runs:
        if not run.serial:
            continue
        before = last.get((run.actor_id, run.incarnation))
        # Plain methods run one after the other on one thread; when each has ended is told later.
        in_one_go = before is not None and before.plain and run.plain
        if before is not None and not in_one_go and not _ended_by(before, run.began_at):
            yield f"{run.call} started in {run.process} while {before.call} still ran there"
        last[run.actor_id, run.incarnation] = run


def _ended_by(run: RunRecord, time: float) -> bool:
    return run.ended_at is not None and run.ended_at <= time


__all__ = ["CallRecord", "History", "Outcome", "RunRecord"]
