"""The smallest pair: `LocalResolver` and `LocalActorServer`, without loop, threads or sockets.

A method runs on the caller's stack, synchronously, so a debugger steps from the call into it. What
stays as on a cluster: arguments and results make the round trip through serialization (an aliasing
bug shows here), unknown methods are refused alike, errors carry the remote traceback, and a lookup
of an unknown name raises.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from fnmatch import fnmatchcase
from typing import Any

from fray.actor.directory import ActorKey
from fray.actor.handle import ActorHandle
from fray.actor.resolver import ActorEndpoint
from fray.actor.server import FrayActorServer
from fray.errors import ActorNotFoundError, FrayError, UnknownMethodError
from fray.ids import ActorId, JobId
from fray.runtime.error_envelope import decode_error, encode_error
from fray.runtime.methods import (
    RESERVED,
    Kind,
    Method,
    check_retries,
    check_timeout,
    methods_of,
    no_such_method,
    not_idempotent,
)
from fray.runtime.serialization import dumps, loads

LOCAL_ADDRESS = "local:0"
"""What an endpoint of this process shows as its address: nobody dials it."""


class LocalFuture:
    """The outcome of a call that has been made already: an `ActorFuture` without waiting."""

    def __init__(self, label: str, value: Any, exception: BaseException | None) -> None:
        self._label = label
        self._value = value
        self._exception = exception

    def __repr__(self) -> str:
        return f"<LocalFuture {self._label} done>"

    def done(self) -> bool:
        """Whether the call has its outcome: always."""
        return True

    def cancelled(self) -> bool:
        """Whether it was cancelled: never."""
        return False

    @property
    def failed(self) -> bool:
        """Whether the method raised."""
        return self._exception is not None

    def cancel(self) -> bool:
        """Does nothing: it is too late. Returns False."""
        return False

    def result(self, timeout: float | None = None) -> Any:
        """What the method returned.

        Args:
            timeout: Not needed.

        Raises:
            BaseException: What the method raised.
        """
        if self._exception is not None:
            raise self._exception
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the method raised.

        Args:
            timeout: Not needed.
        """
        return self._exception

    def __await__(self) -> Iterator[Any]:
        return self.result()
        yield  # makes this a generator

    def __iter__(self) -> Iterator[Any]:
        return iter(self.result())

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self.result():
            yield item


class LocalMethod:
    """One method of a local actor; see `fray.actor.handle.ActorMethod`."""

    def __init__(self, actor: _LocalActor, method: Method) -> None:
        self._actor = actor
        self._method = method

    def remote(self, *args: Any, **kwargs: Any) -> LocalFuture:
        """Makes the call, here and now, and gives its outcome as a future.

        Args:
            *args: The method's arguments.
            **kwargs: The method's keyword arguments.

        Raises:
            PayloadError: An argument cannot be pickled.
        """
        label = f"{self._actor.name}.{self._method.name}"
        payload = dumps((args, kwargs))
        try:
            value = self._actor.call(self._method, *loads(payload))
            return LocalFuture(label, loads(dumps(value)), None)
        except BaseException as exc:
            if not isinstance(exc, Exception):  # Ctrl-C is the caller's own
                raise
            failure = decode_error(encode_error(exc), actor=self._actor.name, unpickle=True)
            return LocalFuture(label, None, failure)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Makes the call and gives its result.

        Args:
            *args: The method's arguments.
            **kwargs: The method's keyword arguments.
        """
        return self.remote(*args, **kwargs).result()

    def options(self, *, timeout: float | None = None, retries: int | None = None) -> LocalMethod:
        """Checked as on a cluster; a call on the caller's stack cannot be timed out or repeated.

        Args:
            timeout: Not needed.
            retries: Not needed.

        Raises:
            TypeError: A value is no number.
            ValueError: A value is out of bounds.
        """
        check_timeout(timeout)
        check_retries(retries or 0)
        if retries and not self._method.options.idempotent:
            raise ValueError(not_idempotent(self._actor.name, self._method.name))
        return self


class _LocalActor:
    """An object, its name, and a lock: one call at a time, re-entrant on one stack."""

    def __init__(self, name: str, instance: Any, endpoint: ActorEndpoint) -> None:
        self.name = name
        self.instance = instance
        self.endpoint = endpoint
        self.methods = methods_of(type(instance))  # pyright: ignore[reportUnknownArgumentType]
        self._lock = threading.RLock()

    def call(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._lock:
            result = getattr(self.instance, method.name)(*args, **kwargs)
            if method.kind is Kind.ASYNC:
                return _run(result)
            if method.kind is Kind.ASYNC_GENERATOR:
                return _run(_collect(result))
            return list(result) if method.kind is Kind.GENERATOR else result


async def _collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def _run(coro: Any) -> Any:
    """Runs an async method to its end; where a loop runs on this thread, on another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coro)
    outcome: list[Any] = []

    def work() -> None:
        outcome.append(asyncio.run(coro))

    thread = threading.Thread(target=work, name="fray-local-async")
    thread.start()
    thread.join()
    if not outcome:
        raise FrayError("the async method failed on its thread; its traceback is above")
    return outcome[0]


class LocalHandle(ActorHandle[Any]):
    """A handle to an actor of a `LocalActorServer`. It does not leave the process."""

    def __init__(self, actor: _LocalActor) -> None:
        super().__init__(
            ActorKey("local", actor.name, actor.endpoint.actor_id), actor.name, actor.methods
        )
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        actor: _LocalActor = self.__dict__["_actor"]
        method = actor.methods.get(name)
        if method is None or name in RESERVED:
            raise UnknownMethodError(no_such_method(actor.name, name, actor.methods))
        return LocalMethod(actor, method)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"the handle of {self._actor.name!r} is local to this process; use a cluster "
            "(fray_resolver(), FrayActorServer) to pass handles to other processes"
        )


class LocalResolver:
    """In-process resolver for local development. Thread-safe. See `Resolver`."""

    def __init__(self) -> None:
        self._actors: dict[tuple[str, str], _LocalActor] = {}
        self._endpoints: dict[tuple[str, str], ActorEndpoint] = {}
        self._turns = itertools.count()

    def lookup(self, name: str) -> LocalHandle:
        """See `Resolver.lookup`. Raises at once; of several actors it gives each in turn."""
        found = [actor for (n, _), actor in self._actors.items() if n == name]
        if not found:
            known = sorted({n for n, _ in self._actors})
            raise ActorNotFoundError(
                f"no actor is registered as {name!r} in this LocalResolver "
                f"(there are: {', '.join(known) or 'none'})"
            )
        return LocalHandle(found[next(self._turns) % len(found)])

    def lookup_all(self, name: str) -> list[LocalHandle]:
        """See `Resolver.lookup_all`."""
        found = sorted(key for key in self._actors if fnmatchcase(key[0], name))
        return [LocalHandle(self._actors[key]) for key in found]

    def register(self, name: str, endpoint: ActorEndpoint, ttl_seconds: int = 60) -> None:
        """See `Resolver.register`. Registrations here do not expire."""
        self._endpoints[name, endpoint.actor_id] = endpoint

    def unregister(self, name: str, actor_id: ActorId) -> None:
        """See `Resolver.unregister`."""
        self._endpoints.pop((name, actor_id), None)
        self._actors.pop((name, actor_id), None)

    def list_actors(self, prefix: str = "") -> list[ActorEndpoint]:
        """See `Resolver.list_actors`."""
        return [e for (name, _), e in sorted(self._endpoints.items()) if name.startswith(prefix)]

    def attach(self, actor: _LocalActor) -> None:
        """Registers an actor together with its object.

        Args:
            actor: The actor.
        """
        self.register(actor.name, actor.endpoint)
        self._actors[actor.name, actor.endpoint.actor_id] = actor


class LocalActorServer(FrayActorServer):
    """Actor server for local development: calls run synchronously on the caller's stack.

    Args:
        resolver: Where the actors' names go.
        host: Accepted as by `FrayActorServer`; nothing is bound.
        port: Likewise.
    """

    _numbers = itertools.count(1)

    def __init__(self, resolver: LocalResolver, host: str = "0.0.0.0", port: int = 0) -> None:  # pyright: ignore[reportMissingSuperCall]
        # Not FrayActorServer's own set-up: there is no system, no loop and no port here.
        if not isinstance(resolver, LocalResolver):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"LocalActorServer needs a LocalResolver, not {type(resolver).__name__}; with the "
                "resolver of a cluster use FrayActorServer"
            )
        self._local = resolver
        self._names: dict[str, ActorId] = {}

    @property
    def address(self) -> str:
        """What its endpoints show as their address."""
        return LOCAL_ADDRESS

    def register(self, name: str, actor: Any, metadata: dict[str, str] | None = None) -> ActorId:
        """See `FrayActorServer.register`."""
        if not name:
            raise ValueError("an actor's name is not empty")
        self.unregister(name)
        instance = actor() if inspect.isclass(actor) else actor
        actor_id = ActorId(f"a-local-{next(self._numbers)}")
        endpoint = ActorEndpoint(actor_id, LOCAL_ADDRESS, JobId(""), dict(metadata or {}))
        self._local.attach(_LocalActor(name, instance, endpoint))
        self._names[name] = actor_id
        return actor_id

    def unregister(self, name: str) -> None:
        """See `FrayActorServer.unregister`."""
        actor_id = self._names.pop(name, None)
        if actor_id is not None:
            self._local.unregister(name, actor_id)

    def serve(self) -> None:
        """Returns at once: calls run on their callers' stacks, there is nothing to serve."""

    def serve_background(self) -> None:
        """Returns at once, see `serve`."""

    def shutdown(self, grace_period: float = 5.0) -> None:
        """Unregisters all actors.

        Args:
            grace_period: Not needed.
        """
        for name in list(self._names):
            self.unregister(name)


__all__ = ["LocalActorServer", "LocalHandle", "LocalMethod", "LocalResolver"]
