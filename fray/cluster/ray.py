"""`RayCluster`: jobs, names and actors of fray's on a real Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, overload

from fray.cluster.base import check_group, check_job_id, check_submission_id
from fray.cluster.blobs import pack
from fray.cluster.bundler import size_limit
from fray.cluster.bundles import pack_workspace
from fray.cluster.current import identity_of
from fray.cluster.environment_sender import check_environment
from fray.cluster.identity import user_name
from fray.cluster.rayimport import import_ray
from fray.cluster.rayjobs import RayJob, no_such_job
from fray.cluster.raykeeper import Keeper
from fray.cluster.rayoptions import bundle_of, import_environment, options_of
from fray.cluster.rayrunner import RayTask
from fray.cluster.types import (
    JobGroupConfig,
    JobInfo,
    JobRequest,
    JobStatus,
    ReservationConfig,
    ReservationInfo,
    TpuConfig,
)
from fray.cluster.worker.envs.needs import Needs, needs_of
from fray.cluster.workspace import workspace_files
from fray.errors import JobFailedError, UnsupportedError
from fray.ids import JobId, Namespace, ReservationId
from fray.runtime.clock import SystemClock
from fray.runtime.serialization import dumps_call

if TYPE_CHECKING:
    from fray.actor.resolver import SystemResolver
    from fray.actor.system import ActorSystem
    from fray.cluster.environment import EnvironmentConfig
    from fray.cluster.raysystem import RaySystem

log = logging.getLogger("fray.job")

NAMESPACE = "fray"
"""Ray's namespace of the keeper, and the namespace of names, unless something else is said."""

QUESTION_S = 10.0
"""How long one question to the keeper waits."""


class RayCluster:
    """Jobs, names and actors of fray's on Ray. See `Cluster`.

    Each task is a process below an actor of Ray's, with the resources of its replica; a group is a
    placement group. The jobs (of those that have ended, the last 1,000), the last 10,000 lines of
    each one's output, and the names of actors are kept by a detached actor, so they are found again
    by whoever connects to that Ray later, as long as it lives. Every host needs fray installed, or
    the project of the job's environment must bring it.

    What Ray cannot do is refused before anything is done: reservations, mapped ports, images,
    regions, priorities, limits of time, TPUs of several hosts; supervisors and groups of actors.

    Args:
        namespace: Ray's namespace of the detached actor. Names of actors are in
            ``FRAY_NAMESPACE``, else in one that is called so, too: other programs on that Ray find
            them.
        address: Of a Ray cluster; None for the one that Ray finds, or a new one on this machine.

    Raises:
        UnsupportedError: Ray is not installed.
    """

    def __init__(self, namespace: str = NAMESPACE, *, address: str | None = None) -> None:
        self._ray = import_ray()
        self._namespace = namespace
        self._began_ray = not self._ray.is_initialized()
        if self._began_ray:
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        self._keeper = Keeper(namespace)
        self._identity = identity_of(namespace=os.environ.get("FRAY_NAMESPACE") or namespace)
        self._actors: RaySystem | None = None
        self._lock = threading.Lock()
        self._block = contextlib.ExitStack()
        self._clock = SystemClock()

    def __repr__(self) -> str:
        return f"<RayCluster namespace={self._namespace}>"

    def __enter__(self) -> RayCluster:
        from fray.cluster.current import using_cluster

        self._block.callback(self.shutdown)
        self._block.enter_context(using_cluster(self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._block.close()

    @property
    def closed(self) -> bool:
        """Whether this process has left the Ray that this cluster is on."""
        return self._keeper.closed

    def shutdown(self) -> None:
        """Ends this process's actors, and the connection to Ray if this cluster has made it.

        Jobs go on where Ray does. May be called twice.
        """
        with self._lock:
            actors, self._actors = self._actors, None
        if actors is not None:
            actors.close()
        if self._began_ray:
            self._began_ray = False
            self._ray.shutdown()

    def _ask(self, method: str, *args: Any) -> Any:
        return self._keeper.ask("jobs", method, *args)

    # ---- names and actors

    def _open_actors(self) -> RaySystem:
        from fray.cluster.raysystem import RaySystem

        with self._lock:
            if self._actors is None or self._actors.system.closed:
                self._actors = RaySystem(self._keeper, self._identity)
            return self._actors

    @property
    def system(self) -> ActorSystem:
        """This process's actor system, begun when it is first used.

        Raises:
            ClusterUnavailable: This process has left Ray.
        """
        return self._open_actors().system

    @property
    def resolver(self) -> SystemResolver:
        """Finds actors in the connection's namespace."""
        return self._open_actors().resolver

    # ---- launching

    def launch(self, request: JobRequest, *, submission_id: str | None = None) -> JobId:
        """See `Cluster.launch`."""
        check_submission_id(submission_id)
        return self._launch([request], submission_id)[0]

    def launch_group(
        self,
        requests: Sequence[JobRequest],
        group: JobGroupConfig,
        reservation_id: ReservationId | None = None,
        *,
        submission_id: str | None = None,
    ) -> list[JobId]:
        """See `Cluster.launch_group`: the jobs share a placement group."""
        check_submission_id(submission_id)
        check_group(requests, group)
        if reservation_id is not None:
            self._no_reservations()
        return self._launch(list(requests), submission_id, group)

    def _launch(
        self,
        requests: list[JobRequest],
        submission_id: str | None,
        group: JobGroupConfig | None = None,
    ) -> list[JobId]:
        namespace = self.get_namespace()
        if group is not None and group.namespace is not None:
            namespace = Namespace(group.namespace)
        jobs: list[RayJob] = []
        bundles: list[dict[str, float]] = []
        for request in requests:
            request.validate()
            refuse(request)
            jobs.append(self._job_of(request, namespace))
            bundles += [bundle_of(request.resources)] * request.resources.replicas
        if group is None and len(bundles) == 1:
            bundles = []
        submission_id = submission_id or f"s-{self._clock.token(8)}"
        ids = self._ask("launch", jobs, bundles, "PACK", submission_id)
        return [JobId(one) for one in ids]

    def _job_of(self, request: JobRequest, namespace: Namespace) -> RayJob:
        job_id = f"{user_name()}/{request.name}-{self._clock.token(3)}"
        entry = request.entrypoint
        argv: tuple[str, ...] | None = None
        payload = b""
        if entry.binary_entrypoint is not None:
            argv = (entry.binary_entrypoint.command, *entry.binary_entrypoint.args)
        elif entry.callable_entrypoint is not None:
            call = entry.callable_entrypoint
            what = f"the entrypoint of job {request.name!r}"
            payload = pack(dumps_call(call.callable, tuple(call.args), call.kwargs, what=what))
        bundle = bundle_of_project(request)
        replicas = request.resources.replicas
        tasks: list[RayTask] = []
        for index in range(replicas):
            variables = {
                **(request.environment.env_vars if request.environment is not None else {}),
                "FRAY_JOB_ID": job_id,
                "FRAY_JOB_NAME": request.name,
                "FRAY_REPLICA_ID": str(index),
                "FRAY_REPLICA_COUNT": str(replicas),
                "FRAY_TASK_INDEX": str(index),
                "FRAY_NUM_TASKS": str(replicas),
                "FRAY_NAMESPACE": namespace,
                "FRAY_CLUSTER_SPEC": f"ray?namespace={self._namespace}",
            }
            options = _options_of(request)
            tasks.append(RayTask(job_id, index, argv, payload, bundle, variables, options))
        failures, losses = request.max_retries_failure, request.max_retries_preemption
        return RayJob(job_id, request.name, tuple(tasks), failures, losses)

    # ---- looking and waiting

    def monitor(self, job_id: JobId) -> JobInfo:
        """See `Cluster.monitor`."""
        for index, line in self.logs(job_id):
            log.info("[replica-%d] %s", index, line)
        return self.wait(job_id)

    def logs(self, job_id: JobId) -> Iterator[tuple[int, str]]:
        """Output of a job until it finishes, with the index of its task.

        Args:
            job_id: The job.

        Raises:
            KeyError: No job has this id.
        """
        self.poll(job_id)
        since, over = 0, False
        while not over:
            lines, since, over = self._ask("lines", job_id, since, QUESTION_S)
            yield from lines

    def poll(self, job_id: JobId) -> JobInfo:
        """See `Cluster.poll`."""
        check_job_id(job_id)
        info: JobInfo | None = self._ask("poll", job_id)
        if info is None:
            raise no_such_job(job_id)
        return info

    def terminate(self, job_id: JobId) -> None:
        """See `Cluster.terminate`."""
        self.poll(job_id)
        self._ask("terminate", job_id)

    def list_jobs(self) -> list[JobInfo]:
        """See `Cluster.list_jobs`."""
        return self._ask("list_jobs")

    @overload
    def wait(self, job_id: JobId, raise_on_failure: bool = False) -> JobInfo: ...
    @overload
    def wait(self, job_id: Sequence[JobId], raise_on_failure: bool = False) -> list[JobInfo]: ...
    def wait(
        self, job_id: JobId | Sequence[JobId], raise_on_failure: bool = False
    ) -> JobInfo | list[JobInfo]:
        """See `Cluster.wait`."""
        ids = [job_id] if isinstance(job_id, str) else list(job_id)
        for one in ids:
            self.poll(JobId(one))
        infos = [self._ended(JobId(one)) for one in ids]
        failed = [i for i in infos if i.status in (JobStatus.FAILED, JobStatus.STOPPED)]
        if raise_on_failure and failed:
            raise JobFailedError(
                "; ".join(
                    f"job {i.job_id} {i.status}: {i.error_message or 'no reason given'}"
                    for i in failed
                )
            )
        return infos[0] if isinstance(job_id, str) else infos

    def _ended(self, job_id: JobId) -> JobInfo:
        while True:
            info: JobInfo | None = self._ask("wait", job_id, QUESTION_S)
            if info is None:  # its keeper was started again, and knows no jobs
                raise no_such_job(job_id)
            if JobStatus.finished(info.status):
                return info

    def get_namespace(self) -> Namespace:
        """See `Cluster.get_namespace`."""
        return Namespace(self._identity.namespace)

    # ---- what Ray has not

    def create_reservation(self, config: ReservationConfig) -> ReservationId:
        """See `Cluster.create_reservation`."""
        self._no_reservations()

    def release_reservation(self, reservation_id: ReservationId) -> None:
        """See `Cluster.release_reservation`."""
        self._no_reservations()

    def get_reservation(self, reservation_id: ReservationId) -> ReservationInfo:
        """See `Cluster.get_reservation`."""
        self._no_reservations()

    def renew_reservation(
        self, reservation_id: ReservationId, ttl_seconds: float
    ) -> ReservationInfo:
        """See `Cluster.renew_reservation`."""
        self._no_reservations()

    def _no_reservations(self) -> NoReturn:
        raise UnsupportedError(
            "Ray has no reservations; launch the jobs without one, or as a group (launch_group)"
        )

    def create_mapping(
        self, job_id: JobId, port_name: str, namespace: Namespace, actor_name: str
    ) -> None:
        """See `Cluster.create_mapping`."""
        raise UnsupportedError("jobs on Ray have no ports to be mapped to names")


def refuse(request: JobRequest) -> None:
    """Refuses what Ray cannot do.

    Args:
        request: A job.

    Raises:
        UnsupportedError: It asks for that.
    """
    device, environment = request.resources.device, request.environment
    asked = {
        "a reservation": request.reservation_id is not None,
        "named ports": bool(request.ports),
        "a Docker image": environment is not None and environment.docker_image is not None,
        "regions": bool(request.resources.regions),
        "a priority": request.priority is not None,
        "limits of time": request.time_limit_s is not None or request.queue_limit_s is not None,
        "a TPU of several hosts": isinstance(device, TpuConfig) and device.vm_count() > 1,
        "extras of a locked project": environment is not None
        and bool(environment.extras)
        and _needs(environment).is_fixed,
    }
    wanted = [what for what, is_asked in asked.items() if is_asked]
    if wanted:
        raise UnsupportedError(
            f"job {request.name!r} asks for {', '.join(wanted)}, which is not to be had on Ray; "
            "nothing was launched"
        )


def bundle_of_project(request: JobRequest) -> bytes:
    """The packed project folder of a job; empty for none.

    Args:
        request: The job.

    Raises:
        InvalidRequestError: The folder is none, or too large.
    """
    environment = request.environment
    if environment is None or environment.workspace is None:
        return b""
    check_environment(environment, of=f"job {request.name!r}")
    root = Path(environment.workspace).resolve()
    files = workspace_files(root, size_bytes_max=size_limit(os.environ))
    return pack_workspace(root, files).data


def _needs(environment: EnvironmentConfig) -> Needs:
    """What an environment installs: its packages, and what its project needs if it asks for extras.

    Raises:
        InvalidRequestError: The project has no such extra, or a package is no requirement.
    """
    if not environment.extras:
        return needs_of(None, (), environment.pip_packages)
    folder = Path(environment.workspace) if environment.workspace is not None else None
    return needs_of(folder, environment.extras, environment.pip_packages)


def _options_of(request: JobRequest) -> dict[str, Any]:
    """Ray's options of the actors of a job's tasks."""
    environment = request.environment
    runtime: dict[str, Any] = {}
    if environment is None:
        runtime = import_environment()
    elif environment.pip_packages or environment.extras:
        runtime["pip"] = list(_needs(environment).requirements)
    return {**options_of(request.resources), "runtime_env": runtime}


__all__ = ["NAMESPACE", "RayCluster"]
