"""Calls that are repeated: what an actor answered once, it answers again, and does not do again.

A caller whose connection ended for good does not know whether its call ran. Where the method says
that it may run twice (``idempotent=True, retries=n``), the caller repeats the call under the same
key. The actor's process remembers, by key, the calls that run and the first outcome of those that
have ended, until the caller has acknowledged it: so what is repeated mostly does not even run
twice. What the caller will never ask for again is forgotten by age, and by number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fray.errors import ActorUnavailable, Started
from fray.runtime.calls import Invocation
from fray.runtime.payload import Payload

if TYPE_CHECKING:
    from fray.errors import CallError
    from fray.runtime.clock import Clock

KEPT_S = 600.0
"""How long an outcome is kept that nobody acknowledges: longer than anybody repeats a call."""

KEPT_MAX = 4096
"""Outcomes kept for one actor; the oldest go first."""


class Nobody:
    """A `ReplyTo`: whoever asked is not connected any more."""

    def result(self, invocation: Invocation, payload: Payload) -> None:
        """See `ReplyTo.result`."""

    def error(self, invocation: Invocation, payload: Payload) -> None:
        """See `ReplyTo.error`."""

    def failure(self, invocation: Invocation, exc: CallError) -> None:
        """See `ReplyTo.failure`."""

    def item(self, invocation: Invocation, payload: Payload) -> None:
        """See `ReplyTo.item`."""

    def end(self, invocation: Invocation) -> None:
        """See `ReplyTo.end`."""


NOBODY = Nobody()


@dataclass(slots=True, eq=False)
class _Call:
    """A call that was made under a key.

    Attributes:
        runner: The one that runs, or ran.
        others: Those that repeat it, and wait for its outcome.
        outcome: Whether the method returned, and what it returned or raised; None before.
    """

    runner: Invocation
    others: list[Invocation] = field(default_factory=list[Invocation])
    outcome: tuple[bool, Payload] | None = None


class Repeats:
    """The calls of one actor that may be repeated.

    Args:
        clock: The process's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[bytes, _Call] = {}
        self._ended: dict[bytes, float] = {}  # when, in the order in which they ended

    def __len__(self) -> int:
        return len(self._calls)

    def admit(self, invocation: Invocation) -> bool:
        """Takes note of a call that has a key.

        Args:
            invocation: The call.

        Returns:
            Whether it is to run. If not, it was or will be answered as the first one was.
        """
        key = invocation.context.key
        known = self._calls.get(key)
        if known is None:
            self._calls[key] = _Call(invocation)
            invocation.repeats = self
            return True
        if known.outcome is not None:
            invocation.answer(*known.outcome)
        else:
            invocation.repeats = self
            known.others.append(invocation)
        return False

    def ended(self, invocation: Invocation, ok: bool, payload: Payload) -> None:
        """A call has its outcome: whoever repeats it is told, now or later.

        Args:
            invocation: The call.
            ok: Whether the method returned; else it raised.
            payload: What.
        """
        call = self._calls.get(invocation.context.key)
        if call is None or call.runner is not invocation:
            return
        call.outcome = ok, payload
        self._ended[invocation.context.key] = self._clock.monotonic()
        self._sweep()
        others, call.others = call.others, []
        for other in others:
            other.answer(ok, payload)

    def streams(self, invocation: Invocation) -> bool:
        """A call is about to give a stream, which nobody can read from its middle on.

        Args:
            invocation: The call.

        Returns:
            Whether it is to run: whether its caller is still there.
        """
        unread = ActorUnavailable("a stream is not repeated; begin it anew", started=Started.NO)
        self.failed(invocation, unread)
        invocation.repeats = None
        return invocation.reply_to is not NOBODY

    def failed(self, invocation: Invocation, exc: CallError) -> None:
        """A call was refused or cut off: whoever repeats it is told so, and nothing is kept.

        Args:
            invocation: The call.
            exc: Why.
        """
        call = self._calls.get(invocation.context.key)
        if call is None or call.runner is not invocation:
            return
        del self._calls[invocation.context.key]
        for other in call.others:
            other.fail(exc)

    def lost(self, invocation: Invocation) -> bool:
        """The connection of a caller has ended for good; it may ask again.

        Args:
            invocation: The call.

        Returns:
            Whether the call goes on all the same.
        """
        call = self._calls.get(invocation.context.key)
        if call is None:
            return False
        if call.runner is invocation:
            invocation.reply_to = NOBODY
        else:
            self._leave(call, invocation)
        return True

    def cancelled(self, invocation: Invocation) -> Invocation | None:
        """A caller does not want its call any more.

        Args:
            invocation: The call.

        Returns:
            What is to be cancelled, since nobody waits for it now; None if somebody does.
        """
        call = self._calls.get(invocation.context.key)
        if call is None:
            return invocation
        if call.runner is invocation:
            invocation.reply_to = NOBODY
        else:
            self._leave(call, invocation)
        if call.others or call.runner.reply_to is not NOBODY:
            return None
        del self._calls[invocation.context.key]
        self._ended.pop(invocation.context.key, None)
        return call.runner

    @staticmethod
    def _leave(call: _Call, invocation: Invocation) -> None:
        invocation.finished = invocation.cancelled = True
        if invocation in call.others:
            call.others.remove(invocation)

    def forget(self, key: bytes) -> None:
        """The caller has the outcome.

        Args:
            key: The call's.
        """
        if self._ended.pop(key, None) is not None:
            self._calls.pop(key, None)

    def _sweep(self) -> None:
        """Forgets outcomes that are old, or too many, the oldest first."""
        now = self._clock.monotonic()
        while self._ended:
            key, ended_at = next(iter(self._ended.items()))
            if now - ended_at <= KEPT_S and len(self._ended) <= KEPT_MAX:
                return
            self.forget(key)


__all__ = ["KEPT_MAX", "KEPT_S", "NOBODY", "Repeats"]
