"""Background tasks with an owner: the only place in fray that creates tasks.

A `Scope` is owned by the object whose work it does, and ends with it: closing the scope cancels
and awaits everything in it. Unlike `asyncio.TaskGroup` it can be opened and closed from different
functions (an object's ``start`` and ``close``), and one failing task does not take its siblings
along: the failure goes to the scope's ``on_error``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

OnError = Callable[[str, BaseException], None]


class Scope:
    """Owns tasks.

    Args:
        name: For people; begins the names of its tasks.
        on_error: Told of each task that failed, on the loop. By default the loop's exception
            handler is told, which logs it (and fails a simulated test).
    """

    def __init__(self, name: str, on_error: OnError | None = None) -> None:
        self.name = name
        self._on_error = on_error or _tell_the_loop
        self._tasks: dict[asyncio.Task[Any], None] = {}  # a dict: insertion-ordered, for replays
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Scope {self.name} tasks={len(self._tasks)}{' closed' if self._closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether `close` has begun."""
        return self._closed

    def spawn(
        self, coro: Coroutine[Any, Any, T], *, name: str = "", context: Context | None = None
    ) -> asyncio.Task[T]:
        """Starts a task that this scope owns.

        Args:
            coro: What it runs.
            name: For people, in reports of pending tasks.
            context: The context variables it sees; a copy of the current ones by default.

        Raises:
            RuntimeError: The scope is closed, or no loop runs; the coroutine is closed unrun.
        """
        if self._closed:
            coro.close()
            raise RuntimeError(f"scope {self.name!r} is closed")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            coro.close()
            raise
        task = loop.create_task(coro, name=f"{self.name}/{name}" if name else None, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        exc = task.exception()
        if exc is not None:
            self._on_error(task.get_name(), exc)

    async def finished(self) -> None:
        """Waits until nothing runs in it. The caller's own task does not count."""
        current = asyncio.current_task()
        while waiting := [t for t in self._tasks if t is not current]:
            await asyncio.wait(waiting)

    async def close(self) -> None:
        """Cancels every task and waits until all have ended. The caller's own task is spared."""
        self._closed = True
        current = asyncio.current_task()
        while waiting := [t for t in self._tasks if t is not current]:
            for task in waiting:
                task.cancel()
            # Not gather(): its own cancellation would be told to the children a second time.
            await asyncio.wait(waiting)

    async def __aenter__(self) -> Scope:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def _tell_the_loop(name: str, exc: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"background task {name} failed", "exception": exc}
    )


__all__ = ["OnError", "Scope"]
