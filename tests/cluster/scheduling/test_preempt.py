"""Who is stopped for whom."""

import random
from dataclasses import replace

import pytest

from fray.cluster.scheduling.planner import plan
from fray.cluster.scheduling.policy import Policy
from fray.cluster.scheduling.preempt import Evictor
from fray.cluster.scheduling.view import Part


def high(build, *shapes, job="u/high", **values):
    return build.unit(*shapes, job=job, priority=200, **values)


def victims(result) -> list[str]:
    return [attempt for preemption in result.preemptions for attempt in preemption.victims]


def test_a_higher_band_has_a_lower_one_stopped_and_keeps_its_place(build):
    host = build.host("a", cpu=4)
    low = build.running("u/low", (host, build.shape(4)))
    view = build.view([host], [high(build, build.shape(2))], [low])
    result = plan(view, 10.0)
    assert victims(result) == ["u/low/0#0"]
    assert [(claim.unit_id, claim.workers) for claim in result.claims] == [
        ("task:u/high/0", ("a",))
    ]
    assert [str(reason) for reason in result.reasons["u/high"]] == [
        "u/low stops, to make room for it"
    ]


def test_neither_the_same_band_nor_what_is_not_evictable_is_stopped(build):
    host = build.host("a", cpu=4)
    for values in ({"priority": 250}, {"evictable": False}, {"stopping": True}):
        low = build.running("u/low", (host, build.shape(4)), **values)
        assert victims(plan(build.view([host], [high(build, build.shape(2))], [low]), 10.0)) == []


def test_nothing_is_stopped_for_what_would_still_not_fit(build):
    host = build.host("a", cpu=4)
    low = build.running("u/low", (host, build.shape(2)))
    firm = build.running("u/firm", (host, build.shape(2)), evictable=False)
    view = build.view([host], [high(build, build.shape(3))], [low, firm])
    assert victims(plan(view, 10.0)) == []


def test_those_are_stopped_who_lose_the_least_work(build):
    hosts = [build.host(name, cpu=4) for name in "abc"]
    running = [
        build.running("u/long", (hosts[0], build.shape(4)), saved_at=0.0),
        build.running("u/saved", (hosts[1], build.shape(4)), saved_at=90.0),
        build.running("u/small-1", (hosts[2], build.shape(1)), saved_at=70.0),
        build.running("u/small-2", (hosts[2], build.shape(1)), saved_at=60.0),
        build.running("u/small-3", (hosts[2], build.shape(1)), saved_at=0.0),
    ]
    view = build.view(hosts, [high(build, build.shape(3))], running)
    assert victims(plan(view, 100.0)) == ["u/saved/0#0"]
    view = build.view(hosts, [high(build, build.shape(2))], running)
    assert victims(plan(view, 100.0)) == ["u/small-1/0#0"]  # one cpu is free there already


def test_more_victims_than_needed_are_spared(build):
    host = build.host("a", cpu=4)
    running = [
        build.running("u/young", (host, build.shape(1)), saved_at=99.0),
        build.running("u/old", (host, build.shape(3)), saved_at=0.0),
    ]
    view = build.view([host], [high(build, build.shape(3))], running)
    assert victims(plan(view, 100.0)) == ["u/old/0#0"]


def test_a_gang_is_one_victim_and_weighs_as_one(build):
    hosts = [*build.slice("s"), *build.slice("t")]
    shape = build.shape(tpu="v5litepod-16")
    gang = build.running("u/gang", *((host, shape) for host in hosts[:4]), saved_at=0.0)
    single = replace(shape, hosts=1, tpu_type="")
    lone = [
        build.running(f"u/{i}", (host, single), saved_at=30.0) for i, host in enumerate(hosts[4:])
    ]
    view = build.view(hosts, [high(build, shape, unit_id="gang:u/high/r0")], [gang, *lone])
    assert sorted(victims(plan(view, 100.0))) == [f"u/{i}/0#0" for i in range(4)]
    later = [replace(each, saved_at=-50.0) for each in lone]
    view = build.view(hosts, [high(build, shape, unit_id="gang:u/high/r0")], [gang, *later])
    assert sorted(victims(plan(view, 100.0))) == [f"u/gang/{i}#0" for i in range(4)]


def test_what_is_freed_is_locked_for_whom_it_was_freed(build):
    host = build.host("a", cpu=4)
    low = build.running("u/low", (host, build.shape(3)), stopping=True)
    mine = high(build, build.shape(4))
    thief = high(build, build.shape(1), job="u/thief", submitted_at=-50.0)
    first = plan(build.view([host], [mine], [replace(low, stopping=False)]), 10.0)
    view = build.view([host], [thief, mine], [low], claims=first.claims)
    result = plan(view, 11.0)
    assert (result.assignments, result.claims) == ((), first.claims)
    assert str(result.reasons["u/high"][0]) == "waits for those to end who make room for it"
    assert str(result.reasons["u/thief"][0]) == "a: keeps what it has left for task:u/high/0"
    freed = build.view([host], [thief, mine], claims=first.claims)
    result = plan(freed, 12.0)
    assert [assignment.unit_id for assignment in result.assignments] == ["task:u/high/0"]
    assert result.claims == ()


def test_a_claim_without_its_owner_or_its_host_is_void(build):
    host = build.host("a", cpu=4)
    low = build.running("u/low", (host, build.shape(4)))
    mine = high(build, build.shape(4))
    claims = plan(build.view([host], [mine], [low]), 10.0).claims
    stopping = replace(low, stopping=True)
    assert plan(build.view([host], [], [stopping], claims=claims), 11.0).claims == ()
    assert plan(build.view([build.host("b")], [mine], claims=claims), 11.0).claims == ()


def test_preemption_takes_at_most_so_many_at_once_and_goes_on(build):
    hosts = [build.host(f"h{i}", cpu=1) for i in range(5)]
    running = [build.running(f"u/{i}", (host, build.shape(1))) for i, host in enumerate(hosts)]
    units = [high(build, build.shape(1), job=f"v/{i}") for i in range(5)]
    view = build.view(hosts, units, running, policy=Policy(preemptions_max=2))
    result = plan(view, 10.0)
    assert (len(victims(result)), result.next_at) == (2, 10.0)
    assert len(set(victims(plan(replace(view, policy=Policy()), 10.0)))) == 5


def test_preemption_can_be_switched_off(build):
    host = build.host("a", cpu=4)
    low = build.running("u/low", (host, build.shape(4)))
    view = build.view([host], [high(build, build.shape(2))], [low], policy=Policy(preempt=False))
    assert victims(plan(view, 10.0)) == []


def test_who_uses_the_minimum_of_a_reservation_is_safe(build):
    host = build.host("a", cpu=4)
    low = build.running("u/low", (host, build.shape(4)))
    part = low.parts[0]
    safe = replace(low, parts=(Part(part.attempt_id, "a", part.allocation, guaranteed=True),))
    view = build.view([host], [high(build, build.shape(2))], [safe])
    assert victims(plan(view, 10.0)) == []


@pytest.mark.parametrize("seed", range(4))
def test_what_is_remembered_of_hosts_changes_nobody_who_is_stopped(build, monkeypatch, seed):
    dice = random.Random(seed)
    hosts = [build.host(f"h{n}", cpu=8) for n in range(12)]
    shape = build.shape
    running = [
        build.running(f"v/{n}-{k}", (host, shape(1)), user="v", saved_at=float(dice.randrange(50)))
        for n, host in enumerate(hosts)
        for k in range(8)
    ]
    for n in range(0, 12, 3):  # gangs, which go as a whole
        ends = (hosts[n], shape(1)), (hosts[(n + 5) % 12], shape(1))
        running[n * 8 : n * 8 + 1] = [build.running(f"v/g{n}", *ends, user="v", saved_at=40.0)]
    units = [
        build.unit(shape(dice.choice([1, 2, 5])), job=f"w/{n}", rank=n, priority=200)
        for n in range(30)
    ]
    view = build.view(hosts, units, running)
    remembering = plan(view, 100.0)
    monkeypatch.setattr(
        Evictor,
        "needed",
        lambda self, host, unit, block: self.fewest(
            host, block.shape, self.victims_on(host, unit, block)
        ),
    )
    assert remembering.preemptions == plan(view, 100.0).preemptions
    assert len(remembering.preemptions) > 5


def test_hosts_are_not_looked_into_anew_for_each_of_many_units_that_want_the_same(
    build, monkeypatch
):
    looks = 0
    fewest = Evictor.fewest

    def counted(*arguments):
        nonlocal looks
        looks += 1
        return fewest(*arguments)

    monkeypatch.setattr(Evictor, "fewest", counted)
    hosts = [build.host(f"h{n:02}", cpu=2) for n in range(40)]
    running = [
        build.running(f"v/{n}", (host, build.shape(2)), user="v", saved_at=float(n))
        for n, host in enumerate(hosts)
    ]
    units = [build.unit(build.shape(1), job=f"w/{n}", rank=n, priority=200) for n in range(10)]
    assert plan(build.view(hosts, units, running), 100.0).preemptions
    assert looks <= len(hosts) + 5 * len(units)
