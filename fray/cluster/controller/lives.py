"""What becomes of actors: told to those who follow them, also after it has happened.

Of an actor that the cluster made the ledger knows all: each incarnation is an attempt, and an ended
job has ended for good. Of an object that some process hosts under a name, only the names know, and
what they forget is remembered for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fray.actor.directory import Ended, Endpoint, Life, Watched
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.events import AttemptChanged, Event, JobChanged
from fray.cluster.types import JobStatus
from fray.errors import DeathCause, DeathKind, JobNotFoundError
from fray.ids import ActorId, JobId
from fray.runtime.leases import Reason

if TYPE_CHECKING:
    from fray.cluster.controller.attempt import EndedAttempt
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.records import Job

GONE_MAX = 1000
"""So many objects are remembered that had a name and have none any more."""

_REASONS = {
    Reason.EXPIRED: (DeathKind.HOST_LOST, "its process has fallen silent"),
    Reason.UNREGISTERED: (DeathKind.STOPPED, "its server unregistered it"),
    Reason.REPLACED: (DeathKind.STOPPED, "a later one of its server has replaced it"),
    Reason.PROCESS_GONE: (DeathKind.UNKNOWN, "its process has ended"),
    Reason.OWNER_GONE: (DeathKind.UNKNOWN, "its process has ended"),
}


class Lives:
    """Knows of each actor what it has been through, and wakes those who follow it.

    Args:
        book: The ledger.
        place_of: Where an actor is at present, as the names know it.
        recovering: Whether the names are not known again yet, after a start of the controller.
    """

    def __init__(
        self,
        book: Book,
        place_of: Callable[[str], Endpoint | None],
        recovering: Callable[[], bool],
    ) -> None:
        self._book = book
        self._place_of = place_of
        self._recovering = recovering
        self._gone: OrderedDict[str, Life] = OrderedDict()
        self._watching: dict[str, list[asyncio.Event]] = {}

    def __repr__(self) -> str:
        return f"<Lives watched={len(self._watching)} gone={len(self._gone)}>"

    async def wait(self, watched: Sequence[Watched], wait_s: float) -> list[Life]:
        """Those of which there is news; waits until there is some.

        Args:
            watched: Which are asked for, and what is known of them.
            wait_s: At most so long, in seconds.
        """
        woken = asyncio.Event()
        for each in watched:
            self._watching.setdefault(each.actor_id, []).append(woken)
        try:
            async with asyncio.timeout(wait_s):
                while not (news := self._news(watched)):
                    woken.clear()
                    await woken.wait()
        except TimeoutError:
            news = self._news(watched)
        finally:
            for each in watched:
                self._unwatch(each.actor_id, woken)
        return news

    def _news(self, watched: Sequence[Watched]) -> list[Life]:
        lives = [(each, self.life(each.actor_id)) for each in watched]
        return [life for each, life in lives if life is not None and life.is_news(each)]

    def life(self, actor_id: str) -> Life | None:
        """What is known of an actor; None where nothing can be said yet.

        Args:
            actor_id: Which.
        """
        place = self._place_of(actor_id)
        job_id = self._book.any_job_of_actor(ActorId(actor_id))
        if job_id is not None:
            try:
                return self._of_job(actor_id, self._book.ledger.job(job_id), place)
            except JobNotFoundError:  # it ended so long ago that it is forgotten
                pass
        if place is not None:
            return Life(actor_id, started=place.incarnation)
        known = self._gone.get(actor_id)
        if known is not None or self._recovering():
            return known
        message = "nobody knows of it: it ended long ago, or has never been"
        return Life(actor_id, over=DeathCause(DeathKind.NOT_FOUND, message))

    def _of_job(self, actor_id: str, job: Job, place: Endpoint | None) -> Life:
        task = self._book.ledger.tasks(job.spec.job_id)[0]
        here = place is not None and place.attempt_id == task.live
        return Life(
            actor_id,
            started=place.incarnation if place is not None and here else 0,
            ends=tuple(Ended(_incarnation(ended), cause_of(ended)) for ended in task.history),
            over=death_of(self._book, job.spec.job_id),
        )

    # ---- what happens

    def on_events(self, events: Sequence[Event]) -> None:
        """What has happened in the ledger.

        Args:
            events: In order.
        """
        for event in events:
            if isinstance(event, AttemptChanged):
                self._wake_job(JobId(event.attempt_id.rpartition("#")[0].rpartition("/")[0]))
            elif isinstance(event, JobChanged):
                self._wake_job(event.job_id)

    def came(self, endpoint: Endpoint) -> None:
        """An actor is registered.

        Args:
            endpoint: Where it is.
        """
        self._gone.pop(endpoint.actor_id, None)
        self._wake(endpoint.actor_id)

    def went(self, endpoint: Endpoint, reason: Reason) -> None:
        """A name of an actor is gone.

        Args:
            endpoint: Where it was.
            reason: Why.
        """
        actor_id = endpoint.actor_id
        if self._place_of(actor_id) is not None:
            return  # it has another name
        if self._book.any_job_of_actor(ActorId(actor_id)) is None:
            cause = self._cause_of_attempt(endpoint) or DeathCause(*_REASONS[reason])
            self._gone[actor_id] = Life(
                actor_id, ends=(Ended(endpoint.incarnation, cause),), over=cause
            )
            while len(self._gone) > GONE_MAX:
                self._gone.popitem(last=False)
        self._wake(actor_id)

    # ---- inside

    def _cause_of_attempt(self, endpoint: Endpoint) -> DeathCause | None:
        """What the process of an object died of, where that is a task's."""
        job_id, _, index = endpoint.attempt_id.rpartition("#")[0].rpartition("/")
        if not index.isdecimal() or JobId(job_id) not in self._book.ledger.tables.jobs:
            return None
        for ended in self._book.ledger.tasks(JobId(job_id))[int(index)].history:
            if ended.attempt_id == endpoint.attempt_id:
                return cause_of(ended)
        return None

    def _wake_job(self, job_id: JobId) -> None:
        job = self._book.ledger.tables.jobs.get(job_id)
        if job is not None and job.spec.actor is not None:
            self._wake(job.spec.actor.actor_id)

    def _wake(self, actor_id: str) -> None:
        for woken in self._watching.get(actor_id, ()):
            woken.set()

    def _unwatch(self, actor_id: str, woken: asyncio.Event) -> None:
        left = [other for other in self._watching.get(actor_id, ()) if other is not woken]
        if left:
            self._watching[actor_id] = left
        else:
            self._watching.pop(actor_id, None)


def _incarnation(ended: EndedAttempt) -> int:
    return int(ended.attempt_id.rpartition("#")[2]) + 1


def cause_of(ended: EndedAttempt) -> DeathCause:
    """What an attempt's actors died of.

    Args:
        ended: The attempt.
    """
    if ended.state is AttemptState.SUCCEEDED:
        return DeathCause(DeathKind.STOPPED, "its process has ended")
    return ended.cause


def death_of(book: Book, job_id: JobId) -> DeathCause | None:
    """Why an actor is gone for good; None while its job goes on.

    Args:
        book: The ledger.
        job_id: The actor's job.
    """
    job = book.ledger.job(job_id)
    if not job.status.finished():
        return None
    task = book.ledger.tasks(job_id)[0]
    last = task.history[-1] if task.history else None
    if job.verdict is not None and job.verdict.kind is not None:
        about = last.cause if last is not None else DeathCause()
        return DeathCause(
            job.verdict.kind, job.error_message, about.exit_code, about.signal, about.host
        )
    if job.status is JobStatus.FAILED and last is not None:
        cause = last.cause
        if job.spec.max_retries_failure != 0 and task.failures > 0:
            text = f"it failed more often than it may be restarted; the last time: {cause.message}"
            return DeathCause(
                DeathKind.RESTART_LIMIT, text, cause.exit_code, cause.signal, cause.host
            )
        return cause
    if job.status is JobStatus.STOPPED:
        return DeathCause(DeathKind.STOPPED, job.error_message or "it was stopped")
    return DeathCause(DeathKind.STOPPED, job.error_message or "its process has ended")


__all__ = ["GONE_MAX", "Lives", "cause_of", "death_of"]
