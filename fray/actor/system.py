"""An actor system: a process, a directory, and the routes between handles and actors.

Which system the user's API uses is said by `fray.actor.current`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from fray.actor.current import CURRENT_SYSTEM
from fray.actor.directory import ActorKey, ActorSpec
from fray.actor.handle import ActorHandle
from fray.actor.lives import Lives
from fray.actor.route import Route
from fray.actor.watch import CallWatch
from fray.errors import ClusterClosed, DeathCause, DeathKind, FrayError
from fray.ids import Namespace
from fray.runtime.cell_options import MAILBOX_CALLS_MAX, CellOptions
from fray.runtime.methods import methods_of
from fray.runtime.serialization import dumps_call, loads

if TYPE_CHECKING:
    from contextvars import Context

    from fray.actor.directory import Directory
    from fray.actor.options import ActorOptions
    from fray.runtime.cell import Cell
    from fray.runtime.payload import Payload
    from fray.runtime.process import Process

T = TypeVar("T")


class ActorSystem:
    """A process and its way to find and make actors.

    Args:
        process: The process, started.
        directory: Finds and makes actors; None in a process that only calls fixed places.
        namespace: Where names go unless said otherwise.
        job_id: The job that this process belongs to; empty for a driver.
        lookup_timeout_s: How long a look-up waits for a name that nobody has yet, in seconds.

    Attributes:
        lives: The actors whose lives somebody here follows.
        fence: Says whether what is hosted here was given up; None where it cannot be.
    """

    def __init__(
        self,
        process: Process,
        directory: Directory | None,
        *,
        namespace: str,
        job_id: str = "",
        lookup_timeout_s: float = 0.0,
    ) -> None:
        self.process = process
        self._directory = directory
        self.namespace = Namespace(namespace)
        self.job_id = job_id
        self.lookup_timeout_s = lookup_timeout_s
        self._closed = False
        self._cells: dict[str, Cell] = {}
        # Routes end with their last handle and call: programs may make actors without end.
        self._routes: WeakValueDictionary[ActorKey, Route] = WeakValueDictionary()
        self._routes_lock = threading.Lock()
        self.watch = CallWatch(self) if directory is not None else None
        if self.watch is not None:
            process.peers.on_stopped.append(self.watch.link_stopped)
        self.lives = Lives(self)
        self.fence: Callable[[], bool] | None = None

    def __repr__(self) -> str:
        return f"<ActorSystem {self.process.label} namespace={self.namespace}>"

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used: it or its process was closed, or this is a fork."""
        return self._closed or self.process.closed or not self.process.is_here

    @property
    def directory(self) -> Directory:
        """Finds and makes actors.

        Raises:
            FrayError: This process has none.
        """
        if self._directory is None:
            raise FrayError(f"{self.process.label} has no directory: it finds no actors by name")
        return self._directory

    # ---- routes and tasks

    def route(self, key: ActorKey, label: str) -> Route:
        """The route to an actor, the same for all its handles. Any thread.

        Args:
            key: Which actor.
            label: For people.
        """
        found = self._routes.get(key)
        if found is None:
            with self._routes_lock:
                found = self._routes.get(key)
                if found is None:
                    found = self._routes[key] = Route(self, key, label)
        return found

    def routes(self) -> list[Route]:
        """The routes in use."""
        return [route for ref in self._routes.valuerefs() if (route := ref()) is not None]

    def spawn(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts a task that ends with the process. On the loop only.

        Args:
            coro: What it runs.
            name: For people.
        """
        return self.process.scope.spawn(coro, name=name)

    def run(
        self, make: Callable[[], Coroutine[Any, Any, T]], *, timeout_s: float | None = None
    ) -> T:
        """Runs a coroutine on the loop and blocks for it. See `Process.run`.

        Args:
            make: Makes the coroutine.
            timeout_s: Time limit in seconds.

        Raises:
            ClusterClosed: The system was closed; nothing was done.
        """
        self.check_open()
        return self.process.run(make, timeout_s=timeout_s)

    def check_open(self) -> None:
        """Makes sure that the system can be used.

        Raises:
            ClusterClosed: It was closed.
        """
        if not self.process.is_here:
            raise ClusterClosed(
                "this connection to the cluster belongs to the process that this one was forked "
                "from; connect in this one (fray.connect(), current_cluster())"
            )
        if self._closed:
            raise ClusterClosed(
                "this connection to the cluster was closed; open another (fray.connect(), "
                "current_cluster()), and look up there what is still to be used"
            )

    def close(self, why: str = "the connection that hosted it was closed") -> None:
        """Settles every call that still waits, and ends the actors that it hosts.

        The process is closed by its owner; several systems may share one.

        Args:
            why: What callers of its actors are told.
        """
        self._closed = True
        if self.watch is not None and self.watch.link_stopped in self.process.peers.on_stopped:
            self.process.peers.on_stopped.remove(self.watch.link_stopped)
        for cell in reversed(list(self._cells.values())):
            cell.kill(DeathCause(DeathKind.STOPPED, why))
        for route in self.routes():
            route.fail_all("this connection to the cluster was closed")

    # ---- making actors

    def create(
        self,
        cls: type,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: ActorOptions,
    ) -> ActorHandle[Any]:
        """Has an actor made and gives its handle at once.

        In synchronous code the request is accepted, or refused by an exception, before this
        returns. On an event loop's thread nothing may block: there a refusal is raised by awaiting
        the handle, and by each of its calls.

        Args:
            cls: Its class.
            args: Of its constructor.
            kwargs: Of its constructor.
            options: How it is made and run.

        Raises:
            PayloadError: The class or an argument cannot be pickled.
            NameTakenError: Its name is in use.
            InfeasibleError: No host could ever run it.
        """
        spec = self.spec_of(cls, args, kwargs, options)
        namespace, label = spec.namespace, spec.label
        if _a_loop_runs_here():
            key = ActorKey(namespace, actor_id=spec.actor_id)
            if options.get_if_exists:
                key = ActorKey(namespace, name=label)
            handle = ActorHandle[Any](key, label, methods_of(cls), self)
            self.process.post(self._begin_creation, handle.route, spec)
            return handle
        actor_id = self.run(lambda: self.directory.create(spec))
        key = ActorKey(namespace, actor_id=actor_id)
        return ActorHandle(key, label, methods_of(cls), self)

    def spec_of(
        self,
        cls: type,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: ActorOptions,
        *,
        supervised: bool = False,
    ) -> ActorSpec:
        """A new actor, as its directory is asked for it. Arguments are pickled now.

        Args:
            cls: Its class.
            args: Of its constructor.
            kwargs: Of its constructor.
            options: How it is made and run.
            supervised: Whether a supervisor here starts it again, and not the cluster.

        Raises:
            PayloadError: The class or an argument cannot be pickled.
        """
        options.check_creation()
        return ActorSpec(
            actor_id=f"a-{self.process.clock.token(6)}",
            label=options.name or cls.__name__,
            namespace=options.namespace or self.namespace,
            options=options,
            payload=dumps_call(cls, args, kwargs, what=cls.__qualname__),
            supervised=supervised,
        )

    def _begin_creation(self, route: Route, spec: ActorSpec) -> None:
        accepted: asyncio.Future[None] = self.process.loop.create_future()

        async def create() -> None:
            try:
                await self.directory.create(spec)
            except FrayError as exc:
                accepted.set_exception(exc)
                accepted.exception()  # told by `created`, to everybody who asks
            except BaseException as exc:  # nobody waits for it in vain
                accepted.set_exception(FrayError(f"{spec.label} was not made: {exc!r}"))
                accepted.exception()
                raise
            else:
                accepted.set_result(None)

        route.creation = accepted
        if not self.closed:
            self.spawn(create(), f"create {spec.label}")

    async def created(self, key: ActorKey) -> None:
        """Waits until the making of an actor was accepted.

        Args:
            key: Which actor; nothing is awaited for one that this system did not make.

        Raises:
            FrayError: It was refused; each caller gets this again.
        """
        route = self._routes.get(key)
        if route is not None and route.creation is not None:
            await asyncio.shield(route.creation)

    # ---- hosting actors

    def context(self) -> Context:
        """The context variables of code that belongs to this system."""
        context = copy_context()
        context.run(CURRENT_SYSTEM.set, self)
        return context

    def host(self, target: str, label: str, options: CellOptions | None = None) -> Cell:
        """Makes room for an actor in this system's process.

        Args:
            target: What frames address it by.
            label: For people.
            options: How it is run.
        """
        cell = self.process.host(target, label=label, options=options, context=self.context())
        cell.fence = self.fence
        self._cells[target] = cell
        cell.stopped.add_done_callback(lambda _: self._cells.pop(target, None))
        return cell


def instantiate(payload: Payload) -> Any:
    """Makes an actor's instance from its pickled ``(class, args, kwargs)``.

    Args:
        payload: As in `ActorSpec`.
    """
    cls, args, kwargs = loads(payload)
    return cls(*args, **kwargs)


def cell_options(options: ActorOptions) -> CellOptions:
    """What of an actor's options concerns the cell that runs it.

    Args:
        options: The actor's.
    """
    return CellOptions(
        max_concurrency=options.max_concurrency,
        mailbox_calls_max=options.mailbox_calls_max or MAILBOX_CALLS_MAX,
        thread_affinity=options.thread_affinity,
        reentrant=options.reentrant,
    )


def _a_loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


__all__ = ["ActorSystem", "cell_options", "instantiate"]
