"""Rounds: one call to each member of an epoch, and what became of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fray.errors import (
    ActorDied,
    ActorUnavailable,
    DeathCause,
    DeathKind,
    SliceLost,
    Started,
    remote_error,
)
from fray.groups.slices import Member

if TYPE_CHECKING:
    from fray.actor.future import ActorFuture
    from fray.groups.membership import SliceId

log = logging.getLogger("fray")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call to one member.

    Attributes:
        member: Which.
        value: What the method returned; None where there is an error.
        error: What it raised; `fray.ActorDied` where the member's slice is lost; None for none.
    """

    member: Member
    value: Any = None
    error: BaseException | None = None


class Conductor(Protocol):
    """Who begins rounds: the group."""

    def chosen(self, name: str, members: Iterable[Member] | None) -> tuple[Member, ...]:
        """Members of the present epoch, all by default, for a call of a method.

        Raises:
            SliceLost: One of the epoch is lost.
            ValueError: One is not of this epoch.
        """
        ...

    def begin(self, name: str, members: Sequence[Member]) -> Round:
        """A round over some members that is in flight from now on."""
        ...


class Round:
    """A call to several members. Awaiting it gives their results in the order of the members.

    Raises, when it is awaited:
        SliceLost: Members were lost before they had answered.
        BaseException: What the first member raised, where none was lost; a note says which it was.

    `answers` never raises: it gives the outcome of each. Cancelling the task that awaits a round
    cancels its calls.

    Args:
        name: The method.
        epoch: In which it is made.
        members: Whom it goes to.
        on_done: Told when all have answered.
        on_lost: Told of a slice of which a member cannot be called any more, and why.
    """

    def __init__(
        self,
        name: str,
        epoch: int,
        members: Sequence[Member],
        *,
        on_done: Callable[[Round], object],
        on_lost: Callable[[SliceId, DeathCause], object],
    ) -> None:
        self.name = name
        self.epoch = epoch
        self.members = tuple(members)
        self._on_done = on_done
        self._on_lost = on_lost
        self._answers: dict[int, Answer] = {}
        self._futures: list[ActorFuture[Any]] = []
        self._lost: dict[SliceId, DeathCause] = {}
        self._looked = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        answered = f"{len(self._answers)} of {len(self.members)} answered"
        return f"<Round {self.name} in epoch {self.epoch}: {answered}>"

    def done(self) -> bool:
        """Whether all have answered, or are lost."""
        return self._done.done()

    @property
    def failed(self) -> bool:
        """Whether a call of it has failed, or is lost."""
        return any(answer.error is not None for answer in self._answers.values())

    async def answers(self) -> tuple[Answer, ...]:
        """Waits until all have answered, or are lost; gives what became of each call."""
        self._looked = True
        try:
            await asyncio.shield(self._done)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return tuple(self._answers[number] for number in range(len(self.members)))

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._results().__await__()

    def cancel(self) -> None:
        """Cancels all calls that have no outcome yet."""
        for future in self._futures:
            future.cancel()

    async def _results(self) -> list[Any]:
        answers = await self.answers()
        if self._lost:
            raise self._loss(answers)
        for answer in answers:
            if answer.error is not None:
                where = f"in epoch {self.epoch}, on {answer.member.place}"
                if where not in getattr(answer.error, "__notes__", ()):
                    answer.error.add_note(where)
                raise answer.error
        return [answer.value for answer in answers]

    def _loss(self, answers: Sequence[Answer]) -> SliceLost:
        told = " and ".join(f"{who} was lost: {cause}" for who, cause in self._lost.items())
        others = {answer.member.slice for answer in answers} - self._lost.keys()
        error = SliceLost(
            f"{self.name} in epoch {self.epoch}: {told}; there it may have run, wholly or in part, "
            f"and {len(others)} other slices have ended it. The next barrier() begins an epoch "
            "without what was lost",
            epoch=self.epoch,
            lost=self._lost,
        )
        errors = [answer.error for answer in answers if answer.error is not None]
        error.__cause__ = errors[0] if errors else None
        return error

    # ---- the group's

    def send(self, calls: Iterable[Callable[[], ActorFuture[Any]]]) -> None:
        """Makes the calls; if one cannot be made, cancels the others.

        Args:
            calls: Make one each, in the order of the members.

        Raises:
            PayloadError: An argument cannot be pickled.
        """
        try:
            for call in calls:
                self._futures.append(call())
        except BaseException:
            self._looked = True
            self.cancel()
            self._finish()
            raise
        if not self.members:
            self._finish()
        for number, future in enumerate(self._futures):
            future.add_done_callback(lambda done, number=number: self._heard(number, done))

    def lose(self, who: SliceId, cause: DeathCause) -> None:
        """A slice is lost: what its members have not answered they will not.

        Args:
            who: Which.
            cause: Why.
        """
        for number, member in enumerate(self.members):
            if member.slice == who and number not in self._answers:
                self._lost[who] = cause
                error = ActorDied(str(member.place), cause, started=Started.UNKNOWN)
                self._note(number, Answer(member, error=error))
                self._futures[number].cancel()

    def tell(self) -> None:
        """Logs what went wrong, where nobody has looked."""
        errors = (answer for answer in self._answers.values() if answer.error is not None)
        first = next(errors, None)
        if first is not None and not self._looked:
            log.error(
                "%s in epoch %d failed and nobody looked: %s: %r",
                self.name,
                self.epoch,
                first.member.place,
                first.error,
            )

    def _heard(self, number: int, future: ActorFuture[Any]) -> None:
        error, who = future.exception(), self.members[number].slice  # looked at in any case
        if number in self._answers:  # its slice was lost, and the answer says so
            return
        if isinstance(error, ActorDied | ActorUnavailable) and remote_error(error) is None:
            cause = DeathCause(DeathKind.UNKNOWN, str(error))
            self._on_lost(who, error.cause if isinstance(error, ActorDied) else cause)
            if number in self._answers:
                return
        value = None if error is not None else future.result()
        self._note(number, Answer(self.members[number], value, error))

    def _note(self, number: int, answer: Answer) -> None:
        self._answers[number] = answer
        if len(self._answers) == len(self.members):
            self._finish()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
            self._on_done(self)


class GroupMethod:
    """A method of all members of a group."""

    __slots__ = ("_conductor", "_members", "_name", "_timeout_s")

    def __init__(
        self,
        conductor: Conductor,
        name: str,
        members: Iterable[Member] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._conductor = conductor
        self._name = name
        self._members = members
        self._timeout_s = timeout_s

    def remote(self, *args: Any, **kwargs: Any) -> Round:
        """Calls it at all members, with the same arguments: a broadcast. Sends at once.

        Args:
            *args: The method's arguments.
            **kwargs: Likewise.

        Raises:
            SliceLost: A member of this epoch is lost; nothing was sent.
            PayloadError: An argument cannot be pickled; nothing was sent.
        """
        return self._send(lambda _: (args, kwargs))

    def scatter(self, arguments: Callable[[Member], tuple[Any, ...]]) -> Round:
        """Calls it at all members, each with arguments of its own. Sends at once.

        Args:
            arguments: Gives those of a member.

        Raises:
            SliceLost: A member of this epoch is lost; nothing was sent.
            PayloadError: An argument cannot be pickled; what was sent before is cancelled.
        """
        return self._send(lambda member: (tuple(arguments(member)), {}))

    def on(self, members: Iterable[Member]) -> GroupMethod:
        """The same, of some members only.

        Args:
            members: Of the present epoch.
        """
        return GroupMethod(self._conductor, self._name, tuple(members), self._timeout_s)

    def options(self, *, timeout: float | None = None) -> GroupMethod:
        """The same, with other options.

        Args:
            timeout: Time limit of each call in seconds, > 0; ``math.inf`` for none; None for the
                method's own.
        """
        return GroupMethod(self._conductor, self._name, self._members, timeout)

    def _send(self, arguments: Callable[[Member], tuple[tuple[Any, ...], dict[str, Any]]]) -> Round:
        members = self._conductor.chosen(self._name, self._members)
        calls: list[Callable[[], ActorFuture[Any]]] = []
        for member in members:
            method = getattr(member.handle, self._name)
            if self._timeout_s is not None:
                method = method.options(timeout=self._timeout_s)
            args, kwargs = arguments(member)
            calls.append(partial(method.remote, *args, **kwargs))
        made = self._conductor.begin(self._name, members)
        made.send(calls)
        return made


__all__ = ["Answer", "Conductor", "GroupMethod", "Round"]
