"""The way from the driver's threads to its pool."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from typing import TYPE_CHECKING

from fray.errors import ClusterClosed
from fray.job.link import LINKS, FrayFuture, FrayGenerator, TaskSpec
from fray.job.parts import INLINE_BYTES_MAX
from fray.job.values import DRIVER

if TYPE_CHECKING:
    from fray.job.taskpool import TaskPool
    from fray.runtime.payload import Payload


class DriverLink:
    """Implements `Link` in the driver.

    Args:
        pool: Where it leads.

    Attributes:
        pool: The same.
    """

    def __init__(self, pool: TaskPool) -> None:
        self.pool = pool
        self.name = pool.name
        self.system = pool.system
        self._process = pool.system.process
        self._numbers = itertools.count(1)
        self._dropped: list[int] = []
        self._is_sweeping = False
        LINKS[self.name] = self

    def new_number(self) -> int:
        """See `Link.new_number`."""
        return next(self._numbers)

    def submit(self, spec: TaskSpec, future: FrayFuture | FrayGenerator) -> None:
        """See `Link.submit`."""
        if self.pool.closed:
            raise ClusterClosed(f"this context was shut down: {spec.label} was not run")
        self._process.post(self.pool.admit, spec, weakref.ref(future))

    def put(self, number: int, payload: Payload) -> None:
        """See `Link.put`."""
        if self.pool.closed:
            raise ClusterClosed("this context was shut down: nothing was put")
        values = self.pool.values
        small = payload if payload.nbytes <= INLINE_BYTES_MAX else None
        if small is None:
            values.store(number, payload)
        self._process.post(values.add_value, number, DRIVER, payload.nbytes, small)

    async def load(self, number: int) -> tuple[Payload, bool]:
        """See `Link.load`."""
        return await self.pool.values.load(number, self.pool.staff)

    def watch(self, future: FrayFuture) -> None:
        """See `Link.watch`."""
        self._process.post(self.pool.watch, future.number, weakref.ref(future))

    def keep(self, number: int) -> None:
        """See `Link.keep`."""
        self._process.post(self.pool.values.keep, number)

    def drop(self, number: int) -> None:
        """See `Link.drop`. Called by whoever collects garbage, at any time."""
        self._dropped.append(number)
        with contextlib.suppress(RuntimeError):  # the loop has ended: all is freed
            self._process.post(self._sweep_soon)

    def _sweep_soon(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self._process.loop.call_soon(self._sweep)

    def _sweep(self) -> None:
        self._is_sweeping = False
        dropped, self._dropped = self._dropped, []
        self.pool.values.drop(dropped)

    def release(self, numbers: list[int]) -> None:
        """See `Link.release`."""
        self._process.post(self.pool.values.free, list(numbers))

    async def cancel(self, number: int) -> bool:
        """See `Link.cancel`."""
        return await self.pool.cancel(number)

    def taken(self, number: int) -> None:
        """See `Link.taken`."""
        self._process.post(self.pool.flows.took, number)

    def close(self, number: int) -> None:
        """See `Link.close`."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all with it
            self._process.post(self._process.loop.call_soon, self.pool.close_flow, number)


__all__ = ["DriverLink"]
