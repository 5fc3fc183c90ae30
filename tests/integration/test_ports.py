"""Named ports over real sockets: a task serves at its own, and others find it by its job."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.cluster import Entrypoint, JobRequest, LocalCluster, ResourceConfig
from fray.cluster.worker.ports import FIRST_PORT, LAST_PORT
from fray.errors import ActorNotFoundError, InvalidRequestError, JobNotFoundError
from fray.ids import JobId, Namespace
from tests.integration.port_users import serve_at_port, serve_two, talk_http
from tests.integration.real_cluster import RealCluster, driving, real_cluster, until

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

NAMESPACE = Namespace("elsewhere")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncGenerator[RealCluster]:
    async with real_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def driver(cluster: RealCluster) -> AsyncGenerator[AsyncFrayCluster]:
    async with driving(cluster) as driver:
        yield driver


def request(function: object, *args: object, **values: object) -> JobRequest:
    entrypoint = Entrypoint.from_callable(function, args=args)
    return JobRequest(name="server", entrypoint=entrypoint, **values)


async def test_a_job_is_found_by_its_id_and_by_a_name_that_is_mapped_to_its_port(
    driver: AsyncFrayCluster,
) -> None:
    job_id = await driver.launch(request(serve_at_port, "svc", ports={"svc"}))
    handle = await driver.resolver.lookup_async(job_id)
    assert await handle.job_id.remote() == job_id
    await driver.create_mapping(job_id, "svc", driver.get_namespace(), "curriculum")
    mapped = await driver.resolver.lookup_async("curriculum")
    port = await mapped.port.remote()
    assert FIRST_PORT <= port <= LAST_PORT
    [listed] = [e for e in await driver.resolver.list_actors_async("curr")]
    assert listed.address.endswith(f":{port}")
    assert listed.job_id == job_id
    await driver.terminate(job_id)
    await driver.wait_for(job_id)
    for name in (job_id, "curriculum"):
        with pytest.raises(ActorNotFoundError):
            await driver.resolver.lookup_async(name)


async def test_a_mapping_follows_a_job_over_the_restart_of_its_task(
    driver: AsyncFrayCluster,
) -> None:
    job_id = await driver.launch(
        request(serve_at_port, "svc", ports={"svc"}, max_retries_failure=1)
    )
    await driver.create_mapping(job_id, "svc", driver.get_namespace(), "it")
    handle = await driver.resolver.lookup_async("it")
    first = await handle.pid.remote()
    os.kill(first, signal.SIGKILL)

    async def restarted() -> bool:
        try:
            return await (await driver.resolver.lookup_async("it")).pid.remote() != first
        except Exception:  # of the one that has just died
            return False

    await until(restarted, "the mapping leads to the second attempt")


async def test_two_tasks_of_a_host_get_different_ports_and_a_program_learns_its_own(
    driver: AsyncFrayCluster, tmp_path: Path
) -> None:
    job_id = await driver.launch(
        request(
            talk_http,
            str(tmp_path),
            ports=["http", "second-port"],
            resources=ResourceConfig(cpu=1, replicas=2),
        )
    )
    info = await driver.wait_for(job_id)
    assert info.error_message is None
    told = [(tmp_path / f"{task}").read_text().split() for task in range(2)]
    assert len({port for ports in told for port in ports}) == 4


async def test_what_a_mapping_cannot_lead_to_is_said(driver: AsyncFrayCluster) -> None:
    job_id = await driver.launch(request(serve_two, ports={"svc"}))
    with pytest.raises(InvalidRequestError, match=r"has no port 'other' \(it has svc\)"):
        await driver.create_mapping(job_id, "other", NAMESPACE, "x")
    with pytest.raises(JobNotFoundError):
        await driver.create_mapping(JobId("nobody/x"), "svc", NAMESPACE, "x")
    await until(lambda: _has(driver, "second"), "both are registered")
    with pytest.raises(ActorNotFoundError, match="serves several actors: first, second"):
        await driver.resolver.lookup_async(job_id)
    await driver.create_mapping(job_id, "svc", driver.get_namespace(), "second")
    second = await driver.resolver.lookup_async("second")
    assert await second.name.remote() == "second"


async def _has(driver: AsyncFrayCluster, name: str) -> bool:
    return bool(await driver.resolver.list_actors_async(name))


async def test_the_same_works_on_the_local_cluster(tmp_path: Path) -> None:
    def drive() -> tuple[int, str]:
        with LocalCluster() as local:
            job_id = local.launch(request(serve_at_port, "svc", ports={"svc"}))
            local.create_mapping(job_id, "svc", local.get_namespace(), "curriculum")
            handle = local.resolver.lookup("curriculum")
            told = handle.port(), handle.job_id()
            assert told[1] == job_id
            assert local.resolver.lookup(job_id).port() == told[0]
            return told

    port, _ = await asyncio.to_thread(drive)
    assert FIRST_PORT <= port <= LAST_PORT
