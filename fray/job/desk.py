"""What the workers of a pool may ask it for: an actor beside the pool, in the driver's process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fray.actor.decorator import actor, method
from fray.errors import ReferenceFreedError
from fray.job.parts import Parts, parts_of, payload_of
from fray.job.records import State
from fray.job.workerlink import from_wire
from fray.runtime.error_envelope import encode_error

if TYPE_CHECKING:
    from fray.job.records import Record
    from fray.job.taskpool import TaskPool


@actor
class Desk:
    """Answers workers.

    Args:
        pool: For which pool.
    """

    def __init__(self, pool: TaskPool) -> None:
        self._pool = pool

    @method(concurrent=True)
    async def run(self, worker: int, told: tuple[Any, ...]) -> tuple[Any, ...]:
        """Has a task run for a task; gives what became of it.

        Args:
            worker: Who asks.
            told: The task.
        """
        spec = from_wire(told)
        self._pool.admit(spec)
        return await self.outcome(spec.task)

    @method(concurrent=True)
    async def outcome(self, number: int) -> tuple[Any, ...]:
        """What became of a task; waits for its end.

        Args:
            number: Which.
        """
        return _told(await self._pool.values.ended(number))

    @method(concurrent=True)
    async def stream(self, worker: int, told: tuple[Any, ...]) -> AsyncIterator[Parts]:
        """Has a generator run for a task; gives its items.

        Args:
            worker: Who asks.
            told: The task.
        """
        spec = from_wire(told)
        record = self._pool.admit(spec)
        flow = record.flow
        assert flow is not None
        try:
            while True:
                while flow.items:
                    item = flow.items.popleft()
                    self._pool.flows.took(spec.task)
                    yield parts_of(item)
                if record.state is not State.PENDING:
                    break
                flow.changed.clear()
                await flow.changed.wait()
            if record.error is not None:
                raise record.error
        finally:
            self._pool.close_flow(spec.task)
            self._pool.values.drop([spec.task])

    @method(concurrent=True)
    async def locate(self, worker: int, number: int) -> tuple[Any, ...]:
        """Where a worker gets a value from, or the value.

        Args:
            worker: Who asks.
            number: Which value.
        """
        record, source = await self._pool.values.source(number, worker, self._pool.staff)
        if record.state is not State.HELD:
            return *_told(record), record.was_put
        if source == worker:
            return ("here",)  # it was made there meanwhile
        if source == 0:
            return "value", parts_of(self._pool.values.stored(number)), record.was_put
        return "at", self._pool.staff.handle(source)

    @method(concurrent=True)
    async def fetched(self, worker: int, number: int, whole: bool) -> bool:
        """A worker has fetched a value, or could not.

        Args:
            worker: Who.
            number: Which value.
            whole: Whether it came.

        Returns:
            Whether it is to keep it.
        """
        return self._pool.values.fetched(number, worker, whole=whole)

    @method(concurrent=True)
    async def put(self, worker: int, number: int, nbytes: int, parts: Parts | None) -> None:
        """A task keeps a value.

        Args:
            worker: Where.
            number: Which.
            nbytes: Its size.
            parts: The value, where it is small.
        """
        self._pool.values.add_value(
            number, worker, nbytes, None if parts is None else payload_of(parts)
        )

    @method(concurrent=True)
    async def keep(self, number: int) -> None:
        """A reference leaves a task.

        Args:
            number: Which.
        """
        self._pool.values.keep(number)

    @method(concurrent=True)
    async def drop(self, numbers: list[int]) -> None:
        """A task's own futures are gone.

        Args:
            numbers: Which.
        """
        self._pool.values.drop(numbers)

    @method(concurrent=True)
    async def release(self, numbers: list[int]) -> None:
        """A task frees values.

        Args:
            numbers: Which.
        """
        self._pool.values.free(numbers)

    @method(concurrent=True)
    async def cancel(self, number: int) -> bool:
        """A task does not want another any more.

        Args:
            number: Which.
        """
        return await self._pool.cancel(number)


def _told(record: Record) -> tuple[Any, ...]:
    if record.state is State.FAILED:
        assert record.error is not None
        return "error", encode_error(record.error).data
    if record.state is State.INLINE:
        assert record.payload is not None
        return "inline", parts_of(record.payload)
    if record.state is State.HELD:
        return ("held",)
    raise ReferenceFreedError(f"{record.label} has not ended")


__all__ = ["Desk"]
