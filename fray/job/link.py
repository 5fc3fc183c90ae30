"""What stands between a `FrayContext` and the pool that runs its tasks; references to results.

In the driver that is the pool itself (`fray.job.taskpool`), in a worker a way to it
(`fray.job.workerlink`). References pickle as numbers, with the name of the context that owns them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from fray.errors import ReferenceFreedError
from fray.job.current import CURRENT_JOB_CONTEXT
from fray.job.futures import GeneratorFuture, TaskFuture
from fray.job.parts import INLINE_BYTES_MAX, shared, taken
from fray.runtime.loopthread import on_loop
from fray.runtime.payload import Payload
from fray.runtime.serialization import loads

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem


Loaded = tuple[Payload, bool]
"""A value, and whether it was put."""


def _no_refs() -> dict[int | str, int]:
    return {}


@dataclass(slots=True)
class TaskSpec:
    """A task, as it was submitted.

    Attributes:
        task: Its number, which is that of its result, too.
        label: What it is called.
        function: The pickled function; None where that is a value of its own.
        function_ref: The number of that value.
        arguments: The pickled arguments, with None where references stood.
        refs: These references, by place.
        kind: Tasks of one kind are taken to last alike.
        retries: How often it may be run again when its worker is lost.
        streams: Whether it is a generator.
    """

    task: int
    label: str
    function: Payload | None
    function_ref: int
    arguments: Payload
    refs: Mapping[int | str, int] = field(default_factory=_no_refs)
    kind: int = 0
    retries: int = 0
    streams: bool = False

    @property
    def uses(self) -> list[int]:
        """The values that it needs."""
        return [*self.refs.values(), *([self.function_ref] if self.function_ref else [])]


class Link(Protocol):
    """The way to a pool. Methods may be called by any thread."""

    name: str
    system: ActorSystem

    def new_number(self) -> int:
        """A number for a task or a value, of which there is no other."""
        ...

    def submit(self, spec: TaskSpec, future: FrayFuture | FrayGenerator) -> None:
        """Has a task run, and the future settled."""
        ...

    def put(self, number: int, payload: Payload) -> None:
        """Keeps a value."""
        ...

    async def load(self, number: int) -> tuple[Payload, bool]:
        """A value, wherever it is, and whether it was put. On the loop.

        Raises:
            BaseException: What the task raised whose result it is.
        """
        ...

    def watch(self, future: FrayFuture) -> None:
        """Settles a future of somebody else's task."""
        ...

    def drop(self, number: int) -> None:
        """The future of a number is not used any more, and was given to nobody."""
        ...

    def keep(self, number: int) -> None:
        """A reference leaves this process: its value is kept until it is released."""
        ...

    def release(self, numbers: list[int]) -> None:
        """Frees values."""
        ...

    async def cancel(self, number: int) -> bool:
        """Keeps a task from running, if it has not begun. On the loop."""
        ...

    def taken(self, number: int) -> None:
        """An item of a generator was taken."""
        ...

    def close(self, number: int) -> None:
        """Closes a generator."""
        ...


class FrayFuture(TaskFuture[Any]):
    """A reference to the result of a task, or to a value that was put.

    Args:
        link: The way to the pool that owns it.
        number: Which value.
        label: What the task is called.
        borrowed: Whether it came from elsewhere.
    """

    def __init__(self, link: Link, number: int, label: str, *, borrowed: bool = False) -> None:
        super().__init__(label)
        self.number = number
        self.link = link
        self._fetching: asyncio.Task[Loaded | Exception] | None = None
        self._kept = borrowed
        self._watched = not borrowed

    def done(self) -> bool:
        """See `TaskFuture.done`."""
        if not self._watched:
            self._watched = True
            self.link.watch(self)
        return self._settled

    def cancel(self) -> bool:
        """See `TaskFuture.cancel`."""
        if self._settled:
            return False
        return self.link.system.run(lambda: self.link.cancel(self.number))

    @property
    def inline(self) -> Payload | None:
        """The value, where it is small and here."""
        payload = self._payload
        return payload if payload is not None and payload.nbytes <= INLINE_BYTES_MAX else None

    @property
    def is_away(self) -> bool:
        """Whether its value is elsewhere, and nobody fetches it for the next look at it."""
        is_here = self._error is not None or self._payload is not None
        return self._settled and not is_here and self._fetching is None

    async def fetch(self) -> Loaded:
        """Fetches the value for the next look at it, unless that is being done. On the loop."""
        fetching = self.begin_to_fetch()
        await asyncio.wait([fetching])
        return _raised(fetching.result())

    def begin_to_fetch(self) -> asyncio.Task[Loaded | Exception]:
        """As `fetch`; the task does not raise. On the loop."""
        fetching = self._fetching
        if fetching is None:
            fetching = self.link.system.spawn(self._try_to_load(), f"fetch {self.label}")
            self._fetching = fetching
        return fetching

    async def _try_to_load(self) -> Loaded | Exception:
        try:
            return await self.link.load(self.number)
        except Exception as exc:  # the next look raises it
            return exc

    def _take(self) -> Loaded | None:
        """What was fetched, once: the next look fetches a copy of its own."""
        fetching = self._fetching
        if fetching is None or not fetching.done():
            return None
        self._fetching = None
        return _raised(fetching.result())

    async def _load(self) -> Loaded:
        try:
            return await self.fetch()
        finally:
            self._fetching = None

    def release(self) -> None:
        """Frees the value, here and in the workers. What still needs it fails."""
        self.link.release([self.number])
        self._payload, self._looked_at = None, True
        self._error = ReferenceFreedError(f"the result of {self.label} was released")

    def hold(self) -> None:
        """The result is there, and elsewhere."""
        self._settle()

    def _value(self) -> Any:
        if self._error is not None or self._payload is not None:
            return super()._value()
        return self._read(*(self._take() or self.link.system.run(self._load)))

    def _read(self, payload: Payload, was_put: bool) -> Any:
        payload = shared(payload) if was_put else taken(payload)
        return loads(payload, what=f"the result of {self.label}", take=True)

    def __await__(self) -> Generator[Any, None, Any]:
        yield from self._ready().__await__()
        if self._error is not None or self._payload is not None:
            return super()._value()
        loop = self.link.system.process.loop
        loaded = yield from on_loop(loop, self._load).__await__()
        return self._read(*loaded)

    def __reduce__(self) -> Any:
        if not self._kept:
            self._kept = True
            self.link.keep(self.number)
        return _borrowed, (self.link.name, self.number, self.label)

    def __del__(self) -> None:
        super().__del__()
        if not self._kept:
            self.link.drop(self.number)


class FrayGenerator(GeneratorFuture):
    """The items of a task that is a generator.

    Args:
        link: The way to the pool that owns it.
        number: The task.
        label: What it is called.
    """

    def __init__(self, link: Link, number: int, label: str) -> None:
        super().__init__(label, lambda: link.taken(number), lambda: link.close(number))
        self.number = number
        self.link = link

    def __reduce__(self) -> Any:
        raise TypeError(
            f"the items of {self.label} go to whoever ran it: give tasks items, not the generator"
        )

    def __del__(self) -> None:
        super().__del__()
        self.link.drop(self.number)


def _raised(loaded: Loaded | Exception) -> Loaded:
    if isinstance(loaded, Exception):
        raise loaded
    return loaded


FETCHES_MAX = 8
"""So many values are fetched at the same time."""


class Fetches:
    """Fetches the values of several futures, each as soon as its task has ended.

    Args:
        system: Whose loop is used.
    """

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._waiting: deque[FrayFuture] = deque()
        self._active = 0

    def want(self, future: FrayFuture) -> None:
        """Fetches a value once it is there, if it is elsewhere. Any thread.

        Args:
            future: For whose next look.
        """
        if future.done():
            self._ended(future)
        else:
            future.add_done_callback(self._ended)

    def _ended(self, future: FrayFuture) -> None:
        if future.is_away:
            self._system.process.post(self._begin, future)

    def _begin(self, future: FrayFuture | None) -> None:
        if future is not None and future.is_away:
            self._waiting.append(future)
        while self._waiting and self._active < FETCHES_MAX:
            self._active += 1
            self._system.spawn(self._fetch(self._waiting.popleft()), "fetch")

    async def _fetch(self, future: FrayFuture) -> None:
        try:
            if future.is_away:
                await asyncio.wait([future.begin_to_fetch()])
        finally:
            self._active -= 1
            if not self._system.closed:
                self._begin(None)


LINKS: WeakValueDictionary[str, Link] = WeakValueDictionary()
"""The links of this process, by the name of their pool."""


def _borrowed(name: str, number: int, label: str) -> FrayFuture:
    context: Any = CURRENT_JOB_CONTEXT.get()
    link = getattr(context, "link", None)
    if link is None or link.name != name:
        link = LINKS.get(name)
    if link is None:
        raise ReferenceFreedError(
            f"the reference to the result of {label} belongs to the context {name}, which this "
            "process is no part of (or which has ended): pass it as an argument of its own to a "
            "task or an actor's constructor"
        )
    return FrayFuture(link, number, label, borrowed=True)


__all__ = ["LINKS", "Fetches", "FrayFuture", "FrayGenerator", "Link", "TaskSpec"]
