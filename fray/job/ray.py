"""`RayContext`: tasks, values and actors of a real Ray."""

from __future__ import annotations

import asyncio
import inspect
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from fray.cluster.rayimport import import_ray
from fray.job.base import Lifetime, check_class, check_function
from fray.job.calling import call, items
from fray.job.functions import same_state, state_of
from fray.job.futures import ITEMS_AHEAD, GeneratorFuture
from fray.job.locals import check_lifetime

T = TypeVar("T")

HEAD_NODE = "head_node"
"""A resource that many give their head node, which is not taken away."""

ACCELERATORS = ("GPU", "TPU")


class RayContext:
    """Runs tasks on Ray. See `JobContext`.

    References are Ray's own ``ObjectRef``; they, handles, and what they give are as in any program
    of Ray's: arrays that come out of its object store are read-only, results too.

    Within a job of Ray's, and where the program has called ``ray.init``, that Ray is used; else it
    is called here. Tasks get ``JAX_PLATFORMS=cpu``, since JAX would take what accelerators it
    finds, unless they ask for GPUs or TPUs or the variable is set already.

    Args:
        address: Of a Ray cluster; None for the one that Ray finds, or a new one on this machine.
        namespace: Where names of actors are; None for Ray's own choice.
        num_cpus: CPUs that a task needs, ≥ 0; None for Ray's own choice.
        num_gpus: GPUs that a task needs, ≥ 0.
        memory: Memory that a task needs, in bytes, > 0; None for no demand. Ray places by it, and
            does not enforce it.
        resources: Other resources of Ray's that a task needs, such as ``{"TPU": 4}``.
        runtime_env: Ray's runtime environment of tasks and actors.
        retries: How often a task is run again after its worker was lost, ≥ 0.

    Raises:
        UnsupportedError: Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        namespace: str | None = None,
        num_cpus: float | None = None,
        num_gpus: float = 0,
        memory: float | None = None,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        retries: int = 3,
    ) -> None:
        self._ray = import_ray()
        self._namespace = namespace
        self._began_ray = not self._ray.is_initialized()
        if self._began_ray:
            self._ray.init(
                address=address, namespace=namespace, ignore_reinit_error=True, log_to_driver=False
            )
        self._options: dict[str, Any] = {}
        if num_cpus is not None:
            self._options["num_cpus"] = num_cpus
        if num_gpus:
            self._options["num_gpus"] = num_gpus
        if memory is not None:
            self._options["memory"] = memory
        if resources:
            self._options["resources"] = dict(resources)
        environment = _environment(runtime_env or {}, num_gpus, resources or {})
        if environment:
            self._options["runtime_env"] = environment
        self._retries = retries
        self._functions: weakref.WeakKeyDictionary[Any, tuple[tuple[Any, ...], Any]]
        self._functions = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return "<RayContext>"

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        """Ends the connection to Ray, if this context has made it; a Ray that it started ends."""
        if self._began_ray:
            self._began_ray = False
            self._ray.shutdown()

    # ---- values

    def put(self, obj: Any) -> Any:
        """See `JobContext.put`."""
        return self._ray.put(obj)

    def get(self, ref: Any) -> Any:
        """See `JobContext.get`."""
        if isinstance(ref, list):
            given = cast("list[Any]", ref)
            return [self.get(one) for one in given]
        return self._ray.get(ref) if isinstance(ref, self._ray.ObjectRef) else ref

    def wait(self, futures: list[Any], num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        """See `JobContext.wait`."""
        if not 1 <= num_returns <= max(len(futures), 1):
            raise ValueError(f"num_returns must be between 1 and {len(futures)}, not {num_returns}")
        if len(set(map(id, futures))) != len(futures):
            raise ValueError("a future was given twice")
        if not futures:
            return [], []
        ready, _ = self._ray.wait(
            [self._waited(future) for future in futures],
            num_returns=num_returns,
            fetch_local=False,
        )
        ready = [future for future in futures if self._waited(future) in ready]
        chosen = {id(future) for future in ready}
        return ready, [future for future in futures if id(future) not in chosen]

    @staticmethod
    def _waited(future: Any) -> Any:
        return future.refs if isinstance(future, RayGenerator) else future

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
            retries: How often it is run again after its worker was lost; None for the context's.
        """
        label = check_function(fn, name)
        options = {
            **self._options,
            "name": label,
            "max_retries": self._retries if retries is None else retries,
        }
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            options["num_returns"] = "streaming"
            options["_generator_backpressure_num_objects"] = ITEMS_AHEAD
            remote = self._remote(_items_of(fn))
            return RayGenerator(label, self._ray, remote.options(**options).remote(*args))
        remote = self._remote(_call_of(fn) if inspect.iscoroutinefunction(fn) else fn)
        return remote.options(**options).remote(*args)

    def _remote(self, fn: Callable[..., Any]) -> Any:
        """A function as Ray knows it: again the same one, where nothing of it can have changed."""
        state = state_of(fn)
        if state is None:
            return self._ray.remote(_named(fn))
        known = self._functions.get(fn)
        if known is None or not same_state(known[0], state):
            known = self._functions[fn] = (state, self._ray.remote(fn))
        return known[1]

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
        """See `JobContext.create_actor`.

        Ray does not know which of its nodes can be taken away: an actor that is not preemptible is
        placed on one that has the resource ``head_node``, if any has.
        """
        check_class(actor_class)
        check_lifetime(name, get_if_exists=get_if_exists, lifetime=lifetime)
        options: dict[str, Any] = {"max_concurrency": 1}
        if "runtime_env" in self._options:
            options["runtime_env"] = self._options["runtime_env"]
        if name is not None:
            options |= {"name": name, "get_if_exists": get_if_exists}
            if self._namespace is not None:
                options["namespace"] = self._namespace
        if lifetime == "detached":
            options["lifetime"] = "detached"
        if not preemptible and HEAD_NODE in self._ray.cluster_resources():
            options["resources"] = {HEAD_NODE: 0.0001}
        return self._ray.remote(_plain(actor_class)).options(**options).remote(*args, **kwargs)


class RayGenerator(GeneratorFuture):
    """The items of a generator that runs on Ray.

    Args:
        label: What the task is called.
        ray: The module.
        refs: Ray's own generator, of references to the items.

    Attributes:
        refs: The same.
    """

    def __init__(self, label: str, ray: Any, refs: Any) -> None:
        super().__init__(label)
        self._ray = ray
        self.refs: Any = refs

    def done(self) -> bool:
        """See `GeneratorFuture.done`."""
        if isinstance(self.refs, _NoItems):
            return True
        ready, _ = self._ray.wait([self.refs], timeout=0, fetch_local=False)
        return bool(ready)

    def __next__(self) -> Any:
        return self._ray.get(next(self.refs))

    async def __anext__(self) -> Any:
        return await (await anext(self.refs))

    def close(self) -> None:
        """See `GeneratorFuture.close`: there are no further items."""
        refs, self.refs = self.refs, _NoItems()
        if not isinstance(refs, _NoItems) and self._ray.is_initialized():
            self._ray.cancel(refs)

    def __del__(self) -> None:
        """Ray ends a generator that nobody refers to."""


class _NoItems:
    def __next__(self) -> Any:
        raise StopIteration

    async def __anext__(self) -> Any:
        raise StopAsyncIteration


def _environment(
    given: Mapping[str, Any], num_gpus: float, resources: Mapping[str, float]
) -> dict[str, Any]:
    """The runtime environment of tasks, see `RayContext`."""
    variables: dict[str, str] = dict(given.get("env_vars") or {})
    wants_accelerators = num_gpus or any(resources.get(name) for name in ACCELERATORS)
    if not wants_accelerators and "JAX_PLATFORMS" not in {*variables, *os.environ}:
        variables["JAX_PLATFORMS"] = "cpu"
    return {**given, "env_vars": variables} if variables else dict(given)


def _named(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Ray takes functions only, and not everything that can be called."""
    if inspect.isfunction(fn):
        return fn

    def run(*args: Any) -> Any:
        return fn(*args)

    return run


def _call_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        return call(fn, args, {})

    return run


def _items_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        for item in items(fn, args):  # noqa: UP028 - Ray sends into it what a range does not take
            yield item

    return run


def _plain(cls: type[Any]) -> type[Any]:
    """A class without async methods: of an actor that has some, Ray keeps no order of calls."""
    changed: dict[str, Any] = {}
    for name, function in inspect.getmembers(cls, inspect.iscoroutinefunction):
        changed[name] = _blocking(function)
    for name, function in inspect.getmembers(cls, inspect.isasyncgenfunction):
        changed[name] = _items_of(function)
    if not changed:
        return cls
    return type(cls.__name__, (cls,), {"__module__": cls.__module__, **changed})


def _blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        runner = self.__dict__.get("_fray_runner")
        if runner is None:  # one loop for all calls: what a method keeps may belong to it
            runner = self.__dict__["_fray_runner"] = asyncio.Runner()
        return runner.run(function(self, *args, **kwargs))

    return run


__all__ = ["RayContext", "RayGenerator"]
