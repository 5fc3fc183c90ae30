"""Handles: what a user holds of an actor.

A handle is a name, not a connection: it pickles as names and ids, works wherever a system runs, and
finds the actor again after it moved.
"""

from __future__ import annotations

import math
from asyncio import CancelledError
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fray.actor.blocking import refuse_to_block
from fray.actor.current import current_system
from fray.actor.future import ActorFuture
from fray.errors import ActorUnavailable, FrayError, UnknownMethodError
from fray.ids import ActorId
from fray.runtime.blocking import check_stopped
from fray.runtime.callcontext import NO_CONTEXT, CallContext
from fray.runtime.calls import CURRENT_INVOCATION, OutgoingCall
from fray.runtime.methods import (
    DEFAULT_OPTIONS,
    RESERVED,
    Method,
    check_retries,
    check_timeout,
    no_such_method,
    not_idempotent,
)

if TYPE_CHECKING:
    from fray.actor.directory import ActorKey
    from fray.actor.route import Route
    from fray.actor.system import ActorSystem

T = TypeVar("T")


class ActorMethod:
    """One method of one actor: call it with ``.remote(...)``, or directly to block.

    Calls of one caller to one actor start in the order in which they were made.
    """

    __slots__ = ("_handle", "_name", "_retries", "_timeout_s")

    def __init__(
        self, handle: ActorHandle[Any], name: str, timeout_s: float | None, retries: int
    ) -> None:
        self._handle = handle
        self._name = name
        self._timeout_s = timeout_s
        self._retries = retries

    def __repr__(self) -> str:
        return f"<ActorMethod {self._handle.label}.{self._name}>"

    def remote(self, *args: Any, **kwargs: Any) -> ActorFuture[Any]:
        """Sends the call at once. Arguments have the value that they have now.

        Args:
            *args: The method's arguments.
            **kwargs: The method's keyword arguments.

        Returns:
            The future of the outcome; for a generator method, to be iterated over.

        Raises:
            PayloadError: An argument cannot be pickled; nothing was sent.
        """
        check_stopped()
        route = self._handle.route
        payload = route.encode(self._name, args, kwargs)
        timeout_s = self._timeout_s
        deadline = None
        invocation = CURRENT_INVOCATION.get()
        if timeout_s == math.inf:
            timeout_s = None
        if timeout_s is not None:
            deadline = route.process.clock.monotonic() + timeout_s
        inherited, context, within = None, NO_CONTEXT, None
        if invocation is not None and not invocation.finished:  # else: what it left running
            inherited = invocation.deadline
            if invocation.context.chain:
                context = CallContext(chain=invocation.context.chain)
        if inherited is not None and (deadline is None or inherited < deadline):
            deadline = inherited  # a call made inside a call has the time that is left of it
            timeout_s = deadline - route.process.clock.monotonic()
            within = invocation
        future: ActorFuture[Any] = ActorFuture(route, self._name, timeout_s, self._retries, within)
        call = OutgoingCall(
            self._name,
            payload,
            future,
            deadline=deadline,
            repeatable=self._retries > 0,
            context=context,
        )
        route.process.post(route.submit, future, call)
        return future

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Makes the call and blocks until it has its outcome.

        Args:
            *args: The method's arguments.
            **kwargs: The method's keyword arguments.

        Raises:
            BlockingCallError: An event loop runs on this thread; nothing was sent.
            CallCancelled: The caller of the method that makes this call has gone, too.
            DeadlineExceeded: The time of this call, or of that of the method that makes it, is up.
            BaseException: What the method raised.
        """
        self._handle.refuse_to_block(self._name)
        future = self.remote(*args, **kwargs)
        try:
            return future.result()
        finally:  # after Ctrl-C, or when the job is stopped, nobody can wait for it any more
            future.cancel()

    def options(self, *, timeout: float | None = None, retries: int | None = None) -> ActorMethod:
        """The same method with other options.

        Args:
            timeout: Time limit of a call in seconds, > 0; it travels with the call, and calls made
                inside inherit what is left of it. ``math.inf`` for none; None for the method's own.
            retries: How often a call is repeated after a failure that left its fate unknown; only
                for methods that are idempotent.

        Raises:
            TypeError: A value is no number.
            ValueError: A value is out of bounds.
        """
        check_timeout(timeout)
        check_retries(retries or 0)
        if retries and not self._handle.is_idempotent(self._name):
            raise ValueError(not_idempotent(self._handle.label, self._name))
        return ActorMethod(
            self._handle,
            self._name,
            self._timeout_s if timeout is None else timeout,
            self._retries if retries is None else retries,
        )


class ActorHandle(Generic[T]):
    """A handle to an actor, or to a pool of actors under one name (calls are balanced then).

    Awaiting a handle waits until the actor has started. It raises what went wrong if it never will.

    Args:
        key: Which actor.
        label: For people.
        methods: What it has, where its class is known: unknown ones are refused before sending.
        system: Whose connections are used; None for the current system's at first use.
    """

    def __init__(
        self,
        key: ActorKey,
        label: str,
        methods: Mapping[str, Method] | None = None,
        system: ActorSystem | None = None,
    ) -> None:
        self._key = key
        self._label = label
        self._methods = methods
        self._system = system
        self._route_: Route | None = None

    def __repr__(self) -> str:
        return f"<ActorHandle {self._label} {self._key.actor_id}>".replace(" >", ">")

    @property
    def label(self) -> str:
        """Its name or class, for people."""
        return self._label

    @property
    def key(self) -> ActorKey:
        """Which actor it points at."""
        return self._key

    @property
    def actor_id(self) -> ActorId:
        """Unique identifier of the actor; of a pool, its first member's.

        Raises:
            ActorNotFoundError: It points at a name that nobody has.
        """
        if self._key.actor_id:
            return ActorId(self._key.actor_id)
        if not self.route.endpoints:
            self.route.system.run(self.route.resolve)
        return ActorId(self.route.endpoints[0].actor_id)

    @property
    def route(self) -> Route:
        """The way to the actor, in the system that this handle belongs to.

        Raises:
            ClusterClosed: That system was closed. A handle that came from elsewhere, pickled or
                over a fork, belongs to none here and uses the current one; or there is none.
        """
        route = self._route_
        if route is None or route.system.closed:
            system = self._system
            if system is None or not system.process.is_here:
                system = current_system(start=False)
            system.check_open()
            route = self._route_ = system.route(self._key, self._label)
        return route

    def is_idempotent(self, method: str) -> bool:
        """Whether a method may be repeated; where its class is not known, whoever asks knows.

        Args:
            method: Its name.
        """
        return self._methods is None or self._methods[method].options.idempotent

    def refuse_to_block(self, method: str) -> None:
        """Raises where a blocking call would stop an event loop.

        Args:
            method: Which method is about to be called.

        Raises:
            BlockingCallError: A loop runs on this thread.
        """
        what = f"{self._label}.{method}"
        refuse_to_block(f"{what}(...)", f"await {what}.remote(...)", self.route.process)

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("_") or name in RESERVED:
            if name.startswith("__"):  # what protocols probe for (copy, pickle, IPython)
                raise AttributeError(name)
            raise UnknownMethodError(no_such_method(self._label, name, self._methods or ()))
        options = DEFAULT_OPTIONS
        if self._methods is not None:
            method = self._methods.get(name)
            if method is None:
                raise UnknownMethodError(no_such_method(self._label, name, self._methods))
            options = method.options
        bound = ActorMethod(self, name, options.timeout_s, options.retries)
        self.__dict__[name] = bound  # the next look-up does not come here
        return bound

    def __await__(self) -> Generator[Any, None, ActorHandle[T]]:
        yield from self._later("start", lambda: self.route.resolve(anew=True)).__await__()
        return self

    def stop(self, grace_s: float = 5.0) -> ActorFuture[None]:
        """Ends the actor for good: refuses new calls, lets the present ones end, runs ``on_stop``.

        Args:
            grace_s: How long the present calls may take, in seconds, ≥ 0.

        Returns:
            Done when the actor has ended; need not be awaited.
        """
        return self._end(grace_s=grace_s, kill=False)

    def kill(self) -> ActorFuture[None]:
        """Ends the actor at once: calls in flight fail, hooks do not run.

        Returns:
            Done when the actor has ended; need not be awaited.
        """
        return self._end(grace_s=0.0, kill=True)

    def _end(self, *, grace_s: float, kill: bool) -> ActorFuture[None]:
        if grace_s < 0:
            raise ValueError(f"grace_s must be 0 or more, not {grace_s}")
        system = self.route.system

        async def end() -> None:
            await system.created(self._key)  # else it is not known yet
            await system.directory.stop(self._key, grace_s=grace_s, kill=kill)

        return self._later("kill" if kill else "stop", end)

    def _later(self, what: str, make: Any) -> ActorFuture[Any]:
        """Runs a coroutine on the system's loop, as a future."""
        route = self.route
        future: ActorFuture[Any] = ActorFuture(route, what, None, 0)

        async def work() -> None:
            try:
                value = await make()
            except FrayError as exc:
                future.fail(exc)
            except BaseException as exc:
                future.fail(_cut_short(f"{self._label}: {what}", exc), expected=True)
                raise
            else:
                future.succeed(value)

        def begin() -> None:
            try:
                task = route.system.spawn(work(), f"{what} {self._label}")
            except RuntimeError as exc:  # the process is shutting down
                future.fail(_cut_short(f"{self._label}: {what}", exc), expected=True)
            else:
                if what == "start":  # only waited for: when nobody waits, nothing goes on
                    future.call_when_done(lambda f: f.cancelled() and task.cancel())

        route.process.post(begin)
        return future

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self._key, self._label, self._methods)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._key == self._key  # pyright: ignore[reportUnknownMemberType]

    def __hash__(self) -> int:
        return hash(self._key)


def _cut_short(what: str, exc: BaseException) -> ActorUnavailable:
    why = "the system is shutting down" if isinstance(exc, CancelledError) else repr(exc)
    failure = ActorUnavailable(f"{what} was cut short: {why}")
    failure.__cause__ = exc
    return failure


def _rebuild(
    cls: type[ActorHandle[Any]],
    key: ActorKey,
    label: str,
    methods: Mapping[str, Method] | None,
) -> ActorHandle[Any]:
    return cls(key, label, methods)


__all__ = ["ActorHandle", "ActorMethod"]
