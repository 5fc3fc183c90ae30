"""Finds calls that wait, through others, for their own caller: across actors, processes and hosts.

Waiting has two kinds of edges. A method *awaits* a call, and stands still until that has its
outcome. A call that waits for its turn is *held up* by the one that has the actor's only turn. A
chain of these that comes back to its beginning never moves again.

Nobody sees the whole chain, so probes follow it (Chandy, Misra and Haas). When a method has awaited
a call for a second, the process that serves it asks the process of the callee, over the link of the
call; where the call waits for its turn, that one asks on for whoever has it. A probe that comes
back has gone around a cycle. Calls that run, and calls that nobody awaits, cost no probe.

Never wrongly. Each edge is known exactly where it is; what was true at different moments does not
make a cycle. So a second probe follows at once: if it goes around over the very same waits, each of
which has an identity, all of them lasted from the end of the first to the start of the second, and
so were there together.

One of the calls that wait for their turn is taken out of the cycle, the same one whoever finds it.
It has not started: its caller gets `CallCycle`, the others go on. Where one waits for a re-entrant
actor, that runs it beside the others instead.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.runtime.waits import holding_up

if TYPE_CHECKING:
    from fray.runtime.calls import Invocation
    from fray.runtime.cell import Cell
    from fray.runtime.clock import Clock
    from fray.runtime.tasks import Scope
    from fray.runtime.waits import Awaited, Waiter

PROBE_AFTER_S = 1.0
"""How long a call is awaited before anybody is asked about it; and how often then."""

EDGES_MAX = 64
"""Of one probe. Cycles through more actors than this are not found."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A method that awaits a call, and whether that is held up.

    Attributes:
        process_id: Where the method runs.
        number: Which of its process's waits this is; each has its own.
        who: The method, for people.
        awaits: The call, for people.
        in_turn: Whether the call waits for its turn.
        reentrant: Whether it does so at a re-entrant actor.
    """

    process_id: str
    number: int
    who: str
    awaits: str
    in_turn: bool = False
    reentrant: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Its identity."""
        return self.process_id, self.number

    def __str__(self) -> str:
        return f"{self.who} awaits {self.awaits}{', whose turn it is not' if self.in_turn else ''}"


@dataclass(frozen=True, slots=True)
class Probe:
    """A question on its way along the waits.

    Attributes:
        edges: Those that it has followed; the first is whose it is.
        found: Of a second probe: the edges over which the first came back.
    """

    edges: tuple[Edge, ...]
    found: tuple[Edge, ...] = ()


class Cycles:
    """Sends and follows the probes of one process. On its loop only.

    Args:
        process_id: The process.
        clock: Its clock.
        cells: The actors hosted there, by target.
        scope: Owns the task that looks.

    Attributes:
        active: Whether it looks; if not, `watch` when a method begins to wait.
    """

    def __init__(
        self, process_id: str, *, clock: Clock, cells: dict[str, Cell], scope: Scope
    ) -> None:
        self.active = False
        self._process_id = process_id
        self._clock = clock
        self._cells = cells
        self._scope = scope
        self._numbers: dict[Waiter, int] = {}
        self._next_number = itertools.count(1)

    def watch(self) -> None:
        """Looks, until nobody waits any more."""
        if not (self.active or self._scope.closed):
            self.active = True
            self._scope.spawn(self._run(), name="look for call cycles")

    async def _run(self) -> None:
        seen: dict[Waiter, int] = {}
        try:
            while True:
                await self._clock.sleep(PROBE_AFTER_S)
                if self._look(seen):
                    seen = self._numbers.copy()
                    continue
                self.active = False  # then look: a thread notes its wait, and looks at this then
                if not self._waiting():
                    return
                self.active, seen = True, {}
        finally:
            self.active = False

    def _look(self, seen: Mapping[Waiter, int]) -> bool:
        """Asks after what waits since the last look; whether anything waits.

        In a method of its own: what it has looked at, and all that hangs on that, is let go until
        the next look.
        """
        waiting = self._waiting()
        present = [key for invocation in waiting for key, _ in holding_up(invocation)]
        self._numbers = {key: self._number(key) for key in present}
        for invocation in waiting:
            for key, awaited in holding_up(invocation):
                if key in seen:
                    self._follow(invocation, key, awaited, Probe(()))
        return bool(waiting)

    def _waiting(self) -> list[Invocation]:
        running = [i for cell in list(self._cells.values()) for i in cell.running]
        return [invocation for invocation in running if invocation.waiting]

    def _number(self, key: Waiter) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = next(self._next_number)
        return number

    def _follow(self, invocation: Invocation, key: Waiter, awaited: Awaited, probe: Probe) -> None:
        """Asks on where the callee is."""
        call = awaited.call
        if call is None or call.done or call.carrier is None:
            return
        edge = Edge(
            self._process_id, self._number(key), self._describe(invocation), awaited.describe()
        )
        if len(probe.edges) < EDGES_MAX and edge.key not in [each.key for each in probe.edges]:
            edges = (*probe.edges, edge)
            call.carrier.probe(call, dataclasses.replace(probe, edges=edges))

    def _describe(self, invocation: Invocation) -> str:
        cell = self._cells.get(invocation.target)
        return f"{cell.label if cell else invocation.target}.{invocation.method}"

    def probed(self, invocation: Invocation, probe: Probe) -> None:
        """A probe has arrived with a call that somebody awaits.

        Args:
            invocation: The call.
            probe: Has at least one edge, the last of which awaits the call.
        """
        cell = self._cells.get(invocation.target)
        if cell is None or not probe.edges:
            return
        holder = cell.holder(invocation)
        if holder is None and len(probe.edges) == 1:
            return  # it runs: if there is a cycle, others are to be taken out of it
        node = invocation if holder is None else holder
        reentrant = holder is not None and cell.options.reentrant
        last = dataclasses.replace(probe.edges[-1], in_turn=holder is not None, reentrant=reentrant)
        probe = dataclasses.replace(probe, edges=(*probe.edges[:-1], last))
        first = probe.edges[0]
        for key, awaited in holding_up(node):
            if first.key == (self._process_id, self._numbers.get(key)):
                self._came_back(node, key, awaited, probe)
            else:
                self._follow(node, key, awaited, probe)

    def _came_back(
        self, invocation: Invocation, key: Waiter, awaited: Awaited, probe: Probe
    ) -> None:
        if not probe.found:
            self._follow(invocation, key, awaited, Probe((), found=probe.edges))
            return
        call = awaited.call
        if [each.key for each in probe.edges] != [each.key for each in probe.found]:
            return  # something moved meanwhile
        held_up = [edge for edge in probe.edges if edge.in_turn]
        candidates = [edge for edge in held_up if edge.reentrant] or held_up
        chosen = max(candidates, key=lambda edge: edge.key)
        if chosen is probe.edges[0] and call is not None and call.carrier is not None:
            call.carrier.break_cycle(call, "\n".join(f"  {edge}" for edge in probe.edges))


__all__ = ["EDGES_MAX", "PROBE_AFTER_S", "Cycles", "Edge", "Probe"]
