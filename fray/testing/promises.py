"""Watches a ledger while a simulation runs: what must be true of it is looked at after each change.

Commands change a ledger at one instant; it is looked at right behind, once for all that changed it
at that instant. A ledger of usual size is looked at whole each time. In a large one that would be
nearly all that a simulation does: there each look is at what has changed and what depends on it,
and every so often, and in the end, at everything.
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


WHOLE_MAX = 500
"""Up to so many tasks a ledger is looked at whole after each change."""

WHOLE_EVERY = 500
"""A larger one at every so-manieth look."""


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
        self._changed: dict[Ledger, dict[str, None]] = {}
        self._in_part: dict[Ledger, None] = {}  # those not looked at whole since they have changed
        self._apply = Ledger.apply

    def __enter__(self) -> LedgerWatch:
        watch, apply = self, self._apply

        def watched(self: Ledger, command: Command, now: float) -> Applied:
            applied = apply(self, command, now)
            if applied.changed:
                if not watch._changed:
                    context = watch._loop.main_lane.context.copy()  # in no process of the cluster
                    watch._loop.call_soon(watch._look, context=context)
                watch._changed.setdefault(self, {}).update(dict.fromkeys(applied.touched))
            return applied

        Ledger.apply = watched
        return self

    def __exit__(self, *exc_info: object) -> None:
        Ledger.apply = self._apply
        for ledger in self._in_part:
            self._tell(violations(ledger.tables))

    def _look(self) -> None:
        changed, self._changed = self._changed, {}
        for ledger, touched in changed.items():
            self.looks += 1
            if len(ledger.tables.tasks) <= WHOLE_MAX or self.looks % WHOLE_EVERY == 0:
                self._in_part.pop(ledger, None)
                self._tell(violations(ledger.tables))
            else:
                self._in_part[ledger] = None
                self._tell(violations(ledger.tables, touched))

    def _tell(self, found: list[str]) -> None:
        for violation in found:
            self._violated(violation)


__all__ = ["LedgerWatch"]
