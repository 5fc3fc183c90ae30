"""Reservations: filled, lent, reclaimed, renewed and given back."""

import pytest

from fray.cluster.controller.commands import (
    CreateReservation,
    ExpireReservations,
    ReleaseReservation,
    RenewReservation,
    SetUser,
    WorkerLost,
)
from fray.cluster.devices import ResourceConfig
from fray.errors import InvalidRequestError, ReservationNotFoundError

from .world import STOPPED, SUCCEEDED

SLICE = "v5litepod-16"
FOUR = ResourceConfig(cpu=4)


def reserve(world, least=1, most=None, resources=None, **values) -> None:
    resources = resources or FOUR
    made = {
        "reservation_id": "r1",
        "user": "u",
        "namespace": "ns",
        "minimum": replicas(resources, least),
        "maximum": replicas(resources, most or least),
        "hosts_per_replica": 4 if resources.device.kind == "tpu" else 1,
        "priority": 100,
        "preemptible": True,
        "ttl_s": 1000.0,
        **values,
    }
    world.do(CreateReservation(**made))


def replicas(resources: ResourceConfig, count: int) -> ResourceConfig:
    return ResourceConfig(cpu=resources.cpu, device=resources.device, replicas=count)


def state(world, name="r1", beyond=0) -> str:
    return world.ledger.tables.reservations[name].state(beyond).value


def kept(world, name="r1") -> list[str]:
    places = world.ledger.tables.reservations[name].places
    return [worker for place in places for worker in place.workers]


def test_it_is_filled_as_room_comes_and_says_how_far_it_is(world):
    reserve(world, least=2, most=3)
    assert (state(world), world.schedule().spares) == ("pending", {"r1": 0})
    world.host("a", cpu=4)
    world.schedule()
    assert (state(world), kept(world)) == ("partial", ["a"])
    world.host("b", cpu=4)
    world.schedule()
    assert (state(world), kept(world)) == ("satisfied", ["a", "b"])
    world.host("c", cpu=4)
    assert world.schedule().spares == {"r1": 1}
    assert state(world, beyond=1) == "expanded"


def test_others_do_not_get_what_is_kept_unless_they_can_be_made_to_leave(world):
    world.host("a", cpu=4)
    reserve(world)
    world.schedule()
    other = {"namespace": "other", "max_retries_preemption": 5}
    world.submit(world.spec("firm", FOUR, evictable=False, **other))
    made = world.schedule()
    assert [str(reason) for reason in made.reasons["u/firm"]] == [
        "a: keeps what it has left for r1"
    ]
    world.start(world.spec("loan", FOUR, priority=299, **other))
    assert world.on("u/loan") == ["a"]


def test_what_is_lent_is_taken_back_from_whomever_and_not_lent_for_good(world):
    world.host("a", cpu=4)
    reserve(world)
    world.schedule()
    world.start(world.spec("loan", FOUR, priority=299, namespace="other"))
    world.submit(world.spec("mine", FOUR, priority=0))
    world.schedule()
    assert world.states("u/loan") == ["stopping"]
    world.tell("u/loan", 0, STOPPED)
    world.schedule()
    assert world.on("u/mine") == ["a"]
    assert world.attempt("u/mine").guaranteed
    world.submit(world.spec("higher", FOUR, priority=399, namespace="other"))
    assert world.schedule().preemptions == ()


def test_jobs_of_its_namespace_find_it_by_themselves_and_others_do_not(world):
    world.slice("s")
    reserve(world, resources=ResourceConfig.with_tpu(SLICE))
    world.schedule()
    assert sorted(kept(world)) == ["s-0", "s-1", "s-2", "s-3"]
    jobs = world.start(
        world.spec("coordinator", ResourceConfig(cpu=1)),
        world.spec("trainer", ResourceConfig.with_tpu(SLICE, cpu=2), evictable=False),
    )
    specs = [world.ledger.tables.jobs[job].spec.reservation for job in jobs]
    assert specs == ["", "r1"]
    assert world.states("u/trainer") == ["running"] * 4
    stranger = world.spec("x", ResourceConfig.with_tpu(SLICE), namespace="other", evictable=False)
    world.submit(stranger)
    assert world.ledger.tables.jobs["u/x"].spec.reservation == ""


def test_a_job_that_names_a_reservation_that_it_does_not_fit_is_refused(world):
    reserve(world)
    with pytest.raises(InvalidRequestError, match="does not fit into reservation r1"):
        world.submit(world.spec("big", ResourceConfig(cpu=5), reservation="r1"))
    with pytest.raises(InvalidRequestError, match=r"reservation r2, which job .* is unknown"):
        world.submit(world.spec("lost", reservation="r2"))


def test_a_job_that_starts_before_its_reservation_is_filled_brings_its_place_along(world):
    reserve(world)
    world.submit(world.spec("mine", FOUR, priority=250))
    world.host("a", cpu=4)
    world.schedule()
    assert (state(world), kept(world)) == ("satisfied", ["a"])
    assert world.attempt("u/mine").guaranteed


def test_at_its_time_only_idle_places_go_and_the_rest_with_its_jobs(world):
    world.host("a", cpu=4)
    world.host("b", cpu=4)
    reserve(world, least=2, ttl_s=100.0)
    world.schedule()
    world.start(world.spec("mine", FOUR))
    world.do(ExpireReservations())
    assert len(kept(world)) == 2
    world.now += 100.0
    world.do(ExpireReservations())
    assert (state(world), kept(world)) == ("expiring", world.on("u/mine"))
    world.tell("u/mine", 0, SUCCEEDED)
    assert (state(world), kept(world)) == ("released", [])
    assert world.ledger.tables.reservations["r1"].reason == "its time of 100 s was over"


def test_renewing_makes_it_last_and_what_has_ended_cannot_be_renewed(world):
    reserve(world, ttl_s=100.0)
    world.now += 90.0
    world.do(RenewReservation("r1", 100.0))
    world.now += 50.0
    world.do(ExpireReservations())
    assert state(world) == "pending"
    world.now += 100.0
    world.do(ExpireReservations())
    with pytest.raises(InvalidRequestError, match="has ended"):
        world.do(RenewReservation("r1", 100.0))
    with pytest.raises(ReservationNotFoundError):
        world.do(RenewReservation("r9", 100.0))


def test_releasing_gives_all_back_at_once_and_its_jobs_go_on(world):
    world.host("a", cpu=4)
    reserve(world)
    world.schedule()
    world.start(world.spec("mine", FOUR))
    world.do(ReleaseReservation("r1", "not wanted"))
    assert (state(world), kept(world)) == ("released", [])
    assert world.states("u/mine") == ["running"]
    assert not world.attempt("u/mine").guaranteed
    assert not world.do(ReleaseReservation("r1", "again")).changed


def test_a_host_that_is_lost_takes_its_place_along_and_another_is_found(world):
    world.host("a", cpu=4)
    reserve(world)
    world.schedule()
    world.do(WorkerLost("a", "b1", "gone"))
    assert (state(world), kept(world)) == ("pending", [])
    world.host("b", cpu=4)
    world.schedule()
    assert kept(world) == ["b"]


def test_it_may_be_placed_over_a_lower_band_which_stays_until_it_is_needed(world):
    world.host("a", cpu=4)
    world.start(world.spec("batch", FOUR, priority=0, namespace="other"))
    reserve(world)
    world.schedule()
    assert (kept(world), world.states("u/batch")) == (["a"], ["running"])
    world.submit(world.spec("mine", FOUR))
    world.schedule()
    assert world.states("u/batch") == ["stopping"]


def test_what_its_jobs_need_beyond_it_comes_from_the_rest_of_the_host(world):
    world.host("a", cpu=8, gpus={"H100": 2})
    reserve(world, resources=ResourceConfig.with_gpu("H100", 1))
    world.schedule()
    world.start(world.spec("mine", ResourceConfig.with_gpu("H100", 1, cpu=6)))
    assert world.attempt("u/mine").guaranteed
    other = ResourceConfig.with_gpu("H100", 1, cpu=2)
    world.start(world.spec("other", other, namespace="other", evictable=False))
    assert world.states("u/other") == ["running"]


def test_the_devices_that_are_kept_are_its_own(world):
    world.host("a", cpu=8, gpus={"H100": 2})
    reserve(world, resources=ResourceConfig.with_gpu("H100", 1))
    world.schedule()
    gpu = ResourceConfig.with_gpu("H100", 1)
    world.start(world.spec("other", gpu, namespace="other"))
    assert world.attempt("u/other").allocation.devices == (1,)
    world.start(world.spec("mine", gpu))
    assert world.attempt("u/mine").allocation.devices == (0,)


def test_more_than_a_quota_cannot_be_reserved(world):
    world.do(SetUser("u", quota={"cpus": 6.0}))
    with pytest.raises(InvalidRequestError, match="cannot be reserved"):
        reserve(world, least=2)
