"""A cluster that leaves the loopback: everything is encrypted, and everybody is who they say."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fray.actor.options import ActorOptions
from fray.cluster import Entrypoint, JobRequest, JobStatus
from fray.cluster.security.authority import CONTROLLER_NAME, Authority, new_authority
from fray.cluster.security.claims import Role, read_claims
from fray.errors import ConnectionRefused
from fray.runtime.clock import SystemClock
from tests.integration.real_cluster import DEADLINE_S, RealCluster, driving, real_cluster, until

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Listener:
    """An actor that its driver calls, and that calls its driver's actor."""

    def echo(self, data: bytes) -> bytes:
        return data


def say() -> None:
    print("said over TLS")


async def works(connection: AsyncFrayCluster) -> None:
    """A job with its output, and an actor with more data than a socket takes at once."""
    entrypoint = Entrypoint.from_callable(say)
    job_id = await connection.launch(JobRequest(name="say", entrypoint=entrypoint))
    async with asyncio.timeout(DEADLINE_S):
        assert (await connection.wait_for(job_id)).status is JobStatus.SUCCEEDED
        assert "said over TLS" in [line.text async for line in connection.logs(job_id)]
    actor = connection.system.create(Listener, (), {}, ActorOptions())
    data = bytes(range(256)) * (4 << 12)  # 4 MiB
    assert await actor.echo.remote(data) == data


def trusting(authority: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    return context


async def handshake(address: str, context: ssl.SSLContext, name: str) -> str:
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
    version: Any = writer.get_extra_info("ssl_object").version()
    writer.close()
    return version


async def test_whole_cluster_speaks_tls_where_it_leaves_the_loopback(tmp_path: Path) -> None:
    async with real_cluster(tmp_path, every_address=True) as cluster:
        claims = read_claims(cluster.token)
        assert claims.ca
        async with driving(cluster) as connection:
            await works(connection)
            (host,) = await connection.fleet.hosts()
            trusted = trusting(claims.ca)
            assert await handshake(cluster.address, trusted, CONTROLLER_NAME) == "TLSv1.3"
            agent = host.address.rpartition(":")[0]
            assert await handshake(host.address, trusted, agent) == "TLSv1.3"
            # No process of a host can pose as the controller, nor as one of another host.
            for name in (CONTROLLER_NAME, "192.0.2.1"):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await handshake(host.address, trusted, name)
        await refuses_plain_and_strange(cluster)


async def refuses_plain_and_strange(cluster: RealCluster) -> None:
    signer = cluster.keyring.signer()
    claims = signer.claims("tester", Role.ADMIN, 600.0)
    plain = signer.sign(replace(claims, ca=b""))
    other = Authority(*new_authority("other", SystemClock()), SystemClock())
    strange = signer.sign(replace(claims, ca=other.der))
    good = cluster.token
    for token, told in ((plain, "this port speaks TLS"), (strange, "is not trusted")):
        cluster.token = token
        with pytest.raises(ConnectionRefused, match=told):
            async with driving(cluster):
                pass
    cluster.token = good
    assert cluster.controller is not None
    log = cluster.controller.log
    await until(lambda: "this port speaks TLS" in log.read_text(), "the controller says so, too")


async def test_token_of_a_cluster_with_tls_is_not_shown_in_the_clear(tmp_path: Path) -> None:
    async with real_cluster(tmp_path) as cluster:
        cluster.keyring = type(cluster.keyring)(cluster.home, SystemClock(), tls=True)
        cluster.token = cluster.keyring.admin_token()
        with pytest.raises(ConnectionRefused, match="does not speak TLS"):
            async with driving(cluster):
                pass


async def test_controller_shows_a_certificate_that_it_was_given(tmp_path: Path) -> None:
    clock = SystemClock()
    key, certificate = new_authority("a company's", clock)
    issued = Authority(key, certificate, clock).issue("127.0.0.1")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem", tmp_path / "authority.pem"
    for path, content in zip(files, (*issued, certificate.decode()), strict=True):
        path.write_text(content)
    async with real_cluster(tmp_path, certificate=files) as cluster:
        claims = read_claims(cluster.token)
        async with driving(cluster) as connection:
            await works(connection)
        assert await handshake(cluster.address, trusting(claims.cca), "127.0.0.1") == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError):  # a job's certificate is no controller's
            await handshake(cluster.address, trusting(claims.ca), "127.0.0.1")
