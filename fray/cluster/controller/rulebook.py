"""What is whose: the limits within which users, jobs and hosts may use the controller.

A user has the jobs that were submitted with their tokens, and the namespaces that they were first
to use. A job has itself, its descendants, and its namespace, in which it may look at its neighbours
but not stop them. A host has itself. The rules read the ledger; see `fray.cluster.access.Scope`.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fray.cluster.access import Scope
from fray.cluster.control import ACTORS_NAMESPACE
from fray.cluster.controller.units import priority_of
from fray.cluster.priority import DEFAULT_PRIORITY, Band, band_of, parse_priority
from fray.cluster.scheduling.accounts import HIGHEST_BAND
from fray.cluster.security.claims import Role
from fray.cluster.worker.taskfile import HostedActor
from fray.ids import ActorId, JobId, Namespace, ReservationId
from fray.runtime.jsoncodec import json_loads

if TYPE_CHECKING:
    from fray.actor.directory import ActorKey, Endpoint, Watched
    from fray.cluster.control import NameClaim
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.commands import RegisterWorker, ReportAttempts, SubmitJobs
    from fray.cluster.controller.specs import JobSpec
    from fray.cluster.guard import Arguments, Rule
    from fray.cluster.reports import JobQuery
    from fray.cluster.schedcontrol import ReservationRequest
    from fray.runtime.transport import Principal

REMEMBERED_MAX = 10_000
"""Owners of namespaces and sessions that are remembered; those of jobs are in the ledger anyway."""


class _Owners(OrderedDict[str, str]):
    """Whose something is, by its name; the least recently used are forgotten."""

    def note(self, what: str, user: str) -> None:
        self[what] = user
        self.move_to_end(what)
        while len(self) > REMEMBERED_MAX:
            self.popitem(last=False)


class Rulebook:
    """The rules of a controller.

    Args:
        book: The ledger.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._namespaces = _Owners()
        self._sessions = _Owners()
        self.rules: Mapping[Scope, Rule] = {
            Scope.SUBMIT: self._submit,
            Scope.READ_JOB: lambda who, args: self._read_job(who, args["job_id"]),
            Scope.STOP_JOB: lambda who, args: self._stop_job(who, args["job_id"]),
            Scope.NAMESPACE: lambda who, args: self._namespace(who, args["namespace"]),
            Scope.CLAIM: lambda who, args: self._claim(who, args["claim"]),
            Scope.CLAIMS: self._claims,
            Scope.DISCLAIM: self._disclaim,
            Scope.KEY: lambda who, args: self._key(who, args["key"]),
            Scope.WATCHED: self._watched,
            Scope.ENDPOINTS: self._endpoints,
            Scope.ACTOR: lambda who, args: self._actor(who, args["actor_id"]),
            Scope.ACTORS: self._actors,
            Scope.SESSION: lambda who, args: self._session(who, args["session_id"]),
            Scope.WORKER: lambda who, args: _worker(who, args["worker_id"]),
            Scope.REGISTER: self._register,
            Scope.REPORT: self._report,
            Scope.QUERY_JOBS: self._query_jobs,
            Scope.PREVIEW: self._preview,
            Scope.MAPPING: self._mapping,
            Scope.ARCHIVED: self._archived,
            Scope.RESERVE: self._reserve,
            Scope.RESERVATION: lambda who, args: self._reservation(who, args["reservation_id"]),
            Scope.RESERVATIONS: _own_reservations,
        }

    def attempt_ended(self, principal: Principal) -> bool:
        """Whether somebody comes with the token of an attempt that has ended.

        Args:
            principal: Who comes.
        """
        if principal.role != Role.JOB:
            return False
        return principal.attempt_id not in self._book.ledger.tables.attempts

    # ---- jobs

    def _submit(self, who: Principal, args: Arguments) -> str | None:
        submission: SubmitJobs = args["submission"]
        for spec in submission.jobs:
            problem = self._may_submit(who, spec)
            if problem is not None:
                return problem
        jobs = tuple(_owned(spec, who) for spec in submission.jobs)
        submitter, named, name = submission.submission_id.partition(":")
        args["submission"] = dataclasses.replace(
            submission,
            # What a client has named is unique among its user's, whoever the client says that is.
            submission_id=f"{who.user}:{name}" if named else submitter,
            jobs=jobs,
        )
        for spec in jobs:
            self._namespaces.note(spec.namespace, who.user)
        return None

    def _may_submit(self, who: Principal, spec: JobSpec) -> str | None:
        problem = self._namespace(who, spec.namespace)
        if problem is None and spec.parent is not None and spec.parent != who.job_id:
            problem = self._stop_job(who, spec.parent)
        if problem is None and spec.reservation:
            problem = self._reservation(who, spec.reservation)
        if problem is None:
            problem = self._priority(who, spec)
        if problem is not None or spec.actor is None:
            return problem
        actor = spec.actor
        if actor.owner_attempt not in ("", who.attempt_id):
            return f"attempt {actor.owner_attempt} is not the caller's"
        if actor.owner_session and (problem := self._session(who, actor.owner_session)):
            return problem
        hosted = json_loads(spec.hints["actor"].encode(), HostedActor)
        told = (hosted.actor_id, hosted.namespace, hosted.name)
        if told != (actor.actor_id, spec.namespace, actor.name):
            return "it names two actors"
        return self._actor(who, actor.actor_id)

    def _priority(self, who: Principal, spec: JobSpec) -> str | None:
        """A job may be as important as what launches it, and as its user may have others be."""
        parent = self._book.ledger.tables.jobs.get(spec.parent or JobId(who.job_id))
        inherited = DEFAULT_PRIORITY if parent is None else priority_of(parent)
        asked = band_of(inherited if spec.priority is None else parse_priority(spec.priority))
        if parent is not None and asked <= band_of(inherited):
            return None
        return self._band(who, asked)

    def _band(self, who: Principal, asked: Band) -> str | None:
        """None where a user may have what they submit be in a band of priorities."""
        standing = self._book.ledger.tables.users.get(who.user)
        highest = HIGHEST_BAND if standing is None else standing.highest_band
        if asked <= highest:
            return None
        return (
            f"the priority {asked.label!r} is above {highest.label!r}, the highest of user "
            f"{who.user}; an administrator may raise that (`fray user priority {who.user} "
            f"{asked.label}`)"
        )

    def _query_jobs(self, who: Principal, args: Arguments) -> str | None:
        query: JobQuery = args["query"]
        if query.user not in ("", who.user):
            return f"jobs of {query.user!r} are another user's"
        query = dataclasses.replace(query, user=who.user)
        if who.role == Role.JOB and query.job_ids is None:
            if query.namespace not in ("", who.namespace):
                return f"namespace {query.namespace!r} is not that of job {who.job_id}"
            query = dataclasses.replace(query, namespace=who.namespace)
        elif who.role == Role.JOB and query.job_ids is not None:
            own = (each for each in query.job_ids if self._read_job(who, each) is None)
            query = dataclasses.replace(query, job_ids=tuple(own))
        args["query"] = query
        return None

    def _preview(self, who: Principal, args: Arguments) -> str | None:
        spec: JobSpec = args["spec"]
        problem = self._may_submit(who, spec)
        if problem is None:
            args["spec"] = _owned(spec, who)
        return problem

    def _mapping(self, who: Principal, args: Arguments) -> str | None:
        problem = self._stop_job(who, args["job_id"])
        return problem or self._namespace(who, args["namespace"])

    def _archived(self, who: Principal, args: Arguments) -> str | None:
        if who.role == Role.WORKER:
            return None
        name = "path" if "path" in args else "folder"
        if who.role == Role.USER and name == "folder" and not args[name]:
            args[name] = who.user
        where: str = args[name]
        if f"{where}/".partition("/")[0] != who.user:
            return f"{where!r} is another user's"
        if who.role == Role.USER:
            return None
        while "/" in where:  # the file, the attempt's folder, the job
            if self._spec(JobId(where)) is not None:
                return self._read_job(who, JobId(where))
            where = where.rpartition("/")[0]
        return f"{args[name]!r} is not of a job that is known"

    def _read_job(self, who: Principal, job_id: JobId) -> str | None:
        spec = self._spec(job_id)
        if _is_anothers(who, job_id, spec):
            return f"job {job_id} is another user's"
        if spec is None:
            return None  # so it is told that there is none
        if who.role == Role.JOB and spec.namespace != who.namespace:
            return self._descends(who, job_id)
        return None

    def _stop_job(self, who: Principal, job_id: JobId) -> str | None:
        spec = self._spec(job_id)
        if _is_anothers(who, job_id, spec):
            return f"job {job_id} is another user's"
        if spec is None:
            return None
        return self._descends(who, job_id) if who.role == Role.JOB else None

    def _descends(self, who: Principal, job_id: JobId) -> str | None:
        """None where a job is the caller's own, or below it."""
        above: JobId | None = job_id
        while above is not None:
            if above == who.job_id:
                return None
            spec = self._spec(above)
            above = None if spec is None else spec.parent
        return f"job {job_id} is neither {who.job_id} nor one of its children"

    def _spec(self, job_id: JobId) -> JobSpec | None:
        job = self._book.ledger.tables.jobs.get(job_id)
        return None if job is None else job.spec

    # ---- names and actors

    def _namespace(self, who: Principal, namespace: str) -> str | None:
        if namespace == ACTORS_NAMESPACE:
            return "that namespace is the cluster's own"
        if who.role == Role.JOB:
            if namespace == who.namespace:
                return None
            return f"namespace {namespace!r} is not that of job {who.job_id} ({who.namespace!r})"
        owner = self._owner(namespace)
        if owner in ("", who.user):
            return None
        return f"namespace {namespace!r} is another user's"

    def _owner(self, namespace: str) -> str:
        owner = self._namespaces.get(namespace)
        if owner is None:
            first = next(iter(self._book.ledger.list_jobs(namespace=Namespace(namespace))), None)
            spec = self._spec(first) if first is not None else None
            reserved = self._book.ledger.tables.reservations.values()
            users = [each.user for each in reserved if each.namespace == namespace]
            owner = spec.user if spec is not None else next(iter(users), "")
            if not owner:
                return ""
        self._namespaces.note(namespace, owner)
        return owner

    def _claim(self, who: Principal, claim: NameClaim) -> str | None:
        endpoint = claim.endpoint
        problem = self._actor(who, endpoint.actor_id)
        if problem is not None:
            return problem
        if endpoint.job_id and (problem := self._read_job(who, JobId(endpoint.job_id))):
            return problem
        if claim.namespace == ACTORS_NAMESPACE:
            return self._hosts(who, claim.name, endpoint.actor_id)
        problem = self._namespace(who, claim.namespace)
        if problem is None:
            self._namespaces.note(claim.namespace, who.user)
        return problem

    def _hosts(self, who: Principal, name: str, actor_id: str) -> str | None:
        """None where an actor is hosted by the caller, and known by its id."""
        if name == actor_id and self._book.any_job_of_actor(ActorId(actor_id)) == who.job_id:
            return None
        return f"actor {name} is not hosted by job {who.job_id or 'of the caller'}"

    def _disclaim(self, who: Principal, args: Arguments) -> str | None:
        namespace: str = args["namespace"]
        if namespace == ACTORS_NAMESPACE:
            return self._hosts(who, args["name"], args["actor_id"])
        return self._namespace(who, namespace)

    def _claims(self, who: Principal, args: Arguments) -> str | None:
        claims: list[NameClaim] = args["claims"]
        return _first(self._claim(who, claim) for claim in claims)

    def _key(self, who: Principal, key: ActorKey) -> str | None:
        if key.name:
            return self._namespace(who, key.namespace)
        return self._actor(who, key.actor_id)

    def _watched(self, who: Principal, args: Arguments) -> str | None:
        watched: list[Watched] = args["watched"]
        return _first(self._actor(who, each.actor_id) for each in watched)

    def _endpoints(self, who: Principal, args: Arguments) -> str | None:
        endpoints: list[Endpoint] = args["endpoints"]
        args["endpoints"] = [each for each in endpoints if self._may_hear_of(who, each)]
        return None

    def _may_hear_of(self, who: Principal, endpoint: Endpoint) -> bool:
        job_id, slash, _ = endpoint.attempt_id.rpartition("#")[0].rpartition("/")
        return not slash or self._read_job(who, JobId(job_id)) is None

    def _actors(self, who: Principal, args: Arguments) -> str | None:
        incarnations: Mapping[str, int] = args["incarnations"]
        return _first(self._actor(who, actor_id) for actor_id in incarnations)

    def _actor(self, who: Principal, actor_id: str) -> str | None:
        job_id = self._book.any_job_of_actor(ActorId(actor_id))
        if job_id is None:  # hosted by a driver, or by nobody; where it is, its own door decides
            return None
        return None if self._read_job(who, job_id) is None else f"actor {actor_id} is another's"

    # ---- reservations

    def _reserve(self, who: Principal, args: Arguments) -> str | None:
        request: ReservationRequest = args["request"]
        problem = self._namespace(who, request.namespace)
        if problem is None:
            problem = self._band(who, Band.NORMAL)  # in which reservations are filled
        if problem is None:
            args["request"] = dataclasses.replace(request, user=who.user)
            self._namespaces.note(request.namespace, who.user)
        return problem

    def _reservation(self, who: Principal, reservation_id: str) -> str | None:
        found = self._book.ledger.tables.reservations.get(ReservationId(reservation_id))
        if found is None:
            return None  # so it is told that there is none
        if found.user != who.user:
            return f"reservation {reservation_id} is another user's"
        if who.role == Role.JOB and found.namespace != who.namespace:
            return f"reservation {reservation_id} is not in the namespace {who.namespace!r}"
        return None

    # ---- drivers and hosts

    def _session(self, who: Principal, session_id: str) -> str | None:
        owner = self._sessions.get(session_id, who.user)
        if owner != who.user:
            return "that session is another user's"
        self._sessions.note(session_id, who.user)
        return None

    def _register(self, who: Principal, args: Arguments) -> str | None:
        host: RegisterWorker = args["host"]
        return _worker(who, host.spec.worker_id)

    def _report(self, who: Principal, args: Arguments) -> str | None:
        report: ReportAttempts = args["report"]
        return _worker(who, report.worker_id)


def _is_anothers(who: Principal, job_id: JobId, spec: JobSpec | None) -> bool:
    """Whether a job is another user's, by its id: so nobody hears whether there is such a job."""
    owner, slash, _ = job_id.partition("/")
    return (bool(slash) and owner != who.user) or (spec is not None and spec.user != who.user)


def _worker(who: Principal, worker_id: str) -> str | None:
    if who.worker_id in ("", worker_id):
        return None
    return f"its token is for the host {who.worker_id!r}, and it speaks for {worker_id!r}"


def _own_reservations(who: Principal, args: Arguments) -> str | None:
    if args["user"] not in (None, who.user):
        return f"reservations of {args['user']!r} are another user's"
    args["user"] = who.user
    return None


def _owned(spec: JobSpec, who: Principal) -> JobSpec:
    """A job as it is submitted by somebody, whatever it says of itself."""
    name = spec.job_id.partition("/")[2] or spec.job_id
    parent = JobId(who.job_id) if who.role == Role.JOB and spec.parent is None else spec.parent
    return dataclasses.replace(
        spec, job_id=JobId(f"{who.user}/{name}"), user=who.user, parent=parent
    )


def _first(problems: Iterable[str | None]) -> str | None:
    return next((problem for problem in problems if problem is not None), None)


__all__ = ["REMEMBERED_MAX", "Rulebook"]
