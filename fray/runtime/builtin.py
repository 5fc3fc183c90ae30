"""What a process answers for itself, whatever its actors do: questions of other runtimes.

They come as calls to the target `RUNTIME`, over the link of the calls that they are about, and are
answered at once, on the loop. A question about a call names it by its number on that link, so
nobody can ask about, or end, another's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from fray.errors import CallError, Started, UnknownMethodError
from fray.runtime.activity import RUNTIME, ActorActivity, activity_of
from fray.runtime.calls import OutgoingCall
from fray.runtime.cycles import Probe
from fray.runtime.error_envelope import encode_error
from fray.runtime.jsoncodec import json_dumps, json_loads
from fray.runtime.methods import no_such_method
from fray.runtime.payload import Codec, Payload

if TYPE_CHECKING:
    from fray.runtime.calls import CallSink, Invocation
    from fray.runtime.cell import Cell
    from fray.runtime.cycles import Cycles


class Served(Protocol):
    """One link, with the calls that are served over it."""

    def served(self, call_id: int) -> Invocation | None:
        """The call of this number; None where it has ended or never came."""
        ...


class Builtin:
    """Answers for one process. On its loop only.

    Args:
        cells: The actors hosted there, by target.
        cycles: Follows probes.
    """

    def __init__(self, cells: dict[str, Cell], cycles: Cycles) -> None:
        self._cells = cells
        self._cycles = cycles
        self._methods = {
            "probe": self._probe,
            "break_cycle": self._break_cycle,
            "activity": self._activity,
        }

    def answer(self, link: Served, invocation: Invocation) -> None:
        """Answers a call.

        Args:
            link: Over which it came.
            invocation: The call.
        """
        method = self._methods.get(invocation.method)
        if method is None:
            invocation.fail(
                UnknownMethodError(no_such_method(RUNTIME, invocation.method, self._methods))
            )
            return
        try:
            payload, invocation.payload = invocation.payload, None
            if payload is None or payload.codec is not Codec.JSON:
                raise CallError(f"{RUNTIME} takes JSON arguments", started=Started.NO)
            result = Payload(json_dumps(method(link, payload)), codec=Codec.JSON)
        except Exception as exc:  # what a peer wrote: its own matter
            invocation.answer(False, encode_error(exc))
        else:
            invocation.answer(True, result)

    def _probe(self, link: Served, payload: Payload) -> None:
        call_id, probe = json_loads(payload.data, tuple[int, Probe], what="a probe")
        invocation = link.served(call_id)
        if invocation is not None:
            self._cycles.probed(invocation, probe)

    def _break_cycle(self, link: Served, payload: Payload) -> None:
        call_id, chain = json_loads(payload.data, tuple[int, str], what="a cycle")
        invocation = link.served(call_id)
        if invocation is not None:
            self.break_cycle(invocation, chain)

    def break_cycle(self, invocation: Invocation, chain: str) -> None:
        """Takes a call out of a cycle, if it waits for its turn still.

        Args:
            invocation: The call.
            chain: The cycle, for people.
        """
        cell = self._cells.get(invocation.target)
        if cell is not None:
            cell.break_cycle(invocation, chain)

    def _activity(self, link: Served, payload: Payload) -> list[ActorActivity]:
        (actor_id,) = json_loads(payload.data, tuple[str], what="an actor's id")
        cells = self._cells.values()
        return [activity_of(cell) for cell in cells if cell.target.startswith(f"{actor_id}/")]


def question(method: str, *args: Any, sink: CallSink | None = None) -> OutgoingCall:
    """A call to another process's `RUNTIME`.

    Args:
        method: What is asked.
        *args: With what.
        sink: Who is told the answer; nobody by default.
    """
    payload = Payload(json_dumps(args), codec=Codec.JSON)
    return OutgoingCall(method, payload, sink or _NOBODY)


class _Nobody:
    """The sink of what needs no answer."""

    def on_result(self, payload: Payload) -> None:
        """See `CallSink.on_result`."""

    def on_error(self, payload: Payload) -> None:
        """See `CallSink.on_error`."""

    def on_failure(self, exc: BaseException) -> None:
        """See `CallSink.on_failure`."""

    def on_item(self, payload: Payload) -> None:
        """See `CallSink.on_item`."""

    def on_end(self) -> None:
        """See `CallSink.on_end`."""


_NOBODY = cast("CallSink", _Nobody())


__all__ = ["Builtin", "Served", "question"]
