"""Supervisors for the lab: random trees, who holds them, and what must be true in the end."""

from __future__ import annotations

import asyncio
import pickle
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fray
from fray.errors import FrayError, SupervisorFailed
from tests.sim.lab.actors import Worker
from tests.sim.lab.diary import ORDERED, Diary
from tests.sim.lab.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from fray.actor.childspec import ChildInfo
    from fray.testing import SimProcess

EXPECTED = (FrayError, ValueError, KeyError)
"""What an order to a supervisor may raise in bad weather, or because its child is gone by then."""

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "gang")


@fray.actor(num_cpus=0.1)
class Part(Worker):
    """A supervised worker, which writes down when it starts.

    Args:
        holding: The number of its tree.
        node: Its supervisor's name.
        child: Its own.
        flaky: How often it fails to start, 0 to 1.
    """

    def __init__(self, holding: int, node: str, child: str, flaky: float) -> None:
        super().__init__()
        self.place = (holding, node, child)
        self.flaky = flaky

    async def on_start(self) -> None:
        life = Diary.current.write(*self.place)
        if random.Random(f"{self.place}/{life.number}").random() < self.flaky:
            raise RuntimeError("it does not feel like it")


@dataclass(eq=False)
class Node:
    """A supervisor, and what is known of it from outside.

    Attributes:
        name: Its name.
        strategy: Its strategy.
        supervisor: It.
        children: The restart types of its actors by name, in their order.
        lives: What its actors have been through, by name.
        added: Those that were added later.
        tampered: Those that somebody has terminated or started, so that they are of another time
            than their siblings.
    """

    name: str
    strategy: str
    supervisor: fray.Supervisor
    children: dict[str, str] = field(default_factory=dict[str, str])
    lives: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    added: list[str] = field(default_factory=list[str])
    tampered: set[str] = field(default_factory=set[str])

    def has(self, child: str) -> bool:
        """Whether it has a child still.

        Args:
            child: Its name.
        """
        try:
            self.supervisor[child]
        except KeyError:
            return False
        return True

    def crooked(self) -> Iterator[str]:
        """What is wrong with the order in which its present children have started."""
        lives = [
            self.lives[name]
            for name, restart in self.children.items()
            if restart == "permanent" and name not in self.tampered and self.has(name)
        ]
        births = [each[-1].born_at for each in lives]
        if self.strategy in ORDERED and births != sorted(births):
            yield f"children of {self.strategy} {self.name} started out of order: {births}"
        before = [each[-2].born_at for each in lives if len(each) > 1]
        if self.strategy in ("one_for_all", "gang") and before and max(before) > min(births):
            yield f"children of {self.strategy} {self.name} are not of one time: {births}"


class Holding:
    """A tree of supervisors that somebody holds.

    Args:
        dice: Decides how it looks.
        name: Of its root.
        for_ever: Whether its root never gives up.

    Attributes:
        nodes: All its supervisors by name, the root first.
        process: Whose it is.
        gone: Whether it was left or has given up.
        leaving: Whether its holder leaves it by himself once all is calm.
        ordering: What its holder wants of it at present.
        watching: What its holder is told of its children.
    """

    def __init__(self, dice: random.Random, name: str, *, for_ever: bool = False) -> None:
        diary = Diary.current
        self.dice = dice
        self.number = len(diary.holdings)
        self.nodes: dict[str, Node] = {}
        self.process: SimProcess = diary.here()
        self.gone = False
        self.leaving = False
        self.ordering = ""
        self.watching = Watching()
        self._for_ever = for_ever
        self.root = self._plant(name, depth=0)
        self.nodes = {name: self.nodes.pop(name), **self.nodes}
        diary.holdings.append(self)
        diary.seen["trees"] += 1

    @property
    def alive(self) -> bool:
        """Whether its children are to be up."""
        return not self.gone and self.process.exit is None

    def _plant(self, name: str, *, depth: int) -> fray.Supervisor:
        dice = self.dice
        strategy = dice.choice(STRATEGIES)
        node = self.nodes[name] = Node(name, strategy, fray.Supervisor())
        nests = depth == 0 and dice.random() < 0.5
        specs = [self._spec(node) for _ in range(dice.randint(1, 2) if nests or depth else 3)]
        if nests:
            inner = f"{name}-in"
            spec = fray.ChildSpec(inner, self._plant(inner, depth=depth + 1))
            specs.insert(dice.randint(0, len(specs)), spec)
        patient = depth == 0 and (self._for_ever or dice.random() < 0.6)
        intensity = -1 if patient or dice.random() < 0.3 else dice.choice([0, 0, 1, 3])
        node.supervisor = fray.Supervisor(
            specs,
            name=name,
            strategy=strategy,
            intensity=intensity,
            period_s=dice.choice([5.0, 60.0]),
            max_preemptions=-1 if patient else dice.choice([-1, 1]),
            backoff_max_s=5.0,
        )
        return node.supervisor

    def _spec(self, node: Node, *, added: bool = False) -> fray.ChildSpec:
        dice = self.dice
        child = f"{node.name}-{len(node.children)}"
        kinds = ["permanent", "permanent", "permanent", "transient", "temporary"]
        restart = node.children[child] = dice.choice(kinds)
        if added:
            node.added.append(child)
        flaky = dice.choice([0.0, 0.0, 0.0, 0.2]) if restart == "permanent" else 0.0
        return fray.ChildSpec(
            child,
            Part.options(name=child),
            args=(self.number, node.name, child, flaky),
            restart=restart,
            shutdown_s=dice.choice([0.0, 1.0, 5.0]),
        )

    # ---- its holder's

    async def hold(self, over: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Starts it, changes it until all is calm, and leaves it in the end.

        Args:
            over: Returns when it is to be left.

        Raises:
            SupervisorFailed: It gave up.
        """
        try:
            async with self.root:
                self.publish()
                await self.change()
                await over()
        except SupervisorFailed:
            Diary.current.seen["roots that gave up"] += 1
            raise
        finally:
            self.gone = True

    async def change(self) -> None:
        """Gives one order after the other until all is calm."""
        deeds = [self.add, self.delete, self.terminate, self.stop_one, self.stop_one, self.add]
        while True:
            await asyncio.sleep(self.dice.uniform(8, 40))
            if Diary.current.calm:  # from here on it is judged
                return
            node = self.dice.choice(list(self.nodes.values()))
            deed = self.dice.choice(deeds)
            self.ordering = f"{deed.__name__} of {node.name}"
            try:
                await deed(node)
            except EXPECTED:
                pass
            self.ordering = ""

    def publish(self) -> None:
        """Lets others know of its children."""
        diary = Diary.current
        for node in self.nodes.values():
            for child in node.children:
                try:
                    handle = node.supervisor[child]
                except KeyError:  # it is gone
                    continue
                if handle.actor_id not in diary.handles:
                    diary.handles[handle.actor_id] = pickle.dumps(handle)
                    self.watching.begin(handle)
                if child not in diary.names:
                    diary.names.append(child)

    async def add(self, node: Node) -> None:
        """Adds a child, a few at the most."""
        if len(node.added) < 1:
            await node.supervisor.start_child(self._spec(node, added=True))
            self.publish()

    async def delete(self, node: Node) -> None:
        """Deletes a child that was added."""
        if node.added:
            await node.supervisor.delete_child(self.dice.choice(node.added))

    async def terminate(self, node: Node) -> None:
        """Terminates a child for a while."""
        child = self.dice.choice(list(node.children))
        node.tampered.add(child)
        await node.supervisor.terminate_child(child)
        await asyncio.sleep(self.dice.uniform(0, 5))
        for _ in range(3):  # what fails to start stays down
            try:
                await node.supervisor.restart_child(child)
                return
            except fray.ActorDied:
                await asyncio.sleep(1)

    async def stop_one(self, node: Node) -> None:
        """Stops a child through its handle, which is a normal end."""
        handle = node.supervisor[self.dice.choice(list(node.children))]
        await (handle.kill() if self.dice.random() < 0.5 else handle.stop(grace_s=2.0))

    # ---- judging

    async def unsettled(self) -> list[str]:
        """What is not yet as it is to be."""
        if not self.alive:
            living = [life for node in self.nodes.values() for ls in node.lives.values()
                      for life in ls if life.process.exit is None]  # fmt: skip
            return [f"life {each.number} of {each.actor_id} runs, its supervisor is gone"
                    for each in living]  # fmt: skip
        found = [f"{self.process.name} waits: {self.ordering}"] if self.ordering else []
        if self.leaving:  # what is judged must not be taken away meanwhile
            found.append(f"{self.process.name} has not left yet")
        for node in self.nodes.values():
            try:
                children = await node.supervisor.which_children()
            except RuntimeError as exc:  # one within another begins when those before it run
                found.append(f"{self.process.name} waits: {exc}")
                continue
            for each in children:
                kept = node.children.get(each.name, "permanent") == "permanent"
                if each.wanted and each.state != "up":
                    found.append(f"{node.supervisor!r}: {each.name} is {each.state}")
                elif kept and not each.wanted and each.name not in node.tampered:
                    found.append(f"{each.name} of {node.name} stays down: {each.last_end}")
        return found

    async def infos(self) -> list[tuple[Node, ChildInfo]]:
        """All actors that are to answer."""
        return [
            (node, each)
            for node in self.nodes.values()
            for each in await node.supervisor.which_children()
            if each.wanted and each.name in node.children
        ]


async def keep(
    seed: str,
    name: str,
    over: Callable[[], Coroutine[Any, Any, object]],
    *,
    leaving: bool = False,
) -> None:
    """Holds a tree, in whichever process.

    Args:
        seed: Decides how it looks, and what is done to it.
        name: Of its root.
        over: Returns when it is to be left.
        leaving: Whether that is soon, and not for the lab to say.

    Raises:
        SupervisorFailed: It gave up.
    """
    holding = Holding(random.Random(seed), name)
    holding.leaving = leaving
    await holding.hold(over)


async def keep_in_job(seed: str, name: str) -> None:
    """A job that holds a tree until it is stopped.

    Args:
        seed: As for `keep`.
        name: Likewise.
    """
    await keep(seed, name, asyncio.Event().wait)


@fray.actor(max_restarts=-1, num_cpus=0.1)
class Boss(Worker):
    """An actor that holds a tree, and is started again with it.

    Args:
        seed: As for `keep`.
        name: Likewise.
    """

    def __init__(self, seed: str, name: str) -> None:
        super().__init__()
        self.seed, self.name = seed, name

    async def on_start(self) -> None:
        self.holding = Holding(random.Random(self.seed), self.name, for_ever=True)
        await self.holding.root.start()
        self.holding.publish()

    async def on_stop(self, reason: Any) -> None:
        await self.holding.root.stop()
        self.holding.gone = True
