"""One running fray process: the composition root.

It puts the seams (clock, transport, threads) and the parts (peers, cells) together, and is the one
door between the loop and other threads. It is an object, not a global: several can live in one
operating-system process, as they do in tests, in the local cluster and in the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from fray.errors import (
    ActorUnavailable,
    BlockingCallError,
    ClusterClosed,
    DeathCause,
    DeathKind,
    Started,
)
from fray.ids import ProcessId
from fray.runtime.activity import RUNTIME
from fray.runtime.blocking import check_stopped, wait
from fray.runtime.builtin import Builtin
from fray.runtime.calls import Invocation, OutgoingCall
from fray.runtime.cell import Cell, CellOptions
from fray.runtime.cycles import Cycles
from fray.runtime.hello import RESUME, Hello
from fray.runtime.peers import Peers
from fray.runtime.tasks import Scope
from fray.version import __version__

if TYPE_CHECKING:
    from fray.errors import CallError
    from fray.runtime.clock import Clock
    from fray.runtime.cycles import Probe
    from fray.runtime.payload import Payload
    from fray.runtime.threads import Threads
    from fray.runtime.transport import Listener, Transport

T = TypeVar("T")


class Process:
    """One fray process. Made, started and closed on one event loop.

    Args:
        clock: Time, randomness, identifiers.
        transport: Opens links. Closed with the process.
        threads: Where plain methods run. Closed with the process.
        host: Address to bind.
        port: Port to bind; 0 for any.
        advertise_host: What others dial; by default the bound address.
        label: For people.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        transport: Transport,
        threads: Threads,
        host: str = "127.0.0.1",
        port: int = 0,
        advertise_host: str | None = None,
        label: str = "process",
    ) -> None:
        self.clock = clock
        self.threads = threads
        self.label = label
        self.process_id = ProcessId(f"p-{clock.token(8)}")
        self.boot_id = clock.token(8)
        self.address = ""
        self.cells: dict[str, Cell] = {}
        self.scope = Scope(label)
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._pid = os.getpid()
        self._transport = transport
        self._bind = (host, port)
        self._advertise_host = advertise_host
        self._listener: Listener | None = None
        # Each entry is a list of one, or of none once somebody has taken what was in it.
        self._posted: deque[list[tuple[Callable[..., object], tuple[Any, ...]]]] = deque()
        self._post_armed = False
        self._call_keys = 0
        self._closed = False
        self._takes_posts = True
        self.cycles = Cycles(self.process_id, clock=clock, cells=self.cells, scope=self.scope)
        self.builtin = Builtin(self.cells, self.cycles)
        self.peers = Peers(
            self.hello,
            clock=clock,
            transport=transport,
            cells=self.cells,
            builtin=self.builtin,
            scope=self.scope,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Process {self.label} {self.process_id} at {self.address} {state}>"

    def hello(self) -> Hello:
        """What this process says of itself to a peer."""
        return Hello(
            process_id=self.process_id,
            boot_id=self.boot_id,
            address=self.address,
            python_version=platform.python_version(),
            fray_version=__version__,
            features=(RESUME,),
        )

    # ---- life

    async def start(self) -> None:
        """Opens the door.

        Raises:
            OSError: The address cannot be bound.
        """
        self._listener = await self._transport.listen(*self._bind, self.peers.accept)
        self.address = self._listener.address
        if self._advertise_host is not None:
            port = self.address.rpartition(":")[2]
            self.address = f"{self._advertise_host}:{port}"

    async def listen(self, host: str, port: int) -> str:
        """Opens one more door, which is closed with the process.

        Args:
            host: Address to bind.
            port: Port to bind.

        Returns:
            Its address (``host:port``).

        Raises:
            OSError: The address cannot be bound.
        """
        listener = await self._transport.listen(host, port, self.peers.accept)
        return listener.address

    async def close(self, grace_s: float = 0.0) -> None:
        """Ends all actors, connections and tasks of this process.

        Args:
            grace_s: How long the actors' present calls may take, in seconds.
        """
        if self._closed:
            return
        cause = DeathCause(DeathKind.STOPPED, "its process is shutting down")
        if grace_s > 0 and self.cells:
            stops = [
                self.scope.spawn(cell.stop(cause, grace_s=grace_s), name=f"stop {cell.label}")
                for cell in reversed(list(self.cells.values()))
            ]
            await asyncio.wait(stops)
        self._closed = True
        if self._listener is not None:
            await self._listener.close()
        for cell in reversed(list(self.cells.values())):
            cell.kill(cause)
        self.peers.close("the process is shutting down")
        await self.scope.close()
        await self._transport.close()
        self.threads.close()
        self._takes_posts = False
        self._run_posted()  # the loop may end before it would come to it

    async def __aenter__(self) -> Process:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # ---- actors

    def host(
        self,
        target: str,
        *,
        label: str,
        options: CellOptions | None = None,
        context: Context | None = None,
    ) -> Cell:
        """Makes room for an actor. Calls may come in at once and wait; `Cell.start` begins it.

        Args:
            target: What frames address it by; unique in this process.
            label: Its name, for people.
            options: How it is run.
            context: Context variables that its methods see.

        Raises:
            ValueError: The target exists.
        """
        if target in self.cells:
            raise ValueError(f"{target} is already hosted here")
        cell = Cell(
            target,
            label=label,
            clock=self.clock,
            threads=self.threads,
            options=options,
            context=context,
        )
        self.cells[target] = cell
        cell.stopped.add_done_callback(lambda _: self.cells.pop(target, None))
        return cell

    def send(self, process_id: str, address: str, target: str, call: OutgoingCall) -> None:
        """Sends a call to an actor, here or elsewhere. On the loop only.

        Args:
            process_id: Which process; empty for whoever answers at the address.
            address: ``host:port`` of that process.
            target: Which actor there.
            call: The call; its sink is told the outcome in any case.
        """
        if process_id == self.process_id or (not process_id and address == self.address):
            _LocalCall(self, target, call).begin()
        else:
            self.peers.send(process_id, address, target, call)

    def new_call_key(self) -> bytes:
        """An id for a call that may be repeated; never given twice, by any process."""
        self._call_keys += 1
        return f"{self.process_id}/{self._call_keys}".encode()

    # ---- other threads

    @property
    def on_loop(self) -> bool:
        """Whether the caller runs on this process's loop."""
        return threading.get_ident() == self._thread

    @property
    def closed(self) -> bool:
        """Whether it has been closed, or is being: nothing begins here any more."""
        return self._closed

    @property
    def is_here(self) -> bool:
        """Whether this is the operating-system process that made it, not a fork of that.

        A fork has the memory of its parent and not its threads: nothing runs the loop, and what is
        written to a socket there goes out in the parent's name.
        """
        return os.getpid() == self._pid

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """Runs a function on the loop: at once if this is its thread, else soon, in order.

        Calls posted by one thread before the loop wakes up cost one wake-up together.

        Args:
            fn: What to run; it must not raise.
            *args: Its arguments.

        Raises:
            ClusterClosed: The process was closed, or this is a fork of it: the function does not
                run.
        """
        if not self.is_here:
            raise ClusterClosed(
                f"{self.label} belongs to the process that this one was forked from"
            )
        if threading.get_ident() == self._thread:
            fn(*args)
            return
        entry = [(fn, args)]
        self._posted.append(entry)
        if not self._post_armed:
            self._post_armed = True
            try:
                self.loop.call_soon_threadsafe(self._run_posted)
            except RuntimeError:  # the loop has ended
                self._takes_posts = self._post_armed = False
        if not self._takes_posts:  # `close` says so and then runs what is there: or takes it not
            with contextlib.suppress(IndexError):
                entry.pop()
                raise ClusterClosed(f"{self.label} has shut down")

    def _run_posted(self) -> None:
        self._post_armed = False
        while self._posted:
            entry = self._posted.popleft()
            try:
                fn, args = entry.pop()
            except IndexError:  # its poster was told that it does not run
                continue
            try:
                fn(*args)
            except Exception as exc:  # a bug; what was posted after it must run all the same
                self.loop.call_exception_handler(
                    {"message": f"what was posted to {self.label} failed", "exception": exc}
                )

    def watch_waits(self) -> None:
        """A method begins to wait for a call: sees to it that cycles are found. Any thread."""
        if not self.cycles.active:
            with contextlib.suppress(ClusterClosed):  # then the wait ends, too
                self.post(self.cycles.watch)

    def run(
        self, make: Callable[[], Coroutine[Any, Any, T]], *, timeout_s: float | None = None
    ) -> T:
        """Runs a coroutine on the loop and blocks this thread until it is done: the portal.

        Args:
            make: Makes the coroutine; called on the loop.
            timeout_s: Seconds; then the coroutine is cancelled. None for no limit.

        Raises:
            BlockingCallError: This is the loop's own thread.
            ClusterClosed: The process was closed, or is being closed.
            TimeoutError: The time is up.
        """
        if self.on_loop:
            raise BlockingCallError(
                "a blocking call on the event loop's thread would stop everything on it; await the "
                "asynchronous form instead (await handle.method.remote(...))"
            )
        check_stopped()
        context = copy_context()  # this thread's, not that of whoever woke the loop first
        finished = threading.Event()
        outcome: list[T] = []
        failure: list[BaseException] = []
        task: list[asyncio.Task[None]] = []

        async def work() -> None:
            try:
                outcome.append(await make())
            except BaseException as exc:
                failure.append(exc)
                if isinstance(exc, asyncio.CancelledError):
                    raise

        def begin() -> None:
            if self._closed:
                failure.append(ClusterClosed(f"{self.label} has shut down"))
                finished.set()
            else:
                task.append(self.scope.spawn(work(), name="portal", context=context))
                task[0].add_done_callback(lambda _: finished.set())  # also if it never began

        self.post(begin)
        try:
            if not wait(finished, timeout_s):
                raise TimeoutError(f"not done within {timeout_s} s")
        except BaseException:  # the time is up, Ctrl-C, a stopped job: nobody waits any more
            with contextlib.suppress(ClusterClosed):  # which has cancelled it
                self.post(lambda: [t.cancel() for t in task])
            raise
        if outcome:
            return outcome[0]
        if not failure or isinstance(failure[0], asyncio.CancelledError):
            raise ClusterClosed(f"{self.label} has shut down")
        raise failure[0]


class _LocalCall:
    """A call within one process: both its `Carrier` and its `ReplyTo`."""

    __slots__ = ("_call", "_invocation", "_process", "_target")

    def __init__(self, process: Process, target: str, call: OutgoingCall) -> None:
        self._process = process
        self._target = target
        self._call = call
        self._invocation: Invocation | None = None

    def begin(self) -> None:
        call = self._call
        cell = self._process.cells.get(self._target)
        if cell is None and self._target == RUNTIME:
            call.carrier, call.sent = self, True
            self._invocation = Invocation(0, call.method, call.payload, self)
            self._process.builtin.answer(self, self._invocation)
            return
        if cell is None:
            call.done = True
            call.sink.on_failure(
                ActorUnavailable(
                    f"this process hosts no actor {self._target}: it has stopped or restarted",
                    started=Started.NO,
                )
            )
            return
        call.carrier = self
        call.target = self._target
        call.sent = True
        self._invocation = Invocation(
            0,
            call.method,
            call.payload,
            self,
            deadline=call.deadline,
            owns_payload=not call.repeatable,
            context=call.context,
        )
        self._invocation.target = self._target
        cell.submit(self._invocation)

    # ---- Carrier

    def cancel(self, call: OutgoingCall) -> None:
        cell = self._process.cells.get(self._target)
        call.done = True
        if cell is not None and self._invocation is not None:
            self._invocation.is_late = call.is_late
            cell.cancel(self._invocation)

    def grant(self, call: OutgoingCall, items: int, nbytes: int) -> None:
        if self._invocation is not None:
            self._invocation.grant(items, nbytes)

    def probe(self, call: OutgoingCall, probe: Probe) -> None:
        if self._invocation is not None:  # not at once: a cycle within a process would recurse
            self._process.loop.call_soon(self._process.cycles.probed, self._invocation, probe)

    def break_cycle(self, call: OutgoingCall, chain: str) -> None:
        if self._invocation is not None:
            self._process.loop.call_soon(self._process.builtin.break_cycle, self._invocation, chain)

    # ---- ReplyTo

    def served(self, call_id: int) -> Invocation | None:
        return None  # calls within a process have no numbers

    def result(self, invocation: Invocation, payload: Payload) -> None:
        if self._ends():
            self._call.sink.on_result(payload)

    def error(self, invocation: Invocation, payload: Payload) -> None:
        if self._ends():
            self._call.sink.on_error(payload)

    def failure(self, invocation: Invocation, exc: CallError) -> None:
        if self._ends():
            self._call.sink.on_failure(exc)

    def item(self, invocation: Invocation, payload: Payload) -> None:
        if not self._call.done:
            self._call.sink.on_item(payload)

    def end(self, invocation: Invocation) -> None:
        if self._ends():
            self._call.sink.on_end()

    def _ends(self) -> bool:
        """It has its outcome; whether anybody wants to know.

        What points back is cut: large arguments must not wait for the garbage collector.
        """
        call = self._call
        wanted, call.done = not call.done, True
        call.carrier = self._invocation = None
        return wanted


__all__ = ["Process"]
