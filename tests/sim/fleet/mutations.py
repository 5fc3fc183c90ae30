"""Safeguards of managing a cluster, switched off; random histories of fleets notice each."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from fray.cluster.controller import commands, state, units
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.records import Group
from fray.cluster.controller.rules import attempts, endings, gangs, jobs, reservations
from fray.cluster.scheduling import view
from fray.errors import DeathCause
from tests.sim.fleet.run import live
from tests.sim.mutation import Mutation

if TYPE_CHECKING:
    import pytest

SEEDS = range(60)
"""A mutation is to be noticed with one of these."""

FLEET = ("the fleet", live)


def _nothing(*_: Any, **__: Any) -> None:
    """In place of a function that matters."""


def _submits_again(patch: pytest.MonkeyPatch) -> None:
    def submit(draft: Any, command: Any) -> None:
        fresh = f"{command.submission_id}/{draft.submitted}"
        jobs.submit(draft, dataclasses.replace(command, submission_id=fresh))

    patch.setitem(state._RULES, commands.SubmitJobs, submit)


def _starts_groups_in_parts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobs, "Group", functools.partial(Group, admitted=True))


def _gives_places_away_at_once(patch: pytest.MonkeyPatch) -> None:
    def end(draft: Any, attempt: Any, *_: Any) -> None:
        attempts.end(draft, attempt, AttemptState.STOPPED, DeathCause())

    patch.setattr(gangs, "stop", end)


def _charges_all_alike(patch: pytest.MonkeyPatch) -> None:
    charge = endings._charge_task

    def as_failure(*args: Any, innocent: bool) -> None:
        charge(*args, innocent=False)

    patch.setattr(endings, "_charge_task", as_failure)


def _tries_for_ever(patch: pytest.MonkeyPatch) -> None:
    for module in (endings, gangs):
        patch.setattr(module, "overspent", lambda *_: "")


def _leaves_children_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state, "stop_children", _nothing)


def _keeps_what_is_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reservations, "trim", _nothing)


def _counts_the_first_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(view.Unit, "need", lambda self: self.kind[0][0][0].need)


def _minds_no_drain(patch: pytest.MonkeyPatch) -> None:
    closed = units.closed

    def open_all_the_same(worker: Any) -> str:
        return closed(dataclasses.replace(worker, cordon=None))

    patch.setattr(units, "closed", open_all_the_same)


MUTATIONS = [
    Mutation(
        "a submission that comes again is answered with the jobs of the first time",
        _submits_again,
        *FLEET,
        SEEDS,
    ),
    Mutation("a group starts whole or not at all", _starts_groups_in_parts, *FLEET, SEEDS),
    Mutation(
        "one member of a gang down stops all",
        lambda patch: patch.setattr(gangs, "stop", _nothing),
        *FLEET,
        SEEDS,
    ),
    Mutation(
        "what is to stop has its place until it has stopped",
        _gives_places_away_at_once,
        *FLEET,
        range(36, 80),  # the first that notices
    ),
    Mutation("preemption is charged to its own account", _charges_all_alike, *FLEET, SEEDS),
    Mutation("no task is tried more often than its budgets allow", _tries_for_ever, *FLEET, SEEDS),
    Mutation("what a job has launched ends with it", _leaves_children_alone, *FLEET, SEEDS),
    Mutation("an expired reservation gives back what is idle", _keeps_what_is_over, *FLEET, SEEDS),
    Mutation("a quota counts all that starts together", _counts_the_first_only, *FLEET, SEEDS),
    Mutation("nothing new goes to a host that is drained", _minds_no_drain, *FLEET, SEEDS),
]
