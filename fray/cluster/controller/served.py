"""Which actors a job serves: found by its id, and by names that are mapped to its ports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fray.actor.directory import ActorKey, Endpoint
from fray.cluster.control import ACTORS_NAMESPACE, NamedEndpoint
from fray.errors import ActorNotFoundError, JobNotFoundError
from fray.ids import AttemptId, JobId, Namespace

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.records import Job, PortMapping
    from fray.runtime.leases import Epoch, Registration

SERVES_NOTHING = "it has registered no actor yet"
"""Why the actor of a running job is not found; see `Served.pending`."""


class Served:
    """The actors of each job, and the names that lead to them through its ports.

    Args:
        book: The ledger.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._of_job: dict[str, dict[Epoch, tuple[Registration, Endpoint]]] = {}

    def __repr__(self) -> str:
        return f"<Served actors of {len(self._of_job)} jobs>"

    def came(self, epoch: Epoch, held: Registration, endpoint: Endpoint) -> None:
        """Takes note of a registration.

        Args:
            epoch: Of the registration.
            held: The registration.
            endpoint: The actor.
        """
        if endpoint.job_id:
            self._of_job.setdefault(endpoint.job_id, {})[epoch] = held, endpoint

    def went(self, epoch: Epoch, endpoint: Endpoint) -> None:
        """Takes note that a registration has ended.

        Args:
            epoch: Of the registration.
            endpoint: The actor.
        """
        held = self._of_job.get(endpoint.job_id)
        if held is not None and held.pop(epoch, None) is not None and not held:
            del self._of_job[endpoint.job_id]

    def mappings(self, job_id: str) -> Sequence[PortMapping]:
        """The names that lead to a job.

        Args:
            job_id: Which job; an unknown one has none.
        """
        job = self._book.ledger.tables.jobs.get(JobId(job_id))
        return job.mappings if job is not None else ()

    def topic(self, key: ActorKey, otherwise: str) -> str:
        """What tells of changes of what a name leads to; see `Book.topics`.

        Args:
            key: The name.
            otherwise: Where it is not a job's id.
        """
        return key.name if self._job(key) is not None else otherwise

    def find(self, key: ActorKey) -> tuple[Endpoint, ...]:
        """The actors that a job's id, or a mapped name, leads to.

        Args:
            key: The name.

        Raises:
            ActorNotFoundError: The job serves several actors, so none is meant.
        """
        job = self._job(key)
        if job is not None:
            return _of_one_name(self._entries(job.spec.job_id), key.name, job.spec.job_id)
        found: dict[str, Endpoint] = {}
        for job_id in self._mapped(key):
            for mapping in self.mappings(job_id):
                if (mapping.namespace, mapping.actor_name) == (key.namespace, key.name):
                    entries = self._at_port(job_id, mapping.port_name)
                    for endpoint in _of_one_name(entries, key.name, job_id):
                        found[endpoint.target] = endpoint
        return tuple(found.values())

    def pending(self, key: ActorKey) -> str:
        """Why the actors are not there to which a name will lead; "" where it leads nowhere.

        Args:
            key: The name.
        """
        job = self._job(key)
        jobs = [job.spec.job_id] if job is not None else list(self._mapped(key))
        for job_id in jobs:
            job = self._book.ledger.tables.jobs.get(job_id)
            if job is None or job.verdict is not None or job.status.finished():
                continue
            waits = SERVES_NOTHING if job.tally.live else self._book.waits_for(job_id)
            return f"job {job_id}: {waits}"
        return ""

    def listed(self, namespace: str, prefix: str) -> Iterable[NamedEndpoint]:
        """What mapped names lead to, where that is clear.

        Args:
            namespace: Where the names are.
            prefix: What they begin with.
        """
        for space, name in self._book.ledger.tables.indexes.mapped:
            if space == namespace and name.startswith(prefix):
                try:
                    found = self.find(ActorKey(namespace, name=name))
                except ActorNotFoundError:  # it leads to several, so to none
                    continue
                yield from (NamedEndpoint(name, endpoint) for endpoint in found)

    def not_found(self, key: ActorKey) -> ActorNotFoundError:
        """What is told of a name that leads nowhere.

        Args:
            key: The name.
        """
        job = self._job(key)
        if job is not None:
            why = job.error_message or f"it has {job.status}"
            return ActorNotFoundError(f"job {key.name} serves no actor any more: {why}")
        return ActorNotFoundError(
            f"no actor is registered as {key.name!r} in namespace {key.namespace!r}"
        )

    def _job(self, key: ActorKey) -> Job | None:
        try:
            return self._book.ledger.job(JobId(key.name))
        except JobNotFoundError:
            return None

    def _mapped(self, key: ActorKey) -> Iterable[JobId]:
        mapped = self._book.ledger.tables.indexes.mapped
        return mapped.get((Namespace(key.namespace), key.name), ())

    def _entries(self, job_id: str) -> list[tuple[Registration, Endpoint]]:
        """What a job's processes have registered; an actor's id is no name, where it has one."""
        entries = list(self._of_job.get(job_id, {}).values())
        named = [entry for entry in entries if entry[0].namespace != ACTORS_NAMESPACE]
        return named or entries

    def _at_port(self, job_id: JobId, port_name: str) -> list[tuple[Registration, Endpoint]]:
        """What is served at a port; else all that is, for servers share their process's port."""
        ports = {a.attempt_id: a.ports.get(port_name) for a in self._book.ledger.attempts(job_id)}
        entries = self._entries(job_id)
        at_port = [
            (held, endpoint)
            for held, endpoint in entries
            if endpoint.address.rpartition(":")[2] == str(ports.get(_attempt(endpoint), ""))
        ]
        return at_port or entries


def _attempt(endpoint: Endpoint) -> AttemptId:
    return AttemptId(endpoint.attempt_id)


def _of_one_name(
    entries: list[tuple[Registration, Endpoint]], wanted: str, job_id: str
) -> tuple[Endpoint, ...]:
    """The endpoints of the name that is meant: the wanted one, else the only one."""
    names = sorted({held.name for held, _ in entries})
    if len(names) > 1 and wanted not in names:
        raise ActorNotFoundError(
            f"job {job_id} serves several actors: {', '.join(names)}; look one of them up by name"
        )
    chosen = wanted if wanted in names else "".join(names)
    return tuple(endpoint for held, endpoint in entries if held.name == chosen)


__all__ = ["SERVES_NOTHING", "Served"]
