"""What the lives of supervised actors looked like from outside, and what was wrong with them.

All simulated processes share one interpreter, so there is one diary for all of a world, in
`Diary.current`. Actors write into it when they start; who is alive it sees for itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fray.runtime.cell import CURRENT_CELL
from fray.testing import SimProcess
from fray.testing.lanes import LANE

if TYPE_CHECKING:
    from fray.testing import SimCluster
    from tests.sim.lab.trees import Holding, Node

ORDERED = ("one_for_all", "rest_for_one")
"""Strategies whose children start one after the other, also in a restart."""


@dataclass(eq=False, slots=True)
class Life:
    """One life of a supervised actor.

    Attributes:
        actor_id: Whose.
        number: Its incarnation.
        process: Where it is.
        born_at: When it started, in virtual seconds.
        died_at: When its process ended; None while that runs.
    """

    actor_id: str
    number: int
    process: SimProcess
    born_at: float
    died_at: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it can do anything."""
        return self.process.exit is None and not self.process.frozen


class Diary:
    """One world's.

    Args:
        cluster: The world.

    Attributes:
        cluster: As given.
        calm: Whether the weather is over: nobody is to change trees any more.
        holdings: Supervisors' roots, by whom they were held.
        names: Of the children that can be looked up.
        handles: Pickled handles of all children, by actor id.
        born: All lives by actor id.
        broken: Broken promises, as sentences.
        seen: What there was to see of supervision.
    """

    current: ClassVar[Diary]

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.calm = False
        self.holdings: list[Holding] = []
        self.names: list[str] = []
        self.handles: dict[str, bytes] = {}
        self.born: dict[str, list[Life]] = {}
        self.broken: list[str] = []
        self.seen: Counter[str] = Counter()

    def here(self) -> SimProcess:
        """The process whose code runs."""
        sim = self.cluster.sim
        lane = LANE.get(sim.loop.main_lane)
        hosts = sim.hosts.values()
        found = (p for host in hosts for p in host.processes.values() if p.lane is lane)
        return next(found, sim.driver)

    def last(self, actor_id: str) -> Life | None:
        """The latest life of an actor.

        Args:
            actor_id: Whose.
        """
        return self.born.get(actor_id, [None])[-1]

    def write(self, holding: int, node: str, child: str) -> Life:
        """An actor starts. Called in its process.

        Args:
            holding: Which tree it belongs to.
            node: The name of its supervisor.
            child: Its own.

        Returns:
            The life that begins.
        """
        now = asyncio.get_running_loop().time()
        cell = CURRENT_CELL.get()
        assert cell is not None
        actor_id, _, number = cell.target.rpartition("/")
        life = Life(actor_id, int(number), self.here(), now)

        def died(_: object) -> None:
            life.died_at = self.cluster.now

        life.process.on_exit(died)
        mine = self.holdings[holding].nodes[node]
        self._judge(mine, child, life)
        self.born.setdefault(actor_id, []).append(life)
        mine.lives.setdefault(child, []).append(life)
        return life

    def _judge(self, node: Node, child: str, life: Life) -> None:
        """Nobody who is restarted together with a child may have outlived its last life."""
        before = self.last(life.actor_id)
        if before is None or node.strategy == "one_for_one" or child in node.tampered:
            return
        if life.number <= before.number:
            self.broken.append(f"{child} began life {life.number} after life {before.number}")
        order = list(node.children)
        for other, lives in node.lives.items():
            after = other in order and child in order and order.index(other) > order.index(child)
            if (
                other == child
                or not node.has(other)
                or (node.strategy == "rest_for_one" and not after)
            ):
                continue
            last = lives[-1]
            if last.runs and before.died_at is not None and last.born_at < before.died_at:
                self.broken.append(
                    f"{child} of {node.strategy} {node.name} began life {life.number} at "
                    f"{life.born_at:.2f} while {other}, of the time before its end at "
                    f"{before.died_at:.2f}, still ran as life {last.number} in {last.process}"
                )
