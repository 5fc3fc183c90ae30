"""Backends: who executes a dataset."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from zephyr.dataset import Dataset
from zephyr.driver import Run, RunStats, Settings, default_scratch
from zephyr.executors import ContextExecutor, Executor, TaskContext, ThreadExecutor
from zephyr.files import is_disk, local_path
from zephyr.plan import Plan, make_plan
from zephyr.progress import make_progress
from zephyr.schedule import SchedulePolicy

if TYPE_CHECKING:
    from fray.cluster import Cluster

SORT_BYTES = 64 << 20
"""How much sorting may hold in each task, unless the memory of a worker says otherwise."""
SORT_SHARE = 8
"""One part of so many of a worker's memory is for sorting."""
LEAST_SORT_BYTES = 1 << 20
THREADS_SORT_BYTES = 256 << 20
"""How much the threads of one process may hold together."""
THREADS_MOST = 32
LARGE_BYTES = 64 << 20
"""Of files; where there are more, starting processes is worth it."""

BackendType = Literal["ray", "fray", "threadpool", "processes", "auto"]

_UNITS = {"": 1, "k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True)
class ExecutionHint:
    """How a pipeline should be executed; its result does not depend on it.

    Attributes:
        chunk_size: Items of a file that is stored between stages, ≥ 1.
        speculate: Whether shards that take long are started a second time.
        straggler_s: What never counts as long, in seconds, ≥ 0; beyond it, twice the median does.
        attempts_max: How many workers may die over a shard, ≥ 1.
    """

    chunk_size: int = 100_000
    speculate: bool = True
    straggler_s: float = 10.0
    attempts_max: int = 4

    def __post_init__(self) -> None:
        for name in ("chunk_size", "attempts_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.straggler_s < 0:
            raise ValueError(f"straggler_s must be at least 0, not {self.straggler_s}")


class _Execute:
    """``Backend.execute(dataset)`` takes what fits, ``backend.execute(dataset)`` this backend."""

    def __get__(self, instance: Backend | None, owner: type[Backend]) -> Callable[..., list[Any]]:
        def execute(
            dataset: Dataset[Any],
            context: TaskContext | None = None,
            hints: ExecutionHint | None = None,
            verbose: bool = False,
            max_parallelism: int | None = None,
            dry_run: bool = False,
            memory: str | int | None = None,
        ) -> list[Any]:
            """Executes a dataset.

            Args:
                dataset: What to do.
                context: A job context that runs it, instead of the backend's own workers.
                hints: See `ExecutionHint`.
                verbose: Print the plan before.
                max_parallelism: Tasks that run at once, ≥ 1; None for the backend's own limit.
                dry_run: Print the plan, and do nothing.
                memory: Of each worker, such as ``"4GB"``, and of all threads of this process
                    together; None for the backend's own.

            Returns:
                The items of the result, in the order of shards; none for a dry run.

            Raises:
                ValueError: The plan makes no sense.
                PipelineError: A shard's workers died again and again.
                Exception: What a function of the pipeline raised, with a note that names the shard,
                    the operation and the item.
            """
            request = Request(
                make_plan(_checked(dataset)),
                hints or ExecutionHint(),
                max_parallelism,
                None if memory is None else parse_memory(memory),
            )
            if dry_run or verbose:
                print(request.plan.describe())
            if dry_run:
                return []
            backend: Backend
            if context is not None:
                backend = ContextBackend(context)
            else:
                backend = instance or (_fitting(request) if owner is Backend else owner())
            return backend.run(request)

        return execute


class Backend:
    """Executes datasets. ``Backend.execute(dataset)`` takes the backend that fits."""

    execute = _Execute()

    def __init__(
        self,
        max_parallelism: int | None = None,
        memory_per_worker: str | int | None = None,
        scratch: str | None = None,
    ) -> None:
        """Makes a backend.

        Args:
            max_parallelism: Tasks that run at once, ≥ 1; None for as many as make sense.
            memory_per_worker: Such as ``"2GB"``; what sorting may hold is a part of it.
            scratch: Folder or URL where stages store what others need; None for
                ``ZEPHYR_SCRATCH``, else this machine's temporary folder.
        """
        if max_parallelism is not None and max_parallelism < 1:
            raise ValueError(f"max_parallelism must be at least 1, not {max_parallelism}")
        self.max_parallelism = max_parallelism
        self.memory_bytes = None if memory_per_worker is None else parse_memory(memory_per_worker)
        self.scratch = scratch
        self.last_stats = RunStats()

    def run(self, request: Request) -> list[Any]:
        """Executes a plan.

        Args:
            request: The plan, and how.
        """
        memory = self.memory_bytes if request.memory_bytes is None else request.memory_bytes
        hints = request.hints
        limit = self._limit(request.max_parallelism)
        scratch = self.scratch or default_scratch()
        settings = Settings(
            scratch,
            self.sort_bytes(limit, memory),
            hints.chunk_size,
            not is_disk(scratch),
            SchedulePolicy(hints.attempts_max, hints.speculate, slow_least_s=hints.straggler_s),
        )
        run = Run(self._executor(limit, memory), settings, make_progress())
        self.last_stats = run.stats
        return run.execute(request.plan)

    def _limit(self, asked: int | None) -> int:
        if asked is not None and asked < 1:
            raise ValueError(f"max_parallelism must be at least 1, not {asked}")
        limits = [each for each in (asked, self.max_parallelism) if each is not None]
        return min(limits, default=1024)

    def sort_bytes(self, limit: int, memory_bytes: int | None) -> int:
        """How much sorting may hold in each task.

        Args:
            limit: Tasks that run at once, at most.
            memory_bytes: Of each worker; None where nobody has said it.
        """
        if memory_bytes is None:
            return SORT_BYTES
        return max(memory_bytes // SORT_SHARE, LEAST_SORT_BYTES)

    def _executor(self, limit: int, memory_bytes: int | None) -> Executor:
        raise TypeError("Backend() executes nothing itself: use get_backend(), or Backend.execute")


@dataclass(frozen=True)
class Request:
    """What a backend is asked to do.

    Attributes:
        plan: The stages.
        hints: See `ExecutionHint`.
        max_parallelism: The user's limit.
        memory_bytes: Of each worker; None for the backend's own.
    """

    plan: Plan
    hints: ExecutionHint
    max_parallelism: int | None
    memory_bytes: int | None


class ThreadpoolBackend(Backend):
    """Executes datasets on threads of this process: for pipelines that wait for files or services.

    Functions are shared with the caller, so that they may close over what cannot be pickled. All
    threads together are one worker, as far as memory goes.
    """

    def sort_bytes(self, limit: int, memory_bytes: int | None) -> int:
        """See `Backend.sort_bytes`."""
        threads = min(limit, THREADS_MOST)
        if memory_bytes is None:
            return min(SORT_BYTES, THREADS_SORT_BYTES // threads)
        return max(memory_bytes // SORT_SHARE // threads, LEAST_SORT_BYTES)

    def _executor(self, limit: int, memory_bytes: int | None) -> Executor:
        return ThreadExecutor(min(limit, THREADS_MOST))


class ProcessBackend(Backend):
    """Executes datasets in processes of this machine, one for each core."""

    def _executor(self, limit: int, memory_bytes: int | None) -> Executor:
        from zephyr.processes import ProcessExecutor

        return ProcessExecutor(min(limit, _cores()))


class ContextBackend(Backend):
    """Executes datasets by a job context.

    Args:
        context: What `fray.job.create_job_ctx` gives.
        **options: Of `Backend`.
    """

    def __init__(self, context: TaskContext, **options: Any) -> None:
        super().__init__(**options)
        self._context = context

    def _executor(self, limit: int, memory_bytes: int | None) -> Executor:
        return ContextExecutor(self._context, limit)


class RayBackend(ContextBackend):
    """Executes datasets as tasks of Ray.

    Args:
        **options: Of `Backend`.
    """

    def __init__(self, **options: Any) -> None:
        from fray.job import create_job_ctx

        super().__init__(create_job_ctx("ray"), **options)

    def _executor(self, limit: int, memory_bytes: int | None) -> Executor:
        from fray.job import create_job_ctx

        if memory_bytes is None:
            return super()._executor(limit, memory_bytes)
        return ContextExecutor(create_job_ctx("ray", memory=memory_bytes), limit)


class FrayBackend(Backend):
    """Executes datasets on worker actors of a fray cluster, each in a process of its own.

    The embedded local cluster is one, too: then they are processes of this machine.
    """

    def __init__(
        self,
        cluster: Cluster | None = None,
        max_parallelism: int = 100,
        memory_per_worker: str | int | None = "2GB",
        scratch: str | None = None,
    ) -> None:
        """Makes a backend.

        Args:
            cluster: The cluster; None for the current one when something is executed.
            max_parallelism: Workers at most, ≥ 1; on the embedded cluster no more than cores.
            memory_per_worker: What each needs on its host, and plans with.
            scratch: See `Backend`; on a cluster of several hosts it must be shared by all.
        """
        super().__init__(max_parallelism, memory_per_worker, scratch)
        self.cluster = cluster

    def _executor(self, limit: int, memory_bytes: int | None) -> Executor:
        from fray.cluster import LocalCluster, current_cluster
        from zephyr.actors import ActorExecutor

        cluster: Any = current_cluster() if self.cluster is None else self.cluster
        if not hasattr(cluster, "system"):
            raise TypeError(
                f"FrayBackend needs a cluster of fray's own, not {type(cluster).__name__}; "
                "get_backend('ray') executes on Ray"
            )
        if isinstance(cluster, LocalCluster):
            return ActorExecutor(cluster, min(limit, _cores()), None)
        memory = None if memory_bytes is None else f"{memory_bytes >> 20}m"
        return ActorExecutor(cluster, limit, memory)


def get_backend(backend_type: BackendType = "auto", **kwargs: Any) -> Backend:
    """Gets a backend.

    Args:
        backend_type: ``"auto"`` takes fray where ``FRAY_CLUSTER_SPEC`` names a cluster of hosts,
            Ray within a job of Ray's, and threads otherwise: the environment decides, not the
            current cluster. (`Backend.execute` looks at the pipeline as well: locally it takes
            processes where large files are read.)
        **kwargs: Of the backend.

    Raises:
        ValueError: There is no such backend.
    """
    if backend_type == "auto":
        backend_type = _surroundings()
    if backend_type == "threadpool":
        return ThreadpoolBackend(**kwargs)
    if backend_type == "processes":
        return ProcessBackend(**kwargs)
    if backend_type == "fray":
        return FrayBackend(**kwargs)
    if backend_type == "ray":
        return RayBackend(**kwargs)
    raise ValueError(
        f"Unknown backend type {backend_type!r}: there are {', '.join(get_args(BackendType))}"
    )


def _surroundings() -> Literal["ray", "fray", "threadpool"]:
    spec = os.environ.get("FRAY_CLUSTER_SPEC", "")
    if spec.startswith("fray://"):
        return "fray"
    ray = cast(Any, sys.modules.get("ray"))  # who runs within Ray has imported it
    if spec.startswith("ray") or (not spec and ray is not None and ray.is_initialized()):
        return "ray"
    return "threadpool"


def _fitting(request: Request) -> Backend:
    """The backend for a pipeline whose user names none."""
    kind: BackendType = _surroundings()
    if kind == "threadpool" and _reads_much(request.plan) and _cores() > 1:
        kind = "processes"
    return get_backend(kind)


def _reads_much(plan: Plan) -> bool:
    """Whether the source names large files of this machine."""
    size = 0
    for item in plan.source:
        local = local_path(item) if isinstance(item, str) else None
        if local is not None and os.path.isfile(local):
            size += os.path.getsize(local)
            if size >= LARGE_BYTES:
                return True
    return False


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_memory(memory: str | int) -> int:
    """An amount of memory in bytes.

    Args:
        memory: A number of bytes, or a string such as ``"4GB"``, ``"512m"``, ``"1.5GiB"``.

    Raises:
        ValueError: It is no such amount, or not positive.
    """
    if isinstance(memory, int):
        amount = memory
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", memory.lower())
        if match is None:
            raise ValueError(f"an amount of memory is written like '4GB' or '512m', not {memory!r}")
        amount = int(float(match.group(1)) * 2 ** (_UNITS[match.group(2)] or 1))
        if not match.group(2):
            amount = int(float(match.group(1)))
    if amount <= 0:
        raise ValueError(f"an amount of memory is positive, not {memory!r}")
    return amount


def _checked(dataset: Any) -> Dataset[Any]:
    if not isinstance(dataset, Dataset):
        raise TypeError(f"execute() takes a Dataset, not {dataset!r:.200}")
    return cast("Dataset[Any]", dataset)


__all__ = [
    "Backend",
    "ContextBackend",
    "ExecutionHint",
    "FrayBackend",
    "ProcessBackend",
    "RayBackend",
    "ThreadpoolBackend",
    "get_backend",
    "parse_memory",
]
