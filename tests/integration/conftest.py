"""What the tests over real networks share; it is made when the first of them asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration import netns
from tests.integration.real_cluster import driving, until
from tests.integration.sites import WORKERS, Actor, Site, all_healthy

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    """One for all tests, since it takes seconds to start; each of them leaves it healthy."""
    with netns.network("controller", "driver", *WORKERS) as net:
        site = Site(net, tmp_path_factory.mktemp("cluster"))
        try:
            asyncio.run(site.start())
            yield site
        finally:
            site.cluster.close()


@pytest.fixture
async def driver(site: Site) -> AsyncGenerator[AsyncFrayCluster]:
    """The driver's; all is healed before it ends, and all hosts are there."""
    with site.driver.entered():
        async with driving(site.cluster) as driver:
            await until(lambda: all_healthy(driver), "all hosts are healthy")
            try:
                yield driver
            finally:
                site.net.heal()
            await until(lambda: all_healthy(driver), "all hosts are healthy again")


@pytest.fixture
async def actor(site: Site, driver: AsyncFrayCluster, tmp_path: Path) -> Actor:
    return Actor(site, driver, tmp_path / "witness", max_restarts=1)
