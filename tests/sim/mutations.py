"""Safeguards switched off one at a time, and what notices.

A safeguard whose absence nothing notices has no test. Each `Mutation` patches one away; its witness
is a story that goes well with it and fails without. To add one, add it to `MUTATIONS`.

``python -m tests.sim.mutations`` prints the table that stands in ``docs/testing.md``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from fray.actor import monitor, muster, outcome, route, supervised, watch
from fray.cluster import hosttimes
from fray.cluster.controller import book, names, sessions, state, units
from fray.cluster.controller.desired import Standing
from fray.cluster.worker import agent, lease, roster
from fray.runtime import (
    calls,
    connection,
    crew,
    leases,
    mailbox,
    peer,
    repeats,
    served,
    supervisor,
)
from fray.testing import attempts, launcher
from tests.sim import (
    scenarios,
    test_found,
    test_names,
    test_resume,
    test_sim_cluster,
    test_supervision_found,
    test_supervision_gangs,
)
from tests.sim.fleet import mutations as fleet
from tests.sim.lab.run import live
from tests.sim.mutation import Mutation, Off, bare_story, cluster_story, notice

if TYPE_CHECKING:
    import pytest

    from fray.testing import Simulation

LAB_SEEDS = range(40)
"""A mutation is to be noticed with one of these, in the lab."""


async def _names_story(sim: Simulation) -> None:
    test = test_names.test_new_actor_waits_for_its_name_while_somebody_unheard_may_have_it
    await test(test_names.Controllers(sim))


LAB = ("the lab", live)


# ---- how they are switched off


async def _nothing_awaited(*_: Any, **__: Any) -> None:
    """In place of a coroutine function that matters."""


def _nothing(*_: Any, **__: Any) -> None:
    """In place of a function that matters."""


def _no_fencing_at_the_server(patch: pytest.MonkeyPatch) -> None:
    received = served.ServedCalls.calls_received

    def any_incarnation(self: Any, event: Any) -> None:
        for each in event.calls:
            actor = each.target.rpartition("/")[0]
            hosted = [t for t in self._cells if t.rpartition("/")[0] == actor]
            if hosted:
                object.__setattr__(each, "target", hosted[-1])
        received(self, event)

    patch.setattr(served.ServedCalls, "calls_received", any_incarnation)


def _no_lease_expiry(patch: pytest.MonkeyPatch) -> None:
    init = leases._Lease.__init__

    def for_ever(self: Any, entry: Any, expires_at: float, previous: Any) -> None:
        init(self, entry, float("inf"), previous)

    patch.setattr(leases._Lease, "__init__", for_ever)
    patch.setattr(leases._Lease, "renew", _nothing)


def _no_compare_and_set(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases.NameTable, "_refuse", lambda *_: None)
    patch.setattr(names.Names, "_refuse_promised", _nothing)
    patch.setattr(names.Names, "holder", _nothing)


def _no_fencing_of_hosts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agent.Agent, "_note_silence", _nothing)
    patch.setattr(attempts.SimAttempt, "_look_at_lease", _nothing)
    patch.setattr(lease.LeaseFence, "__call__", lambda _: False)


def _no_fencing_of_who_returns(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state.Ledger, "standing", lambda *_: Standing.CURRENT)
    patch.setattr(roster.Roster, "_discard", _nothing)
    _no_fencing_of_hosts(patch)


def _launches_late(patch: pytest.MonkeyPatch) -> None:
    prepare = roster.Roster._prepare

    async def at_any_time(self: Any, *args: Any) -> Any:
        return dataclasses.replace(await prepare(self, *args), start_by=None)

    patch.setattr(roster.Roster, "_prepare", at_any_time)


def _publishes_before_it_is_kept(patch: pytest.MonkeyPatch) -> None:
    async def commit_made(self: Any, make: Any) -> Any:
        applied, writing = await self._turns.run(lambda: self._begin(make()))
        if writing is None:
            self._tell(applied)
        return applied

    patch.setattr(book.Book, "commit_made", commit_made)
    patch.setattr(book.Book, "durable", _nothing_awaited)


def _says_all_again(patch: pytest.MonkeyPatch) -> None:
    def everything(self: Any, received: int) -> list[Any]:
        return [*self.log.entries, *self._lanes.waiting()]

    patch.setattr(connection.Connection, "backlog", everything)


def _forgets_results(patch: pytest.MonkeyPatch) -> None:
    ended = roster.Roster._ended

    def at_once(self: Any, attempt: Any, *args: Any) -> None:
        ended(self, attempt, *args)
        if attempt.cause is None:  # one that succeeded
            self.attempts.pop(attempt.attempt_id, None)

    patch.setattr(roster.Roster, "_ended", at_once)


def _adopts_nothing(patch: pytest.MonkeyPatch) -> None:
    async def none(self: Any) -> list[Any]:
        return []

    patch.setattr(launcher.SimLauncher, "adopt", none)


def _calls_out_of_order(patch: pytest.MonkeyPatch) -> None:
    stop_waiting = route.Route._stop_waiting
    patch.setattr(route.Route, "_stop_waiting", lambda self: deque(reversed(stop_waiting(self))))


def _stops_in_order(patch: pytest.MonkeyPatch) -> None:
    stop_last = crew.Crew._stop_last
    patch.setattr(
        crew.Crew, "_stop_last", lambda self, slots: stop_last(self, list(reversed(list(slots))))
    )


def _repeats_whatever_it_is(patch: pytest.MonkeyPatch) -> None:
    def repeat(self: Any, future: Any, exc: BaseException) -> None:
        if future.attempts < 2 and not future.has_begun:
            self._again(future)
        else:
            future.fail(exc)

    patch.setattr(route.Route, "_repeat_or_fail", repeat)


def _starts_each_for_itself(patch: pytest.MonkeyPatch) -> None:
    async def join(self: Any, actor_id: str, number: int, ordered: Any) -> None:
        ordered(self._scope.spawn(self._send({actor_id: number})))

    patch.setattr(muster.Muster, "join", join)


def _has_no_family(patch: pytest.MonkeyPatch) -> None:
    init = supervised.SupervisedActor.__init__

    def alone(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **{**options, "family": {}})

    patch.setattr(supervised.SupervisedActor, "__init__", alone)


async def _made_in_any_case(self: Any) -> bool:
    """In place of `SupervisedActor._is_made`."""
    return True


def _restarts_by_itself(patch: pytest.MonkeyPatch) -> None:
    wants = units._wants_place
    patch.setattr(
        units, "_wants_place", lambda job, task: wants(job, dataclasses.replace(task, hold=None))
    )


def _tells_all_ends(self: Any, life: Any) -> list[Any]:
    """In place of `Monitor._untold`."""
    return list(life.ends)


def _set(owner: Any, name: str, value: Any) -> Off:
    return lambda patch: patch.setattr(owner, name, value)


CUT_OFF = test_sim_cluster.test_a_host_that_is_cut_off_from_the_controller

MUTATIONS = [
    Mutation(
        "a server refuses calls to a past incarnation",
        _no_fencing_at_the_server,
        *bare_story(scenarios.a_call_to_a_past_incarnation_is_refused),
    ),
    Mutation(
        "a name's lease runs out when nobody renews it",
        _no_lease_expiry,
        *cluster_story(scenarios.a_name_ends_with_the_lease_of_a_host_that_was_lost),
    ),
    Mutation(
        "the time in which the controller stood still counts for no name's lease",
        _set(leases.NameTable, "postpone", _nothing),
        *cluster_story(test_found.test_names_outlive_a_controller_that_stood_still),
    ),
    Mutation(
        "names are compared and set: an exclusive one has one holder",
        _no_compare_and_set,
        *cluster_story(scenarios.a_name_that_a_server_has_is_not_given_to_another),
    ),
    Mutation(
        "a new controller gives no name away before old holders had time to be heard",
        _set(names, "RECOVERY_S", 0.0),
        "test_new_actor_waits_for_its_name_while_somebody_unheard_may_have_it",
        _names_story,
    ),
    Mutation(
        "names end with the attempt that held them",
        _set(leases.NameTable, "drop_owner", lambda *_: []),
        *cluster_story(scenarios.a_name_ends_with_the_process_that_had_it),
    ),
    Mutation(
        "a host that hears no controller ends its tasks",
        _no_fencing_of_hosts,
        *cluster_story(CUT_OFF, 200.0, False),
    ),
    Mutation(
        "supervisors end tasks with the lease where no agent does",
        _set(attempts.SimAttempt, "_look_at_lease", _nothing),
        *cluster_story(
            test_sim_cluster.test_tasks_do_not_outlive_their_hosts_lease_without_an_agent, "crash"
        ),
    ),
    Mutation(
        "tasks go elsewhere only after lease, time to kill and margin",
        _set(hosttimes.HostTimes, "lost_s", 20.0),
        *cluster_story(CUT_OFF, 30.0, False),
    ),
    Mutation(
        "a refused connection does not run the lease down",
        _set(agent, "_is_refusal", lambda exc: False),
        *cluster_story(
            test_sim_cluster.test_a_controller_that_crashes_disturbs_nobody_and_knows_all_again
        ),
    ),
    Mutation(
        "a host that was given up is told so, and ends what it had",
        _no_fencing_of_who_returns,
        *cluster_story(
            test_sim_cluster.test_a_frozen_incarnation_that_has_a_successor_changes_nothing_any_more
        ),
    ),
    Mutation(
        "an agent launches nothing after its lease",
        _launches_late,
        *cluster_story(
            test_found.test_a_host_that_stood_still_starts_nothing_that_was_given_to_another
        ),
    ),
    Mutation(
        "a new agent adopts what runs",
        _adopts_nothing,
        *cluster_story(
            test_sim_cluster.test_an_agent_that_is_started_again_finds_its_tasks, "agent"
        ),
    ),
    Mutation(
        "an agent keeps a result until it is taken note of",
        _forgets_results,
        *cluster_story(test_sim_cluster.test_jobs_succeed_fail_and_are_tried_again),
    ),
    Mutation(
        "nothing is told before the journal has it",
        _publishes_before_it_is_kept,
        *cluster_story(scenarios.what_was_accepted_survives_the_controllers_power),
    ),
    Mutation(
        "a lost driver's session ends, and with it its actors",
        _set(sessions.Sessions, "_end", _nothing_awaited),
        *cluster_story(
            test_sim_cluster.test_a_drivers_actors_end_after_it_unless_they_are_detached
        ),
    ),
    Mutation(
        "the fleet's word that a host is lost ends the calls to it",
        _set(watch.CallWatch, "_look", _nothing_awaited),
        *cluster_story(
            test_sim_cluster.test_a_call_in_flight_to_a_lost_host_ends_with_the_fleets_word
        ),
    ),
    Mutation(
        "calls that wait for their actor keep their order",
        _calls_out_of_order,
        *cluster_story(scenarios.calls_made_before_the_actor_is_there_run_in_order),
    ),
    Mutation(
        "a call that may have run is not repeated unless it is idempotent",
        _repeats_whatever_it_is,
        *cluster_story(
            test_sim_cluster.test_a_call_in_flight_to_a_crashed_process_ends_with_its_cause
        ),
    ),
    Mutation(
        "a call whose earlier attempt may have run is not said not to have started",
        _set(outcome, "_but_may_have_run", lambda exc: exc),
        *cluster_story(test_found.test_a_call_that_was_repeated_in_vain_may_have_run),
    ),
    Mutation(
        "cancelling withdraws a call that waits at the actor",
        _set(served.ServedCalls, "cancel_received", _nothing),
        *cluster_story(scenarios.a_waiting_call_that_is_cancelled_never_runs),
    ),
    Mutation(
        "what the other side lacks is said again when another link goes on",
        _set(peer.Peer, "_replay", _nothing),
        *bare_story(test_resume.test_calls_go_on_over_another_link),
    ),
    Mutation(
        "what the other side has is not said again",
        _says_all_again,
        *bare_story(test_resume.test_calls_go_on_over_another_link),
    ),
    Mutation(
        "a repeated call gets its first outcome",
        _set(repeats.Repeats, "admit", lambda *_: True),
        *cluster_story(
            test_resume.test_a_call_that_is_repeated_is_answered_with_its_first_outcome, 5
        ),
    ),
    Mutation(
        "an actor serves one call at a time",
        _set(mailbox.Mailbox, "_has_turn", lambda *_: True),
        *LAB,
        LAB_SEEDS,
    ),
    Mutation(
        "a mailbox is bounded",
        _set(mailbox.Mailbox, "__len__", lambda _: 0),
        *cluster_story(scenarios.a_full_mailbox_says_so),
    ),
    Mutation(
        "a stream's producer waits for credit",
        _set(calls.Invocation, "_has_credit", lambda _: True),
        *cluster_story(scenarios.a_stream_is_never_far_ahead_of_its_reader),
    ),
    Mutation(
        "children stop in the reverse of their order",
        _stops_in_order,
        *bare_story(scenarios.children_stop_in_the_reverse_of_their_order),
    ),
    Mutation(
        "the cluster waits for a supervisor's word before it starts its actors again",
        _restarts_by_itself,
        *cluster_story(
            test_supervision_gangs.test_a_gang_waits_for_room_for_all_and_holds_nothing_meanwhile
        ),
    ),
    Mutation(
        "a supervisor's gang has places for all, or nobody runs",
        _starts_each_for_itself,
        *cluster_story(
            test_supervision_gangs.test_a_gang_that_has_lost_a_host_runs_again_when_there_is_room_for_all
        ),
    ),
    Mutation(
        "nobody starts while a sibling that was stopped may be there yet",
        _has_no_family,
        *cluster_story(
            test_supervision_gangs.test_the_next_life_waits_for_a_sibling_that_cannot_be_reached,
            "one_for_all",
        ),
    ),
    Mutation(
        "a child is ended only when it is known whether its start was heard",
        _set(supervised.SupervisedActor, "_is_made", _made_in_any_case),
        *cluster_story(
            test_supervision_found.test_a_start_that_is_taken_back_at_whatever_moment_leaves_nothing
        ),
    ),
    Mutation(
        "who calls a child that its supervisor has let go is told so",
        _set(supervisor.Supervisor, "child_gone", _nothing),
        *cluster_story(
            test_supervision_found.test_a_temporary_child_that_goes_with_its_siblings_is_gone_for_its_callers,
            "one_for_all",
        ),
    ),
    Mutation(
        "a monitor tells each end once",
        _set(monitor.Monitor, "_untold", _tells_all_ends),
        *LAB,
        LAB_SEEDS,
    ),
    *fleet.MUTATIONS,
]


def table() -> str:
    """The table for people: safeguard, and what notices that it is off."""
    lines = ["| without this | fails | seed |", "|---|---|---|"]
    for mutation in MUTATIONS:
        noticed = notice(mutation)
        seed = "NOTHING NOTICES" if noticed is None else str(noticed.seed)
        lines.append(f"| {mutation.safeguard} | `{mutation.witness}` | {seed} |")
    return "\n".join(lines)


if __name__ == "__main__":
    logging.disable()
    print(table())
