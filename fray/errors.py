"""Every error that fray raises, in one short tree.

::

    FrayError
    ├── CallError                      a call has no result
    │   ├── RemoteError                the method raised (the user's exception, as data)
    │   ├── ActorDied                  the actor is gone; says why
    │   ├── ActorUnavailable           the actor cannot be reached now; it may come back
    │   ├── CallCancelled              somebody cancelled the call
    │   ├── DeadlineExceeded           (also a TimeoutError)
    │   ├── MailboxFull                the actor has too many calls waiting
    │   ├── SliceLost                  slices of a group were lost before they had answered
    │   ├── TaskLostError              a task's worker was lost, and its tries are used up
    │   ├── CallCycle                  the actor waits, through others, for its own caller
    │   └── UnknownMethodError         (also an AttributeError)
    ├── ActorNotFoundError             (also a LookupError) no actor has this name
    ├── NameTakenError                 (also a ValueError) an exclusive name is in use
    ├── BlockingCallError              a blocking call on an event loop's thread
    ├── ReferenceFreedError            (also a LookupError) what a reference stood for is gone
    ├── PayloadError                   (also a TypeError) something cannot be pickled or rebuilt
    ├── ProtocolError
    │   ├── LocalProtocolError         this side broke the protocol: a bug in fray
    │   └── RemoteProtocolError        the peer broke it
    ├── ConnectionRefused              the peer does not let us in; says why
    ├── SupervisorFailed               a supervisor gave up; its causes say why
    ├── ChildFailed                    one of those causes: the end of a child
    └── ClusterError
        ├── ClusterUnavailable         the controller cannot be reached
        ├── ClusterClosed              (also a RuntimeError) this connection was closed here
        ├── JobNotFoundError           (also a KeyError)
        ├── ReservationNotFoundError   (also a KeyError)
        ├── JobFailedError             (also a RuntimeError)
        ├── InvalidRequestError        (also a ValueError)
        ├── PermissionDeniedError      (also a PermissionError) the token does not allow it
        ├── InfeasibleError            (an InvalidRequestError) no host could ever run this
        └── UnsupportedError           this backend cannot do that

`JobStopped` stands apart: it unwinds the thread of a job that was told to stop, and derives from
`BaseException` so that no ``except Exception`` of the job keeps it alive.

Messages are written for the reader who sees nothing else: what happened, to which actor, job or
host, what may have run, what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class FrayError(Exception):
    """The root of everything that fray raises on purpose."""


class Started(StrEnum):
    """Whether a call that has no result may have run."""

    NO = "no"
    """The method was never entered: calling again is safe."""
    UNKNOWN = "unknown"
    """The method may have run, wholly or in part."""


class DeathKind(StrEnum):
    """Why an actor or a task is gone."""

    APP_ERROR = "app_error"
    """Its constructor, its start hook or its process failed by an exception or exit code."""
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    BUILD_FAILED = "build_failed"
    """Its environment could not be built: nothing of it has run."""
    PREEMPTED = "preempted"
    HOST_LOST = "host_lost"
    STOPPED = "stopped"
    """Somebody asked for it: stop, kill, the end of its job or of its driver."""
    RESTART_LIMIT = "restart_limit"
    NOT_FOUND = "not_found"
    """Nobody knows of it: it ended long ago, or has never been."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DeathCause:
    """Why something died, as data that crosses the wire.

    Attributes:
        kind: The class of cause.
        message: One sentence for a person.
        exit_code: The process's exit code, where it exited.
        signal: The signal's number, where one ended the process.
        host: The worker on which it happened, where one is known.
    """

    kind: DeathKind = DeathKind.UNKNOWN
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    host: str | None = None

    def __str__(self) -> str:
        told = self.message or self.kind.value.replace("_", " ")
        if not self.host or told.endswith(f" on {self.host}"):  # a cause within a cause says it
            return told
        is_sentence = told.endswith(".")  # as what builds environments says it
        return f"{told[:-1]} (on {self.host})" if is_sentence else f"{told} on {self.host}"


class CallError(FrayError):
    """A call ended without a result.

    Attributes:
        started: Whether the method may have run.
    """

    started: Started

    def __init__(self, message: str, *, started: Started = Started.UNKNOWN) -> None:
        super().__init__(message)
        self.started = started


@dataclass(frozen=True, slots=True)
class ErrorData:
    """An exception as plain data: what is told of it even where it cannot be rebuilt.

    Attributes:
        type_name: Qualified name of its class (``package.module.Class``).
        message: ``str()`` of it.
        traceback: The formatted remote traceback, without causes.
        notes: What ``add_note`` added.
        cause: The ``__cause__``, else the unsuppressed ``__context__``.
        group: The members of an exception group.
    """

    type_name: str
    message: str
    traceback: str = ""
    notes: tuple[str, ...] = ()
    cause: ErrorData | None = None
    group: tuple[ErrorData, ...] = ()

    def format(self, indent: str = "") -> str:
        """Formats the whole tree as Python prints chained exceptions.

        Args:
            indent: What stands before each line.
        """
        parts: list[str] = []
        if self.cause is not None:
            parts.append(self.cause.format(indent))
            parts.append(f"{indent}The above exception led to this one:")
        body = self.traceback.rstrip() or f"{self.type_name}: {self.message}"
        parts.extend(indent + line for line in body.splitlines())
        parts.extend(indent + note for note in self.notes if note not in body)
        for number, member in enumerate(self.group, 1):
            parts.append(f"{indent}  member {number} of {len(self.group)}:")
            parts.append(member.format(indent + "  | "))
        return "\n".join(parts)


class RemoteError(CallError):
    """The method raised: the user's exception, as data.

    Where the user's own exception can be rebuilt it is raised itself, with a `RemoteError` as its
    ``__cause__``; where it cannot, the `RemoteError` is raised. See `remote_error`.

    Attributes:
        data: The whole exception tree.
        actor: Which actor raised it, for people.
        host: Where that actor was, for people.
    """

    def __init__(self, data: ErrorData, *, actor: str = "", host: str = "") -> None:
        where = " ".join(p for p in (actor and f"actor {actor}", host and f"on {host}") if p)
        super().__init__(
            f"{data.type_name}: {data.message}\n\n"
            f"Remote traceback{' (' + where + ')' if where else ''}:\n{data.format()}"
        )
        self.data = data
        self.actor = actor
        self.host = host

    def __reduce__(self) -> Any:
        return _rebuild_remote_error, (self.data, self.actor, self.host)


def _rebuild_remote_error(data: ErrorData, actor: str, host: str) -> RemoteError:
    return RemoteError(data, actor=actor, host=host)


def remote_error(exc: BaseException) -> RemoteError | None:
    """The remote side's account of an exception that a call raised, where it came from there.

    Args:
        exc: What a call raised.
    """
    if isinstance(exc, RemoteError):
        return exc
    return exc.__cause__ if isinstance(exc.__cause__, RemoteError) else None


class ActorDied(CallError):
    """The actor is gone.

    Attributes:
        actor: The actor's name or id.
        cause: Why it is gone.
    """

    def __init__(
        self, actor: str, cause: DeathCause | None = None, *, started: Started = Started.UNKNOWN
    ) -> None:
        cause = cause or DeathCause()
        ran = "did not start" if started is Started.NO else "may have run"
        super().__init__(f"actor {actor} died: {cause}; the call {ran}", started=started)
        self.actor = actor
        self.cause = cause

    def __reduce__(self) -> Any:
        return _rebuild_actor_died, (self.actor, self.cause, self.started)


def _rebuild_actor_died(actor: str, cause: DeathCause, started: Started) -> ActorDied:
    return ActorDied(actor, cause, started=started)


class ActorUnavailable(CallError):
    """The actor cannot be reached at present; it may still be alive."""


class CallCancelled(CallError):
    """The call was cancelled before it had a result."""


class DeadlineExceeded(CallError, TimeoutError):
    """The call's time was up before it had a result."""


class MailboxFull(CallError):
    """The actor already has as many waiting calls as it accepts."""

    def __init__(self, message: str, *, started: Started = Started.NO) -> None:
        super().__init__(message, started=started)


class TaskLostError(CallError):
    """The worker that ran a task was lost, and the task has no tries left."""


class SliceLost(CallError):
    """Slices of a group were lost, and with them answers of their hosts.

    Attributes:
        epoch: In which epoch of the group.
        lost: Why each of them is lost, by its number and life (`fray.groups.SliceId`).
    """

    def __init__(
        self,
        message: str,
        *,
        epoch: int,
        lost: Mapping[Any, DeathCause],
        started: Started = Started.UNKNOWN,
    ) -> None:
        super().__init__(message, started=started)
        self.epoch = epoch
        self.lost = dict(lost)

    def __reduce__(self) -> Any:
        return _rebuild_slice_lost, (str(self), self.epoch, self.lost, self.started)


def _rebuild_slice_lost(
    message: str, epoch: int, lost: Mapping[Any, DeathCause], started: Started
) -> SliceLost:
    return SliceLost(message, epoch=epoch, lost=lost, started=started)


class CallCycle(CallError):
    """Waiting for this call would wait for its own caller."""

    def __init__(self, message: str, *, started: Started = Started.NO) -> None:
        super().__init__(message, started=started)


class UnknownMethodError(CallError, AttributeError):
    """The actor has no such public method."""

    def __init__(self, message: str, *, started: Started = Started.NO) -> None:
        super().__init__(message, started=started)


class ActorNotFoundError(FrayError, LookupError):
    """No actor is registered under this name."""


class NameTakenError(FrayError, ValueError):
    """An exclusive name belongs to a living actor."""


class BlockingCallError(FrayError, RuntimeError):
    """A blocking call was made on the thread of a running event loop."""


class ReferenceFreedError(FrayError, LookupError):
    """What a reference stood for is gone: it was released, or its time or its context has ended."""


class PayloadError(FrayError, TypeError):
    """An argument, result or exception cannot be pickled, or not be rebuilt."""


class ProtocolError(FrayError):
    """A connection broke the wire protocol."""


class LocalProtocolError(ProtocolError):
    """This side broke the protocol: a bug in fray, please report it."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; its connection is closed."""


class ConnectionRefused(FrayError, ConnectionError):
    """The peer refuses this connection.

    Attributes:
        status: The HTTP status of the refusal, 0 where there was none.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class SupervisorFailed(FrayError):
    """A supervisor has ended: it gave up, or was stopped before all its children had started.

    What led to it is its ``__cause__``, where that is known here: an exception group with the
    failures of its children, each with its own causes.

    Attributes:
        supervisor: Its name.
        cause: Why it ended; `DeathKind.STOPPED` if it was told to.
    """

    def __init__(self, supervisor: str, cause: DeathCause) -> None:
        super().__init__(f"supervisor {supervisor} has ended: {cause}")
        self.supervisor = supervisor
        self.cause = cause

    def __reduce__(self) -> Any:
        return SupervisorFailed, (self.supervisor, self.cause)


class ChildFailed(FrayError):
    """A supervisor's child has ended, as one of the causes of `SupervisorFailed`.

    Attributes:
        child: Its name.
        cause: What it died of.
    """

    def __init__(self, child: str, cause: DeathCause) -> None:
        kind = cause.kind.value.replace("_", " ")
        super().__init__(f"{child} ended, {kind}: {cause}")
        self.child = child
        self.cause = cause

    def __reduce__(self) -> Any:
        return ChildFailed, (self.child, self.cause)


class ClusterError(FrayError):
    """A cluster could not do what was asked."""


class ClusterUnavailable(ClusterError, ConnectionError):
    """The cluster's controller cannot be reached."""


class ClusterClosed(ClusterError, RuntimeError):
    """This connection to a cluster was closed by this program; nothing was done."""


class JobNotFoundError(ClusterError, KeyError):
    """No job has this id."""

    def __str__(self) -> str:  # KeyError's own prints the repr of its argument
        return str(self.args[0]) if self.args else ""


class ReservationNotFoundError(ClusterError, KeyError):
    """No reservation has this id."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class JobFailedError(ClusterError, RuntimeError):
    """A job that was waited for failed or was stopped."""


class InvalidRequestError(ClusterError, ValueError):
    """A request is wrong in itself; nothing was done."""


class PermissionDeniedError(ClusterError, PermissionError):
    """The token with which this was asked for does not allow it; nothing was done."""


class InfeasibleError(InvalidRequestError):
    """No host of this cluster could ever run this."""


class UnsupportedError(ClusterError, NotImplementedError):
    """This kind of cluster cannot do that."""


class JobStopped(BaseException):
    """The job that runs in this thread was told to stop."""


__all__ = [
    "ActorDied",
    "ActorNotFoundError",
    "ActorUnavailable",
    "BlockingCallError",
    "CallCancelled",
    "CallCycle",
    "CallError",
    "ChildFailed",
    "ClusterClosed",
    "ClusterError",
    "ClusterUnavailable",
    "ConnectionRefused",
    "DeadlineExceeded",
    "DeathCause",
    "DeathKind",
    "ErrorData",
    "FrayError",
    "InfeasibleError",
    "InvalidRequestError",
    "JobFailedError",
    "JobNotFoundError",
    "JobStopped",
    "LocalProtocolError",
    "MailboxFull",
    "NameTakenError",
    "PayloadError",
    "PermissionDeniedError",
    "ProtocolError",
    "ReferenceFreedError",
    "RemoteError",
    "RemoteProtocolError",
    "ReservationNotFoundError",
    "SliceLost",
    "Started",
    "SupervisorFailed",
    "TaskLostError",
    "UnknownMethodError",
    "UnsupportedError",
    "remote_error",
]
