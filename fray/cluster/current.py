"""Which cluster the running code uses: specs, connections, and the current one.

A spec says where a cluster is: ``fray://host[:50051]``, ``local[?use_processes=1&max_workers=4]``
or ``ray[?namespace=…]``. The current cluster is, in this order: the one of the job or the block
(``with``) that runs here; the one that `set_current_cluster` set; one of a block of another thread;
the one that ``FRAY_CLUSTER_SPEC`` names; the newest that the program has made; an embedded local
one. Its actor system is the current system, so `fray_resolver` and ``Class.remote`` use the same
cluster.

Synchronous code of one operating-system process shares one connection per spec; it is closed when
the interpreter ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import AsyncGenerator, Generator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from fray.actor.current import CURRENT_SYSTEM, DEFAULT_SYSTEM, using
from fray.actor.resolver import check_name
from fray.cluster.base import Cluster, SyncCluster
from fray.cluster.identity import Identity, user_name
from fray.cluster.spec import ClusterSpec, parse_spec
from fray.errors import ClusterClosed, ClusterError, InvalidRequestError, UnsupportedError
from fray.runtime.clock import SystemClock

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.environment import EnvironmentConfig

CURRENT_CLUSTER: ContextVar[Cluster | None] = ContextVar("fray_current_cluster", default=None)

SPEC_VARIABLE = "FRAY_CLUSTER_SPEC"


class _Connections:
    """The connections of this operating-system process's synchronous code."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[str, Cluster] = {}
        self._made: list[SyncCluster] = []
        self._blocks: list[Cluster] = []
        self._chosen: Cluster | None = None

    def get(self, spec: str) -> Cluster:
        with self._lock:
            found = self._open.get(spec)
            if found is not None and not _is_closed(found):
                return found
            cluster = create_cluster(spec)
            self.retire(cluster)  # it is current as long as the environment names it, no longer
            self._open[spec] = cluster
            return cluster

    def announce(self, cluster: SyncCluster) -> None:
        with self._lock:
            self._made.append(cluster)

    def retire(self, cluster: Cluster) -> None:
        with self._lock:
            self._made = [c for c in self._made if c is not cluster]

    def enter(self, cluster: Cluster) -> None:
        with self._lock:
            self._blocks.append(cluster)

    def leave(self, cluster: Cluster) -> None:
        with self._lock:
            self._blocks = [c for c in self._blocks if c is not cluster]

    def current(self) -> Cluster:
        """The current cluster of code that belongs to none."""
        with self._lock:
            if self._chosen is not None:
                return self._chosen
            if self._blocks:
                return self._blocks[-1]
            if self._made and not os.environ.get(SPEC_VARIABLE):
                return self._made[-1]
            return self.get("ray" if _is_inside_ray() else spec_of())

    def would_start(self) -> bool:
        """Whether `current` would start an embedded cluster."""
        with self._lock:
            spec = spec_of()
            found = self._open.get(spec)
            return (
                CURRENT_CLUSTER.get() is None
                and self._chosen is None
                and not self._blocks
                and not self._made
                and (found is None or _is_closed(found))
                and not _is_inside_ray()
                and parse_spec(spec).kind == "local"
            )

    def forget(self) -> None:
        """In a fork: its parent's connections are not its own, and somebody may hold the lock."""
        self._lock = threading.RLock()
        self._open, self._made, self._blocks, self._chosen = {}, [], [], None
        CURRENT_CLUSTER.set(None)

    def close(self) -> None:
        with self._lock:
            clusters, self._open = list(self._open.values()), {}
        for cluster in reversed(clusters):
            close_cluster(cluster)

    @property
    def chosen(self) -> Cluster | None:
        return self._chosen

    def choose(self, cluster: Cluster | None) -> None:
        self._chosen = cluster


def _is_closed(cluster: Cluster) -> bool:
    return cluster.system.closed if isinstance(cluster, SyncCluster) else cast(Any, cluster).closed


def _system_of(cluster: Cluster | None) -> ActorSystem | None:
    """A cluster's actor system; None for one that somebody has written who has none."""
    return getattr(cluster, "system", None)


def _is_inside_ray() -> bool:
    """Whether this process has joined a Ray, and no cluster is named."""
    ray = sys.modules.get("ray")  # who runs within Ray has imported it
    return ray is not None and not os.environ.get(SPEC_VARIABLE) and cast(Any, ray).is_initialized()


_CONNECTIONS = _Connections()
atexit.register(_CONNECTIONS.close)
os.register_at_fork(after_in_child=_CONNECTIONS.forget)


def spec_of(environ: Mapping[str, str] = os.environ) -> str:
    """The spec that the environment names; a local cluster where it names none.

    Args:
        environ: Environment variables.
    """
    return environ.get(SPEC_VARIABLE) or "local"


def identity_of(
    environ: Mapping[str, str] = os.environ,
    *,
    namespace: str | None = None,
    fresh_namespace: bool = False,
) -> Identity:
    """Who connects: the task that the environment tells of, else a driver.

    Args:
        environ: Environment variables.
        namespace: Instead of ``FRAY_NAMESPACE``.
        fresh_namespace: Take a new namespace.
    """
    clock = SystemClock()
    user = user_name(environ)
    space = namespace or environ.get("FRAY_NAMESPACE")
    if fresh_namespace or not space:
        space = namespace or f"{user}-{clock.token(3)}"
    job_id = environ.get("FRAY_JOB_ID", "")
    if not job_id:
        return Identity(user, space, session_id=f"d-{clock.token(8)}")
    return Identity(
        user,
        space,
        job_id=job_id,
        attempt_id=environ.get("FRAY_ATTEMPT_ID", ""),
        incarnation=int(environ.get("FRAY_ATTEMPT", "0")) + 1,
        task_index=int(environ.get("FRAY_TASK_INDEX", "0")),
        agent_address=environ.get("FRAY_AGENT_ADDRESS", ""),
        lease_path=environ.get("FRAY_LEASE_FILE", ""),
        lease_s=float(environ.get("FRAY_LEASE_S", "0")),
    )


def current_cluster() -> Cluster:
    """The cluster of the running code, see the module.

    Reads ``FRAY_CLUSTER_SPEC``; falls back to an embedded `LocalCluster` if it is unset.

    Raises:
        InvalidRequestError: The spec cannot be read.
        ClusterUnavailable: The cluster does not answer.
    """
    return CURRENT_CLUSTER.get() or _CONNECTIONS.current()


def set_current_cluster(cluster: Cluster | None) -> None:
    """Makes a cluster the current one of the job or block that runs here.

    Code that is in neither makes it that of the operating-system process.

    Args:
        cluster: The cluster; None to go by the environment again.
    """
    if cluster is not None and not isinstance(cluster, Cluster):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the current cluster is what create_cluster() gives, not {cluster!r}")
    system = _system_of(cluster)
    if CURRENT_CLUSTER.get() in (None, _CONNECTIONS.chosen):
        _CONNECTIONS.choose(cluster)
        DEFAULT_SYSTEM.choose(system)
    CURRENT_CLUSTER.set(cluster)
    CURRENT_SYSTEM.set(system)


@contextlib.contextmanager
def using_cluster(cluster: Cluster) -> Generator[Cluster]:
    """Makes a cluster the current one for a block: here, and in threads that belong to none.

    Args:
        cluster: The cluster.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(CURRENT_CLUSTER.reset, CURRENT_CLUSTER.set(cluster))
        _CONNECTIONS.enter(cluster)
        stack.callback(_CONNECTIONS.leave, cluster)
        system = _system_of(cluster)
        if system is not None:
            stack.enter_context(using(system))
            DEFAULT_SYSTEM.push(system)
            stack.callback(DEFAULT_SYSTEM.remove, system)
        yield cluster


def announce(cluster: SyncCluster) -> None:
    """The program has made a cluster, or a connection to one, by itself.

    Args:
        cluster: The cluster.
    """
    _CONNECTIONS.announce(cluster)


def retire(cluster: SyncCluster) -> None:
    """A cluster, or the connection to it, was shut down.

    Args:
        cluster: The cluster.
    """
    _CONNECTIONS.retire(cluster)


def create_cluster(spec: str) -> Cluster:
    """Connects to a cluster, or starts a local one.

    Args:
        spec: See the module.

    Raises:
        InvalidRequestError: The spec cannot be read; the message says what it may be.
        ClusterUnavailable: The cluster does not answer.
        UnsupportedError: That kind of cluster is not available here.
    """
    parsed = parse_spec(spec)
    if parsed.kind == "local":
        from fray.cluster.local import LocalCluster

        return LocalCluster(**parsed.local_options())
    if parsed.kind == "fray":
        from fray.cluster.remote import FrayCluster

        return FrayCluster(parsed.address)
    from fray.cluster.ray import RayCluster

    return RayCluster(**parsed.ray_options())


def close_cluster(cluster: Any) -> None:
    """Ends a connection; a local cluster ends with it.

    Args:
        cluster: What `create_cluster` gave.
    """
    with contextlib.suppress(ClusterError):
        cluster.shutdown()


def close_connections() -> None:
    """Ends the connections that the running code has opened by using `current_cluster`."""
    _CONNECTIONS.close()


def default_system(*, start: bool = True) -> ActorSystem:
    """The actor system of the current cluster.

    Args:
        start: Whether an embedded cluster may be started where there is none. An actor that exists
            already is not on that one.

    Raises:
        ClusterClosed: There is none, and none may be started.
    """
    if not start and _CONNECTIONS.would_start():
        raise ClusterClosed(
            "this process is connected to no cluster, and an embedded one of its own would not "
            f"have this actor; connect first (fray.connect(…), {SPEC_VARIABLE}). Actors of another "
            "process's embedded cluster cannot be reached from here"
        )
    cluster = current_cluster()
    system = _system_of(cluster)
    if system is None:
        raise UnsupportedError(f"{type(cluster).__name__} has no actors of fray's own")
    return system


class connect:  # noqa: N801 - reads as a function: `async with fray.connect() as cluster`
    """Connects to a cluster for the duration of a block.

    ``async with fray.connect() as cluster`` gives an `AsyncCluster`, with its process on the loop
    that runs: calls cross no thread. ``with fray.connect() as cluster`` gives a `Cluster`.

    Within the block it is the current cluster, and actors that it made end with it (those with
    ``lifetime="detached"`` do not).

    Args:
        spec: Which cluster; None for ``FRAY_CLUSTER_SPEC``, else an embedded local one.
        namespace: In which its actors' names are; None for ``FRAY_NAMESPACE``, else a new one.
        fresh_namespace: Take a new one in any case.
        environment: What its actors find around them, and jobs that say nothing of it: this project
            (``EnvironmentConfig.create()``) where the hosts do not have it. None for what the
            connection's own job has, or the hosts themselves.

    Raises:
        InvalidRequestError: The spec cannot be read, or the environment cannot be.
        ValueError: The namespace is empty, or no string.
        ClusterUnavailable: The cluster does not answer.
    """

    def __init__(
        self,
        spec: str | None = None,
        *,
        namespace: str | None = None,
        fresh_namespace: bool = False,
        environment: EnvironmentConfig | None = None,
    ) -> None:
        _check_environment(environment)
        self._environment = environment
        self._spec: ClusterSpec = parse_spec(spec or spec_of())
        if namespace is not None:
            check_name(namespace, what="a namespace")
        self._namespace = namespace
        self._fresh = fresh_namespace
        self._stack = contextlib.ExitStack()
        self._async_stack = contextlib.AsyncExitStack()

    def _identity(self) -> Identity:
        return identity_of(namespace=self._namespace, fresh_namespace=self._fresh)

    async def __aenter__(self) -> AsyncFrayCluster:
        if self._spec.kind == "local":
            from fray.cluster.local import open_local

            context = open_local(self._identity(), **self._spec.local_options())
        elif self._spec.kind == "fray":
            context = _open_remote(self._spec.address, self._identity())
        else:
            raise _no_block_on_ray()
        cluster = await self._async_stack.enter_async_context(context)
        cluster.environment = self._environment
        self._async_stack.enter_context(using_cluster(SyncCluster(cluster)))
        return cluster

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._async_stack.aclose()

    def __enter__(self) -> SyncCluster:
        if self._spec.kind == "local":
            from fray.cluster.local import LocalCluster

            cluster: SyncCluster = LocalCluster(
                identity=self._identity(), **self._spec.local_options()
            )
        elif self._spec.kind == "fray":
            from fray.cluster.remote import FrayCluster

            cluster = FrayCluster(self._spec.address, identity=self._identity())
        else:
            raise _no_block_on_ray()
        self._stack.callback(close_cluster, cluster)
        _client_of(cluster).environment = self._environment
        self._stack.enter_context(using_cluster(cluster))
        return cluster

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.close()


def _check_environment(environment: EnvironmentConfig | None) -> None:
    if environment is None:
        return
    from fray.cluster.environment import EnvironmentConfig
    from fray.cluster.environment_sender import check_environment

    if not isinstance(environment, EnvironmentConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(
            "a connection's environment is of type EnvironmentConfig, such as "
            f"EnvironmentConfig.create(); not {environment!r}"
        )
    check_environment(environment, "the connection's environment")


def _no_block_on_ray() -> UnsupportedError:
    return UnsupportedError(
        "fray.connect() does not connect to Ray: write `with create_cluster('ray') as cluster` "
        "(fray.cluster), or nothing where the program has joined Ray (ray.init()) or "
        f"{SPEC_VARIABLE}=ray is set; handles can be awaited there on any loop"
    )


def _client_of(cluster: SyncCluster) -> AsyncFrayCluster:
    from fray.cluster.client import AsyncFrayCluster

    client = cluster.asynchronous
    assert isinstance(client, AsyncFrayCluster), "what fray.connect() opens"
    return client


@contextlib.asynccontextmanager
async def _open_remote(address: str, identity: Identity) -> AsyncGenerator[AsyncFrayCluster]:
    from fray.cluster.remote import open_remote

    cluster = await open_remote(address, identity)
    try:
        yield cluster
    finally:
        await cluster.close()


__all__ = [
    "CURRENT_CLUSTER",
    "announce",
    "close_connections",
    "connect",
    "create_cluster",
    "current_cluster",
    "default_system",
    "identity_of",
    "retire",
    "set_current_cluster",
    "spec_of",
    "using_cluster",
]
