"""What users may use: limits that nobody could be held to are refused."""

import math

import pytest

from fray.cluster.controller.codec import (
    decode_command,
    decode_tables,
    encode_command,
    encode_tables,
)
from fray.cluster.controller.commands import SetUser
from fray.cluster.priority import Band
from fray.cluster.scheduling.accounts import Budget
from fray.errors import InvalidRequestError


def test_a_limit_on_what_nobody_counts_is_refused(world):
    world.host("h", gpus={"MI300X": 8})
    for name, hint in (("cpu", "cpus"), ("h100", "H100"), ("mem", "memory"), ("chip", "chips")):
        for command in (
            SetUser("ann", quota={name: 1.0}),
            SetUser("ann", budget=Budget({name: 1.0}, 60.0)),
        ):
            with pytest.raises(
                InvalidRequestError, match=f"counted as '{name}'; did you mean '{hint}'"
            ):
                world.do(command)
    world.do(SetUser("ann", quota={"cpus": 1.0, "MI300X": 2.0, "v6e": 4.0, "gpus": 1.0}))
    with pytest.raises(InvalidRequestError, match="counted as 'MI250'"):
        world.do(SetUser("ann", quota={"MI250": 1.0}))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_limit_that_is_no_number_is_refused(world, number):
    for command in (
        SetUser("ann", weight=number),
        SetUser("ann", quota={"cpus": number}),
        SetUser("ann", budget=Budget({"cpus": number}, 60.0)),
        SetUser("ann", budget=Budget({"cpus": 1.0}, number)),
    ):
        with pytest.raises(InvalidRequestError, match="not"):
            world.ledger.apply(command, world.now)


def test_user_of_an_older_journal_may_have_jobs_up_to_the_band_high(world):
    old = b'{"type":"SetUser","user":"ann","weight":2.0,"quota":null,"budget":null}'
    world.do(decode_command(old))
    assert world.ledger.tables.users["ann"].highest_band is Band.HIGH
    world.do(decode_command(encode_command(SetUser("ann", highest_band=Band.CRITICAL))))
    world.do(SetUser("ann", weight=1.0))

    restored = decode_tables(encode_tables(world.ledger.tables)).users["ann"]
    assert restored.highest_band is Band.CRITICAL
    assert not restored.is_usual  # so it is not forgotten
    without = encode_tables(world.ledger.tables).replace(b',"highest_band":300', b"")
    assert decode_tables(without).users["ann"].highest_band is Band.HIGH
