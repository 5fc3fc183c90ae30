"""Watches a ledger while a simulation runs: what must be true of it is looked at after each change.

Commands change a ledger at one instant; it is looked at right behind, once for all that changed it
at that instant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fray.cluster.controller.invariants import violations
from fray.cluster.controller.state import Ledger

if TYPE_CHECKING:
    from fray.cluster.controller.commands import Command
    from fray.cluster.controller.state import Applied
    from fray.testing.loop import SimLoop


class LedgerWatch:
    """A context manager; one at a time in an interpreter.

    Args:
        loop: The simulation's.
        violated: Told in words of each broken promise.

    Attributes:
        looks: How often it has looked.
    """

    def __init__(self, loop: SimLoop, violated: Callable[[str], None]) -> None:
        self.looks = 0
        self._loop = loop
        self._violated = violated
        self._changed: dict[Ledger, None] = {}
        self._apply = Ledger.apply

    def __enter__(self) -> LedgerWatch:
        watch, apply = self, self._apply

        def watched(self: Ledger, command: Command, now: float) -> Applied:
            applied = apply(self, command, now)
            if applied.changed:
                if not watch._changed:
                    context = watch._loop.main_lane.context.copy()  # in no process of the cluster
                    watch._loop.call_soon(watch._look, context=context)
                watch._changed[self] = None
            return applied

        Ledger.apply = watched
        return self

    def __exit__(self, *exc_info: object) -> None:
        Ledger.apply = self._apply

    def _look(self) -> None:
        changed, self._changed = self._changed, {}
        for ledger in changed:
            self.looks += 1
            for violation in violations(ledger.tables):
                self._violated(violation)


__all__ = ["LedgerWatch"]
