"""Which job context there is: `create_job_ctx`, and the default one of the running code."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from fray.cluster.current import SPEC_VARIABLE
from fray.cluster.spec import parse_spec
from fray.errors import InvalidRequestError
from fray.job.base import JobContext
from fray.job.current import CURRENT_JOB_CONTEXT
from fray.job.sync import SyncContext
from fray.job.thread import ThreadContext

ContextType = Literal["ray", "threadpool", "sync", "fray", "auto"]

CONTEXT_TYPES = ("auto", "fray", "ray", "sync", "threadpool")


def _no_options() -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class ContextConfig:
    """What `create_job_ctx` takes, as a value that can be passed around.

    Attributes:
        context_type: See `create_job_ctx`.
        max_workers: See there.
        controller_address: See there.
        options: The other options.
    """

    context_type: ContextType = "auto"
    max_workers: int | None = None
    controller_address: str | None = None
    options: Mapping[str, Any] = field(default_factory=_no_options)

    def create(self) -> JobContext:
        """Makes the context. See `create_job_ctx`."""
        return create_job_ctx(
            self.context_type, self.max_workers, self.controller_address, **self.options
        )


def create_job_ctx(
    context_type: ContextType = "auto",
    max_workers: int | None = None,
    controller_address: str | None = None,
    **options: Any,
) -> JobContext:
    """Creates a job context for a backend.

    Args:
        context_type: ``"sync"``, ``"threadpool"``, ``"fray"`` or ``"ray"``. ``"auto"`` takes Ray
            within a job of Ray's; the cluster that ``FRAY_CLUSTER_SPEC`` names, or the one at
            ``controller_address``; threads otherwise.
        max_workers: How many tasks run at once; None for 1 thread, or for as many workers as
            `FrayContext` takes by itself.
        controller_address: Of the fray cluster's controller; needed for ``"fray"``.
        **options: Of the context: see `FrayContext` and `RayContext`.

    Raises:
        ValueError: There is no such type of context, or the address is missing.
        TypeError: There is no such option.
    """
    kind = _chosen(controller_address) if context_type == "auto" else context_type
    if kind == "sync":
        return SyncContext(**options)
    if kind == "threadpool":
        return ThreadContext(1 if max_workers is None else max_workers, **options)
    workers = {} if max_workers is None else {"max_workers": max_workers}
    if kind == "fray":
        from fray.job.fray import FrayContext

        address = controller_address
        if address is None and context_type == "auto":
            address = os.environ[SPEC_VARIABLE]
        if not address:
            raise InvalidRequestError(
                'create_job_ctx("fray") needs controller_address="host:port", the address of the '
                "cluster's controller (fray status shows it)"
            )
        return FrayContext(address, **workers, **options)
    if kind == "ray":
        from fray.job.ray import RayContext

        return RayContext(**options)
    raise ValueError(f"Unknown context type {context_type!r}: there are {', '.join(CONTEXT_TYPES)}")


def _chosen(controller_address: str | None) -> str:
    if controller_address is not None:
        return "fray"
    ray = sys.modules.get("ray")  # who runs within Ray has imported it
    if ray is not None and cast("Any", ray).is_initialized():
        return "ray"
    spec = os.environ.get(SPEC_VARIABLE)
    kind = parse_spec(spec).kind if spec else "local"
    return "threadpool" if kind == "local" else kind


class _Default:
    """The context of code that belongs to none; made once for an operating-system process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: JobContext | None = None
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._made = None

    def get(self) -> JobContext:
        with self._lock:
            if self._made is None or getattr(self._made, "closed", False):
                self._made = create_job_ctx()
            return self._made

    def close(self) -> None:
        with self._lock:
            made, self._made = self._made, None
        shutdown = getattr(made, "shutdown", None)
        if shutdown is not None:
            shutdown()


_DEFAULT = _Default()


def get_default_job_ctx() -> JobContext:
    """The job context of the running code.

    That of the task that runs here; else that of the innermost `fray_default_job_ctx` block; else
    one for the whole process, made by ``create_job_ctx("auto")`` when it is first asked for.
    """
    return CURRENT_JOB_CONTEXT.get() or _DEFAULT.get()


@contextlib.contextmanager
def fray_default_job_ctx(ctx: JobContext) -> Generator[JobContext]:
    """Sets the default job context for a block.

    Args:
        ctx: The context; it is not shut down at the end of the block.

    Raises:
        TypeError: It is no job context.
    """
    if not isinstance(ctx, JobContext):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the default job context is what create_job_ctx() gives, not {ctx!r}")
    token = CURRENT_JOB_CONTEXT.set(ctx)
    try:
        yield ctx
    finally:
        CURRENT_JOB_CONTEXT.reset(token)


__all__ = [
    "ContextConfig",
    "ContextType",
    "create_job_ctx",
    "fray_default_job_ctx",
    "get_default_job_ctx",
]
