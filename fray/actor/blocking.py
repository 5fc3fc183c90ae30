"""Whether a thread may block for what an event loop does."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fray.errors import BlockingCallError, ClusterClosed

if TYPE_CHECKING:
    from fray.runtime.process import Process


def refuse_to_block(what: str, instead: str, process: Process | None = None) -> None:
    """Raises where blocking this thread would stop an event loop.

    A notebook's cell runs on its kernel's loop, where blocking is what the user expects; it is let
    through unless what it waits for needs that very loop.

    Args:
        what: What was called, for the message.
        instead: What to write instead.
        process: Whose loop it is that has to go on; None where `Process.run` looks at that.

    Raises:
        BlockingCallError: A loop runs on this thread.
    """
    if process is not None:
        check_here(process)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    shell = sys.modules.get("IPython")
    in_notebook = shell is not None and shell.get_ipython() is not None
    if in_notebook and (process is None or not process.on_loop):
        return
    raise BlockingCallError(
        f"{what} would block the event loop that runs on this thread; write `{instead}` instead"
    )


def check_here(process: Process) -> None:
    """Makes sure that what a call is waited for can come.

    Args:
        process: Whose loop settles the call.

    Raises:
        ClusterClosed: This operating-system process was forked from the one that made the call.
    """
    if not process.is_here:
        raise ClusterClosed(
            "this call was made by the process that this one was forked from, and only there has "
            "it an outcome"
        )


__all__ = ["check_here", "refuse_to_block"]
