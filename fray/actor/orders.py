"""Orders of supervisors to the cluster: given until they are heard."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fray.errors import ClusterUnavailable, FrayError

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem

log = logging.getLogger("fray")

RETRY_S = 0.5
"""Between two orders to a controller that is away."""


async def insist(system: ActorSystem, about: str, order: Callable[[], Awaitable[object]]) -> None:
    """Gives an order until it is heard: a controller that is away is no failure of an actor.

    Args:
        system: Whose clock is used.
        about: Whom it is about, for people.
        order: Gives it; may be repeated.

    Raises:
        FrayError: It is refused.
    """
    while True:
        try:
            await order()
            return
        except ClusterUnavailable as exc:
            log.info("the supervisor of %s waits for the controller: %s", about, exc)
            await system.process.clock.sleep(RETRY_S)


async def refusal_of(
    system: ActorSystem, about: str, order: Callable[[], Awaitable[object]]
) -> FrayError | None:
    """As `insist`, but gives why it is refused; None if it is not.

    Args:
        system: Likewise.
        about: Likewise.
        order: Likewise.
    """
    try:
        await insist(system, about, order)
    except FrayError as exc:
        return exc
    return None


__all__ = ["RETRY_S", "insist", "refusal_of"]
