"""Calls whose failure somebody else tells of."""

from __future__ import annotations

from typing import Any


def look(call: Any) -> None:
    """Sees to it that nobody is told of a call that failed: the stream of results tells of it.

    Args:
        call: The future of a call of a worker's.
    """

    def seen(done: Any) -> None:
        done.exception()

    call.add_done_callback(seen)


__all__ = ["look"]
