"""Keeps the real world out while a simulation runs: clocks, dice, threads and the collector.

fray's own code takes time and randomness from its `Clock`. Libraries do not, so for them the
module-level functions are replaced while the loop runs, and only for the loop's own thread: pytest,
its plugins and other threads go on seeing the real ones.

Not covered, because it cannot be from Python: ``datetime.now()``, functions that a module imported
by name (``from time import monotonic``), and randomness drawn in extension modules. Nor are sets:
one of strings, or of objects that hash by their address, is walked in another order in each run.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import random
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from fray.testing.environ import SimEnviron
from fray.testing.errors import SimUnsupported
from fray.testing.lanes import SimTask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from fray.testing.clock import HostTime
    from fray.testing.loop import SimLoop

_FROZEN_BY_PYTHON_MAX = 2000
"""With more than that frozen already somebody did it on purpose, and we do not undo it; CPython
3.12 begins with some hundreds."""

_BLOCKS = (
    "a simulation runs everything on one thread, so this would wait for ever: nobody else can run "
    "meanwhile; await the asynchronous form instead"
)
_SLEEPS = (
    "virtual time cannot pass while a function runs: await clock.sleep() or asyncio.sleep() instead"
)
_THREADS = (
    "the timing of a real thread would not be replayable: use asyncio.to_thread or the process's "
    "threads, which the simulation runs itself at a seeded moment"
)
_SOCKETS = (
    "what a real peer answers, and when, no seed decides: use the simulated process's transport"
)
_CHILDREN = "no seed decides what it does: start a simulated process with sim.process() instead"
_LOOPS = "there is one event loop in a simulation, and it runs already: await instead"

_REFUSED: tuple[tuple[object, str, str, str], ...] = (
    (time, "sleep", "time.sleep()", _SLEEPS),
    (threading.Thread, "start", "Thread.start()", _THREADS),
    (asyncio, "new_event_loop", "asyncio.new_event_loop()", _LOOPS),
    (asyncio.events, "new_event_loop", "asyncio.new_event_loop()", _LOOPS),
    (subprocess.Popen, "__init__", "a subprocess", _CHILDREN),
    (socket.socket, "connect", "socket.connect()", _SOCKETS),
    (socket.socket, "connect_ex", "socket.connect_ex()", _SOCKETS),
    (socket.socket, "bind", "socket.bind()", _SOCKETS),
)


class Isolation:
    """A context manager, entered for each stretch of time in which the loop runs.

    Args:
        loop: The loop of the simulation; what libraries measure durations with shows its time.
        host_time: The clocks of the host whose code runs; what ``time.time()`` shows.
    """

    def __init__(self, loop: SimLoop, host_time: Callable[[], HostTime]) -> None:
        self._loop = loop
        self._host_time = host_time
        self._entropy = random.Random(f"{loop.seed}/libraries")
        # What the functions of module `random` draw from, from one stretch to the next.
        self._random_state = random.Random(f"{loop.seed}/random").getstate()
        self._undo: list[Callable[[], None]] = []
        self._outer_random_state: Any = None
        self._collecting = False
        self._froze = False
        self._thread = 0

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._outer_random_state = random.getstate()
        random.setstate(self._random_state)
        # When the collector runs depends on every allocation of this process so far. The loop runs
        # it at fixed steps instead; what is older than the simulation is kept out of its sight,
        # which also makes it quick.
        self._collecting = gc.isenabled()
        gc.disable()
        self._froze = gc.get_freeze_count() < _FROZEN_BY_PYTHON_MAX
        if self._froze:
            gc.freeze()
        self._patch()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._undo:
            self._undo.pop()()
        if self._froze:
            gc.unfreeze()
        if self._collecting:
            gc.enable()
        self._random_state = random.getstate()
        random.setstate(self._outer_random_state)

    def _patch(self) -> None:
        loop, host_time = self._loop, self._host_time
        for name, virtual in (
            ("time", lambda: host_time().time()),
            ("time_ns", lambda: int(host_time().time() * 1e9)),
            ("monotonic", loop.time),
            ("monotonic_ns", lambda: int(loop.time() * 1e9)),
            ("perf_counter", loop.time),
            ("perf_counter_ns", lambda: int(loop.time() * 1e9)),
        ):
            self._replace(time, name, virtual)
        self._replace(os, "urandom", self._entropy.randbytes)
        self._replace(random, "_urandom", self._entropy.randbytes)  # of SystemRandom and `secrets`
        for owner, name, what, why in _REFUSED:
            self._replace(owner, name, self._refusal(what, why))
        self._replace(threading.Condition, "wait", self._refused_wait(threading.Condition.wait))
        self._replace(random.Random, "seed", self._seeded(random.Random.seed))
        self._replace(asyncio, "as_completed", self._ordered(asyncio.as_completed))
        self._undo.append(functools.partial(setattr, os, "environ", os.environ))
        setattr(os, "environ", SimEnviron(os.environ))  # noqa: B010 - of another class than declared
        # Some libraries make tasks without asking the loop (aiohttp, for eager starts).
        self._undo.append(functools.partial(setattr, asyncio, "Task", asyncio.Task))
        asyncio.Task = SimTask

    def _replace(self, owner: object, name: str, virtual: Callable[..., Any]) -> None:
        original: Callable[..., Any] = getattr(owner, name)
        thread, get_ident = self._thread, threading.get_ident

        def chosen(*args: Any, **kwargs: Any) -> Any:
            if get_ident() == thread:
                return virtual(*args, **kwargs)
            return original(*args, **kwargs)

        inherited = name not in vars(owner)
        undo = delattr if inherited else functools.partial(_put_back, original)
        self._undo.append(functools.partial(undo, owner, name))
        setattr(owner, name, chosen)

    @staticmethod
    def _refusal(what: str, why: str) -> Callable[..., Any]:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise SimUnsupported(f"{what} in a simulation: {why}")

        return refuse

    @staticmethod
    def _refused_wait(wait: Callable[..., bool]) -> Callable[..., bool]:
        def refuse(self: threading.Condition, timeout: float | None = None) -> bool:
            if timeout is not None and timeout <= 0:  # asks, does not wait
                return wait(self, timeout)
            raise SimUnsupported(f"waiting for another thread in a simulation: {_BLOCKS}")

        return refuse

    @staticmethod
    def _ordered(as_completed: Callable[..., Any]) -> Callable[..., Any]:
        def start_in_order(fs: Any, **kwargs: Any) -> Any:
            # The original makes a set of the coroutines and starts them in the order of that.
            if not asyncio.iscoroutine(fs) and not asyncio.isfuture(fs):
                fs = [asyncio.ensure_future(each) for each in dict.fromkeys(fs)]
            return as_completed(fs, **kwargs)

        return start_in_order

    def _seeded(self, seed: Callable[..., None]) -> Callable[..., None]:
        def seed_by_simulation(self_: random.Random, a: Any = None, version: int = 2) -> None:
            seed(self_, self._entropy.getrandbits(64) if a is None else a, version)

        return seed_by_simulation


def _put_back(original: object, owner: object, name: str) -> None:
    setattr(owner, name, original)


__all__ = ["Isolation"]
