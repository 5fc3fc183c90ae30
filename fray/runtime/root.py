"""Where a supervisor stands in a tree: below another one, or at the root of a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from fray.errors import DeathCause, DeathKind, SupervisorFailed
from fray.runtime.failures import explain

if TYPE_CHECKING:
    from fray.runtime.children import Child, StartChild
    from fray.runtime.supervisor import Supervisor

log = logging.getLogger(__name__)


def supervisor_child(make: Callable[[], Supervisor]) -> StartChild:
    """How to start a supervisor as a child. Give its `ChildSpec` an infinite ``stop_grace_s``.

    Args:
        make: Makes the supervisor; called for each restart.
    """

    async def start() -> Child:
        supervisor = make()
        try:
            await supervisor.start()
        except SupervisorFailed:
            return supervisor  # it has ended, and itself tells best how
        return supervisor

    return start


async def run_root(
    root: Supervisor, tell: Callable[[str], object], *, ready: Callable[[], object] | None = None
) -> int:
    """Runs the root of a process to its end.

    If the caller is cancelled (Ctrl-C), the tree is stopped in good order first.

    Args:
        root: Not yet started. Whoever ends the process calls its `Supervisor.stop`.
        tell: Given the whole chain of causes, should the root fail: print it.
        ready: Called when all children run.

    Returns:
        The exit code for the process: 0 if it was stopped, 1 if it failed.
    """
    try:
        await root.start()
        if ready is not None:
            ready()
        await asyncio.shield(root.stopped)
    except SupervisorFailed as exc:
        if root.failure is None:
            log.info(str(exc))
    except asyncio.CancelledError:
        await root.stop(DeathCause(DeathKind.STOPPED, "the process is shutting down"))
        raise
    if root.failure is None:
        return 0
    tell(explain(root.failure))
    return 1


__all__ = ["run_root", "supervisor_child"]
