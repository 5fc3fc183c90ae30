"""A cell as its callers see it: calls that are handed to it directly, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from fray.errors import DeathCause, DeathKind
from fray.runtime.calls import Invocation
from fray.runtime.cell import Cell, CellOptions
from fray.runtime.error_envelope import decode_error
from fray.runtime.jsoncodec import json_dumps
from fray.runtime.methods import OPTIONS_ATTRIBUTE, MethodOptions
from fray.runtime.payload import Codec, Payload
from fray.runtime.serialization import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.errors import CallError
    from fray.testing import Simulation


BYE = DeathCause(DeathKind.STOPPED, "the test is over")


def concurrent(fn: Any) -> Any:
    """Marks a method as ``@fray.method(concurrent=True)`` does."""
    setattr(fn, OPTIONS_ATTRIBUTE, MethodOptions(concurrent=True))
    return fn


class Call:
    """A call and its outcome; the `ReplyTo` of its invocation.

    Attributes:
        items: What a stream has sent so far.
        outcome: How it ended: ``result``, ``error``, ``failure`` or ``end``; None until then.
        ended: Done with the result, or with what is to be raised.
    """

    def __init__(self, cell: Cell, method: str, payload: Payload, deadline: float | None) -> None:
        self.cell = cell
        self.invocation = Invocation(0, method, payload, self, deadline=deadline)
        self.items: list[Any] = []
        self.outcome: str | None = None
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def done(self) -> bool:
        return self.outcome is not None

    def cancel(self) -> None:
        self.cell.cancel(self.invocation)

    async def error(self) -> BaseException:
        """What the call raised."""
        await asyncio.wait([self.ended])
        exc = self.ended.exception()
        assert exc is not None
        return exc

    def _end(self, outcome: str, value: Any = None, exc: BaseException | None = None) -> None:
        assert self.outcome is None, f"it ended twice: {self.outcome}, then {outcome}"
        self.outcome = outcome
        if exc is None:
            self.ended.set_result(value)
        else:
            self.ended.set_exception(exc)
            self.ended.exception()  # it is seen: nobody has to ask for it

    # ---- ReplyTo

    def result(self, invocation: Invocation, payload: Payload) -> None:
        assert invocation is self.invocation
        self._end("result", loads(payload))

    def error_(self, invocation: Invocation, payload: Payload) -> None:
        assert invocation is self.invocation
        self._end("error", exc=decode_error(payload, actor=self.cell.label, unpickle=True))

    def failure(self, invocation: Invocation, exc: CallError) -> None:
        assert invocation is self.invocation
        self._end("failure", exc=exc)

    def item(self, invocation: Invocation, payload: Payload) -> None:
        assert invocation is self.invocation
        assert self.outcome is None
        self.items.append(loads(payload))

    def end(self, invocation: Invocation) -> None:
        assert invocation is self.invocation
        self._end("end", self.items)


class _ReplyTo:
    """`Call.error` means something else to a test than to a cell."""

    def __init__(self, call: Call) -> None:
        self.result, self.error, self.failure = call.result, call.error_, call.failure
        self.item, self.end = call.item, call.end


def call(
    cell: Cell,
    method: str,
    *args: Any,
    codec: Codec = Codec.PICKLE,
    deadline: float | None = None,
    **kwargs: Any,
) -> Call:
    """Submits a call."""
    if codec is Codec.JSON:
        payload = Payload(json_dumps([args, kwargs]), codec=Codec.JSON)
    else:
        payload = dumps((args, kwargs))
    made = Call(cell, method, payload, deadline)
    made.invocation.reply_to = _ReplyTo(made)
    cell.submit(made.invocation)
    return made


async def ask(cell: Cell, method: str, *args: Any, **kwargs: Any) -> Any:
    """The result of a call, or what it raises."""
    return await call(cell, method, *args, **kwargs).ended


class Actors:
    """Hosts actors on simulated threads, for one test."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._cells: list[Cell] = []

    def new(self, **options: Any) -> Cell:
        """A cell that is not yet started."""
        cell = Cell(
            f"actor/{len(self._cells) + 1}",
            label="actor",
            clock=self._sim.clock,
            threads=self._sim.driver.threads,
            options=CellOptions(**options),
        )
        self._cells.append(cell)
        return cell

    async def start(self, factory: Callable[[], Any], **options: Any) -> Cell:
        """A cell that runs."""
        cell = self.new(**options)
        await cell.start(factory)
        return cell

    async def close(self) -> None:
        """Kills what still runs."""
        for cell in self._cells:
            cell.kill(BYE)
        await asyncio.sleep(1)


@pytest.fixture
async def actors(sim: Simulation) -> AsyncIterator[Actors]:
    """Hosts actors, and ends them after the test."""
    made = Actors(sim)
    yield made
    await made.close()
