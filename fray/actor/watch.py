"""Ends calls to actors that are gone, where nothing on the wire tells.

A process that ends resets its connections, and its calls end with that. A host that loses its
power, or is cut off, says nothing. The directory knows when the fleet has given it up; while calls
are in flight for longer than a moment, a process asks it about those whom they went to. Where a
link was lost, and may come back, it asks at once what became of those at its other end.

Short calls cost nothing of this but one look at a flag.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fray.actor.directory import Departure
from fray.errors import CallError, FrayError
from fray.runtime.activity import ask_activity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fray.actor.directory import Endpoint
    from fray.actor.route import Route
    from fray.actor.system import ActorSystem
    from fray.runtime.peer import Peer

log = logging.getLogger("fray")

WATCH_AFTER_S = 2.0
"""How long calls may take before anybody is asked about their actors."""

WATCH_WAIT_S = 5.0
"""How long one question waits for news; then it is asked again, for what is in flight by then."""

RESULT_GRACE_S = 1.0
"""From the news that an actor is gone to the end of its calls: their results may be on the way."""


BUSY_AFTER_S = 10.0
"""From when on it is said, at level INFO, what an actor is busy with whose calls are awaited; then
each time that this has doubled."""


class _Awaited:
    """An actor to which calls have been in flight at every look."""

    __slots__ = ("report_after_s", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.report_after_s = BUSY_AFTER_S


class CallWatch:
    """Watches over the calls in flight of a system. On its loop only.

    Args:
        system: Whose calls.

    Attributes:
        active: Whether it watches; if not, `begin` it when a call is sent.
    """

    def __init__(self, system: ActorSystem) -> None:
        self.active = False
        self._system = system
        self._awaited: dict[str, _Awaited] = {}

    def begin(self) -> None:
        """Watches until there is nothing more to watch."""
        if not self._system.process.scope.closed:
            self.active = True
            self._system.spawn(self._run(), "watch calls")

    async def _run(self) -> None:
        clock = self._system.process.clock
        try:
            while not self._system.closed:
                await clock.sleep(WATCH_AFTER_S)
                routes = [route for route in self._system.routes() if route.in_flight]
                if not routes:
                    return
                self._report_busy(routes)
                await self._look(self._elsewhere(routes))
        finally:
            self.active = False
            self._awaited.clear()

    def _report_busy(self, routes: list[Route]) -> None:
        """Says what those are doing who have long been waited for, at growing intervals."""
        now = self._system.process.clock.monotonic()
        awaited = {e.target: (e, route) for route in routes for e in route.awaited_endpoints()}
        self._awaited = {target: self._awaited.get(target) or _Awaited(now) for target in awaited}
        for target, (endpoint, route) in awaited.items():
            known = self._awaited[target]
            if now - known.since >= known.report_after_s and route.watched:
                known.report_after_s *= 2
                self._system.spawn(self._report(endpoint, route), f"ask what {route.label} does")

    async def _report(self, endpoint: Endpoint, route: Route) -> None:
        process = self._system.process
        try:
            told = await ask_activity(
                process, endpoint.process_id, endpoint.address, endpoint.actor_id
            )
        except (TimeoutError, CallError) as exc:  # whether it lives is asked elsewhere
            log.info("calls to %s are waiting; what it does is not known: %s", route.label, exc)
        else:
            if told is not None and told.busy_s >= BUSY_AFTER_S:
                log.info("calls to %s are waiting: it is %s", route.label, told)

    def link_stopped(self, peer: Peer) -> None:
        """A link was lost, which may come back: asks whether the other side lives.

        Args:
            peer: Its side here.
        """
        if self._system.closed or self._system.process.scope.closed:
            return
        for endpoint in self._elsewhere(self._system.routes()):
            if endpoint.process_id == peer.process_id:
                self._system.spawn(self._ask(endpoint), f"obituary of {endpoint.target}")

    async def _ask(self, endpoint: Endpoint) -> None:
        try:
            cause = await self._system.directory.obituary(endpoint)
        except FrayError as exc:  # nobody knows at present; the link tells, or the watch
            log.debug("what became of %s could not be asked: %s", endpoint.target, exc)
            return
        if cause is not None:
            self._tell([Departure(endpoint.target, cause)])

    def _tell(self, gone: Sequence[Departure]) -> None:
        for departure in gone:
            for route in self._system.routes():
                route.departed(departure)

    def _elsewhere(self, routes: list[Route]) -> list[Endpoint]:
        """Whom calls went to in other processes."""
        here = self._system.process.process_id
        found = {
            endpoint.target: endpoint
            for route in routes
            for endpoint in route.awaited_endpoints()
            if endpoint.process_id != here
        }
        return list(found.values())

    async def _look(self, endpoints: list[Endpoint]) -> None:
        if not endpoints:
            return
        try:
            gone = await self._system.directory.departed(endpoints, wait_s=WATCH_WAIT_S)
        except FrayError as exc:  # nobody knows at present; it is asked again
            log.debug("nobody could say who is gone: %s", exc)
            return
        if not gone:
            return
        await self._system.process.clock.sleep(RESULT_GRACE_S)
        self._tell(gone)


__all__ = ["RESULT_GRACE_S", "WATCH_AFTER_S", "WATCH_WAIT_S", "CallWatch"]
