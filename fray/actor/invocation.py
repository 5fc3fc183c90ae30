"""What a method may ask about the call that it serves."""

from __future__ import annotations

from fray.runtime.calls import CURRENT_INVOCATION


def cancelled() -> bool:
    """Whether the caller of the running method has gone.

    An ``async def`` method is cancelled then, and need not ask. A plain method runs on a thread,
    which cannot be interrupted: a long one asks now and then, and returns early. False outside of
    actors' methods.
    """
    invocation = CURRENT_INVOCATION.get()
    return invocation is not None and invocation.cancelled


__all__ = ["cancelled"]
