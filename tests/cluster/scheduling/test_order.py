"""Who is next: bands, fair shares, priority and age; quotas and budgets."""

from dataclasses import replace

import pytest

from fray.cluster.priority import Band, describe_priority, parse_priority
from fray.cluster.resources import Resources
from fray.cluster.scheduling.accounts import Account, Budget, Standing, advanced, charged
from fray.cluster.scheduling.planner import plan
from fray.cluster.scheduling.policy import Policy
from fray.errors import InvalidRequestError

DAY_S = 86_400.0


def placed(result) -> list[str]:
    return [assignment.placements[0].job_id for assignment in result.assignments]


def test_a_higher_band_is_served_first_whoever_waits_longer(build):
    units = [
        build.unit(build.shape(1), job=f"u/{band.label}", priority=band, submitted_at=float(band))
        for band in Band
    ]
    result = plan(build.view([build.host("a", cpu=3)], units), 1000.0)
    assert placed(result) == ["u/critical", "u/high", "u/normal"]
    assert [unit.job_ids()[0] for unit in result.waiting] == ["u/batch"]


def test_priority_inside_a_band_counts_as_time_that_was_waited(build):
    early = build.unit(build.shape(1), job="u/early", submitted_at=0.0)
    urgent = build.unit(build.shape(1), job="u/urgent", submitted_at=100.0, priority=102)
    view = build.view([build.host("a", cpu=1)], [early, urgent])
    assert placed(plan(view, 200.0)) == ["u/urgent"]
    view = replace(view, policy=Policy(point_s=10.0))
    assert placed(plan(view, 200.0)) == ["u/early"]


def many(build, count: int, users: str = "ab", cpu: float = 1):
    return [
        build.unit(build.shape(cpu), job=f"{user}/{i}", user=user, rank=i)
        for user in users
        for i in range(count)
    ]


def test_users_take_turns_within_one_plan(build):
    result = plan(build.view([build.host("x", cpu=4)], many(build, 10)), 0.0)
    assert placed(result) == ["a/0", "b/0", "a/1", "b/1"]


def test_weights_divide_a_cluster(build):
    users = {"c": Standing(weight=2.0)}
    view = build.view([build.host("x", cpu=40)], many(build, 40, "abc"), users=users)
    jobs = placed(plan(view, 0.0))
    assert [sum(job[0] == user for job in jobs) for user in "abc"] == [10, 10, 20]


def test_who_has_used_more_lately_is_served_later(build):
    used = Account(at=0.0, used={"cpus": 2.0 * DAY_S})
    view = build.view([build.host("x", cpu=4)], many(build, 4), users={"a": Standing(account=used)})
    assert placed(plan(view, 0.0)) == ["b/0", "a/0", "b/1", "a/1"]
    heavy = replace(used, used={"cpus": 40.0 * DAY_S})
    view = replace(view, users={"a": Standing(account=heavy)})
    assert placed(plan(view, 0.0)) == ["b/0", "b/1", "b/2", "b/3"]
    assert placed(plan(view, 70 * DAY_S)) == ["b/0", "a/0", "b/1", "a/1"]


def test_the_dominant_resource_is_what_counts(build):
    hosts = [build.host("x", cpu=100, gpus={"H100": 4})]
    units = [
        *(
            build.unit(build.shape(1, {"H100": 1}), job=f"g/{i}", user="g", rank=i)
            for i in range(4)
        ),
        *(build.unit(build.shape(5), job=f"c/{i}", user="c", rank=i) for i in range(9)),
    ]
    jobs = placed(plan(build.view(hosts, units), 0.0))
    assert jobs[:8] == ["c/0", "g/0", "c/1", "c/2", "c/3", "c/4", "g/1", "c/5"]


def test_use_decays_by_half_and_is_counted_exactly(build):
    account = charged(Account(at=0.0), Resources(cpu_milli=2000), 1)
    later = advanced(account, 7 * DAY_S, 7 * DAY_S, None)
    direct = advanced(advanced(account, DAY_S, 7 * DAY_S, None), 7 * DAY_S, 7 * DAY_S, None)
    assert later.used["cpus"] == pytest.approx(direct.used["cpus"])
    idle = charged(later, Resources(cpu_milli=2000), -1)
    faded = advanced(idle, 14 * DAY_S, 7 * DAY_S, None)
    assert faded.used["cpus"] == pytest.approx(later.used["cpus"] / 2)


def test_a_quota_holds_a_job_back_and_says_so(build):
    users = {"a": Standing(quota={"cpus": 2.0})}
    view = build.view([build.host("x", cpu=8)], many(build, 4), users=users)
    result = plan(view, 0.0)
    assert sorted(placed(result)) == ["a/0", "a/1", "b/0", "b/1", "b/2", "b/3"]
    assert str(result.reasons["a/3"][0]) == (
        "user a wants 1 cpu more and has 2 cpus; the quota is 2 cpus"
    )


def test_a_spent_budget_holds_jobs_back_until_its_next_period(build):
    budget = Budget({"cpus": 100.0}, 3600.0)
    spent = Account(at=0.0, live=Resources(cpu_milli=1000), tasks=1, period=0)
    users = {"a": Standing(budget=budget, account=spent)}
    view = build.view([build.host("x", cpu=8)], many(build, 1, "a"), users=users)
    assert placed(plan(view, 99.0)) == ["a/0"]
    result = plan(view, 101.0)
    assert placed(result) == []
    assert "has spent the budget (0.0281 of 0.0278 cpu-hours)" in str(result.reasons["a/0"][0])
    assert result.next_at == 3600.0
    assert placed(plan(view, 3600.5)) == ["a/0"]


def test_one_plan_places_a_bounded_number_and_comes_back_at_once(build):
    view = build.view([build.host("x", cpu=8)], many(build, 4), policy=Policy(placements_max=3))
    result = plan(view, 5.0)
    assert len(result.assignments) == 3
    assert result.next_at == 5.0
    assert all(result.reasons[unit.job_ids()[0]] for unit in result.waiting)


@pytest.mark.parametrize(
    ("given", "number"), [("batch", 0), ("high+5", 205), (399, 399), ("normal", 100)]
)
def test_priorities_are_read(given, number):
    assert parse_priority(given) == number
    assert parse_priority(describe_priority(number)) == number


@pytest.mark.parametrize("given", ["urgent", "high+100", "high+", -1, 400, True, "high-1"])
def test_what_is_no_priority_is_refused(given):
    with pytest.raises(InvalidRequestError, match="a priority is one of batch, normal"):
        parse_priority(given)
