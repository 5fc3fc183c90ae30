"""Virtual time and the choice of what runs next.

`Scheduler` keeps the lanes, the timers and the clock of a simulation. Time stands still while
anything is ready and then jumps to the next timer, so an hour of waiting costs nothing. Within a
`Lane` callbacks run in the order that asyncio promises; the seed picks the lane. The same seed
gives the same run, callback by callback, which `Scheduler.digest` witnesses.

It is one half of `fray.testing.loop.SimLoop`, apart because it can be read without asyncio in
mind: it knows nothing of futures, tasks or coroutines.
"""

from __future__ import annotations

import contextvars
import gc
import heapq
import random
import time
from typing import TYPE_CHECKING, TypedDict, TypeVarTuple, Unpack

from fray.testing.errors import SimDeadlock, SimHalted, SimLivelock, SimTimeLimit
from fray.testing.lanes import LANE, Lane, SimHandle, describe_callback
from fray.testing.reports import busy_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

_Ts = TypeVarTuple("_Ts")

STEPS_PER_INSTANT_MAX = 1_000_000
"""So many callbacks without the clock moving are a livelock. A busy benchmark does 100,000."""

TIME_LIMIT_S = 86_400.0
"""A simulated day. A test whose background tasks tick for ever would otherwise never end."""

WALL_LIMIT_S = 100.0
"""Real seconds. Below the usual limit of a test suite, whose way of ending a test would be lost in
whatever task happens to run at that moment."""

_real_monotonic = time.monotonic  # the module's own is replaced while a simulation runs

_CHECK_STEPS = 4096
_COLLECT_CHECKS = 16
_COLLECT_LANES = 128
"""Collecting takes the longer the more processes there are, so it is done more seldom then."""
_PURGE_MIN = 128
_DIAGNOSIS_STEPS = 1000
_DIGEST_MASK = (1 << 64) - 1


class Limits(TypedDict, total=False):
    """When to give up; see `Scheduler`."""

    steps_per_instant_max: int
    time_limit_s: float
    wall_limit_s: float


class Scheduler:
    """Lanes, timers, and one clock.

    Args:
        seed: Decides which lane runs when several could. Any integer.
        steps_per_instant_max: So many callbacks at one instant raise `SimLivelock`.
        time_limit_s: Beyond this virtual time `SimTimeLimit` is raised.
        wall_limit_s: After so many real seconds in one run of the loop `SimTimeLimit` is raised.

    Attributes:
        seed: As given.
        steps: How many callbacks have run.
        main_lane: The lane of the test itself; callbacks whose context names no lane run there.
        lanes: All lanes ever made, the main lane first.
        observer: Called before each callback with (virtual time, handle), or None. For finding
            the first step at which two runs differ.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        steps_per_instant_max: int = STEPS_PER_INSTANT_MAX,
        time_limit_s: float = TIME_LIMIT_S,
        wall_limit_s: float = WALL_LIMIT_S,
    ) -> None:
        self.seed = seed
        self.steps = 0
        self.steps_per_instant_max = steps_per_instant_max
        self.time_limit_s = time_limit_s
        self.wall_limit_s = wall_limit_s
        self.observer: Callable[[float, SimHandle], object] | None = None
        self.lanes: list[Lane] = []
        self.main_lane = self.new_lane("test")
        # String seeds go through SHA-512 and do not depend on PYTHONHASHSEED.
        self._pick = random.Random(f"{seed}/lanes").random
        self._now = 0.0
        self._hash = 0
        self._handles = 0
        self._timers: list[tuple[float, int, SimHandle]] = []
        self._timers_cancelled = 0
        self._ready: list[Lane] = []
        self._instant_step = 0
        self._checks = 0
        self._next_check = _CHECK_STEPS
        self._next_collection = _COLLECT_CHECKS
        self._wall_end_s = 0.0
        self._stopping = False
        self._halt: SimHalted | None = None

    # ---- what the other half answers

    def pending_report(self) -> str:
        """What waits, for the message of an error."""
        return ""

    def callback_failed(self, handle: SimHandle, exc: BaseException) -> None:
        """A callback raised; the loop goes on.

        Args:
            handle: The callback.
            exc: What it raised; never `SystemExit` or `KeyboardInterrupt`, which pass through.
        """
        raise exc

    # ---- what a replay must reproduce

    @property
    def digest(self) -> int:
        """A 64-bit digest of every callback that ran and when."""
        return self._hash & _DIGEST_MASK

    # ---- lanes

    def new_lane(self, name: str) -> Lane:
        """A lane for a new process.

        Args:
            name: For reports; need not be unique.
        """
        lane = Lane(name, len(self.lanes))
        self.lanes.append(lane)
        return lane

    def drop_lane(self, lane: Lane) -> None:
        """Nothing of this lane runs ever again.

        If the caller itself runs in it, it goes on until it next suspends.

        Args:
            lane: Not the main lane.
        """
        self._unlist(lane)
        lane.kill()

    def freeze_lane(self, lane: Lane) -> None:
        """Stops running a lane; what becomes ready there waits for `thaw_lane`.

        Args:
            lane: Not the main lane.
        """
        if lane.alive and not lane.frozen:
            self._unlist(lane)
            lane.frozen = lane.listed = True

    def thaw_lane(self, lane: Lane) -> None:
        """Runs a frozen lane again; all that piled up runs now.

        Args:
            lane: One given to `freeze_lane`.
        """
        if lane.frozen:
            lane.frozen = lane.listed = False
            if lane.queue:
                self._list(lane)

    def _list(self, lane: Lane) -> None:
        lane.listed = True
        self._ready.append(lane)

    def _unlist(self, lane: Lane) -> None:
        if lane in self._ready:
            self._ready.remove(lane)
        lane.listed = False

    # ---- clock and scheduling

    def time(self) -> float:
        """The virtual time: seconds since the simulation began."""
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> SimHandle:
        """See `asyncio.loop.call_soon`. First in, first out within the context's lane."""
        if context is None:
            context = contextvars.copy_context()
        lane = context.get(LANE, self.main_lane)
        self._handles = number = self._handles + 1
        handle = SimHandle(number, self._now, callback, args, self, context, lane)
        lane.queue.append(handle)
        if not lane.listed:
            lane.listed = True
            self._ready.append(lane)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> SimHandle:
        """See `asyncio.loop.call_at`. Equal times keep the order of the calls within a lane."""
        if context is None:
            context = contextvars.copy_context()
        lane = context.get(LANE, self.main_lane)
        self._handles = number = self._handles + 1
        handle = SimHandle(number, when, callback, args, self, context, lane)
        handle.timed = True
        heapq.heappush(self._timers, (when, number, handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> SimHandle:
        """See `asyncio.loop.call_later`."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def timer_cancelled(self) -> None:
        """Told by a handle that waits among the timers that it will not run."""
        self._timers_cancelled += 1
        if self._timers_cancelled > _PURGE_MIN and self._timers_cancelled * 2 > len(self._timers):
            # In place: the running loop holds a reference to this list.
            self._timers[:] = [t for t in self._timers if t[2].callback is not None]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0

    # ---- running

    def stop(self) -> None:
        """Stops after the callback that runs now."""
        self._stopping = True

    def clear(self) -> None:
        """Forgets all that is scheduled."""
        for lane in self.lanes:
            lane.queue.clear()
            lane.listed = not lane.alive
        self._ready.clear()
        self._timers.clear()
        self._timers_cancelled = 0

    def run_until_stopped(self) -> None:
        """Runs callbacks until `stop`.

        Raises:
            SimDeadlock: Nothing is ready and nothing is scheduled.
            SimLivelock: Too many callbacks ran at one instant.
            SimTimeLimit: The clock passed the limit, or real time did.
        """
        self._wall_end_s = _real_monotonic() + self.wall_limit_s
        ready, pick = self._ready, self._pick
        while not self._stopping:
            count = len(ready)
            if not count:
                self._advance()
                continue
            index = int(pick() * count) if count > 1 else 0
            lane = ready[index]
            queue = lane.queue
            handle = queue.popleft()
            if not queue:
                lane.listed = False
                last = ready.pop()
                if last is not lane:
                    ready[index] = last
            callback = handle.callback
            if callback is None:
                continue
            self.steps = steps = self.steps + 1
            self._hash = hash((self._hash, handle.number, self._now))
            if steps >= self._next_check:
                self._check_progress()
            if self.observer is not None:
                self.observer(self._now, handle)
            try:
                handle.context.run(callback, *handle.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.callback_failed(handle, exc)
        halt, self._halt = self._halt, None
        if halt is not None:
            raise halt

    def _advance(self) -> None:
        """Moves the clock to the next timer, and all timers of that instant to their lanes."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
            self._timers_cancelled -= 1
        if not timers:
            raise SimDeadlock(self._report("nothing is ready and nothing is scheduled"))
        when = timers[0][0]
        if when > self._now:
            if when > self.time_limit_s:
                raise SimTimeLimit(self._report(f"the limit of {self.time_limit_s:g} s is over"))
            self._now = when
            self._instant_step = self.steps
        now = self._now
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            handle.timed = False
            if handle.callback is None:
                self._timers_cancelled -= 1
                continue
            lane = handle.lane
            lane.queue.append(handle)
            if not lane.listed:
                self._list(lane)

    def _check_progress(self) -> None:
        self._next_check = self.steps + _CHECK_STEPS
        self._checks += 1
        if self._checks >= self._next_collection and not gc.isenabled():
            self._next_collection = self._checks + _COLLECT_CHECKS * (
                1 + len(self.lanes) // _COLLECT_LANES
            )
            # Isolation has switched the collector off: when it runs, and so when finalizers and
            # lost tasks are found, would depend on what ran before.
            gc.collect()
        if self.steps - self._instant_step > self.steps_per_instant_max:
            self._diagnose_livelock()
        elif _real_monotonic() > self._wall_end_s:
            limit = f"{self.wall_limit_s:g} s of real time are over"
            self._halt = SimTimeLimit(self._report(limit))
            self.stop()

    def _diagnose_livelock(self) -> None:
        """Watches a little longer who keeps the clock from moving, then stops the loop."""
        seen: list[str] = []

        def watch(_now: float, handle: SimHandle) -> None:
            assert handle.callback is not None
            seen.append(f"[{handle.lane.name}] {describe_callback(handle.callback)}")
            if len(seen) == _DIAGNOSIS_STEPS:
                self.observer = observer
                count = self.steps - self._instant_step
                self._halt = SimLivelock(
                    self._report(
                        f"{count} callbacks ran and time did not move; {busy_report(seen)}"
                    )
                )
                self.stop()

        observer, self.observer = self.observer, watch

    def _report(self, what: str) -> str:
        head = f"seed {self.seed}, t={self._now:.6f} s, {self.steps} steps: {what}"
        return f"{head}\n{self.pending_report()}"


__all__ = ["STEPS_PER_INSTANT_MAX", "TIME_LIMIT_S", "WALL_LIMIT_S", "Limits", "Scheduler"]
