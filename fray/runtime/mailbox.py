"""Which of an actor's calls starts when.

Calls start in the order in which they were submitted, and by default one runs at a time: a second
one starts when the first has ended. ``max_concurrency=N`` lets N run. A method marked
``concurrent`` starts at once, beside the others, as soon as the actor runs.

Every call that is submitted is answered exactly once: by what runs it, or with a refusal from here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from fray.errors import (
    ActorDied,
    CallCancelled,
    CallCycle,
    CallError,
    DeadlineExceeded,
    DeathCause,
    MailboxFull,
    Started,
    UnknownMethodError,
)
from fray.runtime.execution import Execution
from fray.runtime.methods import Kind, Method, no_such_method
from fray.wording import counted

if TYPE_CHECKING:
    from contextvars import Context

    from fray.runtime.calls import Invocation
    from fray.runtime.cell_options import CellOptions
    from fray.runtime.clock import Clock
    from fray.runtime.threads import Threads

LANE_AHEAD_MAX = 128
"""Plain calls handed to the thread before the first of them is done."""

NO_METHODS: Mapping[str, Method] = MappingProxyType({})


class Mailbox:
    """The calls of one actor that wait, and whose turn it is.

    Args:
        label: The actor's name, for people.
        options: How it is run.
        clock: The process's clock.
        threads: Where plain methods run.
        context: Context variables that methods see.

    Attributes:
        execution: Runs what has its turn.
        cause: Why the actor takes no calls any more; None while it does.
    """

    def __init__(
        self,
        label: str,
        options: CellOptions,
        *,
        clock: Clock,
        threads: Threads,
        context: Context,
    ) -> None:
        self.cause: DeathCause | None = None
        self.execution = Execution(
            label, options, clock=clock, threads=threads, context=context, owner=self
        )
        self._label = label
        self._options = options
        self._clock = clock
        self._methods = NO_METHODS
        self._is_open = False
        self._waiting: deque[Invocation] = deque()
        self._cancelled = 0  # how many of them nobody waits for any more
        self._turn = 0  # calls running that count against max_concurrency
        self._turn_is_plain = False  # serial actors: whether what runs is on the thread
        self._idle: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting) - self._cancelled

    # ---- life

    def open(self, methods: Mapping[str, Method]) -> None:
        """The actor runs: starts what waits.

        Args:
            methods: What can be called.
        """
        self._methods = methods
        self._is_open = True
        self._start_concurrent()
        self._pump()

    def refuse_new(self, cause: DeathCause) -> None:
        """From now on calls are refused. What waits already goes on.

        Args:
            cause: What they are told.
        """
        self.cause = cause

    async def drained(self) -> None:
        """Waits until nothing waits or runs."""
        if not (self._waiting or self.execution.running):
            return
        self._idle = asyncio.get_running_loop().create_future()
        try:
            await self._idle
        finally:
            self._idle = None

    def refuse_waiting(self, cause: DeathCause) -> None:
        """Refuses what waits.

        Args:
            cause: What it is told.
        """
        while self._waiting:
            self._waiting.popleft().fail(ActorDied(self._label, cause, started=Started.NO))
        self._cancelled = 0

    def close(self, cause: DeathCause) -> None:
        """Ends everything: refuses what waits, cancels and answers what runs.

        Args:
            cause: What they are told.
        """
        self.cause = cause
        self.refuse_waiting(cause)
        for invocation in list(self.execution.running):
            self.execution.cancel(invocation)
            self.cut_off(invocation)
        self.execution.close()
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # ---- calls

    def submit(self, invocation: Invocation) -> None:
        """Takes a call. It is answered through its ``reply_to``, possibly before this returns.

        Args:
            invocation: The call.
        """
        if self.cause is not None:
            invocation.fail(ActorDied(self._label, self.cause, started=Started.NO))
        elif self._is_concurrent(invocation) or self._comes_from_inside(invocation):
            self._begin_beside(invocation)
        elif len(self) >= self._options.mailbox_calls_max:
            invocation.fail(
                MailboxFull(
                    f"actor {self._label} already has {counted(len(self), 'call')} waiting; wait "
                    "for some of yours before you send more, or raise mailbox_calls_max"
                )
            )
        else:
            self._waiting.append(invocation)
            self._pump()

    def cancel(self, invocation: Invocation) -> None:
        """The caller has gone: drops a waiting call, cancels a running one. No answer is sent.

        Args:
            invocation: The call.
        """
        waits = not invocation.finished and invocation not in self.execution.running
        invocation.finished = True
        if waits:
            self._drop(invocation)
        elif not invocation.cancelled:  # when its time was up: cleaning up is not cancelled, too
            self.execution.cancel(invocation)

    def _drop(self, invocation: Invocation) -> None:
        # A waiting one is dropped when its turn comes: searching the mailbox would cost more. But
        # there are never more of these than others.
        invocation.cancelled = True
        invocation.payload = None
        self._cancelled += 1
        if 2 * self._cancelled > len(self._waiting):
            self._waiting = deque(each for each in self._waiting if not each.cancelled)
            self._cancelled = 0

    # ---- calls that wait for their own callers

    def holder(self, invocation: Invocation) -> Invocation | None:
        """For whose end a call waits before it can have its turn; None where it need not.

        Where several calls may have their turn, any of them may end: that is not seen as waiting.

        Args:
            invocation: The call.
        """
        running = self.execution.running
        if invocation.finished or not self._is_open or self._options.max_concurrency > 1:
            return None
        if invocation in running and (invocation.payload is None or not running[invocation]):
            return None  # it has begun
        for each, in_turn in running.items():
            if each is invocation:
                return None
            if in_turn:
                return each
        return None

    def break_cycle(self, invocation: Invocation, chain: str) -> None:
        """See `Cell.break_cycle`.

        Args:
            invocation: The call.
            chain: The cycle, for people.
        """
        if self.holder(invocation) is None:
            return  # it has its turn by now
        if self._options.reentrant:
            self._waiting.remove(invocation)
            self._begin_beside(invocation)
            return
        handed_over = invocation in self.execution.running
        if handed_over:
            self.execution.cancel(invocation)
            if invocation.payload is None:  # its thread was faster
                return
        else:
            self._drop(invocation)
        invocation.fail(
            CallCycle(
                f"{self._label}.{invocation.method} waits, through others, for its own caller:\n"
                f"{chain}\nIt was not run. Await it where nobody waits for you, or let an actor "
                "of these run it meanwhile: @fray.actor(reentrant=True)"
            )
        )

    def _comes_from_inside(self, invocation: Invocation) -> bool:
        """Whether it was called on behalf of a call that this re-entrant actor runs."""
        chain = invocation.context.chain
        if not (chain and self._options.reentrant and self._is_open):
            return False
        return any(each.context.chain[-1] in chain for each in self.execution.running)

    def _is_concurrent(self, invocation: Invocation) -> bool:
        if not self._is_open:
            return False
        method = self._methods.get(invocation.method)
        return method is not None and method.options.concurrent

    def _start_concurrent(self) -> None:
        """Starts what has waited only for the actor to run."""
        beside = [each for each in self._waiting if self._is_concurrent(each)]
        if beside:
            self._waiting = deque(each for each in self._waiting if not self._is_concurrent(each))
        for invocation in beside:
            if invocation.cancelled:
                self._cancelled -= 1
            else:
                self._begin_beside(invocation)

    def _begin_beside(self, invocation: Invocation) -> None:
        refusal = self._refusal(invocation)
        if refusal is None:
            method = self._methods[invocation.method]
            self.execution.begin(invocation, method, in_turn=False)
        else:
            invocation.fail(refusal)

    def _pump(self) -> None:
        """Starts what may start."""
        while self._waiting and self._is_open:
            invocation = self._waiting[0]
            if invocation.cancelled:
                self._waiting.popleft()
                self._cancelled -= 1
                continue
            refusal = self._refusal(invocation)
            if refusal is not None:
                self._waiting.popleft()
                invocation.fail(refusal)
                continue
            method = self._methods[invocation.method]
            if not self._has_turn(method):
                return
            self._waiting.popleft()
            self._turn += 1
            self._turn_is_plain = method.kind is Kind.SYNC
            self.execution.begin(invocation, method, in_turn=True)
        if self._idle is not None and not self.execution.running and not self._idle.done():
            self._idle.set_result(None)

    def _refusal(self, invocation: Invocation) -> CallError | None:
        if invocation.method not in self._methods:
            return UnknownMethodError(no_such_method(self._label, invocation.method, self._methods))
        if invocation.deadline is not None and self._clock.monotonic() >= invocation.deadline:
            return DeadlineExceeded(
                f"{self._label}.{invocation.method} was still waiting for its turn when its time "
                "was up",
                started=Started.NO,
            )
        payload = invocation.payload
        if payload is not None and payload.codec is not self._options.codec:
            return CallError(
                f"actor {self._label} takes {self._options.codec.name} arguments, "
                f"not {payload.codec.name}",
                started=Started.NO,
            )
        return None

    def _has_turn(self, method: Method) -> bool:
        if self._turn == 0:
            return True
        if self._options.max_concurrency > 1:
            return self._turn < self._options.max_concurrency
        if self._options.reentrant:  # what is handed over already could not run beside it
            return False
        return self._turn_is_plain and method.kind is Kind.SYNC and self._turn < LANE_AHEAD_MAX

    # ---- what runs

    @property
    def calls_wait(self) -> bool:
        """See `Owner.calls_wait`."""
        return bool(self._waiting)

    def ended(self, invocation: Invocation, *, in_turn: bool) -> None:
        """See `Owner.ended`."""
        if in_turn:
            self._turn -= 1
        if self._waiting or self._idle is not None:
            self._pump()

    def cut_off(self, invocation: Invocation) -> None:
        """See `Owner.cut_off`."""
        started = Started.NO if invocation.payload is not None else Started.UNKNOWN
        if self.cause is not None:
            invocation.fail(ActorDied(self._label, self.cause, started=started))
        else:
            invocation.fail(CallCancelled("it was cut off", started=started))


__all__ = ["LANE_AHEAD_MAX", "Mailbox"]
