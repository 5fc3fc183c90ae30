"""Each safeguard matters: without it something fails, and with it the same story goes well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.mutation import Mutation, notice, tell
from tests.sim.mutations import MUTATIONS

GUIDE = Path(__file__).parents[2] / "docs" / "testing.md"

each = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.safeguard)


@each
def test_its_absence_is_noticed(mutation: Mutation):
    assert tell(mutation, mutation.seeds[0]) is None
    assert notice(mutation) is not None


def test_the_guide_lists_all_safeguards():
    guide = GUIDE.read_text()
    for mutation in MUTATIONS:
        assert f"| {mutation.safeguard} | `{mutation.witness}` |" in guide, (
            "print the table with `python -m tests.sim.mutations`"
        )
