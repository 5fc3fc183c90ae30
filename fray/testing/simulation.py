"""A simulation: a world that runs, on one thread, in virtual time, from one seed.

`Simulation` is what a test holds in its hands: the `World` with its hosts, processes and faults,
and the means to run the test's own coroutines in it, to know what failed behind the test's back,
and to tell afterwards what happened. A failure is replayed by its seed.

This is the composition root of `fray.testing`; it knows all of its parts and nothing of pytest.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from fray.testing.errors import SimBackgroundError
from fray.testing.isolation import Isolation
from fray.testing.loop import SimLoop
from fray.testing.scheduler import Limits
from fray.testing.trace import LINES_MAX
from fray.testing.world import World

if TYPE_CHECKING:
    from types import TracebackType

_T = TypeVar("_T")

TRACE_LINES_TOLD = 15
"""So many of the latest lines of the trace are in the report of a failure."""

CLOSE_TIME_S = 3600.0
"""How much virtual time the test's own tasks get to be cancelled at the end."""

_CLOSE_TRIES = 100


class Options(Limits, total=False):
    """The keyword arguments of `Simulation`."""

    trace_lines_max: int


class Simulation(World):
    """A simulated world. Use it through the fixture ``sim``, or `simulate`.

    Args:
        seed: Decides everything. Any integer.
        trace_lines_max: How many lines of the trace are kept.
        **limits: ``time_limit_s``, ``wall_limit_s`` and ``steps_per_instant_max``: when to give up;
            see `fray.testing.scheduler.Scheduler`.

    Attributes:
        seed: As given.
        errors: What the loop's exception handler was told: failures that nobody saw. They fail the
            test at its end; a test that expects them takes them out.
    """

    def __init__(
        self, seed: int = 0, *, trace_lines_max: int = LINES_MAX, **limits: Unpack[Limits]
    ) -> None:
        self.seed = seed
        self.errors: list[dict[str, Any]] = []
        loop = SimLoop(seed, **limits)
        loop.set_exception_handler(self._on_error)
        super().__init__(loop, trace_lines_max)
        self._isolation = Isolation(loop, self.current_host_time)
        self._runner = asyncio.Runner(loop_factory=lambda: loop)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Simulation seed {self.seed}, t={self.loop.time():.6f} s, {len(self.hosts)} hosts>"

    @property
    def digest(self) -> str:
        """A fingerprint of all that has happened: equal in two runs of one seed."""
        return f"{self.loop.digest:016x}{self.trace.checksum:08x}"

    # ---- running

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Runs a coroutine as part of the test. May be called again; time goes on.

        Args:
            main: A coroutine of the test's own.

        Raises:
            SimHalted: The simulation cannot go on; see `SimLoop.run_forever`.
            RuntimeError: It is running already.
        """
        __tracebackhide__ = True  # from pytest: it is what the test did that matters
        if self.loop.is_running():
            raise RuntimeError("the simulation is running: await the coroutine instead")
        with self._isolation:
            try:
                return self._runner.run(main)
            finally:
                gc.collect()  # finds the failures of tasks that nobody holds

    def check(self) -> None:
        """Raises if something failed in the background.

        Raises:
            SimBackgroundError: With the first of `errors` as its cause.
        """
        __tracebackhide__ = True
        if self.errors:
            first = self.errors[0]
            lines = [_describe_error(error) for error in self.errors]
            raise SimBackgroundError("failed in the simulation:\n" + "\n".join(lines)) from (
                first.get("exception")
            )

    def report(self) -> str:
        """What one wants to know when a test fails."""
        loop = self.loop
        head = (
            f"seed {self.seed}, virtual time {loop.time():.6f} s, {loop.steps} steps, "
            f"digest {self.digest}"
        )
        tail = [f"  {line}" for line in self.trace.tail(TRACE_LINES_TOLD)]
        errors = [f"in the background: {_describe_error(error)}" for error in self.errors]
        return "\n".join([head, *errors, self.network.snapshot(), "last events:", *tail])

    def close(self) -> None:
        """Ends the world: crashes what runs, cancels what is left of the test. Idempotent.

        Raises:
            SimulationError: A task of the test's own cannot be cancelled.
        """
        if self._closed:
            return
        if self.loop.is_running():
            raise RuntimeError("the simulation is running")
        self._closed = True
        processes = [p for host in self.hosts.values() for p in host.processes.values()]
        self.loop.kill_lanes(*(process.lane for process in processes))  # all in one go: many
        for process in processes:
            process.crash()
        self.loop.time_limit_s = self.loop.time() + CLOSE_TIME_S
        with self._isolation:
            try:
                self._runner.close()
            finally:
                self._bury()

    def _bury(self) -> None:
        """Unwinds the tasks of crashed processes, when nothing that they do matters any more.

        A coroutine cannot be thrown away without its ``finally`` blocks running. They find a closed
        loop, a dead network, and nobody who listens to what they raise.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in self.loop.graveyard:
                coro = task.get_coro()
                context = (task.lane or self.loop.main_lane).context.copy()
                if inspect.iscoroutine(coro):
                    _unwind(lambda coro=coro, context=context: context.run(coro.close))
            self.loop.graveyard.clear()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context)
        self.note(f"error: {_describe_error(context)}")


def simulate(
    seed: int, main: Callable[[Simulation], Coroutine[Any, Any, _T]], **options: Unpack[Options]
) -> _T:
    """Runs a simulation to its end, without pytest: for hypothesis, benchmarks and scripts.

    Args:
        seed: Decides everything.
        main: The coroutine function of the test; given the `Simulation`.
        **options: For `Simulation`.

    Returns:
        What `main` returned.

    Raises:
        SimBackgroundError: Something failed that nobody awaited.
        BaseException: What `main` raised, with a note that says how to replay it.
    """
    with Simulation(seed, **options) as sim:
        try:
            value = sim.run(main(sim))
            sim.check()
        except Exception as exc:
            exc.add_note(sim.report())
            raise
        return value


def _describe_error(context: dict[str, Any]) -> str:
    exc = cast("BaseException | None", context.get("exception"))
    cause = f" ({type(exc).__name__}: {exc})" if exc is not None else ""
    return f"{context.get('message')}{cause}"


def _unwind(close: Callable[[], object]) -> None:
    for _ in range(_CLOSE_TRIES):
        try:
            close()
        except RuntimeError:
            continue  # it awaits in a `finally` block; closing it again goes on from there
        except Exception:
            return  # its `finally` block raised, and with that it has ended
        return


__all__ = ["Simulation", "simulate"]
