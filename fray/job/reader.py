"""Reading a value of a pool in a process that is no part of it: that of an actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fray.actor.resolver import SystemResolver
from fray.errors import CallError, ReferenceFreedError
from fray.job.parts import payload_of, shared, taken
from fray.runtime.error_envelope import decode_error
from fray.runtime.payload import Codec, Payload
from fray.runtime.serialization import loads

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem


def read_value(system: ActorSystem, pool: str, number: int, label: str) -> Any:
    """The value behind a reference. Blocks.

    Args:
        system: The actor system of this process.
        pool: What the pool is called.
        number: Which value.
        label: What it is called.

    Raises:
        BaseException: What the task raised whose result it is.
    """
    payload, was_put = system.run(lambda: _fetch(system, pool, number))
    return loads(
        shared(payload) if was_put else taken(payload), what=f"the result of {label}", take=True
    )


async def _fetch(system: ActorSystem, pool: str, number: int) -> tuple[Payload, bool]:
    desk = await SystemResolver(system).lookup_async(pool)
    taker = -int.from_bytes(system.process.clock.token(6).encode(), "big")  # nobody else's
    while True:
        found = await desk.locate.remote(taker, number)
        if found[0] == "inline":
            return payload_of(found[1]), found[2]
        if found[0] == "error":
            raise decode_error(Payload(found[1], codec=Codec.JSON), unpickle=True)
        try:
            parts, was_put = (
                found[1:] if found[0] == "value" else await found[1].fetch.remote(number)
            )
        except (CallError, ReferenceFreedError):
            await desk.fetched.remote(taker, number, False)
            continue
        await desk.fetched.remote(taker, number, True)
        return payload_of(parts), was_put


__all__ = ["read_value"]
