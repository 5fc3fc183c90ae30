from __future__ import annotations

import itertools

import pytest

_NUMBERS = itertools.count(1)


@pytest.fixture
def unique() -> str:
    """A name that no other test has."""
    return f"unique-{next(_NUMBERS)}"
