"""What an actor is busy with, as its own process tells without a turn of the actor's.

A method that computes for an hour is healthy, and everybody who waits for it wants to know. On a
thread it disturbs nobody's answer. Where it blocks the event loop itself the process cannot answer,
which says as much.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.errors import CallError
from fray.runtime.calls import OutgoingCall
from fray.runtime.clock import duration
from fray.runtime.error_envelope import decode_error
from fray.runtime.jsoncodec import json_dumps, json_loads
from fray.runtime.payload import Codec, Payload
from fray.wording import counted

if TYPE_CHECKING:
    from fray.runtime.cell import Cell
    from fray.runtime.process import Process

RUNTIME = "fray:runtime"
"""The target of a process's own answers: no actor's, since their ids have no colon."""

ASK_TIMEOUT_S = 2.0
"""A process whose loop is not blocked answers at once."""


@dataclass(frozen=True, slots=True)
class ActorActivity:
    """What an actor does at a moment.

    Attributes:
        target: Which incarnation.
        label: Its name, for people.
        state: Of its life, see `CellState`.
        waiting: Calls that wait for their turn.
        running: Calls that run.
        busy_in: The method that has run longest; empty for none.
        busy_s: For how long, in seconds.
        awaits: The calls of others that this method waits for.
    """

    target: str
    label: str
    state: str
    waiting: int
    running: int
    busy_in: str = ""
    busy_s: float = 0.0
    awaits: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.busy_in:
            text = "idle" if self.state == "running" else self.state
        else:
            text = f"busy in {self.busy_in} for {duration(self.busy_s)}"
            if self.awaits:
                text += f", where it waits for {', '.join(self.awaits)}"
        others = self.running - 1
        text += f"; {counted(others, 'more runs', 'more run')}" if others > 0 else ""
        if self.waiting:
            text += f"; {counted(self.waiting, 'call waits', 'calls wait')}"
        return text


def activity_of(cell: Cell) -> ActorActivity:
    """What an actor does now.

    Args:
        cell: The actor.
    """
    told = cell.statistics()
    method, busy_s = told.busy_in or ("", 0.0)
    state = told.state.value
    return ActorActivity(
        cell.target, cell.label, state, told.waiting, told.running, method, busy_s, cell.awaits()
    )


async def ask_activity(
    process: Process,
    process_id: str,
    address: str,
    actor_id: str,
    *,
    timeout_s: float = ASK_TIMEOUT_S,
) -> ActorActivity | None:
    """What an actor of another process does now; None if that does not host it.

    Args:
        process: Whose connections are used.
        process_id: Where the actor is; empty for whoever answers at the address.
        address: That process's ``host:port``.
        actor_id: Which actor.
        timeout_s: How long to wait for the answer, in seconds.

    Raises:
        TimeoutError: The process does not answer: it blocks its loop, or cannot be reached.
        CallError: It is gone, or refuses.
    """
    answer = _Answer()
    payload = Payload(json_dumps([actor_id]), codec=Codec.JSON)
    call = OutgoingCall("activity", payload, answer)
    process.send(process_id, address, RUNTIME, call)
    try:
        async with asyncio.timeout(timeout_s):
            told = await answer.future
    except TimeoutError:
        raise TimeoutError(f"{address} does not answer within {timeout_s:g} s") from None
    finally:
        call.cancel()
    found = json_loads(told.data, list[ActorActivity], what="an activity")
    return found[0] if found else None


class _Answer:
    """The sink of one question."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()

    def on_result(self, payload: Payload) -> None:
        """See `CallSink.on_result`."""
        if not self.future.done():
            self.future.set_result(payload)

    def on_error(self, payload: Payload) -> None:
        """See `CallSink.on_error`."""
        self.on_failure(decode_error(payload, unpickle=False))

    def on_failure(self, exc: BaseException) -> None:
        """See `CallSink.on_failure`."""
        if not self.future.done():
            self.future.set_exception(exc)

    def on_item(self, payload: Payload) -> None:
        """See `CallSink.on_item`."""

    def on_end(self) -> None:
        """See `CallSink.on_end`."""
        self.on_failure(CallError("a process answered with a stream"))


__all__ = ["ASK_TIMEOUT_S", "RUNTIME", "ActorActivity", "activity_of", "ask_activity"]
