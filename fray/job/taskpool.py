"""The pool of a `FrayContext`: carries out what `PoolState` decides, on the loop.

Each worker is an actor. Tasks go to it in batches, and all that happens there comes back over one
stream, which also tells of its death. A result that is large stays with the worker that made it;
whoever needs it fetches it from there, or from another one that has fetched it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fray.actor.resolver import SystemResolver
from fray.actor.server import FrayActorServer
from fray.errors import CallCancelled, ClusterClosed, FrayError, Started, TaskLostError
from fray.job.desk import Desk
from fray.job.flows import Flows
from fray.job.futures import tell_of
from fray.job.link import LINKS, FrayFuture, TaskSpec
from fray.job.orders import Order, PoolLimits, PoolOrder
from fray.job.parts import parts_of, payload_of
from fray.job.pool import PoolState
from fray.job.records import Flow, Record, State
from fray.job.staff import Message, Staff
from fray.job.values import Values, freed
from fray.runtime.error_envelope import decode_error
from fray.runtime.payload import Codec, Payload
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.handle import ActorHandle
    from fray.actor.system import ActorSystem

log = logging.getLogger("fray")

TICK_S = 0.05
"""How often time is looked at while there are workers."""

IDLE_TICK_S = 1.0

ROOM_S = 10.0
"""How often, while tasks wait, the cluster is asked how many workers it has room for."""

_ENDS = ("done", "held", "error", "end")
"""What a worker tells of a task that has ended."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How a pool is run.

    Attributes:
        limits: How many workers there are.
        worker: Options of the workers' actors, see `ActorOptions`.
        ttl_s: How long a value is kept after its last use, in seconds; None for as long as the
            context.
        room_cpus: There are as many workers as the cluster has so many CPUs for, within
            ``limits``; None where ``limits`` alone say it.
    """

    limits: PoolLimits
    worker: dict[str, Any]
    ttl_s: float | None = None
    room_cpus: float | None = None


class TaskPool:
    """A pool of workers. On the loop, but for its making.

    Args:
        system: Whose loop and connections it uses.
        options: How it is run.

    Attributes:
        values: Results, and values that were put.
        staff: The workers.
        flows: Generators.
        closed: Whether `aclose` has begun.
    """

    def __init__(self, system: ActorSystem, options: PoolOptions) -> None:
        self.system = system
        self.name = f"fray-pool-{system.process.clock.token(6)}"
        self._clock = system.process.clock
        self._options = options
        self._state = PoolState(options.limits)
        if options.room_cpus is not None:
            self._state.allow(1)  # until the cluster has answered
        self.values = Values(self._clock, options.ttl_s, self._state.keeps, self.decide_soon)
        self.staff = Staff(system, self.name, options.worker, self._desk_handle, self)
        self.flows = Flows(self.values, self.staff, self._state.not_again)
        self._scope = Scope(self.name)
        self._asked_back: list[asyncio.Future[None]] = []
        self._is_started = self._is_deciding = False
        self._desk: ActorHandle[Any] | None = None
        self._desk_lock = asyncio.Lock()
        self._server: FrayActorServer | None = None
        self.closed = False

    def __repr__(self) -> str:
        return f"<TaskPool {self.name} {self._state!r}>"

    @property
    def workers(self) -> int:
        """Workers that there are, or that were asked for."""
        return self._state.workers

    # ---- tasks, on the loop

    def watch(self, number: int, known: weakref.ref[FrayFuture]) -> None:
        """Settles a future of a task that is somebody else's.

        Args:
            number: Which task.
            known: The future.
        """

        async def end() -> None:
            try:
                record = await self.values.ended(number)
            except FrayError as exc:
                if (future := known()) is not None:
                    future.fail(exc)
            else:
                _settle(known(), record)

        self._scope.spawn(end(), name="watch")

    def start(self) -> None:
        """Begins to look at the time, and to ask for workers. May be called again."""
        if not self._is_started and not self.closed:
            self._is_started = True
            self._scope.spawn(self._tick(), name="tick")
            if self._options.room_cpus is not None:
                self._scope.spawn(self._watch_room(self._options.room_cpus), name="room")
            self.decide_soon()

    def admit(self, spec: TaskSpec, future: weakref.ref[Any] | None = None) -> Record:
        """A task is to be run.

        Args:
            spec: The task.
            future: Of whoever wants it in the driver; None where a task wants it.
        """
        record = Record(spec.task, spec.label, spec)
        self.values.add_task(record)
        if spec.streams:
            record.flow = Flow(future)
        else:
            record.future = future
        if self.closed:
            self._fail(record, ClusterClosed(f"this context was shut down: {spec.label}"))
            return record
        self.start()
        if any(number not in self.values for number in spec.uses):
            self._fail(record, freed(f"an argument of {spec.label}"))
            return record
        for argument in self._pin(record, spec):
            argument.lasting |= argument.number == spec.function_ref
            self.values.touch(argument)
            if argument.state is State.PENDING:
                argument.dependents.append(spec.task)
                record.unready += 1
        if record.unready == 0:
            self._ready(record)
        return record

    def _pin(self, record: Record, spec: TaskSpec) -> list[Record]:
        """Keeps the arguments of a task until it has ended; gives those that there are."""
        record.pinned = True
        found = [each for number in spec.uses if (each := self.values.get(number)) is not None]
        for argument in found:
            argument.users += 1
        return found

    def _ready(self, record: Record) -> None:
        spec = record.spec
        assert spec is not None
        for number in spec.uses:
            argument = self.values.get(number)
            if argument is None or argument.state is State.FAILED:
                error = argument.error if argument is not None else None
                self._fail(record, error or freed(f"an argument of {spec.label}"))
                return
        self._state.submit(spec.task, spec.kind, spec.retries, losses=record.losses)
        self.decide_soon()

    def _end(self, record: Record) -> None:
        """A task has its outcome: whoever waits for it is told."""
        if record.pinned and record.spec is not None:
            record.pinned = False
            for number in record.spec.uses:
                argument = self.values.get(number)
                if argument is not None:
                    argument.users -= 1
                    self.values.touch(argument)
                    self.values.free_if_unused(argument)
        if record.spec is not None and record.state is not State.HELD:
            record.spec.arguments = Payload(b"")  # it will not run again
        record.wake()
        if record.future is not None:
            _settle(record.future(), record)
        self.flows.ended(record)
        dependents, record.dependents = record.dependents, []
        for number in dependents:
            dependent = self.values.get(number)
            if dependent is not None and dependent.state is State.PENDING:
                dependent.unready -= 1
                if dependent.unready == 0:
                    self._ready(dependent)
        self.values.touch(record)
        self.values.free_if_unused(record)

    def _succeed(self, record: Record, payload: Payload) -> None:
        record.state, record.payload = State.INLINE, payload
        self._end(record)

    def _fail(self, record: Record, error: BaseException) -> None:
        record.state, record.error = State.FAILED, error
        closed = record.flow is not None and record.flow.closed
        if record.unwanted and not record.kept and not closed:
            tell_of(record.label, error)
        self._end(record)

    async def cancel(self, number: int) -> bool:
        """See `Link.cancel`."""
        record = self.values.get(number)
        if record is None or record.state is not State.PENDING:
            return False
        if not self._cancel(record):
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._asked_back.append(answer)
            self._carry_out()
            await answer
        return isinstance(record.error, CallCancelled)

    def _cancel(self, record: Record) -> bool:
        """Cancels a task that no worker has. One that a worker has is asked back."""
        if not record.unready and not self._state.cancel(record.number):
            return False
        record.unready = 0
        self._cancelled([record.number])
        return True

    def _cancelled(self, numbers: list[int]) -> None:
        for number in numbers:
            record = self.values.get(number)
            if record is not None:
                told = f"task {record.label} was cancelled before it had begun"
                self._fail(record, CallCancelled(told, started=Started.NO))

    def cancel_waiting(self) -> None:
        """Keeps every task from running that has not begun."""
        for record in self.values.pending():
            if record.state is State.PENDING:  # not failed with one before it
                self._cancel(record)
        self._carry_out()

    def close_flow(self, number: int) -> None:
        """Nobody takes items of a generator any more.

        Args:
            number: Which task.
        """
        record = self.values.get(number)
        if record is not None and self.flows.close(record):
            self._cancel(record)
            self._carry_out()

    # ---- decisions, on the loop

    def decide_soon(self) -> None:
        """Something has changed: decides when all that is known now was told."""
        if not self._is_deciding:
            self._is_deciding = True
            self.system.process.loop.call_soon(self._decide)

    def _decide(self) -> None:
        self._is_deciding = False
        if self.closed:
            return
        self._state.decide(self._clock.monotonic())
        self._carry_out()
        for worker, numbers in self.values.take_unwanted().items():
            self.staff.forget(worker, numbers)

    def _carry_out(self) -> None:
        for order in self._state.take_orders():
            if order.order is Order.START:
                self.staff.employ(order.worker)
            elif order.order is Order.SEND:
                self._send(order.worker, order.tasks)
            elif order.order is Order.RECALL:
                self.staff.recall(order.worker, order.tasks)
            elif order.order is Order.STOP:
                self.staff.dismiss(order.worker)
            else:
                self._give_up(order)

    def _send(self, worker: int, tasks: tuple[int, ...]) -> None:
        batch: list[tuple[TaskSpec, dict[int | str, Any]]] = []
        for number in tasks:
            record = self.values.get(number)
            assert record is not None
            assert record.spec is not None
            inline: dict[int | str, Any] = {}
            for place, ref in record.spec.refs.items():
                argument = self.values.get(ref)
                if argument is not None and argument.payload is not None:
                    inline[place] = parts_of(argument.payload)
            batch.append((record.spec, inline))
        self.staff.send(worker, batch)

    def _give_up(self, order: PoolOrder) -> None:
        for number in order.tasks:
            record = self.values.get(number)
            if record is None:
                continue
            if order.worker == 0:
                told = f"task {record.label} was not run: no worker could be had: {order.reason}"
                self._fail(record, TaskLostError(told, started=Started.NO))
                continue
            tries = 1 + (record.spec.retries if record.spec is not None else 0)
            again = (
                "some of its items were given, so it is not run again"
                if record.flow is not None and record.flow.begun
                else f"it was tried {tries} {'time' if tries == 1 else 'times'}"
            )
            told = (
                f"task {record.label} was lost with its worker: {order.reason}. It may have run in "
                f"part; {again}"
            )
            self._fail(record, TaskLostError(told))

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_S if self._state.workers else IDLE_TICK_S)
            now = self._clock.monotonic()
            self.values.expire(now)
            self._state.tick(now)
            self._state.decide(now)
            self._carry_out()

    async def _watch_room(self, cpus: float) -> None:
        """Has as many workers as the cluster has CPUs for: it may grow, and shrink."""
        while True:
            try:
                room = int(await self.system.directory.cpus() / cpus)
            except FrayError as exc:  # the controller is away; it is asked again
                log.debug("%s does not know how many CPUs there are: %s", self.name, exc)
            else:
                self._state.allow(min(room, self._options.limits.workers_max))
                self.decide_soon()
            await self._clock.sleep(ROOM_S)
            while not self._state.waiting:
                await self._clock.sleep(IDLE_TICK_S)

    # ---- what becomes of workers; see `Boss`

    def worker_started(self, worker: int) -> None:
        """See `Boss.worker_started`."""
        self._state.started(worker, self._clock.monotonic())
        self.decide_soon()

    def worker_told(self, worker: int, batch: list[Message]) -> None:
        """See `Boss.worker_told`."""
        ended: list[tuple[int, float]] = []
        waiting: int | None = None
        for kind, *told in batch:
            if kind == "waiting":
                waiting = told[0]
            elif kind == "item":
                self.flows.item(worker, told[0], payload_of((told[1], told[2])))
            elif kind == "back":
                self._cancelled(self._state.returned(worker, told[0], told[1]))
                self._answer()
            else:
                ended.append((told[0], told[-1]))
        self._state.heard(worker, ended, waiting, self._clock.monotonic())
        for kind, *told in batch:
            record = self.values.get(told[0]) if kind in _ENDS else None
            if record is not None and record.state is State.PENDING:
                self._task_ended(worker, record, kind, told)
        self.decide_soon()

    def _task_ended(self, worker: int, record: Record, kind: str, told: list[Any]) -> None:
        if kind == "done":
            self._succeed(record, payload_of((told[1], told[2])))
        elif kind == "end":
            self._succeed(record, Payload(b""))
        elif kind == "error":
            payload = Payload(told[1], codec=Codec.JSON)
            self._fail(record, decode_error(payload, actor=record.label, unpickle=True))
        else:
            self.values.hold(record, worker, told[1])
            self._end(record)

    def worker_lost(self, worker: int, reason: str, hopeless: bool) -> None:
        """See `Boss.worker_lost`."""
        now = self._clock.monotonic()
        self._cancelled(self._state.lost(worker, reason, now, hopeless=hopeless))
        self._answer()
        for record in self.values.lose(worker):
            self._lost_value(record, reason)
        self.values.drop(self.values.asked_for_by(worker))  # their futures are gone with it
        self._carry_out()
        self.decide_soon()

    def _answer(self) -> None:
        """Whoever wanted a task cancelled looks whether it was."""
        answers, self._asked_back = self._asked_back, []
        for answer in answers:
            if not answer.done():
                answer.set_result(None)

    def _lost_value(self, record: Record, reason: str) -> None:
        """The only worker with a result is gone: the task is run again, if it may be."""
        spec = record.spec
        record.losses += 1
        what = f"the result of {record.label} was lost with its worker: {reason}"
        if record.unwanted and record.is_unused:
            self.values.free([record.number])
        elif spec is None:
            self._fail(record, TaskLostError(f"{what}. It was put by a task; put it again"))
        elif record.losses > spec.retries:
            self._fail(record, TaskLostError(f"{what}. Its task has no tries left"))
        elif any(number not in self.values for number in spec.uses):
            told = f"{what}. An argument of its task was freed: run both again"
            self._fail(record, TaskLostError(told))
        else:
            record.state = State.PENDING
            self._pin(record, spec)  # as when it ran first: their futures may go meanwhile
            self._ready(record)

    # ---- its actor, and its end

    async def _desk_handle(self) -> ActorHandle[Any]:
        async with self._desk_lock:
            if self._desk is None:
                resolver = SystemResolver(self.system)
                self._server = FrayActorServer(resolver)
                await self._server.register_async(self.name, Desk(self))
                self._desk = await resolver.lookup_async(self.name)
            return self._desk

    async def aclose(self) -> None:
        """Ends the workers; what has not ended fails, and all values are freed. On the loop."""
        if self.closed:
            return
        self.closed = True
        LINKS.pop(self.name, None)
        for record in self.values.pending():
            told = f"task {record.label} has no result: its context was shut down"
            if record.state is State.PENDING:  # not failed with one before it
                self._fail(record, ClusterClosed(told))
        self.values.clear()
        await self.staff.close()
        await self._scope.close()
        if self._server is not None:
            with contextlib.suppress(FrayError):
                await self._server.unregister_async(self.name, grace_s=0.0)


def _settle(future: FrayFuture | None, record: Record) -> None:
    if future is None:
        return
    if record.error is not None:
        future.fail(record.error)
    elif record.payload is not None:
        future.succeed(record.payload)
    else:
        future.hold()


__all__ = ["PoolOptions", "TaskPool"]
