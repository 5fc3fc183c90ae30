"""Calling the control plane: at a fixed place, in JSON, again and again while nobody answers."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_type_hints

from fray.actor.directory import ActorKey, Endpoint
from fray.actor.future import ActorFuture
from fray.actor.route import Route
from fray.errors import (
    ActorDied,
    ActorUnavailable,
    ClusterClosed,
    ClusterUnavailable,
    ConnectionRefused,
    DeadlineExceeded,
)
from fray.runtime.calls import OutgoingCall
from fray.runtime.codecs import json_payload, read_json_payload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fray.actor.outcome import Outcome
    from fray.actor.system import ActorSystem
    from fray.runtime.payload import Payload

T = TypeVar("T")

CONTROL_TIMEOUT_S = 30.0
"""How long a call to the control plane is repeated while nobody answers: a controller that was
killed and started again answers within that time."""

RETRY_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class ControlRoute(Route):
    """The way to an actor of the control plane: a fixed place, and JSON.

    Args:
        system: Whose process is used.
        address: ``host:port`` of the control plane's process.
        actor: Which actor there.
        interface: Its interface.
        timeout_s: How long a call is repeated while nobody answers.
    """

    unpickles = False
    watched = False

    def __init__(
        self, system: ActorSystem, address: str, actor: str, interface: type, timeout_s: float
    ) -> None:
        super().__init__(system, ActorKey("", actor_id=actor), f"{actor} at {address}")
        self.address = address
        self.timeout_s = timeout_s
        self._returns = _returns_of(interface)
        self._has_answered = False
        self._set((Endpoint(actor, 1, "", address),))

    def encode(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """See `Route.encode`."""
        return json_payload([args, kwargs])

    def decode(self, method: str, payload: Payload) -> Any:
        """See `Route.decode`."""
        self._has_answered = True
        return read_json_payload(payload, self._returns[method])

    def _shutting_down(self) -> ClusterClosed:
        return ClusterClosed(f"{self.label} was not asked: this connection was closed")

    def failed(self, future: Outcome, exc: BaseException) -> None:
        """Repeats the call while there is time: the control plane may be starting again."""
        self.settled(future)
        if not isinstance(exc, ActorUnavailable | ActorDied):
            future.fail(exc)
            return
        if self.system.closed:
            future.fail(self._shutting_down(), expected=True)
            return
        refusal = _refusal(exc)
        if refusal is not None and not self._has_answered:
            future.fail(refusal)  # a wrong token or address stays wrong
            return
        pause_s = RETRY_PAUSES_S[min(future.attempts, len(RETRY_PAUSES_S) - 1)]
        future.attempts += 1
        old = future.call
        assert old is not None
        clock = self.process.clock
        if old.deadline is not None and clock.monotonic() + pause_s >= old.deadline:
            gone = ClusterUnavailable(f"{self.label} does not answer: {exc}")
            gone.__cause__ = exc
            future.fail(gone)
            return
        future.call = OutgoingCall(old.method, old.payload, future, deadline=old.deadline)
        self.process.loop.call_later(pause_s, self._send_again, future)

    def _send_again(self, future: Outcome) -> None:
        if self.system.closed:
            future.fail(self._shutting_down(), expected=True)
        elif not future.done():
            self._dispatch(future)


def _refusal(exc: BaseException) -> ConnectionRefused | None:
    """Why we are not let in, where that is what went wrong; a server's own trouble passes."""
    cause = exc.__cause__
    if isinstance(cause, ConnectionRefused) and cause.status < 500:
        return cause
    return None


class _Control:
    """Calls an interface: each method a coroutine function."""

    def __init__(self, route: ControlRoute) -> None:
        self._route = route

    def __repr__(self) -> str:
        return f"<control of {self._route.label}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        route = self._route

        async def call(*args: Any, **kwargs: Any) -> Any:
            takes_s = float(kwargs.get("wait_s", 0.0)) + float(kwargs.get("grace_s", 0.0))
            timeout_s = route.timeout_s + takes_s
            future: ActorFuture[Any] = ActorFuture(route, name, timeout_s, 0)
            deadline = route.process.clock.monotonic() + timeout_s
            payload = route.encode(name, args, kwargs)
            route.submit(future, OutgoingCall(name, payload, future, deadline=deadline))
            try:
                return await future
            except DeadlineExceeded as exc:
                raise ClusterUnavailable(f"{route.label} does not answer: {exc}") from exc

        call.__name__ = name
        self.__dict__[name] = call
        return call


def control(
    interface: type[T],
    system: ActorSystem,
    address: str,
    actor: str,
    *,
    timeout_s: float = CONTROL_TIMEOUT_S,
) -> T:
    """A caller of an actor of the control plane. Its methods are used on the system's loop only.

    Give ``wait_s`` and ``grace_s`` by keyword: the call's time limit counts from their end.

    Args:
        interface: One of the protocols of `fray.cluster.control`.
        system: Whose process is used.
        address: ``host:port`` of the control plane's process.
        actor: Which actor there.
        timeout_s: How long a call is repeated while nobody answers, in seconds.
    """
    return cast("T", _Control(ControlRoute(system, address, actor, interface, timeout_s)))


@functools.cache  # there are a dozen of them, and every process asks for most
def _returns_of(interface: type) -> Mapping[str, Any]:
    return {
        name: get_type_hints(fn).get("return", Any)
        for name, fn in inspect.getmembers(interface, inspect.isfunction)
        if not name.startswith("_")
    }


__all__ = ["CONTROL_TIMEOUT_S", "ControlRoute", "control"]
