"""Limits of users as people write them."""

from __future__ import annotations

import pytest

from fray.cli.errors import UsageFailure
from fray.cli.users import changed_limits, parse_band
from fray.cluster.priority import Band

CURRENT = {"cpus": 64.0, "chips": 32.0}


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        (["cpus=none"], {"chips": 32.0}),
        (["cpus=8"], {"cpus": 8.0, "chips": 32.0}),
        (["memory=1g", "chips=none"], {"cpus": 64.0, "memory": float(1 << 30)}),
        (["gpus=none"], CURRENT),
        (["none"], {}),
        ([], CURRENT),
    ],
)
def test_limits_that_are_not_named_stay(given: list[str], limits: dict[str, float]) -> None:
    assert changed_limits(CURRENT, given) == limits


@pytest.mark.parametrize("given", ["cpus", "=none", "cpus=-1", "cpus=nan", "cpus=inf", "cpus=x"])
def test_what_is_no_amount_is_refused(given: str) -> None:
    with pytest.raises(UsageFailure, match="cpus=64, memory=256g or chips=none"):
        changed_limits(CURRENT, [given])


def test_bands_are_read_by_their_names() -> None:
    assert parse_band("Critical") is Band.CRITICAL
    with pytest.raises(UsageFailure, match="there are batch, normal, high, critical"):
        parse_band("urgent")
