"""Monitors: what became of an actor, and why, also if it has happened already."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fray.actor.blocking import refuse_to_block
from fray.errors import ActorNotFoundError, ClusterClosed, DeathCause, DeathKind, FrayError
from fray.runtime.loopthread import on_loop

if TYPE_CHECKING:
    from fray.actor.directory import Ended, Life
    from fray.actor.handle import ActorHandle
    from fray.actor.lives import Following
    from fray.actor.system import ActorSystem

MEMBERS_S = 5.0
"""How often it is looked who has a name: the members of a pool come and go."""


@dataclass(frozen=True, slots=True)
class Down:
    """An incarnation of an actor has ended.

    Attributes:
        actor: The actor's name or class, for people.
        actor_id: The actor; empty where nobody has the name.
        incarnation: Which life of it, from 1; 0 where it never had one.
        cause: What it died of. Of something that nobody knows its kind is ``NOT_FOUND``.
        over: Why it will not come back; None while it may.
    """

    actor: str
    actor_id: str
    incarnation: int
    cause: DeathCause
    over: DeathCause | None = None

    def __str__(self) -> str:
        again = "it may come back" if self.over is None else "it does not come back"
        return f"{self.actor} ended (life {self.incarnation}): {self.cause}; {again}"


class Monitor:
    """Tells of the ends of an actor's incarnations. `monitor` makes it.

    Awaiting it gives the next end that has not been told: at first that of the incarnation which
    there is when the cluster hears of it, at once where there is none any more. ``async for`` goes
    on with those that follow, until the actor will not come back. Ends that happen faster than they
    are fetched are kept, the last eight of each actor.

    Use `close`, or ``with``, where the end is not waited for.
    """

    def __init__(self, handle: ActorHandle[Any]) -> None:
        self._key = handle.key
        self._label = handle.label
        self._system: ActorSystem = handle.route.system
        self._downs: deque[Down] = deque()
        self._following: dict[str, Following] = {}
        self._told: dict[str, int] = {}
        self._over: dict[str, None] = {}
        self._news = asyncio.Event()
        self._failure: FrayError | None = None
        self._is_settled = False  # whether it is known who is followed
        self._closed = False
        self._system.process.post(self._begin)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._following)} followed"
        return f"<Monitor of {self._label}: {state}>"

    # ---- what users call

    def __await__(self) -> Generator[Any, None, Down]:
        return self._next_or_raise().__await__()

    async def _next_or_raise(self) -> Down:
        down = await on_loop(self._system.process.loop, self._next)
        if down is None:
            raise ActorNotFoundError(f"{self._label} has ended, and all of that was told")
        return down

    def result(self, timeout: float | None = None) -> Down:
        """Waits for the next end, and blocks.

        Args:
            timeout: At most so long, in seconds; None for as long as it takes.

        Raises:
            BlockingCallError: An event loop runs on this thread.
            TimeoutError: Nothing ended in that time.
            ActorNotFoundError: All ends have been told.
        """
        refuse_to_block("monitor(…).result()", "await fray.monitor(…)", self._system.process)
        down = self._system.run(self._next, timeout_s=timeout)
        if down is None:
            raise ActorNotFoundError(f"{self._label} has ended, and all of that was told")
        return down

    def __aiter__(self) -> Monitor:
        return self

    async def __anext__(self) -> Down:
        down = await on_loop(self._system.process.loop, self._next)
        if down is None:
            raise StopAsyncIteration
        return down

    def close(self) -> None:
        """Follows the actor no longer. Ends that were not fetched are dropped."""
        self._system.process.post(self._end)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ---- on the system's loop

    async def _next(self) -> Down | None:
        while not self._downs:
            if self._failure is not None:
                raise self._failure
            if self._closed or (self._is_settled and not self._following):
                return None
            self._news.clear()
            await self._news.wait()
        return self._downs.popleft()

    def _begin(self) -> None:
        try:
            self._system.spawn(self._follow(), f"monitor {self._label}")
        except RuntimeError:  # the process has ended
            self._fail()

    async def _follow(self) -> None:
        try:
            await self._system.created(self._key)
        except FrayError as exc:  # it was refused: there has never been such an actor
            cause = DeathCause(DeathKind.NOT_FOUND, f"it was not made: {exc}")
            self._tell(Down(self._label, self._key.actor_id, 0, cause, cause))
            self._settle()
            return
        if not self._key.name:
            self._add(self._key.actor_id)
            self._settle()
            return
        while not self._closed:
            try:
                found = await self._system.directory.actor_ids(self._key)
            except FrayError:  # nobody can say at present
                found = []
            else:
                self._note_members(list(found))
                if not self._following:
                    return
            await self._system.process.clock.sleep(MEMBERS_S)

    def _note_members(self, found: list[str]) -> None:
        for actor_id in found:
            self._add(actor_id)
        if not found and not self._is_settled:
            text = f"no actor is registered as {self._key.name!r}, or was"
            cause = DeathCause(DeathKind.NOT_FOUND, text)
            self._tell(Down(self._label, "", 0, cause, cause))
        self._settle()

    def _add(self, actor_id: str) -> None:
        if actor_id in self._following or actor_id in self._over or self._closed:
            return
        lives = self._system.lives
        self._following[actor_id] = lives.follow(actor_id, lambda life: self._hear(actor_id, life))

    def _hear(self, actor_id: str, life: Life | None) -> None:
        if life is None:
            self._fail()
            return
        for ended in self._untold(life):
            over = life.over if ended is life.ends[-1] else None
            self._told[actor_id] = ended.incarnation
            self._tell(Down(self._label, actor_id, ended.incarnation, ended.cause, over))
        self._told.setdefault(actor_id, 0)
        if life.over is not None:
            if not life.ends:  # it has never lived
                self._tell(Down(self._label, actor_id, 0, life.over, life.over))
            self._following.pop(actor_id, None)
            self._over[actor_id] = None
            self._news.set()

    def _untold(self, life: Life) -> list[Ended]:
        told = self._told.get(life.actor_id)
        if told is not None:
            return [ended for ended in life.ends if ended.incarnation > told]
        if life.started:  # what was before the present one is history
            self._told[life.actor_id] = life.started - 1
            return []
        return list(life.ends[-1:])

    def _tell(self, down: Down) -> None:
        self._downs.append(down)
        self._news.set()

    def _settle(self) -> None:
        self._is_settled = True
        self._news.set()

    def _fail(self) -> None:
        self._failure = ClusterClosed(
            f"{self._label} is not followed any longer: this connection to the cluster was closed"
        )
        self._news.set()

    def _end(self) -> None:
        self._closed = True
        for following in self._following.values():
            following.end()
        self._following.clear()
        self._downs.clear()
        self._news.set()


def monitor(handle: ActorHandle[Any]) -> Monitor:
    """Follows an actor: tells its death and the cause, even if that has already happened.

    ``down = await fray.monitor(handle)`` waits for the end of the present incarnation;
    ``async for down in fray.monitor(handle)`` tells each, over restarts, until the actor does not
    come back. It works for any actor that can be looked up, wherever it is and whoever made it, and
    tells what the cluster knows: that a host is lost, for instance, when the fleet has given it up.

    Under a name that several actors have, each member's ends are told, as long as anybody has it.
    Of an actor that nobody knows the end is told at once, with the kind ``NOT_FOUND``.

    Args:
        handle: Which actor, or pool of actors.

    Raises:
        ClusterClosed: The handle's connection was closed.
    """
    return Monitor(handle)


__all__ = ["Down", "Monitor", "monitor"]
