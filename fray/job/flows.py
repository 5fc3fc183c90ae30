"""Generators of a pool: their items on the way to whoever takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fray.job.records import Flow, Record, State

if TYPE_CHECKING:
    from fray.job.staff import Staff
    from fray.job.values import Values
    from fray.runtime.payload import Payload

GRANT_ITEMS = 4
"""So many items are taken before the worker is told."""


class Flows:
    """What goes on between generators and whoever takes their items. On the loop.

    Args:
        values: What is known of tasks.
        staff: The workers.
        begun: Told of a generator that must not be run again.
    """

    def __init__(self, values: Values, staff: Staff, begun: Callable[[int], None]) -> None:
        self._values = values
        self._staff = staff
        self._begun = begun

    def _flow(self, number: int) -> Flow | None:
        record = self._values.get(number)
        return record.flow if record is not None else None

    def item(self, worker: int, number: int, payload: Payload) -> None:
        """A generator has yielded.

        Args:
            worker: Where.
            number: Which task.
            payload: What.
        """
        flow = self._flow(number)
        if flow is None:
            return
        if not flow.begun:
            flow.begun, flow.worker = True, worker
            self._begun(number)
        if flow.future is None:
            flow.items.append(payload)
            flow.changed.set()
            return
        taker = flow.future()
        if taker is None or flow.closed:
            self._staff.grant(worker, number, 0)
        else:
            taker.offer(payload)

    def took(self, number: int) -> None:
        """An item was taken.

        Args:
            number: Of which task.
        """
        flow = self._flow(number)
        if flow is not None:
            flow.taken += 1
            if flow.taken >= GRANT_ITEMS:
                self._staff.grant(flow.worker, number, flow.taken)
                flow.taken = 0

    def ended(self, record: Record) -> None:
        """A generator has ended.

        Args:
            record: Its task's.
        """
        flow = record.flow
        if flow is None:
            return
        flow.changed.set()
        taker = flow.future() if flow.future is not None else None
        if taker is None:
            return
        if record.error is None:
            taker.finish()
        else:
            taker.fail(record.error)

    def close(self, record: Record) -> bool:
        """Nobody takes a generator's items any more.

        Args:
            record: Its task's.

        Returns:
            Whether its task may be kept from running.
        """
        flow = record.flow
        if flow is None or flow.closed:
            return False
        flow.closed = record.unwanted = True
        if record.state is not State.PENDING:
            self._values.free_if_unused(record)
        elif flow.begun:
            self._staff.grant(flow.worker, record.number, 0)
        return record.state is State.PENDING and not flow.begun


__all__ = ["Flows"]
