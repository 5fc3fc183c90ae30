"""The actor ``actors``: tells what becomes of actors, and obeys their supervisors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.actor.directory import Life, Watched
from fray.cluster.controller.commands import EndActor, StartActor, StartTogether, StopActor, StopJob
from fray.errors import DeathCause, DeathKind, InvalidRequestError
from fray.ids import ActorId, JobId

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.names import Names


class Actors:
    """See `ActorsApi`.

    Args:
        book: The ledger.
        names: Where actors are.
    """

    def __init__(self, book: Book, names: Names) -> None:
        self._book = book
        self._names = names

    async def lives(self, watched: list[Watched], wait_s: float) -> list[Life]:
        """See `ActorsApi.lives`."""
        return await self._names.lives.wait(watched, wait_s)

    async def start(self, actor_id: str, incarnation: int) -> None:
        """See `ActorsApi.start`."""
        await self._book.commit(StartActor(self._job(actor_id), incarnation - 1))

    async def start_together(self, group_id: str, name: str, incarnations: dict[str, int]) -> None:
        """See `ActorsApi.start_together`."""
        starts = [StartActor(self._job(who), each - 1) for who, each in incarnations.items()]
        await self._book.commit(StartTogether(group_id, name, tuple(starts)))

    async def halt(self, actor_id: str, reason: str, stop_s: float, down: bool) -> None:
        """See `ActorsApi.halt`."""
        await self._book.commit(StopActor(self._job(actor_id), reason, stop_s, down))

    async def end(self, actor_id: str, cause: DeathCause) -> None:
        """See `ActorsApi.end`."""
        job_id, text = self._job(actor_id), cause.message or str(cause)
        if cause.kind is DeathKind.STOPPED:
            await self._book.commit(StopJob(job_id, text, 0.0))
        else:
            await self._book.commit(EndActor(job_id, cause.kind, text))

    def _job(self, actor_id: str) -> JobId:
        job_id = self._book.any_job_of_actor(ActorId(actor_id))
        if job_id is None:
            raise InvalidRequestError(f"no actor has the id {actor_id!r}")
        return job_id


__all__ = ["Actors"]
