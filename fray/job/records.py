"""What a pool knows of each task and each value."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from fray.job.link import FrayFuture, FrayGenerator, TaskSpec
from fray.runtime.payload import Payload


class State(enum.Enum):
    """What has become of a task or value."""

    PENDING = "pending"
    INLINE = "inline"
    """The value is here, among the records."""
    HELD = "held"
    """It is large: `Holdings` says who has it."""
    FAILED = "failed"


@dataclass(slots=True)
class Record:
    """A task and its result, or a value that was put.

    Attributes:
        number: Which.
        label: What it is called.
        spec: How to run it (again); None for a value that was put.
        state: What has become of it.
        future: Of whoever ran it in the driver, as long as they have it.
        payload: The value, where it is inline.
        error: What it raised.
        kept: Whether a reference has left its process, so that nobody knows who uses it.
        unwanted: Whether its only future is gone.
        users: Tasks that wait for it or have it as an argument.
        pinned: Whether it is counted among the users of its own arguments.
        unready: Of how many of its own arguments the tasks have not ended.
        losses: How often its result was lost after it had run.
        expires_at: When it is freed; None for never.
        lasting: Whether it is never freed because of its age: a function, which its context puts.
        dependents: Tasks that wait for it.
        waiters: Whoever waits for its end.
        flow: Of a generator, what goes on between it and whoever takes its items.
    """

    number: int
    label: str
    spec: TaskSpec | None = None
    state: State = State.PENDING
    future: ref[FrayFuture] | None = None
    payload: Payload | None = None
    error: BaseException | None = None
    kept: bool = False
    unwanted: bool = False
    users: int = 0
    pinned: bool = False
    unready: int = 0
    losses: int = 0
    expires_at: float | None = None
    lasting: bool = False
    dependents: list[int] = field(default_factory=list[int])
    waiters: list[asyncio.Future[None]] = field(default_factory=list["asyncio.Future[None]"])
    flow: Flow | None = None

    @property
    def was_put(self) -> bool:
        """Whether it is no task's result."""
        return self.spec is None

    @property
    def is_unused(self) -> bool:
        """Whether no task needs it, and no reference to it was sent anywhere."""
        return self.state is not State.PENDING and self.users <= 0 and not self.kept

    def wake(self) -> None:
        """Tells whoever waits for its end."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


@dataclass(slots=True)
class Flow:
    """Items of a generator on their way.

    Attributes:
        future: Who takes them in the driver; None where a task does.
        items: Those for a task.
        changed: Set when there is something for a task.
        worker: Where the generator runs, once something came from there.
        taken: How many were taken since the worker was told.
        begun: Whether any item has come.
        closed: Whether nobody wants more.
    """

    future: ref[FrayGenerator] | None = None
    items: deque[Any] = field(default_factory=deque[Any])
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    worker: int = 0
    taken: int = 0
    begun: bool = False
    closed: bool = False


__all__ = ["Flow", "Record", "State"]
