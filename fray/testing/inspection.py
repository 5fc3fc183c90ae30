"""Looks into a simulated cluster from outside: mailboxes, calls, names, and what is left behind.

No message is sent to find out, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fray.cluster.control import ACTORS_NAMESPACE
from fray.ids import AttemptId
from fray.runtime.payload import Codec

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.names import Names
    from fray.runtime.cell import Cell
    from fray.testing.process import SimProcess
    from fray.testing.world import World


def mailboxes(world: World) -> Iterator[tuple[SimProcess, Cell]]:
    """The users' actors that are hosted at present, and where.

    Args:
        world: Where to look.
    """
    for process in _living(world):
        for runtime in process.runtimes:
            for cell in runtime.cells.values():
                if cell.options.codec is Codec.PICKLE and not cell.stopped.done():
                    yield process, cell


def describe(world: World, names: Names | None) -> list[str]:
    """Names and mailboxes, for people.

    Args:
        world: Where to look.
        names: The controller's; None where it has not started yet.
    """
    lines = [
        f"name {namespace}/{held.name} -> {held.endpoint.target} at {held.endpoint.address}"
        for namespace, held in (names.held() if names is not None else ())
        if namespace != ACTORS_NAMESPACE
    ]
    for process, cell in mailboxes(world):
        statistics = cell.statistics()
        busy = ""
        if statistics.busy_in is not None:
            busy = f", in {statistics.busy_in[0]} for {statistics.busy_in[1]:.1f} s"
        lines.append(
            f"actor {cell.label} ({cell.target}) in {process.name}: {statistics.state.value}, "
            f"{statistics.waiting} calls wait, {statistics.running} run{busy}"
        )
    return lines


def leaks(world: World, book: Book | None, names: Names | None) -> list[str]:
    """What nobody can want any more: where all is settled there is none.

    * Calls in the mailbox of an actor, or running there.
    * Calls that a living process waits for.
    * Links of which an end is dead, and messages that wait for a rule to end.
    * Names of attempts that have ended.

    Args:
        world: Where to look.
        book: The controller's; None where it has not started yet.
        names: Likewise.
    """
    found: list[str] = []
    for process, cell in mailboxes(world):
        statistics = cell.statistics()
        if statistics.waiting or statistics.running:
            found.append(
                f"{cell.label} in {process.name} has {statistics.waiting} calls waiting and "
                f"{statistics.running} running"
            )
    for process in _living(world):
        for system in process.systems:
            found += [
                f"{process.name} waits for a call: {future.describe()}"
                for route in system.routes()
                for future in route._calls  # pyright: ignore[reportPrivateUsage]
            ]
    found += world.network.leaks()
    if book is not None and names is not None:
        attempts = book.ledger.tables.attempts
        found += [
            f"name {held.name!r} belongs to {held.endpoint.attempt_id}, which has ended"
            for _, held in names.held()
            if held.endpoint.attempt_id and AttemptId(held.endpoint.attempt_id) not in attempts
        ]
    return found


def _living(world: World) -> list[SimProcess]:
    running = [p for host in world.hosts.values() for p in host.processes.values()]
    return [world.driver, *running]


__all__ = ["describe", "leaks", "mailboxes"]
