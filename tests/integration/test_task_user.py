"""Tasks under accounts of their own, where the agent is root: nobody reads another's."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.cluster import Entrypoint, EnvironmentConfig, JobRequest, JobStatus
from fray.cluster.worker.accounts import TASKS_ROOT, TaskAccounts
from fray.errors import ClusterError, InvalidRequestError
from tests import wheels
from tests.integration.real_cluster import DEADLINE_S, RealCluster, until
from tests.integration.test_security import connected, new_token

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.ids import JobId

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root starts tasks under other accounts"),
]

ACCOUNTS = '{"alice": "daemon", "bob": "bin"}'
"""Accounts that every machine has."""


def _accounts_can_run_python() -> bool:
    """Whether the interpreter lies where others may read it, and not in a home directory."""
    if os.geteuid() != 0:
        return False
    try:
        argv = [sys.executable, "-c", "import fray.cluster.worker.task"]
        return subprocess.run(argv, user=1, group=1, extra_groups=[], cwd="/").returncode == 0
    except PermissionError:
        return False


can_run_python = pytest.mark.skipif(
    not _accounts_can_run_python(), reason="the interpreter is in a home that is closed to others"
)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncGenerator[RealCluster]:
    cluster = RealCluster(tmp_path)
    cluster.task_user = ACCOUNTS
    try:
        await cluster.start()
        yield cluster
    finally:
        await asyncio.to_thread(cluster.close)
        shutil.rmtree(TASKS_ROOT / "test")


async def launch(connection: AsyncFrayCluster, script: str) -> JobId:
    request = JobRequest(
        name="shell",
        entrypoint=Entrypoint.from_binary("/bin/sh", ["-c", script]),
        environment=EnvironmentConfig.create(env_vars={"SECRET": "canary-9a1b"}),
    )
    return await connection.launch(request)


async def output(connection: AsyncFrayCluster, job_id: JobId) -> list[str]:
    async with asyncio.timeout(DEADLINE_S):
        return [line.text async for line in connection.logs(job_id)]


async def test_tasks_of_different_users_cannot_read_each_other(cluster: RealCluster) -> None:
    alices, bobs = await new_token(cluster, "alice"), await new_token(cluster, "bob")
    async with connected(cluster, alices, "a") as alice, connected(cluster, bobs, "b") as bob:
        sleeping = await launch(alice, "id -un; id -G; exec sleep 600")
        lines: list[str] = []

        async def begun() -> bool:
            async for line in alice.logs(sleeping, follow=False):
                lines.append(line.text)
            return len(lines) >= 2

        await until(begun, "alice's task says who it is")
        assert lines[:2] == ["daemon", "1"], "its own group, and none of root's"

        (run_dir,) = (TASKS_ROOT / "test" / "w1" / "run").iterdir()
        for name in ("task.json", "payload.bin", "token"):
            found = (run_dir / name).stat()
            assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (1, 0o600), name
        assert run_dir.stat().st_uid == 0, "so its owner can neither rename nor add files"

        pid = _process_of(b"600")
        spying = await launch(
            bob,
            f"id -un; cat {run_dir}/token {run_dir}/task.json {pid}/environ"
            f" {cluster.home.token_path} {cluster.home.path}/keys/signing-key;"
            f" ls {run_dir} {run_dir.parent}; "
            f"cat $FRAY_TOKEN_FILE | wc -w; touch {run_dir}/x; touch $(dirname $FRAY_TOKEN_FILE)/x",
        )
        async with asyncio.timeout(DEADLINE_S):
            assert (await bob.wait_for(spying)).status is JobStatus.FAILED, "its last word failed"
        told = await output(bob, spying)
        assert told[0] == "bin"
        assert "1" in told, "its own token it can read"
        assert sum("ermission denied" in line for line in told) == 9, told
        assert "canary-9a1b" not in "".join(told)
        await alice.terminate(sleeping)


def _process_of(argument: bytes) -> Path:
    return next(p for p in Path("/proc").iterdir() if p.name.isdigit() and _runs(p, argument))


def _runs(process: Path, argument: bytes) -> bool:
    try:
        return (process / "cmdline").read_bytes() == b"sleep\0" + argument + b"\0"
    except OSError:
        return False


async def test_user_without_an_account_is_told_so(cluster: RealCluster) -> None:
    carols = await new_token(cluster, "carol")
    async with connected(cluster, carols, "c") as carol:
        job_id = await launch(carol, "true")
        async with asyncio.timeout(DEADLINE_S):
            info = await carol.wait_for(job_id)
        assert info.status is JobStatus.FAILED
        assert "no account for the user 'carol'" in str(info.error_message)


def write_project_that_is_built(root: Path) -> None:
    """With a dependency beside it whose build backend notes under which account it runs."""
    package = root / "builder"
    package.mkdir(parents=True)
    (package / "pyproject.toml").write_text(
        '[project]\nname = "builder"\nversion = "1.0"\n'
        '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'
    )
    writer = inspect.getsource(wheels).replace("from __future__ import annotations", "")
    (package / "back.py").write_text(
        f"{writer}\nimport os\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    body = f'BUILT_BY = {os.getuid()}'\n"
        "    return write_wheel(Path(folder), 'builder', '1.0', body=body).name\n"
    )
    (root / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\ndependencies = ["builder"]\n'
        '[tool.uv]\nno-index = true\n[tool.uv.sources]\nbuilder = { path = "builder" }\n'
    )
    (root / "main.py").write_text(
        "import builder, os, sys\n"
        "print('built by', builder.BUILT_BY, 'run by', os.getuid(), 'at', sys.prefix)\n"
        "open('/proc/self/environ').read()\n"
        "open(__file__, 'a')\n"
    )
    (root / "main.py").chmod(0o600)


@can_run_python
async def test_environments_are_built_by_the_account_that_uses_them(
    cluster: RealCluster, tmp_path: Path
) -> None:
    write_project_that_is_built(tmp_path / "project")
    alices, bobs = await new_token(cluster, "alice"), await new_token(cluster, "bob")
    places: list[str] = []
    for user, token, uid in (("alice", alices, 1), ("bob", bobs, 2)):
        async with connected(cluster, token, user) as connection:
            request = JobRequest(
                name="j",
                entrypoint=Entrypoint.from_binary("python", ["main.py"]),
                environment=EnvironmentConfig.create(workspace=str(tmp_path / "project")),
            )
            job_id = await connection.launch(request)
            told = await output(connection, job_id)
        (line,) = [line for line in told if line.startswith("built by")] or [str(told)]
        assert line.startswith(f"built by {uid} run by {uid} at /"), told
        assert "PermissionError" in told[-1], "what was unpacked is nobody's to change"
        assert "main.py" in told[-1], told
        places.append(line.partition(" at ")[2])
    assert places[0] != places[1], "nobody runs what another has built"
    assert os.stat(places[0]).st_mode & 0o077 == 0
    with pytest.raises(PermissionError):
        _as_account(2, lambda: os.listdir(places[0]))


def _as_account(uid: int, look: Callable[[], object]) -> None:
    os.seteuid(uid)
    try:
        look()
    finally:
        os.seteuid(0)


@can_run_python
async def test_functions_run_under_accounts_too(cluster: RealCluster) -> None:
    def who() -> None:
        print(os.getuid(), os.environ["USER"], len(open("/proc/self/environ").read()) > 0)  # noqa: SIM115

    async with connected(cluster, await new_token(cluster, "alice"), "a") as alice:
        request = JobRequest(name="who", entrypoint=Entrypoint.from_callable(who))
        job_id = await alice.launch(request)
        assert await output(alice, job_id) == ["1 daemon True"]
        assert (await alice.wait_for(job_id)).status is JobStatus.SUCCEEDED


def test_tasks_never_run_as_root() -> None:
    with pytest.raises(InvalidRequestError, match="do not run as root"):
        TaskAccounts("root")
    with pytest.raises(InvalidRequestError, match="no account 'not-here'"):
        TaskAccounts({"alice": "not-here"})
    assert TaskAccounts("auto").of("root").name == "nobody"
    assert TaskAccounts("auto").of("daemon").name == "daemon"
    assert TaskAccounts("auto").of("nobody-knows").name == "nobody"
    with pytest.raises(ClusterError, match="no account for the user"):
        TaskAccounts({"alice": "daemon"}).of("bob")
