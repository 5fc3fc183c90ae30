"""Which processes that use fray's names on Ray live, and what the others died of. In the keeper.

Of the attempts that the keeper itself has begun Ray tells the end. Any other process says every few
seconds that it lives. One that falls silent is dialled: where its port is closed it is gone at
once, and where nobody answers, when its time is over. Whoever lost a connection asks here, and then
the other side is dialled at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.actor.directory import Departure, Endpoint
from fray.cluster.addresses import split_address
from fray.errors import DeathCause, DeathKind, InvalidRequestError
from fray.runtime.signal import Signal
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

SILENT_S = 12.0
"""A process that has said nothing for so long is dialled."""

GIVEN_UP_S = 60.0
"""A process that has said nothing for so long, and cannot be dialled, is gone."""

DIAL_S = 3.0
"""What a process has to answer."""

DYING_S = 3.0
"""How long Ray may take to tell why an attempt has ended whose port is closed already."""

ENDED_MAX = 10_000
"""Of so many attempts and processes it is remembered what they died of."""

ENDED = DeathCause(DeathKind.UNKNOWN, "its process has ended")


@dataclass(frozen=True, slots=True)
class Presence:
    """A process that uses names.

    Attributes:
        process_id: Which.
        address: Its ``host:port``.
        attempt_id: The attempt that it is; empty where the keeper has not begun it.
    """

    process_id: str
    address: str
    attempt_id: str = ""


class RayDeaths:
    """See the module. On the keeper's loop only.

    Args:
        clock: The keeper's.
        is_shut: Whether nobody listens at an address, as its host itself says.

    Attributes:
        on_attempt_ended: Told of attempts that have ended.
        on_process_ended: Told of processes that have ended, by their ids.
    """

    def __init__(self, clock: Clock, is_shut: Callable[[str], Awaitable[bool]]) -> None:
        self._clock = clock
        self._is_shut = is_shut
        self._running: set[str] = set()
        self._heard: dict[str, tuple[Presence, float]] = {}
        self._dialled: set[str] = set()
        self._ended: OrderedDict[str, DeathCause] = OrderedDict()
        self._news = Signal()
        self._scope = Scope("deaths on ray")
        self.on_attempt_ended: list[Callable[[str], object]] = []
        self.on_process_ended: list[Callable[[str], object]] = []

    def runs(self, attempt_id: str) -> bool:
        """Whether an attempt goes on, as Ray knows it.

        Args:
            attempt_id: Which.
        """
        return attempt_id in self._running

    def cause(self, endpoint: Endpoint) -> DeathCause | None:
        """What the process of an endpoint died of, as far as is known.

        Args:
            endpoint: Which.
        """
        return self._ended.get(endpoint.attempt_id) or self._ended.get(endpoint.process_id)

    def cause_of(self, presence: Presence) -> DeathCause | None:
        """What a process died of, as far as is known; it may say that it lives nevertheless.

        Args:
            presence: Which.
        """
        return self._ended.get(presence.attempt_id) or self._ended.get(presence.process_id)

    async def obituary(self, endpoint: Endpoint) -> DeathCause | None:
        """The same, and looks whether it is there if nothing is known.

        Args:
            endpoint: Which.
        """
        if self.cause(endpoint) is None and await self._is_shut(endpoint.address):
            if self.runs(endpoint.attempt_id):
                await self._news.until(lambda: self.cause(endpoint) is not None, DYING_S)
            if self.cause(endpoint) is None:
                self.process_ended(endpoint.process_id, ENDED)
        return self.cause(endpoint)

    async def departed(self, endpoints: Sequence[Endpoint], wait_s: float) -> list[Departure]:
        """Those that are gone; waits until there is one.

        Args:
            endpoints: Which are asked for.
            wait_s: At most so long, in seconds.
        """

        def gone() -> list[Departure]:
            causes = [(endpoint.target, self.cause(endpoint)) for endpoint in endpoints]
            return [Departure(target, cause) for target, cause in causes if cause is not None]

        await self._news.until(lambda: bool(gone()), wait_s)
        return gone()

    # ---- what happens

    def heard(self, presence: Presence) -> None:
        """A process lives.

        Args:
            presence: Which.
        """
        if self.cause_of(presence) is None:
            self._heard[presence.process_id] = (presence, self._clock.monotonic())

    def attempt_began(self, attempt_id: str) -> None:
        """See `Attempts.attempt_began`."""
        self._running.add(attempt_id)

    def attempt_ended(self, attempt_id: str, cause: DeathCause) -> None:
        """See `Attempts.attempt_ended`."""
        self._running.discard(attempt_id)
        self._remember(attempt_id, cause)
        for tell in self.on_attempt_ended:
            tell(attempt_id)
        for presence, _ in list(self._heard.values()):
            if presence.attempt_id == attempt_id:
                self.process_ended(presence.process_id, cause)

    def process_ended(self, process_id: str, cause: DeathCause) -> None:
        """A process is gone.

        Args:
            process_id: Which.
            cause: Why.
        """
        self._heard.pop(process_id, None)
        self._remember(process_id, cause)
        for tell in self.on_process_ended:
            tell(process_id)

    def _remember(self, key: str, cause: DeathCause) -> None:
        self._ended[key] = cause
        while len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)
        self._news.notify()

    # ---- who has fallen silent

    def look(self) -> None:
        """Looks who has fallen silent, and dials them; called again and again."""
        now = self._clock.monotonic()
        for presence, heard_at in list(self._heard.values()):
            is_silent = now - heard_at > SILENT_S and not self.runs(presence.attempt_id)
            if is_silent and presence.process_id not in self._dialled:
                self._dialled.add(presence.process_id)
                self._scope.spawn(self._dial(presence, heard_at), name="dial")

    async def _dial(self, presence: Presence, heard_at: float) -> None:
        try:
            if await self._is_shut(presence.address):
                self.process_ended(presence.process_id, ENDED)
            elif self._clock.monotonic() - heard_at > GIVEN_UP_S:
                cause = DeathCause(DeathKind.HOST_LOST, "its process has fallen silent")
                self.process_ended(presence.process_id, cause)
        finally:
            self._dialled.discard(presence.process_id)


async def is_shut(address: str) -> bool:
    """Whether a host says that nobody listens there.

    Args:
        address: ``host:port``.
    """
    try:
        async with asyncio.timeout(DIAL_S):
            _, writer = await asyncio.open_connection(*split_address(address))
    except ConnectionRefusedError:
        return True
    except (OSError, InvalidRequestError):  # it is not to be reached, which proves nothing
        return False
    writer.close()
    return False


__all__ = ["Presence", "RayDeaths", "is_shut"]
