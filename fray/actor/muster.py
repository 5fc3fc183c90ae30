"""The actors of a gang muster before each of their lives, which the cluster begins for all at once.

A member is ready when its last life has ended, as the cluster knows it. When all that are to start
are ready, one order goes out for all of them, and nobody starts before there is room for everybody.
One that is added or started again meanwhile waits until the others run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from fray.actor.orders import refusal_of

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.errors import FrayError
    from fray.runtime.tasks import Scope

Ordering = asyncio.Task["FrayError | None"]
"""An order on its way: why it is refused, or None."""


class _Ready(NamedTuple):
    """A member that waits for the others: its next life, and who is told that it is ordered."""

    number: int
    ordered: Callable[[Ordering], object]


class Muster:
    """Who of a gang is ready for its next life. On one event loop.

    Args:
        name: The gang's, for people.
        starting: The ids of all members that are to start.
        system: Whose cluster begins their lives.
        scope: Owns the orders.
    """

    def __init__(
        self,
        name: str,
        starting: Callable[[], Collection[str]],
        system: ActorSystem,
        scope: Scope,
    ) -> None:
        self._name = name
        self._starting = starting
        self._system = system
        self._scope = scope
        self._ready: dict[str, _Ready] = {}

    def __repr__(self) -> str:
        return f"<Muster {len(self._ready)} ready of {len(self._starting())}>"

    async def join(self, actor_id: str, number: int, ordered: Callable[[Ordering], object]) -> None:
        """Waits until all are ready, and the order is on its way. Who is cancelled has left.

        Args:
            actor_id: Who is ready.
            number: For which life.
            ordered: Told at the very moment at which that is ordered; not if it has left before.
        """
        on_its_way = asyncio.get_running_loop().create_future()

        def tell(ordering: Ordering) -> None:
            ordered(ordering)
            if not on_its_way.done():
                on_its_way.set_result(None)

        self._ready[actor_id] = _Ready(number, tell)
        self.look()
        try:
            await on_its_way
        except asyncio.CancelledError:
            self._ready.pop(actor_id, None)
            raise

    def look(self) -> None:
        """Gives the order if nobody is missing: called when one joins, and at any change."""
        starting = self._starting()
        if not starting or not all(actor_id in self._ready for actor_id in starting):
            return
        going = {actor_id: self._ready.pop(actor_id) for actor_id in starting}
        lives = {actor_id: ready.number for actor_id, ready in going.items()}
        ordering = self._scope.spawn(self._send(lives), name="start gang")
        for ready in going.values():
            ready.ordered(ordering)

    async def _send(self, lives: Mapping[str, int]) -> FrayError | None:
        system = self._system
        group_id = f"g-{system.process.clock.token(6)}"
        return await refusal_of(
            system,
            self._name,
            lambda: system.directory.start_together(group_id, self._name, lives),
        )


__all__ = ["Muster", "Ordering"]
