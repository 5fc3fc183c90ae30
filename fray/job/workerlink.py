"""The way from a task to the pool that runs it: so that tasks can run tasks, and keep values."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import weakref
from typing import TYPE_CHECKING, Any

from fray.errors import FrayError
from fray.job.futures import ITEMS_AHEAD
from fray.job.link import LINKS, FrayFuture, FrayGenerator, TaskSpec
from fray.job.looking import look
from fray.job.parts import INLINE_BYTES_MAX, own, parts_of, payload_of
from fray.runtime.error_envelope import decode_error
from fray.runtime.payload import Codec, Payload
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.handle import ActorHandle
    from fray.job.worker import TaskWorker

NUMBERS_OF_A_WORKER = 40
"""Bits of the numbers that one worker gives; its own number stands above them."""


class _Flow:
    """Between the stream of a generator's items and whoever takes them here."""

    def __init__(self) -> None:
        self.ahead = 0
        self.closed = False
        self.changed = asyncio.Event()


class WorkerLink:
    """Implements `Link` in a worker.

    Args:
        name: What the pool is called.
        number: The worker's number.
        desk: The pool, for what tasks want of it.
        worker: The worker.
    """

    def __init__(self, name: str, number: int, desk: ActorHandle[Any], worker: TaskWorker) -> None:
        from fray.actor.current import current_system

        self.name = name
        self.system = current_system()
        self._desk = desk
        self._number = number
        self._worker = worker
        self._numbers = itertools.count(1)
        self._scope = Scope(f"tasks of worker {number}")
        self._flows: dict[int, _Flow] = {}
        self._unwanted: list[int] = []
        self._unheard: dict[Any, None] = {}  # what the pool is being told of values
        LINKS[name] = self

    def new_number(self) -> int:
        """See `Link.new_number`."""
        return (self._number << NUMBERS_OF_A_WORKER) + next(self._numbers)

    def submit(self, spec: TaskSpec, future: FrayFuture | FrayGenerator) -> None:
        """See `Link.submit`."""
        self.system.process.post(self._submit, spec, weakref.ref(future))

    def _submit(self, spec: TaskSpec, future: weakref.ref[Any]) -> None:
        if spec.streams:
            flow = self._flows[spec.task] = _Flow()
            self._scope.spawn(self._stream(spec, future, flow), name=spec.label)
        else:
            call = self._desk.run.remote(self._number, _wire(spec))
            self._scope.spawn(self._outcome(call, future), name=spec.label)

    async def _outcome(self, call: Any, future: weakref.ref[FrayFuture]) -> None:
        try:
            found = await call
        except FrayError as exc:
            found = None
            if (waiting := future()) is not None:
                waiting.fail(exc)
        waiting = future()
        if waiting is None or found is None:
            return
        if found[0] == "inline":
            waiting.succeed(payload_of(found[1]))
        elif found[0] == "error":
            waiting.fail(decode_error(Payload(found[1], codec=Codec.JSON), unpickle=True))
        else:
            waiting.hold()

    async def _stream(
        self, spec: TaskSpec, future: weakref.ref[FrayGenerator], flow: _Flow
    ) -> None:
        try:
            async for parts in self._desk.stream.remote(self._number, _wire(spec)):
                taker = future()
                if taker is None or flow.closed:
                    return
                taker.offer(payload_of(parts))
                del taker
                flow.ahead += 1
                while flow.ahead >= ITEMS_AHEAD and not flow.closed:
                    flow.changed.clear()
                    await flow.changed.wait()
        except Exception as exc:
            if (taker := future()) is not None:
                taker.fail(exc)
        else:
            if (taker := future()) is not None:
                taker.finish()
        finally:
            del self._flows[spec.task]

    def taken(self, number: int) -> None:
        """See `Link.taken`."""
        self.system.process.post(self._took, number, 1)

    def close(self, number: int) -> None:
        """See `Link.close`."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all with it
            self.system.process.post(self._took, number, 0)

    def _took(self, number: int, items: int) -> None:
        flow = self._flows.get(number)
        if flow is not None:
            flow.ahead -= items
            flow.closed = flow.closed or not items
            flow.changed.set()

    def put(self, number: int, payload: Payload) -> None:
        """See `Link.put`."""
        small = payload.nbytes <= INLINE_BYTES_MAX
        if not small:
            self._worker.keep(number, payload, True)
        parts = parts_of(payload) if small else None
        self._tell(self._desk.put.remote(self._number, number, payload.nbytes, parts))

    async def load(self, number: int) -> tuple[Payload, bool]:
        """See `Link.load`."""
        payload, was_put = await self._worker.load(number)
        return (payload if was_put else own(payload)), was_put  # the worker goes on keeping it

    def watch(self, future: FrayFuture) -> None:
        """See `Link.watch`."""
        known, number = weakref.ref(future), future.number

        def begin() -> None:
            call = self._desk.outcome.remote(number)
            self._scope.spawn(self._outcome(call, known), name="watch")

        self.system.process.post(begin)

    def keep(self, number: int) -> None:
        """See `Link.keep`."""
        self._tell(self._desk.keep.remote(number))

    def _tell(self, call: Any) -> None:
        self._unheard[call] = None
        call.add_done_callback(self._was_heard)
        look(call)

    def _was_heard(self, call: Any) -> None:
        self._unheard.pop(call, None)

    async def heard(self) -> None:
        """Waits until the pool knows of all values so far: a result may have references to them."""
        for call in list(self._unheard):
            with contextlib.suppress(FrayError):  # the pool is gone
                await call

    def drop(self, number: int) -> None:
        """See `Link.drop`."""
        self._unwanted.append(number)  # by whoever collects garbage: nothing else is safe here
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all with it
            self.system.process.post(self.system.process.loop.call_soon, self._flush)

    def release(self, numbers: list[int]) -> None:
        """See `Link.release`."""
        look(self._desk.release.remote(numbers))

    def _flush(self) -> None:
        unwanted, self._unwanted = self._unwanted, []
        if unwanted:
            look(self._desk.drop.remote(unwanted))

    async def cancel(self, number: int) -> bool:
        """See `Link.cancel`."""
        return await self._desk.cancel.remote(number)


def _wire(spec: TaskSpec) -> tuple[Any, ...]:
    function = None if spec.function is None else parts_of(spec.function)
    return (
        spec.task,
        spec.label,
        function,
        spec.function_ref,
        parts_of(spec.arguments),
        dict(spec.refs),
        spec.kind,
        spec.retries,
        spec.streams,
    )


def from_wire(told: tuple[Any, ...]) -> TaskSpec:
    """A task that a worker submits.

    Args:
        told: As it was sent.
    """
    task, label, function, function_ref, arguments, refs, kind, retries, streams = told
    return TaskSpec(
        task,
        label,
        None if function is None else payload_of(function),
        function_ref,
        payload_of(arguments),
        refs,
        kind,
        retries,
        streams,
    )


__all__ = ["WorkerLink", "from_wire"]
