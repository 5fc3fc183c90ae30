"""What `fray run --dry-run` says. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from fray.cli.amounts import needs_json, needs_text
from fray.cli.reports import WARN, Cell
from fray.cluster.environment import DEFAULT_ENV_VARS, INHERITED_ENV_VARS
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.reports import JobPreview
    from fray.cluster.types import JobRequest


USUAL = {*DEFAULT_ENV_VARS, *INHERITED_ENV_VARS}
"""Variables that every job has."""


def preview_json(
    request: JobRequest, cluster: str | None, spec: str, preview: JobPreview
) -> dict[str, Any]:
    """For scripts.

    Args:
        request: The job.
        cluster: The cluster's name, where it is known here.
        spec: How to connect to it.
        preview: What the cluster says.
    """
    return {
        "name": request.name,
        "cluster": cluster,
        "spec": spec,
        "command": _command(request),
        "tasks": preview.tasks,
        "resources": needs_json(preview.resources),
        "hosts": {str(index): host for index, host in sorted(preview.hosts.items())},
        "waits_for": list(preview.waits_for),
        "ahead": preview.ahead,
        "environment": _environment(request),
    }


def preview_facts(request: JobRequest, place: str, preview: JobPreview) -> list[tuple[str, Cell]]:
    """For people.

    Args:
        request: The job.
        place: The cluster, for people.
        preview: What the cluster says.
    """
    waiting = preview.tasks - len(preview.hosts)
    before = counted(preview.ahead, "job waits already", "jobs wait already")
    environment = _environment(request)
    facts = [
        ("job", Cell(request.name, "bold")),
        ("where", Cell(place)),
        ("command", Cell(" ".join(_command(request)))),
        ("needs", Cell(needs_text(preview.resources))),
        *(
            ("would run", Cell(f"{count} of {counted(preview.tasks, 'task')} on {host}"))
            for host, count in sorted(Counter(preview.hosts.values()).items())
        ),
        ("would wait", Cell(f"{counted(waiting, 'task')}, {before}" if waiting else "", WARN)),
        *(("because", Cell(reason, WARN)) for reason in preview.waits_for),
        ("folder", Cell(environment["workspace"] or "")),
        ("packages", Cell(", ".join(environment["packages"]))),
        ("extras", Cell(", ".join(environment["extras"]))),
        ("image", Cell(environment["image"] or "")),
        ("variables", Cell(", ".join(environment["variables"]))),
    ]
    return [(name, cell) for name, cell in facts if cell.text]


def _command(request: JobRequest) -> list[str]:
    binary = request.entrypoint.binary_entrypoint
    return [] if binary is None else [binary.command, *binary.args]


def _environment(request: JobRequest) -> dict[str, Any]:
    """Names of variables only: their values are secrets."""
    asked = request.environment
    return {
        "workspace": asked.workspace if asked else None,
        "packages": list(asked.pip_packages) if asked else [],
        "extras": list(asked.extras) if asked else [],
        "image": asked.docker_image if asked else None,
        "variables": sorted(set(asked.env_vars) - USUAL) if asked else [],
    }


__all__ = ["preview_facts", "preview_json"]
