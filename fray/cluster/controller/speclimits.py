"""How large jobs and submissions may be: what the controller keeps of each in memory and journal.

A job's description is written to the journal, and goes to a host with each attempt at each task, so
what is large belongs into blobs: functions, their arguments, and files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fray.cluster.names import TASKS_MAX
from fray.errors import InvalidRequestError

if TYPE_CHECKING:
    from fray.cluster.controller.specs import JobSpec

JOBS_MAX = 1000
"""Jobs of one submission."""

SPEC_BYTES_MAX = 256 << 10
"""Of a job's description: more than Linux takes as one argument of a program, 128 KiB."""

_ITEM_BYTES = 4
"""What a value takes beside its text."""

_PARTS = {
    "program": (
        "its command line",
        "write it into a file that the job reads, or give it to a function "
        "(Entrypoint.from_callable): what that is given is stored once",
    ),
    "environment": (
        "the packages, extras and names of variables of its environment",
        "name packages in the project's pyproject.toml, and put variables into a file",
    ),
    "resources": (
        "its regions, zones, labels, constraints and preferences",
        "ask for a label that the hosts meant have in common",
    ),
    "ports": ("the names of its ports", "name fewer"),
    "hints": ("the module search path of whoever launches it", "shorten sys.path"),
}
"""What each part is called, and what to do if it is too large."""


def check_size(spec: JobSpec) -> None:
    """Refuses a job whose description is too large.

    Args:
        spec: The job.

    Raises:
        InvalidRequestError: It has more than `SPEC_BYTES_MAX`; the message names its largest part.
    """
    values = ((each.name, getattr(spec, each.name)) for each in dataclasses.fields(spec))
    sizes = {name: _size(value) for name, value in values}
    if sum(sizes.values()) <= SPEC_BYTES_MAX:
        return
    largest = max(sizes, key=lambda name: sizes[name])
    what, advice = _PARTS.get(largest, (f"its {largest}", "shorten that"))
    raise InvalidRequestError(
        f"the description of job {spec.name[:40]!r} has more than {SPEC_BYTES_MAX >> 10} KiB. The "
        f"largest part is {what}, with {sizes[largest]:,} bytes: {advice}"
    )


def check_counts(jobs: Sequence[JobSpec]) -> None:
    """Refuses a submission of too many jobs or tasks.

    Args:
        jobs: Its jobs.

    Raises:
        InvalidRequestError: There are more than `JOBS_MAX` jobs, or `TASKS_MAX` tasks.
    """
    if len(jobs) > JOBS_MAX:
        raise InvalidRequestError(
            f"a submission has at most {JOBS_MAX:,} jobs, not {len(jobs):,}; launch them in "
            "several, or as replicas of one job"
        )
    tasks = sum(spec.num_tasks for spec in jobs)
    if tasks > TASKS_MAX:
        raise InvalidRequestError(
            f"a submission has at most {TASKS_MAX:,} tasks, not {tasks:,} (replicas times hosts "
            "of each); have each do more, or launch several jobs one after the other"
        )


def _size(value: Any) -> int:
    """How many bytes a value has, about: its texts, and a little for each item."""
    if isinstance(value, str):
        return _ITEM_BYTES + len(value.encode(errors="surrogatepass"))
    if dataclasses.is_dataclass(value):
        return sum(_size(getattr(value, each.name)) for each in dataclasses.fields(value))
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        return sum(_size(key) + _size(each) for key, each in pairs)
    if isinstance(value, Collection):
        return sum(map(_size, cast("Collection[Any]", value)))
    return _ITEM_BYTES


__all__ = ["JOBS_MAX", "SPEC_BYTES_MAX", "check_counts", "check_size"]
