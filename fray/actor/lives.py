"""Following the lives of actors: one question to the directory for all that a process follows.

The directory answers when there is something new. While it cannot be asked nothing is heard; it is
asked again until it answers, and tells then what has happened meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fray.actor.directory import Life, Watched
from fray.errors import FrayError
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem

log = logging.getLogger("fray")

LIVES_WAIT_S = 20.0
"""How long one question waits for news; then it is asked again."""

RETRY_S = 1.0
"""Between two questions where nobody could answer the first."""


class Following:
    """One actor that somebody follows. `Lives.follow` makes it.

    Attributes:
        seen: What they have been told.
    """

    def __init__(self, lives: Lives, seen: Watched, tell: Callable[[Life | None], object]) -> None:
        self.seen = seen
        self._lives = lives
        self._tell = tell

    def tell(self, life: Life | None) -> None:
        """Tells them, where it is news.

        Args:
            life: What is known now; None where nobody will ever know more.
        """
        if life is None:
            self._tell(None)
        elif life.is_news(self.seen):
            ended = life.ends[-1].incarnation if life.ends else self.seen.ended
            self.seen = replace(self.seen, started=life.started, ended=ended)
            self._tell(life)

    def end(self) -> None:
        """They follow it no longer. May be called again."""
        self._lives.forget(self)


class Lives:
    """What a system follows. On its loop only.

    Args:
        system: Whose.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._following: dict[Following, None] = {}
        self._changed = asyncio.Event()
        self._asking = False

    def __repr__(self) -> str:
        return f"<Lives of {len(self._following)} actors>"

    def follow(self, actor_id: str, tell: Callable[[Life | None], object]) -> Following:
        """Follows an actor, from the beginning of what is known of it.

        Args:
            actor_id: Which.
            tell: Told on the loop of all news; last, once, with None, when the system ends. Once
                the life is over nothing follows, and the following ends by itself.

        Raises:
            RuntimeError: The system's process has ended.
        """
        following = Following(self, Watched(actor_id), tell)
        self._following[following] = None
        self._changed.set()
        if not self._asking:
            try:
                self._system.spawn(self._ask_for_ever(), "follow lives")
            except RuntimeError:
                del self._following[following]
                raise
            self._asking = True
        return following

    def forget(self, following: Following) -> None:
        """Ends a following.

        Args:
            following: Which.
        """
        if self._following.pop(following, self) is None:
            self._changed.set()

    async def _ask_for_ever(self) -> None:
        """Asks while anything is followed."""
        try:
            async with Scope("lives") as scope:
                while self._following:
                    self._changed.clear()
                    asking = scope.spawn(self._ask())
                    changed = scope.spawn(self._changed.wait())
                    await asyncio.wait((asking, changed), return_when=asyncio.FIRST_COMPLETED)
                    changed.cancel()
                    if asking.done():
                        self._hear(asking.result())
                    else:  # another actor is followed: the question is another one
                        asking.cancel()
                self._asking = False  # who follows an actor from now on asks anew
        except BaseException:
            for following in list(self._following):
                following.tell(None)
            self._following.clear()
            self._asking = False
            raise

    async def _ask(self) -> Sequence[Life]:
        watched: dict[str, Watched] = {}
        for following in self._following:
            seen = following.seen
            known = watched.get(seen.actor_id, seen)
            watched[seen.actor_id] = Watched(
                seen.actor_id,
                started=known.started if known.started == seen.started else 0,
                ended=min(known.ended, seen.ended),
            )
        try:
            directory = self._system.directory
            return await directory.lives(list(watched.values()), wait_s=LIVES_WAIT_S)
        except FrayError as exc:
            log.debug("nobody could say what becomes of %d actors: %s", len(watched), exc)
            await self._system.process.clock.sleep(RETRY_S)
            return ()

    def _hear(self, lives: Sequence[Life]) -> None:
        for life in lives:
            gone = [f"{life.actor_id}/{ended.incarnation}" for ended in life.ends]
            for route in self._system.routes():
                for target in gone:
                    route.avoid(target)  # whoever is told of an end does not call the dead
            for following in list(self._following):
                if following.seen.actor_id == life.actor_id:
                    if life.over is not None:
                        self._following.pop(following, None)
                    following.tell(life)


__all__ = ["LIVES_WAIT_S", "RETRY_S", "Following", "Lives"]
