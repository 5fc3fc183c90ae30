"""Views: what was remembered is what would be found anew, however it was brought up to date."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fray.cluster.controller.commands import CordonWorker, ForgetJobs, GroupSpec
from fray.cluster.controller.records import CordonKind
from fray.cluster.devices import ResourceConfig

from .world import FAILED, RUNNING, SUCCEEDED, World


class LazyWorld(World):
    """A world that looks at its view only when it is told to."""

    def check_view(self) -> None:
        pass

    def compare(self) -> None:
        super().check_view()


def act(world: LazyWorld, what: int, number: int) -> None:
    """One of the things that can happen, if it can."""
    attempts = sorted(world.ledger.tables.attempts)
    jobs = sorted(world.ledger.tables.jobs)
    if what == 0:
        world.submit(world.spec(f"lone-{world.count}", ResourceConfig(cpu=1, replicas=3)))
    elif what == 1:
        world.submit(world.spec(f"gang-{world.count}", ResourceConfig.with_tpu("v5litepod-16")))
    elif what == 2:
        pair = [world.spec(f"pair-{world.count}-{n}", ResourceConfig(cpu=2)) for n in range(2)]
        world.submit(*pair, group=GroupSpec("pair"))
    elif what == 3:
        world.schedule()
    elif what == 4 and attempts:
        chosen = world.ledger.tables.attempts[attempts[number % len(attempts)]]
        state = (RUNNING, FAILED, SUCCEEDED)[number % 3]
        world.tell(chosen.job_id, chosen.task_index, state)
    elif what == 5 and jobs:
        world.stop(jobs[number % len(jobs)])
    elif what == 6:
        world.do(CordonWorker("h0", CordonKind.DRAINING, "for a while", evict=bool(number % 2)))
    elif what == 7:
        ended = [job_id for job_id in jobs if world.ledger.job(job_id).ended_at is not None]
        if ended:
            world.do(ForgetJobs((ended[number % len(ended)],)))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 20), st.integers(0, 12)), max_size=40))
def test_a_view_is_the_same_however_far_it_was_refreshed_between_commands(story):
    world = LazyWorld()
    for number in range(3):
        world.host(f"h{number}", cpu=8)
    world.slice("s")
    refreshing = world.ledger.refresh()
    for what, number, steps in story:
        act(world, what, number)
        for _ in range(steps):
            if next(refreshing, "done") == "done":
                refreshing = world.ledger.refresh()
    world.compare()


def test_a_job_that_is_forgotten_in_the_middle_of_a_refresh_is_gone_from_the_view():
    lazy = LazyWorld()
    lazy.host("h")
    (job,) = lazy.submit(lazy.spec("lone", ResourceConfig(cpu=1, replicas=5)))
    refreshing = lazy.ledger.refresh()
    next(refreshing)
    next(refreshing)
    lazy.stop(job)
    lazy.do(ForgetJobs((job,)))
    assert len(list(refreshing)) < 5
    assert lazy.ledger.view().units == ()
    lazy.compare()


def test_hosts_of_a_snapshot_are_not_written_to_by_whoever_plans_with_them(world):
    world.host("h")
    (host,) = world.ledger.snapshot().hosts.values()
    kind = host.kind
    assert kind is not None  # or two threads could each find one
    world.submit("job")
    world.schedule()
    assert host.kind is kind
