"""Random use of a local cluster for a minute: does every call have exactly one outcome?

Run by hand: ``python -m tests.integration.soak_calls [--seconds 60] [--seed 1] [--processes]``, or
with ``--chaos`` on a real cluster, whose controller and agent are killed and started again all the
time. It exits with 1 if a call hung, ended twice, or ended in a way in which no call may end.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fray
from fray.errors import ActorNotFoundError, CallError, NameTakenError
from tests.integration.real_cluster import RealCluster, driving, real_cluster

PLAYERS = 40
BLOCKING_PLAYERS = 4
ACTORS_MAX = 10
DRAIN_S = 30.0
LARGE_BYTES = 3 << 20
SLOWEST = 8

METHODS = (
    *("echo", "echo", "echo_async", "sleep", "block", "sleep_beside", "relay", "large"),
    *("fail", "fail_async", "cancel_itself"),
)


class BoomError(Exception):
    """What methods raise."""


@fray.actor
class Toy:
    """Does everything that a method can do."""

    def __init__(self, fails: float) -> None:
        if random.random() < fails:
            raise BoomError("in the constructor")

    def pid(self) -> int:
        return os.getpid()

    def echo(self, value: Any) -> Any:
        return value

    @fray.method(idempotent=True, retries=3)
    async def echo_async(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def sleep(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    def block(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @fray.method(concurrent=True)
    async def sleep_beside(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    def fail(self) -> None:
        raise BoomError("plain")

    async def fail_async(self) -> None:
        raise BoomError("async")

    async def cancel_itself(self) -> None:
        raise asyncio.CancelledError

    async def relay(self, other: Any, value: Any) -> Any:
        return await other.sleep_beside.options(timeout=2).remote(value)

    async def stream(self, items: int, fails: bool) -> AsyncIterator[int]:
        for number in range(items):
            if number % 7 == 3:
                await asyncio.sleep(0.001)
            yield number
        if fails:
            raise BoomError("async stream")

    def stream_plainly(self, items: int, fails: bool) -> Iterator[int]:
        yield from range(items)
        if fails:
            raise BoomError("plain stream")

    async def on_stop(self, reason: Any) -> None:
        await asyncio.sleep(0.01)


class Tally:
    """What became of the calls."""

    def __init__(self) -> None:
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.open: dict[int, tuple[str, Any]] = {}
        self.took: list[tuple[float, str]] = []
        self._begun: dict[int, float] = {}
        self._ends: collections.Counter[int] = collections.Counter()
        self._next = 0
        self._lock = threading.Lock()

    def begin(self, what: str, future: Any) -> int:
        with self._lock:
            number = self._next = self._next + 1
            self.open[number] = (what, future)
            self._begun[number] = time.monotonic()

        def ended(_: Any) -> None:
            with self._lock:
                self._ends[number] += 1
                if self._ends[number] > 1:
                    self.wrong.append(f"{what} ended {self._ends[number]} times")

        future.add_done_callback(ended)
        return number

    def end(self, number: int, outcome: str) -> None:
        with self._lock:
            what, future = self.open.pop(number)
            self.outcomes[outcome] += 1
            took_s = time.monotonic() - self._begun.pop(number)
            self.took = sorted([*self.took, (took_s, f"{what}: {outcome}")])[-SLOWEST:]
            if not future.done():
                self.wrong.append(f"{what} gave {outcome} and is not done")

    def note(self, problem: str) -> None:
        with self._lock:
            self.wrong.append(problem)


def outcome_of(exc: BaseException) -> str:
    if isinstance(exc, CallError):
        return f"{type(exc).__name__} (started: {exc.started})"
    return type(exc).__name__


ALLOWED = (CallError, ActorNotFoundError, NameTakenError, BoomError)


class Soak:
    """Players who use one set of actors.

    Args:
        seed: Of what they do; not of when.
        seconds: How long.
        processes: Whether some actors get processes of their own, and are killed.
        chaos: Whether it is a real cluster, whose daemons are killed.
    """

    def __init__(self, seed: int, seconds: float, processes: bool, chaos: bool) -> None:
        self.random = random.Random(seed)
        self.until = time.monotonic() + seconds
        self.processes = processes or chaos
        self.chaos = chaos
        self.killed: collections.Counter[str] = collections.Counter()
        self.tally = Tally()
        self.actors: list[tuple[Any, bool]] = []
        self.names = 0

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.until

    # ---- actors

    def create(self) -> None:
        roll = self.random
        own = self.processes and roll.random() < 0.5
        self.names += 1
        options: dict[str, Any] = {
            "num_cpus": 0,
            "max_restarts": roll.choice([0, 0, 1, 3]),
            "max_concurrency": roll.choice([1, 1, 4]),
            "process": "own" if own else "auto",
        }
        if roll.random() < 0.5:
            options["name"] = f"toy-{self.names}"
        if roll.random() < 0.2:
            options["mailbox_calls_max"] = 5
        fails = 1.0 if roll.random() < 0.1 else 0.0
        self.actors.append((Toy.options(**options).remote(fails), own))

    async def replace_actors(self) -> None:
        """Ends actors in every way, and makes others."""
        while not self.is_over:
            while len(self.actors) < ACTORS_MAX:
                self.create()
            await asyncio.sleep(self.random.uniform(0, 0.3))
            actor, own = self.actors.pop(self.random.randrange(len(self.actors)))
            await self.end(actor, own)

    async def end(self, actor: Any, own: bool) -> None:
        how = self.random.choice(["stop", "stop now", "kill", "crash"])
        if how == "crash" and own:
            with contextlib.suppress(*ALLOWED, ProcessLookupError):
                os.kill(await actor.pid.options(timeout=5).remote(), signal.SIGKILL)
                self.actors.append((actor, own))  # it may be restarted
        elif how == "kill":
            await self.watch("kill", actor.kill())
        else:
            await self.watch(how, actor.stop(grace_s=0.2 if how == "stop" else 0.0))

    # ---- calls

    async def play(self) -> None:
        while not self.is_over:
            if not self.actors:
                await asyncio.sleep(0.01)
                continue
            actor, _ = self.random.choice(self.actors)
            kind = self.random.choice([self.plain, self.plain, self.timed, self.cancelled])
            kind = self.random.choice([kind, kind, self.streamed, self.dropped])
            try:
                await kind(actor)
            except ALLOWED:
                continue  # refused before anything was sent

    def call(self, actor: Any, options: dict[str, Any]) -> tuple[str, Any, Callable[[Any], bool]]:
        """A random call: its name, its future, and what its result must be."""
        roll = self.random
        name = roll.choice(METHODS)
        value: Any = roll.random() / 20
        arguments: tuple[Any, ...] = (value,)
        if name.startswith(("fail", "cancel")):
            arguments = ()
        elif name == "relay":
            other, _ = roll.choice(self.actors)
            arguments = (other, value)
        elif name == "large":
            value = np.full(roll.randrange(LARGE_BYTES), 7, np.uint8)
            arguments = (value,)
        method = getattr(actor, "echo_async" if name == "large" else name)
        if options:
            method = method.options(**options)

        def is_right(result: Any) -> bool:
            return bool(np.array_equal(result, value))

        return name, method.remote(*arguments), is_right

    async def watch(
        self, what: str, future: Any, is_right: Callable[[Any], bool] | None = None
    ) -> None:
        number = self.tally.begin(what, future)
        try:
            result = await future
        except ALLOWED as exc:
            self.tally.end(number, outcome_of(exc))
        except BaseException as exc:
            self.tally.end(number, outcome_of(exc))
            self.tally.note(f"{what} ended with {exc!r}")
        else:
            self.tally.end(number, "result")
            if is_right is not None and not is_right(result):
                self.tally.note(f"{what} gave a wrong result")

    async def plain(self, actor: Any) -> None:
        await self.watch(*self.call(actor, {}))

    async def timed(self, actor: Any) -> None:
        await self.watch(*self.call(actor, {"timeout": self.random.uniform(0.001, 0.2)}))

    async def cancelled(self, actor: Any) -> None:
        what, future, is_right = self.call(actor, {})
        asyncio.get_running_loop().call_later(self.random.uniform(0, 0.05), future.cancel)
        await self.watch(f"cancelled {what}", future, is_right)

    async def dropped(self, actor: Any) -> None:
        what, future, _ = self.call(actor, {})
        self.tally.end(self.tally.begin(what, _Dropped()), "dropped")
        del future

    async def streamed(self, actor: Any) -> None:
        method = actor.stream if self.random.random() < 0.5 else actor.stream_plainly
        items, fails = self.random.randrange(200), self.random.random() < 0.3
        leave_at = self.random.choice([None, None, 0, 10])
        future = method.remote(items, fails)
        number = self.tally.begin("stream", future)
        seen: list[int] = []
        outcome = "stream"
        try:
            async for item in future:
                seen.append(item)
                if len(seen) - 1 == leave_at:
                    break
        except ALLOWED as exc:
            outcome = f"stream: {outcome_of(exc)}"
        else:
            if leave_at is not None and len(seen) > leave_at:
                outcome = "stream: left"
            elif fails or len(seen) != items:
                self.tally.note(f"a stream of {items} ended after {len(seen)}, fails={fails}")
        if seen != list(range(len(seen))):
            self.tally.note(f"a stream gave {seen}")
        future.cancel()  # does nothing if it has ended
        with contextlib.suppress(*ALLOWED, TypeError):
            await future
        self.tally.end(number, outcome)

    # ---- threads

    def play_blocking(self) -> None:
        """Blocking callers."""
        while not self.is_over:
            if not self.actors:
                time.sleep(0.01)
                continue
            actor, _ = self.random.choice(self.actors)
            try:
                what, future, is_right = self.call(actor, {})
            except ALLOWED:
                continue
            number = self.tally.begin(f"blocking {what}", future)
            try:
                result = future.result()
            except ALLOWED as exc:
                self.tally.end(number, outcome_of(exc))
            else:
                self.tally.end(number, "result")
                if not is_right(result):
                    self.tally.note(f"blocking {what} gave a wrong result")

    # ---- all of it

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            others: list[Awaitable[None]] = [self.replace_actors()]
            if self.chaos:
                root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                cluster = await stack.enter_async_context(real_cluster(root))
                connection = await stack.enter_async_context(driving(cluster))
                others.append(self.kill_daemons(cluster))
            else:
                connection = await stack.enter_async_context(fray.connect("local?max_workers=32"))
            threads = [
                asyncio.to_thread(self._with_system, connection.system, self.play_blocking)
                for _ in range(BLOCKING_PLAYERS)
            ]
            players = [self.play() for _ in range(PLAYERS)]
            playing = asyncio.gather(*others, *players, *threads)
            left_s = self.until + DRAIN_S - time.monotonic()
            _, late = await asyncio.wait([playing], timeout=left_s)
            if late:
                self.tell_what_hangs()
                playing.cancel()
            else:
                await playing

    def tell_what_hangs(self) -> None:
        for what, future in list(self.tally.open.values()):
            call = future.call
            where = f"{call.target or '?'} carrier={call.carrier!r}" if call else "not sent"
            self.tally.note(f"{what} has no outcome after {DRAIN_S:.0f} s: {future!r} {where}")

    async def kill_daemons(self, cluster: RealCluster) -> None:
        while not self.is_over:
            await asyncio.sleep(self.random.uniform(1, 5))
            which = self.random.choice(["controller", "agent", "both"])
            self.killed[which] += 1
            assert cluster.controller is not None
            if which != "agent":
                cluster.controller.kill()
            if which != "controller":
                cluster.agents["w1"].kill()
            await asyncio.sleep(self.random.uniform(0, 1))
            if which != "agent":
                await cluster.start_controller()
            if which != "controller":
                await cluster.start_agent()

    @staticmethod
    def _with_system(system: Any, run: Callable[[], None]) -> None:
        system.context().run(run)


class _Dropped:
    """Stands for the future of a call that nobody looks at."""

    def done(self) -> bool:
        return True

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        fn(self)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", action="store_true", help="kill processes, too")
    parser.add_argument("--chaos", action="store_true", help="kill a real cluster's daemons, too")
    options = parser.parse_args()
    logging.getLogger("fray").setLevel(logging.CRITICAL)  # dropped calls that failed are told
    soak = Soak(options.seed, options.seconds, options.processes, options.chaos)
    begin = time.monotonic()
    asyncio.run(soak.run())
    took_s = time.monotonic() - begin
    count = sum(soak.tally.outcomes.values())
    print(f"{count:,} calls in {took_s:.1f} s, {soak.names} actors, seed {options.seed}")
    for which, times in soak.killed.items():
        print(f"{times:8,}  times killed: {which}")
    for outcome, times in soak.tally.outcomes.most_common():
        print(f"{times:8,}  {outcome}")
    for took_s, what in reversed(soak.tally.took):
        print(f"{took_s:8.1f} s  {what}")
    for problem in soak.tally.wrong[:30]:
        print("wrong:", problem)
    return 1 if soak.tally.wrong else 0


if __name__ == "__main__":
    from tests.integration import soak_calls  # classes of __main__ would be pickled by value

    sys.exit(soak_calls.main())
