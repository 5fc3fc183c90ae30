"""`FrayContext`: tasks on a pool of workers of a fray cluster."""

from __future__ import annotations

import inspect
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fray.actor.current import current_system, using
from fray.actor.decorator import ActorFactory, options_of
from fray.checks import check_whole
from fray.cluster.base import SyncCluster
from fray.errors import CallError, ClusterError, InvalidRequestError, UnsupportedError
from fray.job.base import Lifetime, check_class, check_function, frozen
from fray.job.driverlink import DriverLink
from fray.job.functions import PickledFunctions
from fray.job.futures import wait_for
from fray.job.heap import keep_freed_memory
from fray.job.link import Fetches, FrayFuture, FrayGenerator, Link, TaskSpec
from fray.job.locals import check_lifetime, value_of
from fray.job.orders import PoolLimits
from fray.job.parts import shared
from fray.job.taskpool import PoolOptions, TaskPool
from fray.runtime.payload import Payload
from fray.runtime.serialization import dumps_arguments, loads

if TYPE_CHECKING:
    from fray.actor.handle import ActorHandle
    from fray.actor.options import ActorOptions
    from fray.actor.system import ActorSystem
    from fray.cluster.base import AsyncCluster, Cluster

T = TypeVar("T")

WORKERS_MAX = 64
"""Workers of a context that was not told how many there may be, at most: one driver feeds them."""

RETRIES = 3

FUNCTION_BYTES_MAX = 4096
"""A function that takes more is a value of its own: a worker gets it once."""

FUNCTIONS_BYTES_MAX = 64 << 20
"""What such functions may take together, those used last; one is kept whatever it takes."""


class FrayContext:
    """Runs tasks on workers of a fray cluster, as many as there is work for. See `JobContext`.

    A worker is an actor in a process of its own. It is asked for when tasks wait, and let go when
    it has been idle for a while. Small results come to the driver; large ones stay with the worker
    that made them, and whoever needs them fetches them there. They are freed when their future is
    gone (unless it was sent elsewhere), by `release`, after ``ttl_s``, and at the context's end.

    A task whose worker is lost is run again, so a task may run more than once; with ``retries=0``
    it is not. What a task raises is final. A large result that is lost with its worker is made
    again by running its task, with the arguments that it had; if one of these is gone too, or the
    tries are used up, whoever wants it gets a `TaskLostError`.

    Args:
        controller_address: ``host:port`` of the cluster's controller, or ``fray://host:port``; None
            where ``cluster`` is given, or for the current cluster.
        cluster: A connection to use instead, which the context does not close.
        max_workers: Workers that there may be, ≥ 1; None for as many as the cluster has CPUs for,
            `WORKERS_MAX` (64) at most. That is asked again while tasks wait, since clusters grow.
        min_workers: Workers that are kept while idle, ≥ 0.
        idle_s: An idle worker goes after so long, in seconds, if it keeps no results.
        retries: How often a task is run again after its worker was lost, ≥ 0.
        ttl_s: How long a result or value is kept after its last use, in seconds; None for no limit.
        resources: A ``ResourceConfig`` that each worker needs; None for one CPU.
        process: ``"own"``: each worker is a process; ``"auto"``: on the local cluster, a part of
            the driver's.

    Raises:
        InvalidRequestError: A value is out of bounds, or the address cannot be read.
        ClusterUnavailable: The cluster does not answer.
    """

    def __init__(
        self,
        controller_address: str | None = None,
        *,
        cluster: Cluster | AsyncCluster | None = None,
        max_workers: int | None = None,
        min_workers: int = 0,
        idle_s: float = 30.0,
        retries: int = RETRIES,
        ttl_s: float | None = None,
        resources: Any = None,
        process: str = "own",
    ) -> None:
        limits = _limits(max_workers, min_workers, idle_s)
        check_whole("retries", retries)
        if ttl_s is not None and not ttl_s > 0:
            raise InvalidRequestError(f"ttl_s must be above 0, or None, not {ttl_s!r}")
        worker: dict[str, Any] = {"max_preemptions": 0, "process": process}
        if resources is not None:
            worker["resources"] = resources
        options = options_of(type(self)).replace(**worker)  # raises what is wrong with them
        keep_freed_memory()
        self._retries = retries
        self._functions = PickledFunctions()
        self._large = _LargeFunctions(FUNCTIONS_BYTES_MAX)
        self._actors: list[ActorHandle[Any]] = []
        self._owned: SyncCluster | None = None
        self.controller_address = _with_scheme(controller_address)
        system = self._connect(cluster)
        room_cpus = _cpus_of(options) if max_workers is None else None
        pool = TaskPool(system, PoolOptions(limits, worker, ttl_s, room_cpus))
        self.link: Link = DriverLink(pool)
        if min_workers:
            system.process.post(pool.start)

    @classmethod
    def within(cls, link: Link) -> FrayContext:
        """The context of tasks that run in a worker.

        Args:
            link: The way to their pool.
        """
        made = cls.__new__(cls)
        made._retries = RETRIES
        made._functions = PickledFunctions()
        made._large = _LargeFunctions(FUNCTIONS_BYTES_MAX)
        made._actors = []
        made._owned = None
        made.controller_address = ""
        made.link = link
        return made

    def _connect(self, cluster: Cluster | AsyncCluster | None) -> ActorSystem:
        from fray.cluster.current import create_cluster, current_cluster, spec_of

        if cluster is None and self.controller_address in ("", spec_of()):
            cluster = current_cluster()
        if cluster is None:
            made = create_cluster(self.controller_address)
            assert isinstance(made, SyncCluster)
            self._owned = cluster = made
        system = getattr(cluster, "system", None)
        if system is None:
            raise UnsupportedError(f"{type(cluster).__name__} has no actors of fray's own")
        return system

    def __repr__(self) -> str:
        return f"<FrayContext {self.controller_address or self.link.name}>"

    @property
    def closed(self) -> bool:
        """Whether it was shut down, or its connection was."""
        pool = self.pool
        return self.link.system.closed or (pool is not None and pool.closed)

    @property
    def pool(self) -> TaskPool | None:
        """Its pool, in the driver; None in a task, where it is elsewhere."""
        return self.link.pool if isinstance(self.link, DriverLink) else None

    def __enter__(self) -> FrayContext:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    async def __aenter__(self) -> FrayContext:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def shutdown(self) -> None:
        """Ends the workers, and the actors that are not detached. All values are freed."""
        if self.pool is None:
            return  # of a task: its pool goes on
        if not self.closed:
            self.link.system.run(self.aclose)
        if self._owned is not None:
            self._owned.shutdown()  # type: ignore[attr-defined]  # pyright: ignore

    async def aclose(self) -> None:
        """The asynchronous `shutdown`, on the loop of the connection."""
        pool = self.pool
        if pool is None:
            return
        await pool.aclose()
        actors, self._actors = self._actors, []
        for actor in actors:
            try:
                await actor.kill()
            except (CallError, ClusterError):
                continue  # it has ended by itself

    # ---- values

    def put(self, obj: Any) -> Any:
        """See `JobContext.put`. Workers get it once each, most of them from each other."""
        number = self.link.new_number()
        future = FrayFuture(self.link, number, "put")
        payload = frozen(obj)
        self.link.put(number, payload)
        future.succeed(payload)
        return future

    def get(self, ref: Any) -> Any:
        """See `JobContext.get`. Ctrl-C cancels the tasks that have not begun."""
        try:
            if isinstance(ref, list):
                fetches = Fetches(self.link.system)
                for one in cast("list[Any]", ref):
                    if isinstance(one, FrayFuture):
                        fetches.want(one)
            return value_of(ref)
        except KeyboardInterrupt:
            self._cancel_waiting()
            raise

    def release(self, refs: list[Any]) -> None:
        """Frees what references stand for, wherever it is. Getting them raises from then on.

        Args:
            refs: What `put` and `run` gave.
        """
        for ref in refs:
            if isinstance(ref, FrayFuture):
                ref.release()

    def wait(self, futures: list[Any], num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        """See `JobContext.wait`. Ctrl-C cancels the tasks that have not begun."""
        try:
            return wait_for(futures, num_returns)
        except KeyboardInterrupt:
            self._cancel_waiting()
            raise

    def _cancel_waiting(self) -> None:
        pool = self.pool
        if pool is not None:
            pool.system.process.post(pool.cancel_waiting)

    # ---- tasks

    def run(
        self,
        fn: Callable[..., Any],
        *args: Any,
        name: str | None = None,
        retries: int | None = None,
    ) -> Any:
        """See `JobContext.run`.

        Args:
            fn: The function.
            *args: Its arguments.
            name: What the task is called.
            retries: How often it is run again after its worker was lost, ≥ 0; None for the
                context's.
        """
        if retries is not None:
            check_whole("retries", retries)
        label = check_function(fn, name)
        link = self.link
        function = self._functions.pickle(fn, label)
        values, _, refs = _separate(link, args, {})
        spec = TaskSpec(
            link.new_number(),
            label,
            function,
            0,
            dumps_arguments(values, {}),
            {place: ref.number for place, ref in refs.items()},
            hash(function.data),
            self._retries if retries is None else retries,
            inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn),
        )
        future: FrayFuture | FrayGenerator
        if spec.streams:
            future = FrayGenerator(link, spec.task, label)
        else:
            future = FrayFuture(link, spec.task, label)
        if function.nbytes > FUNCTION_BYTES_MAX:
            spec.function = None
            self._submit_large(function, spec, future)
        else:
            link.submit(spec, future)
        del refs  # until here they must not be dropped
        return future

    def _submit_large(
        self, function: Payload, spec: TaskSpec, future: FrayFuture | FrayGenerator
    ) -> None:
        """Submits a task whose function is a value of its own."""
        link, large = self.link, self._large
        with large.lock:  # nobody drops the function before the task uses it
            spec.function_ref = 0 if function.buffers else large.find(function)
            unwanted: list[int] = []
            if not spec.function_ref:
                number = spec.function_ref = link.new_number()
                link.put(number, shared(function))
                unwanted = [number] if function.buffers else large.keep(function, number)
            link.submit(spec, future)
            for number in unwanted:
                link.drop(number)

    # ---- actors

    def create_actor(
        self,
        actor_class: type[T],
        *args: Any,
        name: str | None = None,
        get_if_exists: bool = False,
        lifetime: Lifetime = "non_detached",
        preemptible: bool = True,
        **kwargs: Any,
    ) -> Any:
        """See `JobContext.create_actor`. One that a task makes ends with the task's worker."""
        check_class(actor_class)
        check_lifetime(name, get_if_exists=get_if_exists, lifetime=lifetime)
        values, named, refs = _separate(self.link, args, kwargs)
        positional = list(values)
        for place, ref in refs.items():
            if isinstance(place, int):
                positional[place] = _Resolved(ref)
            else:
                named[place] = _Resolved(ref)
        options = options_of(actor_class).replace(
            name=name,
            get_if_exists=get_if_exists,
            lifetime=lifetime,
            preemptible=preemptible,
            max_concurrency=1,
        )
        with using(self.link.system):
            handle = ActorFactory(actor_class, options).remote(*positional, **named)
        if lifetime != "detached" and not get_if_exists:
            self._actors.append(handle)
        return handle


class _LargeFunctions:
    """The functions that are values, by their pickles: those used last, of a bounded size.

    Args:
        bytes_max: What they may take together; one is kept whatever it takes.

    Attributes:
        lock: Of all it knows; held by whoever asks.
    """

    def __init__(self, bytes_max: int) -> None:
        self.lock = threading.Lock()
        self._bytes_max = bytes_max
        self._nbytes = 0
        self._numbers: OrderedDict[bytes, int] = OrderedDict()

    def find(self, function: Payload) -> int:
        """The number of a function's value; 0 where there is none."""
        key = bytes(function.data)
        number = self._numbers.get(key, 0)
        if number:
            self._numbers.move_to_end(key)
        return number

    def keep(self, function: Payload, number: int) -> list[int]:
        """There is another one. Gives the values that are for no further task."""
        key = bytes(function.data)
        self._numbers[key] = number
        self._nbytes += len(key)
        dropped: list[int] = []
        while self._nbytes > self._bytes_max and len(self._numbers) > 1:
            oldest, unused = self._numbers.popitem(last=False)
            self._nbytes -= len(oldest)
            dropped.append(unused)
        return dropped


class _Resolved:
    """An argument that becomes a reference's value where it is read: in the actor's process."""

    def __init__(self, ref: FrayFuture) -> None:
        self._ref = ref

    def __reduce__(self) -> Any:
        payload = self._ref.inline
        if payload is not None:
            return _made_here, (bytes(payload.data), [bytes(b) for b in payload.buffers])
        return _read_here, self._ref.__reduce__()[1]


def _made_here(data: bytes, buffers: list[bytes]) -> Any:
    return loads(Payload(data, [bytearray(b) for b in buffers]), what="an argument")


def _read_here(name: str, number: int, label: str) -> Any:
    from fray.job.reader import read_value

    return read_value(current_system(), name, number, label)


def _separate(
    link: Link, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], dict[int | str, FrayFuture]]:
    """Arguments without the references among them, and these by their place."""
    refs: dict[int | str, FrayFuture] = {}
    values: list[Any] = []
    for place, value in enumerate(args):
        if isinstance(value, FrayFuture):
            refs[place] = _of(link, value)
            value = None
        values.append(value)
    named = dict(kwargs)
    for key, value in kwargs.items():
        if isinstance(value, FrayFuture):
            refs[key], named[key] = _of(link, value), None
    return tuple(values), named, refs


def _of(link: Link, ref: FrayFuture) -> FrayFuture:
    if ref.link.name != link.name:
        raise InvalidRequestError(
            f"{ref!r} belongs to another context: get() its value there, and pass that"
        )
    return ref


def _cpus_of(options: ActorOptions) -> float:
    """What a worker takes of the CPUs of its cluster; one that takes none counts as one."""
    cpus = options.num_cpus if options.resources is None else options.resources.cpu
    return cpus or 1.0


def _limits(max_workers: Any, min_workers: Any, idle_s: Any) -> PoolLimits:
    if max_workers is None:
        max_workers = WORKERS_MAX
    check_whole("max_workers", max_workers, 1)
    check_whole("min_workers", min_workers)
    if min_workers > max_workers:
        raise InvalidRequestError(
            f"min_workers ({min_workers}) is above max_workers ({max_workers})"
        )
    if not idle_s >= 0:
        raise InvalidRequestError(f"idle_s must be 0 or more, not {idle_s!r}")
    return PoolLimits(min_workers, max_workers, idle_s)


def _with_scheme(address: str | None) -> str:
    """An address as a cluster's spec: ``host:port`` gets the scheme, ``http://`` another one."""
    if address is None:
        return ""
    if not isinstance(address, str) or not address:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(
            f"controller_address is the host:port of a controller, not {address!r}"
        )
    bare = re.sub(r"^(https?|fray)://", "", address).rstrip("/")
    return bare if bare.partition("?")[0] in ("local", "ray") else f"fray://{bare}"


__all__ = ["FrayContext"]
