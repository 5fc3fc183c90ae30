"""Traffic between processes, checked byte by byte: the actors, and the drivers' program.

Every process hosts a `Mirror`, and every driver calls every actor's, and every actor every
driver's. Callers number their calls; a mirror notes each that is missing, comes twice, or out of
order. Contents follow from caller and number, so that both sides know them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import random
import sys
import time
from collections import deque
from ctypes import CDLL
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import fray
from fray.actor.current import CURRENT_SYSTEM
from fray.actor.resolver import fray_resolver
from fray.actor.server import FrayActorServer
from fray.cluster.connect import open_cluster
from fray.cluster.identity import Identity
from fray.runtime.loopthread import new_event_loop
from tests.integration.real_cluster import until

SMALL_BYTES_MAX = 1 << 20
LARGE_BYTES_MAX = 64 << 20
CALLS_OUT_MAX = 64
BYTES_OUT_MAX = 64 << 20

NOISE = random.Random(2027).randbytes(LARGE_BYTES_MAX + (1 << 20))


@dataclass
class Shape:
    """How much traffic one caller makes to one mirror in one round.

    Attributes:
        calls: How many calls of up to 1 MiB, log-uniform from nothing.
        large: How many calls of up to 64 MiB among them.
    """

    calls: int
    large: int


@dataclass
class Sent:
    """What one caller has seen."""

    calls: int = 0
    nbytes: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Seen:
    """What one mirror, and the process around it, has seen.

    Attributes:
        calls: By caller.
        wrong: What should not have been.
        rss_bytes: Resident memory of the process, after the allocator has given back what it can.
        open_calls: Calls in flight over all connections, either way.
    """

    calls: dict[str, int]
    wrong: list[str]
    rss_bytes: int
    open_calls: int


class Recipe:
    """What a caller sends, and what it gets back: both sides make the same one."""

    def __init__(self, caller: str, shape: Shape) -> None:
        self._random = random.Random(caller)
        large = set(self._random.sample(range(shape.calls), shape.large))
        self._large = large
        self._number = 0

    def next(self) -> tuple[int, int, int]:
        """Size and offset of the next call's bytes, and the size of its answer."""
        number, self._number = self._number, self._number + 1
        is_large = number in self._large
        nbytes = self._random.randint(1, LARGE_BYTES_MAX) if is_large else self._small()
        answer_nbytes = self._small()
        return nbytes, self._random.randrange(1 << 20), answer_nbytes

    def _small(self) -> int:
        return int(math.exp(self._random.uniform(0, math.log(SMALL_BYTES_MAX + 1)))) - 1


def wrap(number: int, data: bytes) -> Any:
    """The same bytes, in one of the ways in which users send them."""
    kind = number % 3
    if kind == 0:
        return data
    array = np.frombuffer(bytearray(data), np.uint8)
    return array if kind == 1 else {"rows": [array], "number": number}


def unwrap(number: int, value: Any) -> bytes:
    if number % 3 == 2:
        assert value["number"] == number
        [value] = value["rows"]
    if number % 3:
        assert not len(value) or value.flags.writeable
    return bytes(value)


@fray.actor
class Mirror:
    """Checks what it is sent. Its plain and its async methods take turns."""

    def __init__(self, name: str, shape: Shape) -> None:
        self._name = name
        self._shape = shape
        self._recipes: dict[str, Recipe] = {}
        self._calls: dict[str, int] = {}
        self._wrong: list[str] = []

    async def take(self, caller: str, number: int, value: Any) -> Any:
        return self._take(caller, number, value)

    def take_plainly(self, caller: str, number: int, value: Any) -> Any:
        return self._take(caller, number, value)

    @fray.method(concurrent=True)
    async def seen(self) -> Seen:
        return Seen(self._calls, self._wrong, settled_rss_bytes(), open_calls())

    @fray.method(concurrent=True)
    async def call(self, name: str) -> Sent:
        return await make_calls(self._name, name, self._shape)

    @fray.method(concurrent=True)
    async def begin(self) -> None:
        """A new round: all callers count from 0 again."""
        self._recipes, self._calls = {}, {}

    def _take(self, caller: str, number: int, value: Any) -> Any:
        expected = self._calls.get(caller, 0)
        if number != expected:
            self._wrong.append(f"{caller}: call {number} in place of {expected}")
        self._calls[caller] = number + 1
        recipe = self._recipes.get(caller)
        if recipe is None:
            recipe = self._recipes[caller] = Recipe(caller, self._shape)
        nbytes, offset, answer_nbytes = recipe.next()
        if unwrap(number, value) != NOISE[offset : offset + nbytes]:
            self._wrong.append(f"{caller}: call {number} has other bytes than were sent")
        return wrap(number, NOISE[offset : offset + answer_nbytes])


async def make_calls(me: str, name: str, shape: Shape) -> Sent:
    """Calls a mirror, many calls at once, and checks every answer."""
    mirror = await fray_resolver().lookup_async(name)
    caller = f"{me} to {name}"
    recipe = Recipe(caller, shape)
    methods = random.Random(name)
    sent = Sent()
    out: deque[tuple[int, int, bytes, Any]] = deque()
    out_bytes = 0

    async def take_one() -> int:
        number, nbytes, answer, future = out.popleft()
        try:
            if unwrap(number, await future) != answer:
                sent.wrong.append(f"{caller}: answer {number} has other bytes than were sent")
        except fray.CallError as exc:
            sent.wrong.append(f"{caller}: call {number} failed: {exc!r}")
        return nbytes

    for number in range(shape.calls):
        nbytes, offset, answer_nbytes = recipe.next()
        method = mirror.take if methods.random() < 0.5 else mirror.take_plainly
        value = wrap(number, NOISE[offset : offset + nbytes])
        answer = NOISE[offset : offset + answer_nbytes]
        out.append((number, nbytes, answer, method.remote(caller, number, value)))
        if number % 3 and nbytes:  # arguments have the value that they had at the call
            (value if number % 3 == 1 else value["rows"][0])[:] = 0
        out_bytes += nbytes
        sent.calls += 1
        sent.nbytes += nbytes + answer_nbytes
        while len(out) >= CALLS_OUT_MAX or (out and out_bytes > BYTES_OUT_MAX):
            out_bytes -= await take_one()
    while out:
        await take_one()
    return sent


def open_calls() -> int:
    """Calls in flight over the connections of this process, but for the one that asks."""
    system = CURRENT_SYSTEM.get()
    assert system is not None
    return sum(sum(peer.in_flight()) for peer in system.process.peers.open_peers())


def settled_rss_bytes() -> int:
    """Resident memory without what the allocator merely keeps for later."""
    gc.collect()
    CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


@dataclass
class Report:
    """What a driver tells at the end.

    Attributes:
        sent: By round, of each caller and mirror of which this driver is one.
        seen: By process: after each round.
        took_s: By round, from the first call to the last answer.
    """

    sent: list[list[Sent]]
    seen: dict[str, list[Seen]]
    took_s: list[float]


async def exchange(me: str, actors: list[str], shape: Shape) -> list[Sent]:
    """All traffic between this driver and the actors, both ways at once."""
    resolver = fray_resolver()
    handles = [await resolver.lookup_async(name) for name in actors]
    return await asyncio.gather(
        *[make_calls(me, name, shape) for name in actors],
        *[handle.call.remote(me) for handle in handles],
    )


async def drive(number: int, address: str, token: str, rounds: int, shape: Shape) -> None:
    """The program of one of two drivers."""
    me, other = f"driver-{number}", f"driver-{3 - number}"
    identity = Identity("tester", "traffic", session_id=f"d-{os.getpid()}")
    connection = await open_cluster(address, token, identity)
    CURRENT_SYSTEM.set(connection.system)
    mirror = Mirror(me, shape)
    server = FrayActorServer(connection.resolver)
    await server.register_async(me, mirror)
    mine = f"actor-{number}"
    await Mirror.options(name=mine).remote(mine, shape)
    actors = ["actor-1", "actor-2"]
    everybody = [*actors, me, other]

    async def all_are_there() -> bool:
        names = {name for name, _ in await connection.system.directory.list("traffic")}
        return set(everybody) <= names

    await until(all_are_there, "everybody is there")
    own = await connection.resolver.lookup_async(mine)
    seen: dict[str, list[Seen]] = {me: [], mine: []}

    async def meet(step: str) -> None:
        """Waits until the other driver is as far."""
        print(step, flush=True)
        line = await asyncio.to_thread(sys.stdin.readline)
        assert line == f"{step}\n", line

    sent: list[list[Sent]] = []
    took_s: list[float] = []
    for number in range(rounds):
        await mirror.begin()
        await own.begin.remote()
        await meet(f"round {number}")
        begin = time.perf_counter()
        sent.append(await exchange(me, actors, shape))
        took_s.append(time.perf_counter() - begin)
        await meet(f"round {number} is over")
        seen[me].append(await mirror.seen())
        seen[mine].append(await own.seen.remote())
        await meet(f"round {number} was looked at")
    print(json.dumps(asdict(Report(sent, seen, took_s))), flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # the other one may still talk to our actor
    await server.shutdown_async()
    await connection.close()


def main() -> None:
    """Entry point. Not run as ``__main__``, whose classes would be pickled by value."""
    number, address, token_file, rounds, calls, large = sys.argv[1:]
    token = Path(token_file).read_text().strip()
    shape = Shape(int(calls), int(large))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(drive(int(number), address, token, int(rounds), shape))
