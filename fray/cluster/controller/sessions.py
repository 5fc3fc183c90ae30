"""The actor ``sessions``: drivers are leases; when one ends, its actors end.

A driver that is connected is there, however long its loop has been busy (`Presence`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.cluster.control import ClusterFacts
from fray.cluster.controller.commands import SessionEnded
from fray.cluster.controller.presence import Presence
from fray.cluster.guard import caller

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.security import Security
    from fray.runtime.clock import Clock

LOOK_S = 1.0
RECOVERED_TTL_S = 60.0
"""What a driver of the time before this controller's start has, to renew its session."""


class Sessions:
    """See `SessionsApi`.

    Args:
        book: The ledger.
        clock: The process's clock.
        facts: What this cluster is.
        security: Makes tokens.
    """

    def __init__(self, book: Book, clock: Clock, facts: ClusterFacts, security: Security) -> None:
        self._security = security
        self._book = book
        self._clock = clock
        self._facts = facts
        until = clock.monotonic() + RECOVERED_TTL_S
        owners = (
            job.spec.actor.owner_session
            for job in book.ledger.tables.jobs.values()
            if job.spec.actor is not None and not job.status.finished()
        )
        self._until: dict[str, float] = {owner: until for owner in owners if owner}
        self._ttl_s: dict[str, float] = {}
        self._presence = Presence()

    def __repr__(self) -> str:
        return f"<Sessions {len(self._until)}>"

    async def run(self) -> None:
        """Ends the sessions of drivers that have fallen silent, for ever."""
        last = self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK_S)
            now = self._clock.monotonic()
            if now - last > LOOK_S * 3:
                # The controller itself stood still: what it did not hear is its own fault.
                self._until = {s: until + (now - last) for s, until in self._until.items()}
            last = now
            for session_id in self._presence.here():
                self._until[session_id] = now + self._ttl_s[session_id]
            for session_id in [s for s, until in self._until.items() if until < now]:
                await self._end(session_id, "its driver has fallen silent")

    async def facts(self) -> ClusterFacts:
        """See `SessionsApi.facts`."""
        return self._security.welcome(self._facts, caller())

    async def renew(self, session_id: str, ttl_s: float) -> int:
        """See `SessionsApi.renew`."""
        self._until[session_id] = self._clock.monotonic() + ttl_s
        self._ttl_s[session_id] = ttl_s
        self._presence.note(session_id)
        return self._security.revoked.version

    async def end(self, session_id: str) -> None:
        """See `SessionsApi.end`."""
        await self._end(session_id, "its driver has gone")

    async def _end(self, session_id: str, reason: str) -> None:
        self._until.pop(session_id, None)
        self._ttl_s.pop(session_id, None)
        self._presence.forget(session_id)
        await self._book.commit(SessionEnded(session_id, reason))


__all__ = ["Sessions"]
