"""The ids of jobs: ``alice/train-7f3a``, and of what that launches ``alice/train-7f3a/eval-1``.

They are unique for ever, also after a job is forgotten: a top-level id has a number that counts
the jobs of this ledger, and a child's one that counts those of its parent. A part that is a number
and nothing else is a task: ``alice/train-7f3a/3``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fray.cluster.names import JOB_NAME_LENGTH_MAX
from fray.ids import JobId

if TYPE_CHECKING:
    from fray.cluster.controller.specs import JobSpec
    from fray.cluster.controller.tables import Tables


def with_ids(
    specs: Sequence[JobSpec], tables: Tables, token: Callable[[], str]
) -> tuple[JobSpec, ...]:
    """Gives jobs of one submission ids that were never used.

    Args:
        specs: The jobs.
        tables: The ledger as it is when they are added: nothing may be added in between.
        token: Gives a few random characters, so that the ids of two ledgers differ.
    """
    named: list[JobSpec] = []
    launched: dict[JobId, int] = {}
    for ordinal, spec in enumerate(specs, tables.submitted + 1):
        job_id = JobId(f"{spec.user}/{spec.name}-{token()}{ordinal:02x}")
        parent = tables.jobs.get(spec.parent) if spec.parent is not None else None
        if parent is not None:
            number = launched.get(parent.spec.job_id, parent.launched) + 1
            launched[parent.spec.job_id] = number
            nested = JobId(f"{parent.spec.job_id}/{spec.name}-{number}")
            if len(nested) <= JOB_NAME_LENGTH_MAX:  # a deep tree goes on at the top
                job_id = nested
        named.append(dataclasses.replace(spec, job_id=job_id))
    return tuple(named)


__all__ = ["with_ids"]
