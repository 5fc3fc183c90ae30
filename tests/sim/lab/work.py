"""Who calls: users that do random things with random actors, and keep no secret of it."""

from __future__ import annotations

import asyncio
import pickle
import random
from typing import TYPE_CHECKING, Any

from fray.cluster.types import Entrypoint, JobRequest
from fray.errors import FrayError
from tests.sim.lab.actors import Wide, Worker, errand
from tests.sim.lab.diary import Diary

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from fray.cluster.client import AsyncFrayCluster
    from fray.ids import JobId

NAMES = ("ann", "bob", "cid")
"""Actors that exist from the beginning, always restarted, called by all."""

EXPECTED = (FrayError, ValueError, TimeoutError)
"""What a call may raise in bad weather, or because it was made to."""


class User:
    """One caller, in whichever process it runs.

    Args:
        seed: Decides what it does.
        cluster: Its connection.
        names: Whom it calls.
    """

    def __init__(self, seed: str, cluster: AsyncFrayCluster, names: Sequence[str]) -> None:
        self.dice = random.Random(seed)
        self.cluster = cluster
        self.over = asyncio.Event()
        self.own: list[Any] = []
        self.made: list[Any] = []
        self.jobs: list[JobId] = []
        self._names = names
        self._handles: dict[str, Any] = {}

    async def work(self) -> None:
        """Does one thing after the other until it is over."""
        deeds = [
            (8, self.call_and_wait),
            (5, self.call_many_at_once),
            (3, self.call_and_cancel),
            (3, self.call_with_little_time),
            (2, self.call_and_go_away),
            (3, self.read_a_stream),
            (2, self.leave_a_stream),
            (2, self.introduce),
            (1, self.make_an_actor),
            (1, self.end_an_actor),
            (1, self.launch_a_job),
        ]
        weights, acts = zip(*deeds, strict=True)
        while not self.over.is_set():
            [deed] = self.dice.choices(acts, weights)
            try:
                await deed(await self._any())
            except EXPECTED:
                pass  # what each call ended with is in the history
            await asyncio.sleep(self.dice.uniform(0, 8))

    async def _any(self) -> Any:
        """Some handle: its own, one from before, or one that is looked up anew."""
        if self.own and self.dice.random() < 0.3:
            return self.dice.choice(self.own)
        supervised = Diary.current.handles
        if supervised and self.dice.random() < 0.2:  # one that its supervisor gave away
            return pickle.loads(self.dice.choice(list(supervised.values())))
        name = self.dice.choice([*self._names, *Diary.current.names])
        if name not in self._handles or self.dice.random() < 0.1:
            self._handles[name] = await self.cluster.resolver.lookup_async(name)
        return self._handles[name]

    def _some_call(self, actor: Any, *, slow: bool = True) -> Any:
        dice = self.dice
        calls: list[Callable[[], Any]] = [
            lambda: actor.add.remote(1),
            lambda: actor.add.remote(2),
            lambda: actor.add_plainly.remote(1),
            lambda: actor.health.remote(),
            lambda: actor.fail.remote("as it was asked to"),
            lambda: actor.echo.remote(bytes(dice.randrange(1000))),
        ]
        if slow:
            calls += [
                lambda: actor.look.remote(dice.uniform(0, 5)),
                lambda: actor.add_slowly.remote(dice.uniform(0, 5)),
                lambda: actor.ask_friends.remote(),
            ]
        return dice.choice(calls)()

    # ---- deeds

    async def call_and_wait(self, actor: Any) -> None:
        await self._some_call(actor)

    async def call_many_at_once(self, actor: Any) -> None:
        calls = [self._some_call(actor, slow=False) for _ in range(self.dice.randint(2, 8))]
        await asyncio.gather(*calls, return_exceptions=True)

    async def call_and_cancel(self, actor: Any) -> None:
        call = self._some_call(actor)
        await asyncio.sleep(self.dice.choice([0, 0.0005, 0.01, self.dice.uniform(0, 5)]))
        call.cancel()

    async def call_with_little_time(self, actor: Any) -> None:
        timeout_s = self.dice.choice([0.001, 0.1, 2.0])
        await actor.add_slowly.options(timeout=timeout_s).remote(self.dice.uniform(0, 4))

    async def call_and_go_away(self, actor: Any) -> None:
        self._some_call(actor)

    async def read_a_stream(self, actor: Any) -> None:
        if self.dice.random() < 0.3:
            items = actor.count_plainly.remote(self.dice.randint(0, 150))
        else:
            items = actor.count.remote(self.dice.randint(0, 8), self.dice.uniform(0, 1))
        pause_s = self.dice.choice([0, 0, self.dice.uniform(0, 1)])
        expected = 0
        async for item in items:
            assert item == expected, f"item {item} where {expected} was next"
            expected += 1
            if pause_s and expected < 8:  # slower than they come
                await asyncio.sleep(pause_s)

    async def leave_a_stream(self, actor: Any) -> None:
        async for item in actor.count.remote(1000, 0.1):
            if item >= self.dice.randint(0, 3):
                break

    async def introduce(self, actor: Any) -> None:
        await actor.meet.remote(await self._any())

    async def make_an_actor(self, _: Any) -> None:
        if len(self.own) < 2:
            cls = self.dice.choice([Worker, Wide])
            options = cls.options(num_cpus=0.1, max_restarts=self.dice.choice([0, 1, -1]))
            self.own.append(options.remote())
            self.made.append(self.own[-1])

    async def end_an_actor(self, _: Any) -> None:
        if self.own:
            actor = self.own.pop(self.dice.randrange(len(self.own)))
            await (actor.kill() if self.dice.random() < 0.5 else actor.stop(grace_s=2.0))

    async def launch_a_job(self, _: Any) -> None:
        if len(self.jobs) >= 2:
            return
        entrypoint = Entrypoint.from_callable(errand, args=(self.dice.choice(self._names), 3))
        request = JobRequest(name="errand", entrypoint=entrypoint, max_retries_failure=1)
        self.jobs.append(await self.cluster.launch(request))


def driver(
    seed: str, names: Sequence[str]
) -> Callable[[AsyncFrayCluster], Coroutine[Any, Any, None]]:
    """The program of a driver process in which a user works until it is crashed, or its time is up.

    Args:
        seed: Decides what the user does.
        names: Whom they call.
    """

    async def main(cluster: AsyncFrayCluster) -> None:
        user = User(seed, cluster, names)
        asyncio.get_running_loop().call_later(user.dice.uniform(30, 150), user.over.set)
        await user.work()

    return main
