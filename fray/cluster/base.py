"""What a cluster can do: the seed's synchronous `Cluster`, and `AsyncCluster` behind it.

Each backend is written once, asynchronously, as an `AsyncCluster`. `SyncCluster` makes any of them
synchronous: it blocks the calling thread while the backend works on its own loop.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload, runtime_checkable

from fray.actor.blocking import refuse_to_block
from fray.actor.resolver import SystemResolver
from fray.cluster.types import (
    JobGroupConfig,
    JobInfo,
    JobRequest,
    JobStatus,
    ReservationConfig,
    ReservationInfo,
)
from fray.errors import InvalidRequestError, JobFailedError, UnsupportedError
from fray.ids import JobId, Namespace, ReservationId

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem

T = TypeVar("T")

log = logging.getLogger("fray.job")

SUBMISSION_ID_MAX = 200
"""Characters of the id that a user gives a submission."""


@runtime_checkable
class Cluster(Protocol):
    """Abstract interface for cluster job scheduling.

    Implementations: `FrayCluster`, `LocalCluster`, ``RayCluster``.
    """

    def launch(self, request: JobRequest, *, submission_id: str | None = None) -> JobId:
        """Launches a job.

        Args:
            request: What to run, with what, where.
            submission_id: A name for this launch, unique among the user's: launching again under
                it, after a crash or a lost answer, gives the job of the first time, for as long as
                the cluster remembers that. What is pickled (the function and its arguments) is not
                compared. None: each launch is a new job.

        Returns:
            The job's id, unique in the cluster for ever.

        Raises:
            InvalidRequestError: The request is wrong in itself, or differs from the one that was
                launched under its ``submission_id``. Nothing was done.
            InfeasibleError: No host of this cluster could ever run it. Nothing was done.
            PayloadError: Its function or arguments cannot be pickled. Nothing was done.
            ClusterUnavailable: The controller does not answer.
        """
        ...

    def monitor(self, job_id: JobId) -> JobInfo:
        """Logs each line that a job prints, at INFO as ``[replica-N] line``, until it finishes.

        Args:
            job_id: The job.

        Raises:
            KeyError: No job has this id.
        """
        ...

    def poll(self, job_id: JobId) -> JobInfo:
        """The status of a job, now.

        Args:
            job_id: The job.

        Raises:
            KeyError: No job has this id.
        """
        ...

    def terminate(self, job_id: JobId) -> None:
        """Stops a job and the jobs that it launched. Does nothing to a finished one.

        Returns when the order is given: `wait` tells when the job has stopped.

        Args:
            job_id: The job.

        Raises:
            KeyError: No job has this id.
        """
        ...

    def list_jobs(self) -> list[JobInfo]:
        """All jobs that the cluster remembers, oldest first."""
        ...

    @overload
    def wait(self, job_id: JobId, raise_on_failure: bool = False) -> JobInfo: ...
    @overload
    def wait(self, job_id: Sequence[JobId], raise_on_failure: bool = False) -> list[JobInfo]: ...
    def wait(
        self, job_id: JobId | Sequence[JobId], raise_on_failure: bool = False
    ) -> JobInfo | list[JobInfo]:
        """Blocks until a job, or all of several, have finished.

        Args:
            job_id: One id, or a sequence of them.
            raise_on_failure: Raise if one failed or was stopped, after all have finished.

        Raises:
            KeyError: No job has this id.
            JobFailedError: (also a `RuntimeError`) see ``raise_on_failure``.
        """
        ...

    def create_reservation(self, config: ReservationConfig) -> ReservationId:
        """Creates a resource reservation for upcoming jobs.

        Args:
            config: What to reserve.

        Returns:
            Its id. It is filled as room comes: `get_reservation` says how far it is.

        Raises:
            InvalidRequestError: It makes no sense, or is above the user's quota.
            InfeasibleError: No host of this cluster could ever have one replica of it.
            UnsupportedError: This backend has no reservations.
        """
        ...

    def release_reservation(self, reservation_id: ReservationId) -> None:
        """Releases a reservation; its jobs go on without it. May be repeated.

        Args:
            reservation_id: Which.

        Raises:
            KeyError: No reservation has this id.
        """
        ...

    def get_reservation(self, reservation_id: ReservationId) -> ReservationInfo:
        """The status of a reservation, also of one that has ended.

        Args:
            reservation_id: Which.

        Raises:
            KeyError: No reservation has this id.
        """
        ...

    def renew_reservation(
        self, reservation_id: ReservationId, ttl_seconds: float
    ) -> ReservationInfo:
        """Lets a reservation last longer.

        Args:
            reservation_id: Which.
            ttl_seconds: How long from now on, above 0.

        Raises:
            KeyError: No reservation has this id.
            InvalidRequestError: It has ended, or the time is not above 0.
        """
        ...

    def launch_group(
        self,
        requests: Sequence[JobRequest],
        group: JobGroupConfig,
        reservation_id: ReservationId | None = None,
        *,
        submission_id: str | None = None,
    ) -> list[JobId]:
        """Launches co-located jobs together: they start together or not at all.

        Args:
            requests: The jobs; at least one.
            group: What they share.
            reservation_id: Resources to draw from.
            submission_id: See `launch`.

        Returns:
            Ids in the order of the requests.

        Raises:
            InvalidRequestError: A request is wrong in itself. Nothing was done.
            InfeasibleError: No host could ever run one of them. Nothing was done.
        """
        ...

    def get_namespace(self) -> Namespace:
        """The namespace of this connection, which everything that it launches inherits."""
        ...

    def create_mapping(
        self, job_id: JobId, port_name: str, namespace: Namespace, actor_name: str
    ) -> None:
        """Lets a name lead to the actors that a job serves at one of its ports.

        Looking the name up gives the actors that the job's tasks have registered with a
        `FrayActorServer` at that port or, where it serves none there, at its process's own. While
        there are none look-ups wait. The mapping follows the job's tasks over their restarts and
        ends with the job. Several jobs may be mapped to one name: calls are balanced over them.

        Args:
            job_id: The job.
            port_name: One of its ``ports``.
            namespace: Where the name is.
            actor_name: The name. Where a port serves several actors, the one that is called so.

        Raises:
            KeyError: No job has this id.
            InvalidRequestError: It has no such port, or has ended.
            NameTakenError: A living actor has the name exclusively.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a task printed.

    Attributes:
        task_index: Which task of the job.
        text: The line, without its end.
        attempt: Which attempt of the task, from 0.
    """

    task_index: int
    text: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class LogRange:
    """Which part of a task's output is wanted.

    Attributes:
        attempt: Only of this attempt, from 0; None for all.
        tail_lines: Only the last lines of what is there, and what follows; None for all.
        offset: From this byte of an attempt's output on, at least 0.
        since: Only what was printed from then on, in seconds since 1970, as far as is known: to
            some seconds, and with a little too much rather than too little. None for all.
    """

    attempt: int | None = None
    tail_lines: int | None = None
    offset: int = 0
    since: float | None = None


ALL_OUTPUT = LogRange()
"""All of a task's output, over all its attempts."""


def check_job_id(job_id: object) -> None:
    """Checks what should be a job's id.

    Args:
        job_id: What was given.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(job_id, str):
        raise TypeError(f"a job is named by the id that launch() gave, not by {job_id!r}")


def check_group(requests: object, group: object) -> None:
    """Checks that what should be a group's jobs and its description are that.

    Args:
        requests: What was given as its jobs.
        group: What was given as its description.

    Raises:
        TypeError: They are something else.
    """
    if not isinstance(requests, Sequence):
        raise TypeError(f"a group is launched from a list of JobRequests, not {requests!r}")
    if not isinstance(group, JobGroupConfig):
        raise TypeError(f"group is a JobGroupConfig, not {group!r}")


def check_submission_id(submission_id: object) -> None:
    """Checks what should name a submission.

    Args:
        submission_id: What was given; None for a new submission.

    Raises:
        InvalidRequestError: It is no string, empty or too long, or has unprintable characters.
    """
    if submission_id is None:
        return
    if not isinstance(submission_id, str) or not 0 < len(submission_id) <= SUBMISSION_ID_MAX:
        raise InvalidRequestError(
            f"a submission_id is a string of 1 to {SUBMISSION_ID_MAX} characters, not "
            f"{submission_id!r:.80}"
        )
    if not submission_id.isprintable():
        raise InvalidRequestError(f"a submission_id is printable, not {submission_id!r}")


class AsyncCluster(abc.ABC):
    """A cluster, asynchronously. Methods mean what they mean in `Cluster`.

    Args:
        system: The connection's actor system.
    """

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.resolver = SystemResolver(system)

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """The controller's ``host:port``."""

    async def launch(self, request: JobRequest, *, submission_id: str | None = None) -> JobId:
        """See `Cluster.launch`."""
        check_submission_id(submission_id)
        return (await self._launch([request], None, submission_id))[0]

    async def launch_group(
        self,
        requests: Sequence[JobRequest],
        group: JobGroupConfig,
        reservation_id: ReservationId | None = None,
        *,
        submission_id: str | None = None,
    ) -> list[JobId]:
        """See `Cluster.launch_group`."""
        check_submission_id(submission_id)
        check_group(requests, group)
        if reservation_id is not None:
            requests = [
                replace(each, reservation_id=each.reservation_id or reservation_id)
                for each in requests
            ]
        return await self._launch(list(requests), group, submission_id)

    @abc.abstractmethod
    async def _launch(
        self,
        requests: Sequence[JobRequest],
        group: JobGroupConfig | None,
        submission_id: str | None,
    ) -> list[JobId]: ...

    @abc.abstractmethod
    async def create_mapping(
        self, job_id: JobId, port_name: str, namespace: Namespace, actor_name: str
    ) -> None:
        """See `Cluster.create_mapping`."""

    @abc.abstractmethod
    async def poll(self, job_id: JobId) -> JobInfo:
        """See `Cluster.poll`."""

    @abc.abstractmethod
    async def terminate(self, job_id: JobId) -> None:
        """See `Cluster.terminate`."""

    @abc.abstractmethod
    async def list_jobs(self) -> list[JobInfo]:
        """See `Cluster.list_jobs`."""

    @abc.abstractmethod
    async def wait_for(self, job_id: JobId) -> JobInfo:
        """Waits until one job has finished.

        Args:
            job_id: The job.
        """

    @abc.abstractmethod
    def logs(
        self,
        job_id: JobId,
        *,
        task_index: int | None = None,
        follow: bool = True,
        where: LogRange = ALL_OUTPUT,
    ) -> AsyncIterator[LogLine]:
        """What a job's tasks print, line by line; lines of one task in order.

        Args:
            job_id: The job.
            task_index: Only this task; None for all.
            follow: Go on until the job has finished; else stop at the present end.
            where: Which part of it.
        """

    async def monitor(self, job_id: JobId) -> JobInfo:
        """See `Cluster.monitor`."""
        await self.poll(job_id)  # an unknown id is told before anything else
        async for line in self.logs(job_id):
            log.info("[replica-%d] %s", line.task_index, line.text)
        return await self.wait_for(job_id)

    async def wait(
        self, job_id: JobId | Sequence[JobId], raise_on_failure: bool = False
    ) -> JobInfo | list[JobInfo]:
        """See `Cluster.wait`."""
        if not isinstance(job_id, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            check_job_id(job_id)
        ids = [job_id] if isinstance(job_id, str) else list(job_id)
        for one in ids:
            check_job_id(one)
        infos = [await self.wait_for(JobId(one)) for one in ids]
        failed = [i for i in infos if i.status in (JobStatus.FAILED, JobStatus.STOPPED)]
        if raise_on_failure and failed:
            told = "; ".join(
                f"job {i.job_id} {i.status}: {i.error_message or 'no reason given'}" for i in failed
            )
            raise JobFailedError(told)
        return infos[0] if isinstance(job_id, str) else infos

    async def create_reservation(self, config: ReservationConfig) -> ReservationId:
        """See `Cluster.create_reservation`."""
        raise self._no_reservations()

    async def release_reservation(self, reservation_id: ReservationId) -> None:
        """See `Cluster.release_reservation`."""
        raise self._no_reservations()

    async def get_reservation(self, reservation_id: ReservationId) -> ReservationInfo:
        """See `Cluster.get_reservation`."""
        raise self._no_reservations()

    async def renew_reservation(
        self, reservation_id: ReservationId, ttl_seconds: float
    ) -> ReservationInfo:
        """See `Cluster.renew_reservation`."""
        raise self._no_reservations()

    def _no_reservations(self) -> UnsupportedError:
        return UnsupportedError(
            f"{type(self).__name__} has no reservations; launch the jobs without one"
        )

    def get_namespace(self) -> Namespace:
        """See `Cluster.get_namespace`."""
        return self.system.namespace

    @abc.abstractmethod
    async def close(self) -> None:
        """Ends the connection, and with it the actors that belong to it."""


class SyncCluster:
    """Any `AsyncCluster` as a `Cluster`. Safe to use from any thread but its loop's own.

    Args:
        backend: The asynchronous cluster.
    """

    def __init__(self, backend: AsyncCluster) -> None:
        self._backend = backend

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._backend.address}>"

    @property
    def system(self) -> ActorSystem:
        """The connection's actor system."""
        return self._backend.system

    @property
    def resolver(self) -> SystemResolver:
        """Finds actors in the connection's namespace."""
        return self._backend.resolver

    @property
    def address(self) -> str:
        """The controller's ``host:port``."""
        return self._backend.address

    @property
    def asynchronous(self) -> AsyncCluster:
        """The same cluster, to be awaited on its own loop."""
        return self._backend

    def _run(self, what: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        refuse_to_block(f"cluster.{what}(…)", f"await cluster.asynchronous.{what}(…)")
        return self._backend.system.run(make)

    def launch(self, request: JobRequest, *, submission_id: str | None = None) -> JobId:
        """See `Cluster.launch`."""
        return self._run(
            "launch", lambda: self._backend.launch(request, submission_id=submission_id)
        )

    def monitor(self, job_id: JobId) -> JobInfo:
        """See `Cluster.monitor`."""
        return self._run("monitor", lambda: self._backend.monitor(job_id))

    def poll(self, job_id: JobId) -> JobInfo:
        """See `Cluster.poll`."""
        return self._run("poll", lambda: self._backend.poll(job_id))

    def terminate(self, job_id: JobId) -> None:
        """See `Cluster.terminate`."""
        self._run("terminate", lambda: self._backend.terminate(job_id))

    def list_jobs(self) -> list[JobInfo]:
        """See `Cluster.list_jobs`."""
        return self._run("list_jobs", self._backend.list_jobs)

    @overload
    def wait(self, job_id: JobId, raise_on_failure: bool = False) -> JobInfo: ...
    @overload
    def wait(self, job_id: Sequence[JobId], raise_on_failure: bool = False) -> list[JobInfo]: ...
    def wait(
        self, job_id: JobId | Sequence[JobId], raise_on_failure: bool = False
    ) -> JobInfo | list[JobInfo]:
        """See `Cluster.wait`."""
        return self._run("wait", lambda: self._backend.wait(job_id, raise_on_failure))

    def create_reservation(self, config: ReservationConfig) -> ReservationId:
        """See `Cluster.create_reservation`."""
        return self._run("create_reservation", lambda: self._backend.create_reservation(config))

    def release_reservation(self, reservation_id: ReservationId) -> None:
        """See `Cluster.release_reservation`."""
        self._run("release_reservation", lambda: self._backend.release_reservation(reservation_id))

    def get_reservation(self, reservation_id: ReservationId) -> ReservationInfo:
        """See `Cluster.get_reservation`."""
        return self._run("get_reservation", lambda: self._backend.get_reservation(reservation_id))

    def renew_reservation(
        self, reservation_id: ReservationId, ttl_seconds: float
    ) -> ReservationInfo:
        """See `Cluster.renew_reservation`."""
        return self._run(
            "renew_reservation",
            lambda: self._backend.renew_reservation(reservation_id, ttl_seconds),
        )

    def launch_group(
        self,
        requests: Sequence[JobRequest],
        group: JobGroupConfig,
        reservation_id: ReservationId | None = None,
        *,
        submission_id: str | None = None,
    ) -> list[JobId]:
        """See `Cluster.launch_group`."""
        return self._run(
            "launch_group",
            lambda: self._backend.launch_group(
                requests, group, reservation_id, submission_id=submission_id
            ),
        )

    def create_mapping(
        self, job_id: JobId, port_name: str, namespace: Namespace, actor_name: str
    ) -> None:
        """See `Cluster.create_mapping`."""
        self._run(
            "create_mapping",
            lambda: self._backend.create_mapping(job_id, port_name, namespace, actor_name),
        )

    def get_namespace(self) -> Namespace:
        """See `Cluster.get_namespace`."""
        return self._backend.get_namespace()


__all__ = [
    "ALL_OUTPUT",
    "AsyncCluster",
    "Cluster",
    "LogLine",
    "LogRange",
    "SyncCluster",
    "check_group",
    "check_job_id",
    "check_submission_id",
]
