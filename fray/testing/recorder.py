"""Writes down every call and every run of it, unseen by callers and actors.

While a `Recorder` is installed each call through a handle carries one more keyword argument, its
number, which is taken out again before the method sees its arguments. So a call is known wherever
it arrives, whatever connections, repeats and processes lie between, and nothing in fray itself
knows that it is watched.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fray.actor.future import ActorFuture
from fray.actor.handle import ActorMethod
from fray.errors import FrayError
from fray.runtime.calls import CURRENT_INVOCATION
from fray.runtime.codecs import PickleArguments
from fray.runtime.execution import Execution
from fray.runtime.methods import Kind
from fray.testing.history import CallRecord, History, Outcome, RunRecord
from fray.testing.lanes import LANE

if TYPE_CHECKING:
    from fray.runtime.calls import Invocation
    from fray.runtime.payload import Payload
    from fray.testing.lanes import Lane
    from fray.testing.loop import SimLoop

TAG = "fray_testing_call"
"""The keyword argument that a call carries its number in."""


class Recorder:
    """A context manager; one at a time in an interpreter.

    Args:
        loop: The simulation's.

    Attributes:
        history: What it writes.
    """

    def __init__(self, loop: SimLoop) -> None:
        self.history = History()
        self._loop = loop
        self._futures: WeakKeyDictionary[ActorFuture[Any], CallRecord] = WeakKeyDictionary()
        self._callers: dict[int, Lane] = {}  # by the number of the call, while it is pending
        self._begun: dict[Invocation, tuple[bool, bool]] = {}  # their arguments not yet read
        self._runs: dict[Invocation, RunRecord] = {}
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> History:
        self._replace(ActorMethod, "remote", self._remote)
        for name in ("on_item", "on_result", "on_error", "on_end", "_settle"):
            self._replace(ActorFuture, name, getattr(self, f"_{name.lstrip('_')}"))
        for name in ("begin", "_answer", "_ended", "_next_async", "_next_plain"):
            self._replace(Execution, name, getattr(self, f"_run_{name.lstrip('_')}"))
        self._replace(PickleArguments, "decode", self._decode)
        return self.history

    def __exit__(self, *exc_info: object) -> None:
        self.look_at_callers()
        while self._undo:
            self._undo.pop()()

    def look_at_callers(self) -> None:
        """Notes which callers are no more."""
        for number, lane in list(self._callers.items()):
            if not lane.alive:
                self.history.calls[number].caller_lives = False
                del self._callers[number]

    def _replace(self, owner: type, name: str, around: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        def wrapped(this: Any, *args: Any, **kwargs: Any) -> Any:
            return around(original, this, *args, **kwargs)

        setattr(owner, name, wrapped)
        self._undo.append(lambda: setattr(owner, name, original))

    # ---- the caller

    def _remote(self, original: Any, method: Any, *args: Any, **kwargs: Any) -> Any:
        handle = method._handle
        try:
            route = handle.route
        except FrayError:  # the call itself says it better
            return original(method, *args, **kwargs)
        if not route.unpickles:  # of the control plane: those arguments are typed
            return original(method, *args, **kwargs)
        lane = LANE.get(self._loop.main_lane)
        calls = self.history.calls
        call = CallRecord(
            number=len(calls),
            caller=lane.name,
            actor=handle.label,
            key=str(route.key),
            method=method._name,
            repeats=method._retries,
            made_at=self._loop.time(),
        )
        calls.append(call)
        self._callers[call.number] = lane
        try:
            future = original(method, *args, **{**kwargs, TAG: call.number})
        except BaseException:  # nothing was sent
            self._callers.pop(calls.pop().number)
            raise
        self._futures[future] = call
        if future.done():  # it failed at once
            self._told(call, future)
        return future

    def _on_item(self, original: Any, future: ActorFuture[Any], payload: Payload) -> None:
        call = self._futures.get(future)
        if call is not None and not future.done():
            call.items.append(checksum(payload))
        original(future, payload)

    def _on_result(self, original: Any, future: ActorFuture[Any], payload: Payload) -> None:
        self._outcome(future, Outcome.RESULT, checksum(payload))
        original(future, payload)

    def _on_error(self, original: Any, future: ActorFuture[Any], payload: Payload) -> None:
        self._outcome(future, Outcome.ERROR, checksum(payload))
        original(future, payload)

    def _on_end(self, original: Any, future: ActorFuture[Any]) -> None:
        self._outcome(future, Outcome.RESULT, None)
        original(future)

    def _outcome(self, future: ActorFuture[Any], outcome: Outcome, answer: int | None) -> None:
        call = self._futures.get(future)
        if call is None:
            return
        if future.done():
            call.told += 1
        else:
            call.outcome, call.answer = outcome, answer

    def _settle(self, original: Any, future: ActorFuture[Any]) -> None:
        call = self._futures.get(future)
        if call is not None:
            self._told(call, future)
        original(future)

    def _told(self, call: CallRecord, future: ActorFuture[Any]) -> None:
        call.told += 1
        call.resent = future.attempts
        call.ended_at = self._loop.time()
        failure = future._exception  # pyright: ignore[reportPrivateUsage]
        if failure is not None:
            call.outcome, call.failure = Outcome.FAILURE, failure
        self._callers.pop(call.number, None)

    # ---- the actor

    def _run_begin(
        self, original: Any, execution: Execution, invocation: Invocation, method: Any, **how: bool
    ) -> None:
        serial = execution._options.max_concurrency == 1  # pyright: ignore[reportPrivateUsage]
        plain = method.kind is Kind.SYNC
        self._begun[invocation] = (serial and how["in_turn"], plain)
        original(execution, invocation, method, **how)

    def _decode(self, original: Any, codec: Any, fn: Any, payload: Payload, **how: bool) -> Any:
        args, kwargs = original(codec, fn, payload, **how)
        number: int | None = kwargs.pop(TAG, None)
        invocation = CURRENT_INVOCATION.get()
        if number is not None and invocation is not None:
            actor_id, _, incarnation = invocation.target.rpartition("/")
            serial, plain = self._begun.pop(invocation, (False, False))
            run = self._runs[invocation] = RunRecord(
                call=self.history.calls[number],
                actor_id=actor_id,
                incarnation=int(incarnation),
                process=LANE.get(self._loop.main_lane).name,
                number=len(self.history.runs),
                began_at=self._loop.time(),
                serial=serial,
                plain=plain,
            )
            self.history.began(run)
        return args, kwargs

    def _run_answer(
        self,
        original: Any,
        execution: Execution,
        invocation: Invocation,
        ok: bool,
        payload: Payload,
    ) -> None:
        self._ended(invocation, ok, checksum(payload))
        original(execution, invocation, ok, payload)

    async def _run_next_async(self, original: Any, execution: Execution, *args: Any) -> Any:
        return self._item(await original(execution, *args))

    async def _run_next_plain(self, original: Any, execution: Execution, *args: Any) -> Any:
        return self._item(await original(execution, *args))

    def _item(self, payload: Payload | None) -> Payload | None:
        invocation = CURRENT_INVOCATION.get()
        if invocation is not None:
            if payload is None:
                self._ended(invocation, True, None)
            elif (run := self._runs.get(invocation)) is not None:
                run.items.append(checksum(payload))
        return payload

    def _ended(self, invocation: Invocation, ok: bool, answer: int | None) -> None:
        run = self._runs.get(invocation)
        if run is not None:
            run.ok, run.answer, run.ended_at = ok, answer, self._loop.time()

    def _run_ended(
        self, original: Any, execution: Execution, invocation: Invocation, **how: bool
    ) -> None:
        self._begun.pop(invocation, None)
        run = self._runs.pop(invocation, None)
        if run is not None and run.ended_at is None:
            run.ended_at = self._loop.time()
        original(execution, invocation, **how)


def checksum(payload: Payload) -> int:
    """What two equal payloads have in common, on whichever side they are.

    Args:
        payload: A result, an error, or an item.
    """
    value = zlib.crc32(payload.data)
    for buffer in payload.buffers:
        value = zlib.crc32(buffer, value)
    return value


__all__ = ["TAG", "Recorder", "checksum"]
