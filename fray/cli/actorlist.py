"""From jobs and names to a list of actors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fray.cli.errors import Failure
from fray.cli.reports import Table, status_cell
from fray.cluster.types import JobStatus

if TYPE_CHECKING:
    from fray.cluster.control import NamedEndpoint
    from fray.cluster.reports import JobReport

ALIVE = (JobStatus.PENDING.value, JobStatus.RUNNING.value)


@dataclass(frozen=True, slots=True)
class ActorRow:
    """An actor, as far as the cluster knows it.

    Attributes:
        actor_id: Its id.
        names: The names that it is registered under, sorted.
        namespace: Where they are.
        status: Of an actor that the cluster made, its job's; else ``running``: it is registered.
        address: The process that hosts it; empty where it is not running.
        job_id: The job that it is, or that registered it; empty for a driver's.
        made: Whether the cluster made it, and so can stop it.
        error: Why it failed.
    """

    actor_id: str
    names: tuple[str, ...]
    namespace: str
    status: str
    address: str = ""
    job_id: str = ""
    made: bool = False
    error: str = ""

    @property
    def label(self) -> str:
        """For people: its names, else its id."""
        return ", ".join(self.names) or self.actor_id


def actor_rows(
    reports: Iterable[JobReport],
    named: Mapping[str, Sequence[NamedEndpoint]],
    addresses: Mapping[str, str],
) -> list[ActorRow]:
    """All actors that are known, those that the cluster made first.

    Args:
        reports: All jobs, oldest first.
        named: Registrations by namespace.
        addresses: Where actors are, by id.
    """
    names: dict[tuple[str, str], list[str]] = {}
    for namespace, endpoints in named.items():
        for each in endpoints:
            names.setdefault((namespace, each.endpoint.actor_id), []).append(each.name)
    rows: list[ActorRow] = []
    made: set[str] = set()
    for report in reports:
        if not report.actor_id:
            continue
        made.add(report.actor_id)
        has = names.get((report.namespace, report.actor_id), [])
        rows.append(
            ActorRow(
                actor_id=report.actor_id,
                names=tuple(sorted(has)) or (report.name,),
                namespace=report.namespace,
                status=report.status.value,
                address=addresses.get(report.actor_id, ""),
                job_id=report.job_id,
                made=True,
                error=report.error,
            )
        )
    for namespace, endpoints in named.items():
        for actor_id, endpoint in {e.endpoint.actor_id: e.endpoint for e in endpoints}.items():
            if actor_id not in made:
                has = sorted(names[namespace, actor_id])
                rows.append(
                    ActorRow(
                        actor_id,
                        tuple(has),
                        namespace,
                        JobStatus.RUNNING.value,
                        endpoint.address,
                        endpoint.job_id,
                    )
                )
    return rows


def find_actor(given: str, rows: Sequence[ActorRow]) -> ActorRow:
    """The actor that somebody means: by name, by id, or by the beginning of its id.

    Those that have ended count only where no living one fits.

    Args:
        given: What they wrote.
        rows: All actors.

    Raises:
        Failure: None fits, or several do; then they come with it.
    """
    fitting = (
        [row for row in rows if given in row.names],
        [row for row in rows if given == row.actor_id],
        [row for row in rows if given and row.actor_id.startswith(given)],
    )
    for number, candidates in enumerate(fitting):
        ended = candidates[-1:] if number == 0 else candidates  # a name may be used again
        meant = [row for row in candidates if row.status in ALIVE] or ended
        if len({row.actor_id for row in meant}) > 1:
            raise Failure(
                f"{given!r} may be any of these {len(meant)} actors; give the id of one"
                " (ACTOR), or --namespace",
                choices=actor_table(meant),
            )
        if meant:
            return meant[0]
    raise Failure(f"there is no actor {given!r}; `fray actor list --ended` shows them")


def actor_json(row: ActorRow) -> dict[str, Any]:
    """An actor for scripts.

    Args:
        row: The actor.
    """
    return {
        "actor_id": row.actor_id,
        "names": list(row.names),
        "namespace": row.namespace,
        "status": row.status,
        "address": row.address or None,
        "job_id": row.job_id or None,
        "made_by_cluster": row.made,
        "error": row.error or None,
    }


def actor_table(rows: Iterable[ActorRow]) -> Table:
    """Actors for people.

    Args:
        rows: In the order of the rows.
    """
    table = Table(("NAME", "STATUS", "ACTOR", "NAMESPACE", "ADDRESS", "JOB"))
    for row in rows:
        status = status_cell(JobStatus(row.status))
        table.add(row.label, status, row.actor_id, row.namespace, row.address, row.job_id)
    return table


__all__ = ["ALIVE", "ActorRow", "actor_json", "actor_rows", "actor_table", "find_actor"]
