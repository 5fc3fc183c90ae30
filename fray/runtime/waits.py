"""What the call that an actor serves waits for: which other calls, and whether it stands still.

A method that awaits another actor's call can go on only when that has its outcome. One that merely
has made a call, or has left its awaiting to a task that nobody awaits, goes on by itself. The
difference is found when somebody asks, from what asyncio knows of its tasks; noting down that
something is awaited is all that a call costs.

Where it cannot be known whether a method stands still (it waits for whichever of several calls ends
first, for a queue or an event of its own), it is taken not to.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from fray.runtime.calls import Invocation, OutgoingCall

Waiter: TypeAlias = "asyncio.Future[None] | threading.Event"
"""What wakes whoever waits: a task by a future, a thread by an event. Each wait has its own."""

_Callback: TypeAlias = Callable[..., Any]


class Awaited(Protocol):
    """A call that somebody waits for: an `ActorFuture`."""

    @property
    def call(self) -> OutgoingCall | None:
        """The call, where it is on its way or arrived; None while it is not known where to."""
        ...

    def describe(self) -> str:
        """Which method of which actor, for people."""
        ...

    def cancel(self) -> bool:
        """Ends the wait."""
        ...


def begin_wait(invocation: Invocation, waiter: Waiter, awaited: Awaited) -> None:
    """Code of a served call waits for another call. Any thread.

    Args:
        invocation: The served call.
        waiter: What wakes whoever waits.
        awaited: The other call.
    """
    if type(waiter) is threading.Event and threading.get_ident() != invocation.thread:
        return  # on a thread of the user's own: it holds up nobody else
    if invocation.waiting is None:
        invocation.waiting = {}
    invocation.waiting[waiter] = awaited


def end_wait(invocation: Invocation, waiter: Waiter) -> None:
    """They wait no more. Any thread.

    Args:
        invocation: The served call.
        waiter: As given to `begin_wait`.
    """
    if invocation.waiting is not None:
        invocation.waiting.pop(waiter, None)


def holding_up(invocation: Invocation) -> list[tuple[Waiter, Awaited]]:
    """The calls without whose outcome a served one does not go on. On the loop.

    Args:
        invocation: The served call.
    """
    if not invocation.waiting:
        return []
    task = invocation.task
    return [
        (waiter, awaited)
        for waiter, awaited in invocation.waiting.copy().items()
        if (
            not waiter.is_set()
            if isinstance(waiter, threading.Event)
            else isinstance(task, asyncio.Task) and holds_up(waiter, task)
        )
    ]


def blocked_on(invocation: Invocation) -> list[Awaited]:
    """The calls for which the thread of a served call is blocked. Any thread.

    Args:
        invocation: The served call.
    """
    waiting = (invocation.waiting or {}).copy()
    return [awaited for waiter, awaited in waiting.items() if isinstance(waiter, threading.Event)]


def holds_up(future: asyncio.Future[Any], task: asyncio.Task[Any]) -> bool:
    """Whether a task cannot go on before a future is done.

    Through other tasks as well, and through `asyncio.gather`, `shield`, `wait_for`, task groups
    and an `asyncio.wait` for all.

    Args:
        future: The future.
        task: The task.
    """
    seen: set[int] = set()
    todo: list[asyncio.Future[Any]] = [future]
    while todo:
        each = todo.pop()
        if id(each) in seen or each.done():
            continue
        seen.add(id(each))
        if each is task:
            return True
        # What is to be called back when a future is done: asyncio keeps no other books.
        callbacks = cast("list[tuple[_Callback, Any]] | None", getattr(each, "_callbacks", None))
        for callback, _ in callbacks or ():
            waits = _who_waits(callback)
            if waits is not None:
                todo.append(waits)
    return False


def _who_waits(callback: _Callback) -> asyncio.Future[Any] | None:
    """The task or future that goes on when this is called back."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return cast("asyncio.Task[Any]", owner)
    if isinstance(owner, asyncio.TaskGroup):  # done when all its tasks are
        return getattr(owner, "_on_completed_fut", None)
    if isinstance(callback, functools.partial):
        if getattr(callback.func, "__qualname__", "") == "_release_waiter":  # wait_for, to 3.11
            return cast("asyncio.Future[Any]", callback.args[0])
        return None
    if getattr(callback, "__module__", "") != "asyncio.tasks":
        return None
    cells = _variables(callback)
    name = callback.__qualname__
    if name in ("gather.<locals>._done_callback", "shield.<locals>._inner_done_callback"):
        return cells.get("outer")
    if name == "_wait.<locals>._on_completion":
        waits_for_all = cells.get("return_when") == asyncio.ALL_COMPLETED
        return cells.get("waiter") if waits_for_all and not cells.get("timeout_handle") else None
    return None


def _variables(function: _Callback) -> dict[str, Any]:
    """What an inner function sees of the one around it."""
    closure = getattr(function, "__closure__", None) or ()
    return dict(
        zip(function.__code__.co_freevars, (cell.cell_contents for cell in closure), strict=True)
    )


__all__ = [
    "Awaited",
    "Waiter",
    "begin_wait",
    "blocked_on",
    "end_wait",
    "holding_up",
    "holds_up",
]
