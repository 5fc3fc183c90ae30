"""Reports for people: who waits for what when a simulation cannot go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from fray.testing.lanes import SimTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import CodeType

    from fray.testing.lanes import Lane

TASKS_LISTED_MAX = 40
"""A report names so many tasks and counts the others."""

_SUSPENSIONS = (
    ("cr_await", "cr_code", "cr_frame"),
    ("gi_yieldfrom", "gi_code", "gi_frame"),
    ("ag_await", "ag_code", "ag_frame"),
)


def pending_tasks(loop: asyncio.AbstractEventLoop) -> list[SimTask[Any]]:
    """The tasks of a loop that are not done, in the order of their creation."""
    tasks = [t for t in asyncio.all_tasks(loop) if isinstance(t, SimTask)]
    return sorted(tasks, key=lambda task: task.number)


def pending_report(loop: asyncio.AbstractEventLoop, lanes: Sequence[Lane]) -> str:
    """Lists the tasks that wait, where, and the lanes that are frozen.

    Args:
        loop: Whose tasks.
        lanes: All lanes of the loop; the first is the test's own.
    """
    tasks = pending_tasks(loop)
    lines = [f"{len(tasks)} pending task{'s' * (len(tasks) != 1)}:"]
    for task in tasks[:TASKS_LISTED_MAX]:
        lane = (task.lane or lanes[0]).name
        lines.append(f"  [{lane}] {task.get_name()}: {' > '.join(await_chain(task.get_coro()))}")
    if len(tasks) > TASKS_LISTED_MAX:
        lines.append(f"  ... and {len(tasks) - TASKS_LISTED_MAX} more")
    lines += [f"frozen: {lane!r}" for lane in lanes if lane.frozen]
    return "\n".join(lines)


def busy_report(descriptions: Iterable[str]) -> str:
    """Says which callbacks ran most.

    Args:
        descriptions: One for each callback that ran.
    """
    counts = Counter(descriptions)
    total = counts.total()
    lines = [f"of the last {total} callbacks:"]
    lines += [f"  {count} × {what}" for what, count in counts.most_common(10)]
    return "\n".join(lines)


def await_chain(coro: object) -> list[str]:
    """Follows a suspended coroutine to what it waits for in the end.

    Args:
        coro: A coroutine, generator or async generator; anything else ends the chain.

    Returns:
        One ``function (file:line)`` for each frame, the outermost first.
    """
    chain: list[str] = []
    while coro is not None:
        for awaiting, code_name, frame_name in _SUSPENSIONS:
            code = cast("CodeType | None", getattr(coro, code_name, None))
            if code is not None:
                frame = getattr(coro, frame_name)
                where = f":{frame.f_lineno}" if frame is not None else ""
                chain.append(f"{code.co_qualname} ({PurePath(code.co_filename).name}{where})")
                coro = getattr(coro, awaiting)
                break
        else:
            break
    return chain


__all__ = ["await_chain", "busy_report", "pending_report", "pending_tasks"]
