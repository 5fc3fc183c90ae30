"""Shows what actors in child processes print where the driver's user looks: on its standard output.

Their output is in their logs as well, in one stream, as everybody's is. Each line begins with whose
it is, as in ``[model] loaded``.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

from fray.cluster.worker.logs import follow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fray.runtime.clock import Clock

log = logging.getLogger("fray")

LINE_BYTES_MAX = 64 << 10
"""A line that grows longer than this is shown in pieces."""


async def show_output(path: Path, label: str, clock: Clock, ended: Callable[[], bool]) -> None:
    """Copies a log to this process's standard output as it grows, line by line.

    Args:
        path: The log; it need not exist yet.
        label: Whose it is.
        clock: For the waits between two looks.
        ended: Whether nothing more can be written.
    """
    unfinished = b""
    try:
        async for chunk in follow(path, clock=clock, ended=ended):
            *lines, unfinished = (unfinished + chunk.data).split(b"\n")
            if len(unfinished) > LINE_BYTES_MAX:
                lines, unfinished = [*lines, unfinished], b""
            await _print(lines, label)
        if unfinished:
            await _print([unfinished], label)
    except (OSError, ValueError) as exc:  # nobody reads it, or it was closed: the log has it all
        log.debug("the output of %s is shown no more: %s", label, exc)


async def _print(lines: list[bytes], label: str) -> None:
    text = "".join(f"[{label}] {line.decode(errors='replace')}\n" for line in lines)
    if text:
        await asyncio.to_thread(_write, text)  # whoever reads it may be slow


def _write(text: str) -> None:
    stream = sys.stdout
    if stream is not None:  # pyright: ignore[reportUnnecessaryComparison] - as under pythonw
        stream.write(text)
        stream.flush()


__all__ = ["LINE_BYTES_MAX", "show_output"]
