"""The results and values of a pool: where they are, who waits for them, and when they are freed."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

from fray.errors import FrayError, ReferenceFreedError
from fray.job.holdings import Holdings
from fray.job.parts import payload_of
from fray.job.records import Record, State
from fray.job.workerlink import NUMBERS_OF_A_WORKER

if TYPE_CHECKING:
    from fray.job.staff import Staff
    from fray.runtime.clock import Clock
    from fray.runtime.payload import Payload

DRIVER = 0
"""The driver's number among the holders of values."""

AGAIN_S = 0.05
"""Before a value is asked for again that its holder could not give."""

LATER_S = 1.0
"""A value that is in use as its time is up is looked at again after so long."""


class Values:
    """All that a pool knows of values. On the loop.

    Args:
        clock: The time.
        ttl_s: How long a value is kept after its last use, in seconds; None for no limit.
        keeps: Told that a worker keeps more values, or fewer.
        freed: Told that workers have values to forget.

    Attributes:
        copies_sent: How often the driver has sent a large value to a worker.
    """

    def __init__(
        self,
        clock: Clock,
        ttl_s: float | None,
        keeps: Callable[[int, int], None],
        freed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._keeps = keeps
        self._freed = freed
        self._holdings = Holdings()
        self._records: dict[int, Record] = {}
        self._store: dict[int, Payload] = {}
        self._changed = asyncio.Event()
        self._expiries: list[tuple[float, int]] = []
        self._unwanted: dict[int, list[int]] = {}
        self.copies_sent = 0

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, number: int) -> bool:
        return number in self._records

    def get(self, number: int) -> Record | None:
        """What is known of a task or value; None if nothing.

        Args:
            number: Which.
        """
        return self._records.get(number)

    def pending(self) -> list[Record]:
        """Tasks that have not ended."""
        return [r for r in self._records.values() if r.state is State.PENDING]

    def asked_for_by(self, worker: int) -> list[int]:
        """The tasks that a worker's tasks have run, and the values that they have put.

        Args:
            worker: Which.
        """
        return [number for number in self._records if number >> NUMBERS_OF_A_WORKER == worker]

    def add_task(self, record: Record) -> None:
        """There is a task.

        Args:
            record: What is known of it.
        """
        self._records[record.number] = record

    def store(self, number: int, payload: Payload) -> None:
        """Keeps a large value here, of which `add_value` tells. Any thread.

        Args:
            number: Which.
            payload: The value.
        """
        self._store[number] = payload

    def add_value(self, number: int, holder: int, nbytes: int, payload: Payload | None) -> None:
        """There is a value that was put.

        Args:
            number: Which.
            holder: Who has it.
            nbytes: Its size.
            payload: The value, where it is small.
        """
        record = self._records[number] = Record(number, "put")
        if payload is not None:
            record.state, record.payload = State.INLINE, payload
        else:
            self.hold(record, holder, nbytes)
        self.touch(record)

    def hold(self, record: Record, holder: int, nbytes: int) -> None:
        """A value is large, and stays where it is.

        Args:
            record: The value's.
            holder: Who has it.
            nbytes: Its size.
        """
        record.state = State.HELD
        self._holdings.add(record.number, holder, nbytes)
        self._keeps(holder, 1)

    def stored(self, number: int) -> Payload:
        """A large value that was put here, for a worker.

        Args:
            number: Which value.

        Raises:
            ReferenceFreedError: It was freed meanwhile.
        """
        payload = self._store.get(number)
        if payload is None:
            raise freed("a value")
        self.copies_sent += 1
        return payload

    # ---- waiting for them, and fetching them

    async def ended(self, number: int) -> Record:
        """A task or value, once it has its outcome.

        Args:
            number: Which.

        Raises:
            ReferenceFreedError: There is none.
        """
        while True:
            record = self._records.get(number)
            if record is None:
                raise freed("a value")
            self.touch(record)
            if record.state is not State.PENDING:
                return record
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            record.waiters.append(waiter)
            await waiter

    async def source(self, number: int, taker: int, staff: Staff) -> tuple[Record, int]:
        """From whom a value is to be fetched; whoever asks says `fetched` afterwards.

        Args:
            number: Which value.
            taker: Who wants it.
            staff: The workers.

        Returns:
            The value's record and, where it is held, by whom.
        """
        while True:
            record = await self.ended(number)
            if record.state is not State.HELD:
                return record, DRIVER
            source = self._holdings.fetch(number, taker)
            if source is not None and (source == DRIVER or source in staff):
                return record, source
            if source is not None:
                self._holdings.fetched(number, taker, whole=False)
            self._changed.clear()
            await self._changed.wait()

    def fetched(self, number: int, taker: int, *, whole: bool) -> bool:
        """A fetch has ended.

        Args:
            number: Which value.
            taker: Who fetched it.
            whole: Whether it came.

        Returns:
            Whether the taker is to keep it.
        """
        keeps = self._holdings.fetched(number, taker, whole=whole, keeps=taker > DRIVER)
        if keeps:
            self._keeps(taker, 1)
        self._changed.set()
        return keeps

    async def load(self, number: int, staff: Staff) -> tuple[Payload, bool]:
        """A value, for the driver, and whether it was put.

        Args:
            number: Which.
            staff: The workers.

        Raises:
            BaseException: What the task raised whose result it is.
        """
        while True:
            record, source = await self.source(number, DRIVER, staff)
            if record.error is not None:
                raise record.error
            if record.payload is not None:
                return record.payload, record.was_put
            if source == DRIVER:
                return self._store[number], True
            try:
                parts, _ = await staff.handle(source).fetch.remote(number)
            except FrayError as exc:
                self.fetched(number, DRIVER, whole=False)
                if isinstance(exc, ReferenceFreedError) and self._holdings.has(number, source):
                    raise
                await self._clock.sleep(AGAIN_S)  # by then its loss was heard of
            except BaseException:
                self.fetched(number, DRIVER, whole=False)
                raise
            else:
                self.fetched(number, DRIVER, whole=True)
                return payload_of(parts), record.was_put

    def lose(self, holder: int) -> list[Record]:
        """A worker is gone.

        Args:
            holder: Which.

        Returns:
            The values that nobody has any more.
        """
        _, gone = self._holdings.lose(holder)
        self._changed.set()
        found = [self._records.get(number) for number in gone]
        return [r for r in found if r is not None and r.state is State.HELD]

    # ---- freeing them

    def keep(self, number: int) -> None:
        """A reference has left its process: nobody knows who uses it.

        Args:
            number: To which value.
        """
        record = self._records.get(number)
        if record is not None:
            record.kept = True

    def drop(self, numbers: list[int]) -> None:
        """The only futures of tasks or values are gone.

        Args:
            numbers: Which.
        """
        for number in numbers:
            record = self._records.get(number)
            if record is not None:
                record.unwanted = True
                self.free_if_unused(record)

    def free_if_unused(self, record: Record) -> None:
        """Frees a value that nobody wants.

        Args:
            record: The value's.
        """
        if record.unwanted and record.is_unused:
            self.free([record.number])

    def free(self, numbers: list[int]) -> None:
        """Values are wanted no more; those of tasks that run are freed when these end.

        Args:
            numbers: Which.
        """
        for number in numbers:
            record = self._records.get(number)
            if record is None:
                continue
            if record.state is State.PENDING:
                record.unwanted = True
                continue
            del self._records[number]
            self._store.pop(number, None)
            for holder in self._holdings.release(number):
                if holder != DRIVER:
                    self._keeps(holder, -1)
                    self._unwanted.setdefault(holder, []).append(number)
        if self._unwanted:
            self._freed()

    def take_unwanted(self) -> dict[int, list[int]]:
        """Which workers have what to forget; told once."""
        unwanted, self._unwanted = self._unwanted, {}
        return unwanted

    def touch(self, record: Record) -> None:
        """A value is used.

        Args:
            record: The value's.
        """
        if record.lasting:
            record.expires_at = None
        elif self._ttl_s is not None and record.state is not State.PENDING:
            is_new = record.expires_at is None
            record.expires_at = self._clock.monotonic() + self._ttl_s
            if is_new:
                heapq.heappush(self._expiries, (record.expires_at, record.number))

    def expire(self, now: float) -> None:
        """Frees what has not been used for too long.

        Args:
            now: The time.
        """
        while self._expiries and self._expiries[0][0] <= now:
            _, number = heapq.heappop(self._expiries)
            record = self._records.get(number)
            if record is None or record.expires_at is None:
                continue
            if record.expires_at > now or record.users > 0 or record.state is State.PENDING:
                again = max(record.expires_at, now + LATER_S)
                heapq.heappush(self._expiries, (again, number))
            else:
                self.free([number])

    def clear(self) -> None:
        """Forgets everything."""
        self._records.clear()
        self._store.clear()


def freed(what: str) -> ReferenceFreedError:
    """What is raised for a value that is gone.

    Args:
        what: Which value, for people.
    """
    return ReferenceFreedError(
        f"{what} was freed: it was released, its time was up, or its context has ended"
    )


__all__ = ["DRIVER", "Values", "freed"]
