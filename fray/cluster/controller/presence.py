"""Who is connected to the controller: a process that computes says nothing, and lives all the same.

A session is a lease that its driver renews. A loop that is busy for minutes (a program that
compiles, or sorts) renews nothing, though nobody has died, and ending the driver's actors would be
hard on it. So while the connection is open over which a lease was renewed last, it counts as
renewed: the kernel closes that when the process ends, and gives it up some minutes after its host
was lost.
"""

from __future__ import annotations

from fray.runtime.calls import CURRENT_INVOCATION
from fray.runtime.served import ServedCalls


class Presence:
    """The connections over which some callers were heard last."""

    def __init__(self) -> None:
        self._callers: dict[str, ServedCalls] = {}

    def __repr__(self) -> str:
        return f"<Presence of {len(self._callers)}>"

    def note(self, who: str) -> None:
        """Somebody was heard, in the call that is being served.

        Args:
            who: Whatever they are known by.
        """
        invocation = CURRENT_INVOCATION.get()
        if invocation is not None and isinstance(invocation.reply_to, ServedCalls):
            self._callers[who] = invocation.reply_to

    def forget(self, who: str) -> None:
        """Somebody is not asked for any more.

        Args:
            who: As noted.
        """
        self._callers.pop(who, None)

    def here(self) -> list[str]:
        """Who is still connected; those whose session is over are forgotten.

        A session whose link was lost may go on, but that is no sign of life: its lease runs.
        """
        self._callers = {who: calls for who, calls in self._callers.items() if not calls.is_over}
        return [who for who, calls in self._callers.items() if calls.is_connected]


__all__ = ["Presence"]
