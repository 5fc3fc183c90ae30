"""What an agent makes of how an attempt ended, or of why it could not begin."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.commands import ObservedAttempt
from fray.cluster.worker.envs.build import BuildFailed
from fray.cluster.worker.envs.container import ran_out_of_memory
from fray.cluster.worker.taskfile import read_error
from fray.errors import DeathCause, DeathKind, FrayError, PayloadError
from fray.runtime.jsoncodec import json_dumps, json_loads

if TYPE_CHECKING:
    from pathlib import Path

    from fray.cluster.worker.hosted import HostedAttempt
    from fray.cluster.worker.launcher import Exit

HOST_ERRORS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""What keeps an attempt from starting by no fault of its own: another host may do better."""

TOLD = (FrayError, OSError, ValueError)
"""What may be wrong with an attempt's request, or its host; anything else is a bug of fray's."""

log = logging.getLogger(__name__)


def is_host_fault(exc: Exception) -> bool:
    """Whether an attempt could not be started for reasons that are this host's.

    Args:
        exc: Why it could not.
    """
    if isinstance(exc, BuildFailed):
        return exc.of_moment
    return isinstance(exc, TimeoutError) or (isinstance(exc, OSError) and exc.errno in HOST_ERRORS)


def why_not_started(exc: Exception, host: str) -> DeathCause:
    """Why an attempt could not be started, as it is told.

    Args:
        exc: Why it could not.
        host: This host.
    """
    if isinstance(exc, BuildFailed):
        message = f"its environment could not be built: {exc}"
        return DeathCause(DeathKind.BUILD_FAILED, message, host=host)
    told = str(exc) if isinstance(exc, TOLD) else f"{type(exc).__name__}: {exc}"
    return DeathCause(DeathKind.APP_ERROR, f"it could not be started: {told}")


def verdict_on(
    attempt: HostedAttempt, ended: Exit, run_dir: Path, host: str
) -> tuple[AttemptState, DeathCause | None]:
    """How an attempt ended that ran, and why.

    Args:
        attempt: Which.
        ended: What its launcher says.
        run_dir: Its run directory: there it may have left its own words.
        host: This host.
    """
    if attempt.stopping:
        return AttemptState.STOPPED, attempt.why_stopped()
    if ended.cause is None:
        return AttemptState.SUCCEEDED, None
    cause = ended.cause
    if cause.kind is DeathKind.STOPPED:  # not by an order: its place was taken away
        return AttemptState.STOPPED, cause
    told = read_error(run_dir)
    if ran_out_of_memory(run_dir):
        message = f"out of memory: the kernel killed its container; {cause.message}"
        cause = DeathCause(DeathKind.OUT_OF_MEMORY, message, cause.exit_code, cause.signal)
    elif told and cause.kind is DeathKind.APP_ERROR:
        cause = DeathCause(cause.kind, told, cause.exit_code, cause.signal)
    cause = DeathCause(cause.kind, cause.message, cause.exit_code, cause.signal, host)
    return AttemptState.FAILED, cause


def make_tellable(attempt: HostedAttempt) -> None:
    """One end that cannot be told must not keep all others from being told, for ever.

    Args:
        attempt: One that has ended; its end becomes one that can be told.
    """
    try:
        json_loads(json_dumps(attempt.observed()), ObservedAttempt)
    except PayloadError as exc:
        log.error("the end of attempt %s cannot be reported: %s", attempt.attempt_id, exc)
        attempt.state = AttemptState.FAILED
        attempt.cause = DeathCause(
            DeathKind.APP_ERROR, f"it ended in a way that cannot be reported: {exc}"
        )


__all__ = [
    "HOST_ERRORS",
    "TOLD",
    "is_host_fault",
    "make_tellable",
    "verdict_on",
    "why_not_started",
]
