"""One embedded cluster per module of tests: what a user has without setting anything up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fray.cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """The cluster that actors of the module are made on."""
    with LocalCluster() as made:
        yield made
