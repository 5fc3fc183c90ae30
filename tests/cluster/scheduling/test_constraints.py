"""What jobs demand of hosts."""

import pytest

from fray.cluster.constraints import check_labels, parse_constraint
from fray.cluster.devices import ResourceConfig
from fray.errors import InvalidRequestError

HOST = {"rack": ("r1",), "device": ("H100", "A100"), "zone": ("us-a",)}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("rack=r1", True),
        ("rack=r2", False),
        ("rack!=r2", True),
        ("rack!=r1", False),
        ("rack in r1,r2", True),
        ("rack not in r1,r2", False),
        ("device=A100", True),
        ("device!=A100", False),
        ("rack", True),
        ("!rack", False),
        ("disk", False),
        ("!disk", True),
        ("disk=ssd", False),
        ("disk!=ssd", True),
    ],
)
def test_a_constraint_holds_or_does_not(text, holds):
    constraint = parse_constraint(text)
    assert constraint.holds(HOST) is holds
    assert parse_constraint(str(constraint)) == constraint


@pytest.mark.parametrize("text", ["", "a b", "a in ", "!a=b", "a=b,c", "=x", "a==b", "a=b c"])
def test_what_is_no_constraint_is_refused_where_it_is_written(text):
    with pytest.raises(InvalidRequestError, match="constraint"):
        ResourceConfig(constraints=[text])


def test_weights_and_labels_are_checked_too():
    with pytest.raises(InvalidRequestError, match="weight of preference 'zone=a'"):
        ResourceConfig(preferences={"zone=a": 0})
    with pytest.raises(InvalidRequestError, match="label"):
        ResourceConfig(labels={"rack": "a b"})
    with pytest.raises(InvalidRequestError, match="zones must be a list"):
        ResourceConfig(zones="us-a")
    check_labels({"topology.example/rack": "r1"})


def test_hard_demands_reject_hosts_with_a_reason_and_soft_ones_choose(build):
    from dataclasses import replace

    from fray.cluster.scheduling.planner import plan

    hosts = [
        build.host("a", cpu=4, zone="z1", labels={"rack": "r1"}),
        build.host("b", cpu=8, zone="z2", labels={"rack": "r2"}),
        build.host("c", cpu=8, zone="z2", labels={"rack": "r2"}),
    ]

    def place(**values):
        shape = replace(build.shape(1), **values)
        made = plan(build.view(hosts, [build.unit(shape)]), 0.0)
        if made.assignments:
            return made.assignments[0].placements[0].worker_id
        return [str(reason) for reason in made.reasons["u/j"]]

    assert place() == "a"
    assert place(constraints=(parse_constraint("rack=r2"),)) == "b"
    assert place(preferences=((parse_constraint("zone=z2"), 5.0),)) == "b"
    assert place(zones=("z3",)) == [
        "a: is in zone z1, not z3",
        "b and 1 other: is in zone z2, not z3",
    ]
    assert place(constraints=(parse_constraint("gpu-kind"),)) == [
        "a and 2 others: has no gpu-kind, which gpu-kind does not accept"
    ]
