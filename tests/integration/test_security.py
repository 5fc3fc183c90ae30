"""Who may do what, over real processes: users, jobs and hosts that try more than they may."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from fray.actor.directory import Endpoint
from fray.actor.options import ActorOptions
from fray.cluster import Entrypoint, EnvironmentConfig, JobRequest, JobStatus
from fray.cluster.connect import open_cluster
from fray.cluster.control import NameClaim
from fray.cluster.controller.commands import RegisterWorker, SubmitJobs
from fray.cluster.controller.specs import JobSpec, Program, WorkerSpec
from fray.cluster.current import current_cluster
from fray.cluster.identity import Identity
from fray.cluster.reports import JobQuery
from fray.cluster.resources import Resources
from fray.cluster.security.claims import Role, read_claims
from fray.cluster.security.tokens import LEEWAY_S
from fray.errors import (
    ActorUnavailable,
    ClusterUnavailable,
    ConnectionRefused,
    FrayError,
    PermissionDeniedError,
)
from fray.ids import JobId, Namespace, WorkerId
from fray.runtime.clock import SystemClock
from tests.integration.real_cluster import DEADLINE_S, ROOT, RealCluster, real_cluster, until

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

DAY_S = 86400.0


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncGenerator[RealCluster]:
    async with real_cluster(tmp_path) as cluster:
        yield cluster


@asynccontextmanager
async def connected(
    cluster: RealCluster, token: str, namespace: str = "test", claimed: str = "mallory"
) -> AsyncGenerator[AsyncFrayCluster]:
    """A driver with a token, which says that it is somebody else."""
    identity = Identity(claimed, namespace, session_id=f"d-{SystemClock().token(8)}")
    connection = await open_cluster(cluster.address, token, identity)
    try:
        yield connection
    finally:
        await connection.close()


async def new_token(
    cluster: RealCluster, user: str, role: Role = Role.USER, worker: str = ""
) -> str:
    async with connected(cluster, cluster.token) as admin:
        return (await admin.security.create_token(user, role, DAY_S, worker)).token


async def ended(connection: AsyncFrayCluster, job_id: JobId) -> JobStatus:
    async with asyncio.timeout(DEADLINE_S):
        return (await connection.wait_for(job_id)).status


async def output(connection: AsyncFrayCluster, job_id: JobId) -> str:
    async with asyncio.timeout(DEADLINE_S):
        return "\n".join([line.text async for line in connection.logs(job_id)])


def job(name: str, fn: Any, *args: Any, **more: Any) -> JobRequest:
    return JobRequest(name=name, entrypoint=Entrypoint.from_callable(fn, args=args), **more)


def quick() -> None:
    print("quick is done")


class Actor:
    def add(self, n: int) -> int:
        return n + 1


async def refused(what: Any) -> str:
    with pytest.raises(PermissionDeniedError) as problem:
        await what
    return str(problem.value)


# ---- users


async def test_users_have_their_own_jobs_whatever_they_say(cluster: RealCluster) -> None:
    alices = await new_token(cluster, "alice")
    bobs = await new_token(cluster, "bob")
    async with connected(cluster, alices, "a") as alice, connected(cluster, bobs, "b") as bob:
        job_id = await alice.launch(job("mine", quick))
        report = await alice.report(job_id)
        assert job_id.startswith("alice/mine-")
        assert report.user == "alice", "the token's subject, not what the client says"
        assert await ended(alice, job_id) is JobStatus.SUCCEEDED
        assert "quick is done" in await output(alice, job_id)

        attempt = (await alice.report(job_id)).tasks[0].attempts[0]
        agent = bob.agent(attempt.agent_address)
        assert "another user's" in await refused(bob.report(job_id))
        assert "another user's" in await refused(bob.terminate(job_id))
        assert "another user's" in await refused(agent.read_log(attempt.attempt_id, 0, 100, 0.0))
        assert "another user's" in await refused(bob.jobs.wait(job_id, 0.0))
        assert [each.job_id for each in await bob.list_jobs()] == []
        assert set((await bob.jobs.counts(JobQuery())).jobs.values()) == {0}
        assert (await alice.jobs.counts(JobQuery())).jobs["succeeded"] == 1
        assert [each.job_id for each in await alice.list_jobs()] == [job_id]
        assert [host.worker_id for host in await bob.fleet.hosts()] == ["w1"]

        assert "another user's" in await refused(bob.names.list("a", ""))
        async with connected(cluster, bobs, "a") as intruder:
            assert "another user's" in await refused(intruder.launch(job("x", quick)))
            spec = replace(_spec("alice"), parent=job_id)
            assert "another user's" in await refused(intruder.jobs.submit(SubmitJobs("s", (spec,))))
        for forbidden in (
            bob.fleet.drain(WorkerId("w1"), "for fun"),
            bob.security.create_token("bob", Role.ADMIN, DAY_S, ""),
            bob.security.tokens(),
            bob.security.revoke_user("alice"),
            bob.security.audit(10),
            bob.blobs.get("0" * 64),
            bob.fleet.orders(WorkerId("w1"), "boot", 0, 0.0),
            bob.fleet.tokens(WorkerId("w1"), "boot", []),
        ):
            assert "not for the role 'user'" in await refused(forbidden)
    async with connected(cluster, cluster.token) as admin:
        assert "alice" in (await admin.report(job_id)).user
        lines = await admin.security.audit(100)
    assert {"jobs.stop", "fleet.drain", "security.create_token"} <= {line.what for line in lines}
    assert {line.who for line in lines if line.what == "jobs.stop"} == {"bob"}
    assert all(line.origin.startswith("127.0.0.1:") for line in lines)


def _spec(user: str) -> JobSpec:
    job_id = JobId(f"{user}/x")
    return JobSpec(job_id, "x", user, Namespace("ns"), Program(command=("true",)))


async def test_nothing_is_refused_to_a_program_that_does_nothing_wrong(
    cluster: RealCluster,
) -> None:
    token = await new_token(cluster, "carol")
    async with connected(cluster, token, "c") as carol:
        actor = carol.system.create(Actor, (), {}, ActorOptions(name="by-name"))
        assert await actor.add.remote(1) == 2
        await actor.stop()
        job_id = await carol.launch(job("mine", quick))
        assert await ended(carol, job_id) is JobStatus.SUCCEEDED
    async with connected(cluster, cluster.token) as admin:
        assert [line for line in await admin.security.audit(100) if "carol" in line.who] == []


async def test_users_do_not_call_each_others_actors(cluster: RealCluster) -> None:
    alices = await new_token(cluster, "alice")
    bobs = await new_token(cluster, "bob")
    async with connected(cluster, alices, "a") as alice, connected(cluster, bobs, "b") as bob:
        actor = alice.system.create(Actor, (), {}, ActorOptions(name="adder"))
        assert await actor.add.remote(1) == 2
        (endpoint,) = (await alice.names.locate(actor.route.key, wait_s=10.0)).endpoints
        assert "is another's" in await refused(bob.names.locate(actor.route.key, wait_s=0.0))
        # Whoever knows where the process is gets no further than its door.
        with pytest.raises(ConnectionRefused, match="not one of the user 'bob'"):
            await dial(bob, endpoint)
        await dial(alice, endpoint)


async def dial(connection: AsyncFrayCluster, endpoint: Endpoint) -> None:
    transport = connection.system.process.peers._transport  # pyright: ignore[reportPrivateUsage]

    class Deaf:
        def message_received(self, data: memoryview) -> None: ...
        def writable(self) -> None: ...
        def link_lost(self, exc: Exception | None) -> None: ...

    link = await transport.dial(endpoint.address, lambda _: Deaf())
    link.abort()


# ---- jobs


def overreach(victim: str) -> None:
    """A job that tries what it may not do, and says what came of it."""
    from fray.cluster.base import SyncCluster

    here = current_cluster()
    assert isinstance(here, SyncCluster)
    connection: Any = here._backend
    identity = connection.identity

    def claim(namespace: str) -> NameClaim:
        endpoint = Endpoint("a-1", 1, "p-1", "127.0.0.1:9", identity.job_id, identity.attempt_id)
        return NameClaim(namespace, "x", endpoint, False, "slot", 1, 10.0)

    parentless = replace(_spec("root"), namespace=Namespace(identity.namespace))
    attempts = {
        "stop another": lambda: connection.jobs.stop(JobId(victim), "for fun", 0.0),
        "read another": lambda: connection.report(JobId(victim)),
        "register elsewhere": lambda: connection.names.register(claim("elsewhere")),
        "register here": lambda: connection.names.register(claim(identity.namespace)),
        "list elsewhere": lambda: connection.names.list("elsewhere", ""),
        "list here": lambda: connection.names.list(identity.namespace, ""),
        "drain": lambda: connection.fleet.drain(WorkerId("w1"), "for fun"),
        "launch elsewhere": lambda: connection.jobs.submit(
            SubmitJobs("s1", (replace(parentless, namespace=Namespace("elsewhere")),))
        ),
        "launch here": lambda: connection.jobs.submit(SubmitJobs("s2", (parentless,))),
        "tokens": lambda: connection.security.tokens(),
        "blob": lambda: connection.blobs.get("0" * 64),
    }
    told: dict[str, Any] = {}
    for name, attempt in attempts.items():
        try:
            told[name] = str(here.system.run(attempt))
        except FrayError as exc:
            told[name] = type(exc).__name__
    children = [JobId(each.job_id) for each in here.list_jobs() if each.job_id != identity.job_id]
    told["children"] = [str(each) for each in children]
    for child in children:
        here.terminate(child)
    print(json.dumps(told))


async def test_job_touches_its_own_namespace_and_children_only(cluster: RealCluster) -> None:
    alices = await new_token(cluster, "alice")
    async with connected(cluster, alices, "other") as other, connected(cluster, alices) as alice:
        victim = await other.launch(job("victim", _sleeper))
        job_id = await alice.launch(job("overreach", overreach, str(victim)))
        text = await output(alice, job_id)
        assert await ended(alice, job_id) is JobStatus.SUCCEEDED, text
        told = orjson.loads(text.splitlines()[-1])
        denied = {name for name, what in told.items() if what == "PermissionDeniedError"}
        assert denied == {
            "stop another",
            "read another",
            "register elsewhere",
            "list elsewhere",
            "drain",
            "launch elsewhere",
            "tokens",
            "blob",
        }
        (child,) = told["children"]
        assert told["launch here"] == f"['{child}']"
        assert child.startswith("alice/overreach-"), "it is its user's, whatever it says"
        report = await alice.report(JobId(child))
        assert (report.user, report.parent, report.namespace) == ("alice", job_id, "test")
        assert not (await other.report(victim)).status.finished()
        await other.terminate(victim)


def _sleeper() -> None:
    import time

    time.sleep(600)


async def test_token_of_a_job_is_its_attempts_and_ends_with_it(
    cluster: RealCluster, tmp_path: Path
) -> None:
    stolen = tmp_path / "stolen"

    def show() -> None:
        path = Path(os.environ["FRAY_TOKEN_FILE"])
        stolen.write_text(path.read_text())
        print(oct(path.stat().st_mode & 0o777))

    async with connected(cluster, cluster.token, claimed="tester") as admin:
        job_id = await admin.launch(job("show", show))
        assert "0o600" in await output(admin, job_id)
        assert await ended(admin, job_id) is JobStatus.SUCCEEDED
    claims = read_claims(stolen.read_text().strip())
    assert (claims.role, claims.job, claims.ns) == (Role.JOB, job_id, "test")
    with pytest.raises(ConnectionRefused, match="has ended"):
        async with connected(cluster, stolen.read_text().strip()):
            pass


# ---- hosts


async def test_host_speaks_for_itself_only(cluster: RealCluster) -> None:
    bound = await new_token(cluster, "ops", Role.WORKER, "w9")
    spec = WorkerSpec(WorkerId("w1"), "127.0.0.1:9", Resources(cpu_milli=1000))
    async with open_link(cluster, bound) as fleet:
        assert "'w9'" in await refused(fleet.register(RegisterWorker(spec, "boot")))
        assert "'w9'" in await refused(fleet.orders(WorkerId("w1"), "boot", 0, wait_s=0.0))
        assert "'w9'" in await refused(fleet.leave(WorkerId("w1"), "boot", "for fun"))
        assert "not for the role 'worker'" in await refused(fleet.drain(WorkerId("w1"), ""))


@asynccontextmanager
async def open_link(cluster: RealCluster, token: str) -> AsyncGenerator[Any]:
    from fray.actor.system import ActorSystem
    from fray.cluster.connect import make_process
    from fray.cluster.control import FleetApi
    from fray.cluster.controlcalls import control
    from fray.cluster.security.credentials import credentials_of

    credentials = credentials_of(token, cluster.address, SystemClock())
    async with make_process(credentials, label="host") as process:
        system = ActorSystem(process, None, namespace="")
        yield control(FleetApi, system, cluster.address, "fleet", timeout_s=DEADLINE_S)
        system.close()


# ---- revoking, expiring, and without a controller


async def test_revoked_token_is_cut_off_and_opens_nothing_any_more(cluster: RealCluster) -> None:
    alices = await new_token(cluster, "alice")
    async with connected(cluster, cluster.token, claimed="tester") as admin:
        async with connected(cluster, alices, "a") as alice:
            actor = alice.system.create(Actor, (), {}, ActorOptions(name="adder"))
            assert await actor.add.remote(1) == 2
            await admin.security.revoke_token(read_claims(alices).jti)
            with pytest.raises((ClusterUnavailable, ConnectionRefused)):
                await alice.fleet.hosts()
        with pytest.raises(ConnectionRefused, match="was revoked"):
            async with connected(cluster, alices, "a"):
                pass
        told = {report.token_id: report for report in await admin.security.tokens()}
        assert told[read_claims(alices).jti].revoked

        # A user's whole: their jobs' tokens are known to be revoked on their hosts, too.
        fresh = await new_token(cluster, "alice")
        async with connected(cluster, fresh, "c") as alice:
            actor = alice.system.create(Actor, (), {}, ActorOptions(name="second"))
            assert await actor.add.remote(1) == 2
            await admin.security.revoke_user("alice")

            async def cut_off() -> bool:
                try:
                    async with asyncio.timeout(1.0):
                        await actor.add.remote(1)
                except (ActorUnavailable, ConnectionRefused, TimeoutError):
                    return True
                return False

            await until(cut_off, "the actor's process has heard of it", 60.0)
        again = await new_token(cluster, "alice")
        async with connected(cluster, again, "d") as alice:
            assert await ended(alice, await alice.launch(job("new", quick))) is JobStatus.SUCCEEDED


async def test_what_was_revoked_stays_so_over_a_restart_of_the_controller(
    cluster: RealCluster,
) -> None:
    alices = await new_token(cluster, "alice")
    async with connected(cluster, cluster.token) as admin:
        await admin.security.revoke_token(read_claims(alices).jti)
    assert cluster.controller is not None
    cluster.controller.kill()
    await cluster.start_controller()
    with pytest.raises(ConnectionRefused, match="was revoked"):
        async with connected(cluster, alices):
            pass


async def test_expired_token_is_refused_by_name(cluster: RealCluster) -> None:
    signer = cluster.keyring.signer()
    claims = signer.claims("alice", Role.USER, 1.0)
    old = replace(claims, iat=claims.iat - 7200, exp=int(claims.iat - LEEWAY_S - 5))
    with pytest.raises(ConnectionRefused, match="has expired"):
        async with connected(cluster, signer.sign(old)):
            pass


async def test_tokens_are_judged_while_the_controller_is_down(cluster: RealCluster) -> None:
    alices = await new_token(cluster, "alice")
    async with connected(cluster, alices, "a") as alice:
        actor = alice.system.create(Actor, (), {}, ActorOptions(name="adder"))
        assert await actor.add.remote(1) == 2
        (endpoint,) = (await alice.names.locate(actor.route.key, wait_s=20.0)).endpoints
        unseen = (await alice.sessions.facts()).peer_token
        assert cluster.controller is not None
        cluster.controller.kill()
        transport: Any = alice.system.process.peers._transport  # pyright: ignore[reportPrivateUsage]
        transport._token = unseen  # nobody has judged it before
        await dial(alice, endpoint)
        assert await actor.add.remote(1) == 2
        transport._token = unseen[:-4] + "AAAA"
        with pytest.raises(ConnectionRefused, match=r"damaged|not signed"):
            await dial(alice, endpoint)


async def test_peer_token_opens_no_controller(cluster: RealCluster) -> None:
    """A job that is called by its driver does not come by the driver's powers."""
    async with connected(cluster, cluster.token, claimed="tester") as admin:
        peer_token = (await admin.sessions.facts()).peer_token
    with pytest.raises(ConnectionRefused, match="for peer doors"):
        async with connected(cluster, peer_token):
            pass


# ---- nothing secret anywhere


CANARY = "-".join(("canary", "5f1d7c9e"))
"""In one piece not in this file, which is sent with the project."""


def fail_with_secret() -> None:
    assert os.environ["CANARY_SECRET"] == CANARY
    raise SystemExit(3)


@pytest.mark.timeout(400)  # many commands, one after the other
async def test_values_of_variables_and_tokens_are_told_to_nobody(cluster: RealCluster) -> None:
    alices = await new_token(cluster, "alice")
    secrets = EnvironmentConfig.create(env_vars={"CANARY_SECRET": CANARY})
    async with connected(cluster, alices, "a") as alice:
        sleeper = await alice.launch(job("sleeper", _sleeper, environment=secrets))
        failing = await alice.launch(job("failing", fail_with_secret, environment=secrets))
        assert await ended(alice, failing) is JobStatus.FAILED
        await until(lambda: "running" in _cli(cluster, "job", "show", sleeper), "it runs")
        told = [_cli(cluster, *args) for args in _looks(sleeper, failing)]
        commands = _all_commands()
        await alice.terminate(sleeper)
        assert await ended(alice, sleeper) is JobStatus.STOPPED
    token = cluster.token
    for text in [*told, commands]:
        assert CANARY not in text
        assert token not in text
        assert alices not in text

    found: dict[str, list[Path]] = {CANARY: [], token: [], alices: []}
    for path in cluster.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for secret, where in found.items():
                if secret.encode() in data:
                    where.append(path)
                    assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
    assert found[alices] == []
    assert found[token] == [cluster.home.token_path]
    assert found[CANARY], "or else nothing was looked at"
    for path in found[CANARY]:
        assert path.parent.name == "blobs" or "blobs" in path.parts, f"{path} holds a secret"
    journal = [*cluster.home.journal.parent.glob(f"{cluster.home.journal.name}*")]
    assert any(b"CANARY_SECRET" in path.read_bytes() for path in journal), "names may be told"


def _all_commands() -> str:
    """As everybody on this machine sees them."""
    return subprocess.run(
        ["ps", "axww", "-o", "args"], capture_output=True, check=True, text=True
    ).stdout


def _looks(*job_ids: JobId) -> list[tuple[str, ...]]:
    looks: list[tuple[str, ...]] = [("status",), ("job", "list"), ("token", "list"), ("audit",)]
    looks += [("job", verb, str(job_id)) for verb in ("show", "why") for job_id in job_ids]
    return looks + [(*look, "--json") for look in looks]


def _cli(cluster: RealCluster, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "import fray_start; fray_start.main()", *arguments],
        env={**cluster.environ, "NO_COLOR": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr
