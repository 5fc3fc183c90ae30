"""Ended jobs are forgotten in time: their records, their children, their blobs."""

import pytest

from fray.cluster.blobs import BlobStore
from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import (
    CordonWorker,
    CreateReservation,
    ForgetJobs,
    ForgetReservations,
    ForgetUsers,
    RegisterWorker,
    ReleaseReservation,
    SetUser,
    WorkerLost,
)
from fray.cluster.controller.journal import MemoryStore
from fray.cluster.controller.records import CordonKind
from fray.cluster.controller.retention import (
    FADED_HALF_LIVES,
    LEFT_HOST_S,
    LOST_HOST_S,
    Retention,
    forgettable,
    forgettable_hosts,
    forgettable_reservations,
    forgettable_users,
)
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import Resources
from fray.cluster.retention import RetentionPolicy
from fray.cluster.scheduling.accounts import Budget
from fray.errors import InvalidRequestError, JobNotFoundError
from fray.ids import WorkerId
from fray.runtime.clock import SystemClock

from .world import SUCCEEDED, World

AGE_S = 1000.0
POLICY = RetentionPolicy(100, AGE_S)


def ended(world: World, *specs) -> list[str]:
    jobs = world.start(*specs)
    for job in jobs:
        world.tell(job, 0, SUCCEEDED)
    return jobs


def due(world: World, jobs_max: int = 100, age_s: float = 1e9) -> list[str]:
    return forgettable(world.ledger.tables, RetentionPolicy(jobs_max, age_s), world.now)


def test_of_too_many_ended_jobs_the_first_to_have_ended_go(world):
    world.host("h")
    ended(world, "a", "b", "c")
    world.start("lives")
    assert due(world, jobs_max=2) == ["u/a"]
    assert due(world, jobs_max=0) == ["u/a", "u/b", "u/c"]


def test_a_job_goes_when_its_time_is_over(world):
    world.host("h")
    ended(world, "a")
    world.now += 100
    ended(world, "b")
    assert due(world, age_s=1000) == []
    assert due(world, age_s=50) == ["u/a"]


def test_children_go_with_their_parent_and_a_parent_waits_for_them(world):
    world.host("h")
    world.start("parent")
    world.start(world.spec("child", parent="u/parent"))
    world.tell("u/parent", 0, SUCCEEDED)
    assert due(world, jobs_max=0) == []  # the child is being stopped
    world.tell("u/child", 0, SUCCEEDED)
    ended(world, "other")
    assert due(world, jobs_max=2) == ["u/parent", "u/child"]


def test_a_detached_child_that_lives_outlasts_the_record_of_its_parent(world):
    world.host("h")
    world.start("parent")
    world.start(world.spec("child", parent="u/parent", detached=True))
    world.tell("u/parent", 0, SUCCEEDED)
    assert due(world, jobs_max=0) == ["u/parent"]
    world.do(ForgetJobs(("u/parent",)))
    assert world.states("u/child") == ["running"]


def test_a_forgotten_job_is_told_as_such(world):
    world.host("h")
    ended(world, "a")
    world.do(ForgetJobs(("u/a",)))
    with pytest.raises(JobNotFoundError, match="there is no job u/a; those that ended long ago"):
        world.info("u/a")


@pytest.mark.parametrize(("jobs_max", "age_s"), [(-1, 1.0), (1, 0.0), (1, float("inf"))])
def test_a_policy_that_makes_no_sense_is_refused(jobs_max, age_s):
    with pytest.raises(InvalidRequestError):
        RetentionPolicy(jobs_max, age_s)


def test_a_blob_goes_at_the_second_sweep_at_which_nobody_wants_it(tmp_path):
    store = BlobStore(tmp_path)
    kept, dropped = store.put(b"kept"), store.put(b"dropped")
    assert store.sweep({kept}) == 0
    assert store.sweep({kept}) == 1
    assert (store.has(kept), store.has(dropped)) == (True, False)


@pytest.mark.parametrize("how", ["has", "get", "put"])
def test_a_blob_stays_that_was_asked_for_between_two_sweeps(tmp_path, how):
    store = BlobStore(tmp_path)
    digest = store.put(b"about to be used")
    store.sweep(set())
    getattr(store, how)(b"about to be used" if how == "put" else digest)
    assert store.sweep(set()) == 0
    assert store.sweep(set()) == 1


def reserve(world: World, name: str, user: str = "u") -> None:
    one = ResourceConfig(cpu=1)
    world.do(CreateReservation(name, user, "ns", one, one, 1, 100, True, 1e9))


def test_an_ended_reservation_goes_when_its_time_is_over(world):
    world.host("h")
    for name in ("r-a", "r-b"):
        reserve(world, name)
    world.do(ReleaseReservation("r-a", "done"))
    assert forgettable_reservations(world.ledger.tables, POLICY, world.now) == []
    none_kept = RetentionPolicy(0, AGE_S)
    assert forgettable_reservations(world.ledger.tables, none_kept, world.now) == ["r-a"]
    world.now += AGE_S + 1.0
    assert forgettable_reservations(world.ledger.tables, POLICY, world.now) == ["r-a"]
    world.do(ForgetReservations(("r-a", "r-b", "r-unknown")))
    assert list(world.ledger.tables.reservations) == ["r-b"], "the other one has not ended"


def test_a_reservation_stays_while_a_job_names_it(world):
    world.host("h")
    reserve(world, "r-a")
    (job,) = world.start(world.spec("job", reservation="r-a"))
    world.do(ReleaseReservation("r-a", "done"))
    world.now += 2 * AGE_S
    assert forgettable_reservations(world.ledger.tables, POLICY, world.now) == []
    world.do(ForgetReservations(("r-a",)))
    assert "r-a" in world.ledger.tables.reservations
    world.tell(job, 0, SUCCEEDED)
    assert forgettable_reservations(world.ledger.tables, POLICY, world.now) == ["r-a"]


def later(world: World) -> float:
    return world.now + FADED_HALF_LIVES * world.ledger.tables.policy.half_life_s + 1.0


def test_a_user_goes_who_has_nothing_when_what_they_used_counts_for_nothing(world):
    world.host("h")
    ended(world, world.spec("a", user="ann"))
    world.do(ForgetJobs(("u/a",)))
    tables = world.ledger.tables
    assert forgettable_users(tables, POLICY, world.now + AGE_S) == []
    assert forgettable_users(tables, RetentionPolicy(100, 1e9), later(world)) == []
    assert forgettable_users(tables, POLICY, later(world)) == ["ann"]
    world.do(ForgetUsers(("ann", "nobody")))
    assert "ann" not in world.ledger.tables.users


def test_a_user_stays_who_has_a_job_or_a_reservation(world):
    world.host("h")
    world.start(world.spec("a", user="ann"))
    ended(world, world.spec("b", user="bob"))  # it is remembered
    ended(world, world.spec("c", user="eve"))
    world.do(ForgetJobs(("u/c",)))
    reserve(world, "r-a", user="eve")
    assert forgettable_users(world.ledger.tables, POLICY, later(world)) == []
    world.do(ForgetUsers(("ann", "bob", "eve")))
    assert set(world.ledger.tables.users) == {"ann", "bob", "eve"}


@pytest.mark.parametrize(
    "said", [{"weight": 2.0}, {"quota": {"cpus": 4.0}}, {"budget": Budget({"cpus": 1.0}, 60.0)}]
)
def test_a_user_stays_of_whom_an_administrator_has_said_something(world, said):
    world.host("h")
    ended(world, world.spec("a", user="ann"))
    world.do(ForgetJobs(("u/a",)))
    world.do(SetUser("ann", said.get("weight"), said.get("quota"), said.get("budget")))
    assert forgettable_users(world.ledger.tables, POLICY, later(world)) == []
    world.do(ForgetUsers(("ann",)))
    assert "ann" in world.ledger.tables.users


def test_hosts_that_are_gone_are_forgotten_after_a_day_and_those_that_left_sooner(world):
    for name in ("here", "lost", "left", "drained"):
        world.host(name)
    world.do(CordonWorker("drained", CordonKind.DRAINING, "a fan"))
    world.do(WorkerLost("lost", "b1", "silent for 90 s"))
    for name in ("left", "drained"):
        world.do(WorkerLost(name, "b1", "its agent was stopped", preempted=True))

    def gone(after_s: float) -> list[str]:
        return forgettable_hosts(world.ledger.tables, world.now + after_s)

    assert gone(LEFT_HOST_S - 10.0) == []
    assert gone(LEFT_HOST_S + 10.0) == ["left"]
    assert gone(LOST_HOST_S + 10.0) == ["drained", "left", "lost"]
    world.host("lost", boot="b2")
    assert gone(LOST_HOST_S + 10.0) == ["drained", "left"]


async def test_the_service_forgets_hosts_that_are_gone():
    clock = Later()
    book = await Book.open(MemoryStore(), clock)
    capacity = Resources(1000, 1 << 30, 1 << 30)
    for name in ("h1", "h2"):
        await book.commit(RegisterWorker(WorkerSpec(WorkerId(name), f"{name}:1", capacity), "b1"))
    await book.commit(WorkerLost(WorkerId("h1"), "b1", "silent for 90 s"))
    service = Retention(book, None, POLICY, clock)  # type: ignore[arg-type]
    assert await service.forget() == 0
    clock.ahead_s = LOST_HOST_S + 1.0
    assert await service.forget() == 1
    assert list(book.ledger.tables.workers) == ["h2"]
    await book.close()


async def test_the_service_forgets_reservations_and_users_too():
    book = await Book.open(MemoryStore(), SystemClock())
    one = ResourceConfig(cpu=1)
    await book.commit(CreateReservation("r-a", "ann", "ns", one, one, 1, 100, True, 1e9))
    await book.commit(ReleaseReservation("r-a", "done"))
    await book.commit(SetUser("bob", 1.0, None, None))
    clock = Later()
    service = Retention(book, None, POLICY, clock)  # type: ignore[arg-type]
    assert await service.forget() == 0
    clock.ahead_s = 1e9
    assert await service.forget() == 2
    assert not book.ledger.tables.reservations
    assert not book.ledger.tables.users
    await book.close()


class Later(SystemClock):
    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s
