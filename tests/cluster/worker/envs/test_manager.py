"""Environments are built by the real uv, from packages that the tests make: nothing is fetched."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fray.cluster.blobs import digest_of
from fray.cluster.bundles import pack_workspace
from fray.cluster.shelflimits import ShelfLimits
from fray.cluster.worker.envs import manager
from fray.cluster.worker.envs.build import BuildFailed
from fray.cluster.worker.envs.manager import Asked, Environments, Surroundings
from fray.cluster.worker.envs.steps import find_uv
from fray.cluster.workspace import workspace_files
from fray.errors import ClusterError
from fray.runtime.clock import SystemClock
from fray.runtime.tasks import Scope
from tests.integration.real_cluster import until
from tests.wheels import builds, sha256_of, write_project, write_slow_package, write_wheel

pytestmark = pytest.mark.integration


class Host:
    """The environments of a host, and the bundles that it could fetch."""

    def __init__(self, folder: Path, scope: Scope, **options: Any) -> None:
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []
        environ = {**os.environ, "UV_OFFLINE": "1", "UV_CACHE_DIR": str(folder.parent / "cache")}
        self.envs = Environments(folder, SystemClock(), scope, environ=environ, **options)
        self.lines: dict[str, list[str]] = {}

    def bundle(self, root: Path) -> str:
        data = pack_workspace(root, workspace_files(root)).data
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    async def fetch(self, digest: str) -> bytes:
        self.fetched.append(digest)
        return self.blobs[digest]

    async def obtain(self, holder: str = "t", **asked: Any) -> Surroundings:
        say: Callable[[str], None] = self.lines.setdefault(holder, []).append
        return await self.envs.obtain(holder, Asked(fetch=self.fetch, **asked), say)

    def log(self, holder: str = "t") -> str:
        return "\n".join(self.lines[holder])


@pytest.fixture
async def scope() -> AsyncIterator[Scope]:
    async with Scope("host", lambda name, exc: None) as scope:
        yield scope
        await scope.finished()


@pytest.fixture
async def host(tmp_path: Path, scope: Scope) -> Host:
    host = Host(tmp_path / "envs", scope)
    await host.envs.recover()
    return host


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    for version in ("1.0", "2.0"):
        write_wheel(tmp_path / "wheels", "tinydep", version)
    return tmp_path / "wheels"


def lock(root: Path) -> None:
    env = {**os.environ, "UV_OFFLINE": "1"}
    subprocess.run([*find_uv(env), "lock", "-q", "--project", str(root)], check=True, env=env)


def is_there(where: Surroundings) -> bool:
    return Path(where.venv).exists()


def run(where: Surroundings, code: str) -> str:
    done = subprocess.run(
        [where.python, "-c", code],
        cwd=where.code or "/",
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


async def test_a_project_gets_its_packages_and_the_agent_s_fray(host, wheels, tmp_path):
    root = write_project(tmp_path / "p", wheels, ["tinydep<2"])
    where = await host.obtain(bundle=host.bundle(root))
    code = "import tinydep, fray, orjson; print(tinydep.VERSION, fray.__file__)"
    import fray

    assert run(where, code) == f"1.0 {fray.__file__}"
    assert (Path(where.code) / "src" / "mine" / "__init__.py").exists()
    assert "+ tinydep==1.0" in host.log()


async def test_code_that_changes_builds_no_environment(host, wheels, tmp_path):
    root = write_project(tmp_path / "p", wheels, ["tinydep"])
    first = await host.obtain(bundle=host.bundle(root))
    (root / "new.py").write_text("x = 1")
    second = await host.obtain(bundle=host.bundle(root))
    assert second.venv == first.venv
    assert second.code != first.code
    assert host.log().count("building an environment") == 1
    assert (Path(second.code) / "new.py").exists()


async def test_two_tasks_of_one_environment_build_it_once_and_both_see_the_log(
    host, wheels, tmp_path
):
    control = tmp_path / "control"
    package = write_slow_package(tmp_path / "slow", "slowdep", control)
    asked = {"pip_packages": [f"slowdep @ file://{package}"], "bundle": host.bundle(package)}
    first = asyncio.ensure_future(host.obtain("one", **asked))
    await until(lambda: bool(builds(control)), "the build has begun")
    second = asyncio.ensure_future(host.obtain("two", **asked))
    await until(lambda: "two" in host.lines, "the other one waits")
    (control / "go").touch()
    assert (await first).venv == (await second).venv
    assert len(builds(control)) == 1
    assert "building an environment" in host.log("one")
    assert host.log("one") == host.log("two")


async def test_two_environments_are_built_beside_each_other(host, tmp_path):
    control = tmp_path / "control"
    obtained = []
    for name in ("slowone", "slowtwo"):
        package = write_slow_package(tmp_path / name, name, control)
        asked = {"pip_packages": [f"{name} @ file://{package}"], "bundle": host.bundle(package)}
        obtained.append(asyncio.ensure_future(host.obtain(name, **asked)))
    await until(lambda: len(builds(control)) == 2, "both builds have begun")
    (control / "go").touch()
    one, two = await asyncio.gather(*obtained)
    assert one.venv != two.venv


async def test_a_build_that_nobody_waits_for_any_more_is_given_up(host, tmp_path):
    control = tmp_path / "control"
    package = write_slow_package(tmp_path / "slow", "slowdep", control)
    asked = {"pip_packages": [f"slowdep @ file://{package}"], "bundle": host.bundle(package)}
    waiting = [asyncio.ensure_future(host.obtain(name, **asked)) for name in ("one", "two")]
    await until(lambda: bool(builds(control)), "the build has begun")
    (pid,) = builds(control)
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    assert psutil.pid_exists(pid)  # the other one still waits
    waiting[1].cancel()
    await until(lambda: not psutil.pid_exists(pid), "the build has ended")
    await until(lambda: not list((tmp_path / "envs").glob("venv-*")), "its folder is gone")
    (control / "go").touch()
    assert (await host.obtain("three", **asked)).venv


async def test_a_build_that_fails_says_why(host, wheels, tmp_path):
    root = write_project(tmp_path / "p", wheels, ["tinydep>3"])
    with pytest.raises(BuildFailed, match=r"No solution found .*mine depends on tinydep>3") as exc:
        await host.obtain(bundle=host.bundle(root))
    assert not exc.value.of_moment
    assert "No solution found" in host.log()
    await until(lambda: not list((tmp_path / "envs").glob("venv-*")), "its folder is gone")


async def test_what_a_network_has_failed_is_tried_again_and_is_not_the_project_s_fault(
    host, tmp_path, monkeypatch
):
    monkeypatch.setattr("fray.cluster.worker.envs.build.RETRY_PAUSES_S", (0.01, 0.01))
    root = tmp_path / "p"
    root.mkdir()
    variables = {
        "UV_OFFLINE": "0",
        "UV_INDEX_URL": "http://127.0.0.1:9/index",
        "UV_HTTP_RETRIES": "0",
    }
    with pytest.raises(BuildFailed) as exc:
        await host.obtain(bundle=host.bundle(root), pip_packages=["nothere"], variables=variables)
    assert exc.value.of_moment
    assert host.log().count("trying again") == 2


async def test_a_lock_is_followed_and_packages_on_top_may_not_change_it(host, wheels, tmp_path):
    root = write_project(tmp_path / "p", wheels, ["tinydep<2"])
    lock(root)
    write_wheel(wheels, "tinydep", "1.5")  # what would be taken without a lock
    write_wheel(wheels, "other", "1.0")
    write_wheel(wheels, "pushy", "1.0", requires=["tinydep>=2"])
    where = await host.obtain(bundle=host.bundle(root), pip_packages=["other"])
    assert run(where, "import tinydep, other; print(tinydep.VERSION)") == "1.0"
    with pytest.raises(BuildFailed, match="tinydep"):
        await host.obtain(bundle=host.bundle(root), pip_packages=["pushy"])


async def test_hashes_are_checked(host, wheels, tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    good = sha256_of(wheels / "tinydep-1.0-py3-none-any.whl")
    for digest, fine in ((good, True), ("0" * 64, False)):
        (root / "requirements.txt").write_text(
            f"--no-index\n--find-links {wheels}\ntinydep==1.0 --hash=sha256:{digest}\n"
        )
        if fine:
            where = await host.obtain(bundle=host.bundle(root))
            assert run(where, "import tinydep; print(tinydep.VERSION)") == "1.0"
        else:
            with pytest.raises(BuildFailed, match=r"(?i)hash"):
                await host.obtain(bundle=host.bundle(root))


async def test_extras_are_installed(host, wheels, tmp_path):
    write_wheel(wheels, "extradep", "1.0")
    root = write_project(
        tmp_path / "p", wheels, rest='[project.optional-dependencies]\nmore = ["extradep"]\n'
    )
    where = await host.obtain(bundle=host.bundle(root), extras=["more"])
    assert run(where, "import extradep; print(extradep.VERSION)") == "1.0"
    with pytest.raises(BuildFailed, match="no extra other; it has more"):
        await host.obtain(bundle=host.bundle(root), extras=["other"])


async def test_nothing_is_built_for_what_the_agent_has(host, wheels, tmp_path):
    root = write_project(tmp_path / "p", wheels, ["orjson", "fray-actors"])
    where = await host.obtain(bundle=host.bundle(root))
    assert where.venv == ""
    assert host.lines["t"] == []


async def test_fray_is_the_agent_s_own_whatever_a_project_says(host, wheels, tmp_path):
    write_wheel(wheels, "fray_actors", "99.0", body="raise SystemExit('another fray')")
    root = write_project(tmp_path / "p", wheels, ["tinydep", "fray-actors"])
    where = await host.obtain(bundle=host.bundle(root))
    import fray

    assert run(where, "import fray; print(fray.__version__)") == fray.__version__
    assert "fray-actors" not in host.log()


async def test_a_package_that_fray_cannot_work_with_fails_the_build(host, wheels, tmp_path):
    write_wheel(wheels, "orjson", "3.99", body="raise ImportError('not the real one')")
    root = write_project(tmp_path / "p", wheels, ["orjson==3.99"])
    with pytest.raises(BuildFailed, match=r"fray cannot be imported in it.*not the real one"):
        await host.obtain(bundle=host.bundle(root))


async def test_credentials_for_an_index_are_not_in_the_log(host, scope, wheels, tmp_path):
    root = write_project(tmp_path / "p", wheels, ["nothere"])
    text = (root / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(text.replace("no-index = true\n", ""))
    secret = "hunter2-and-more"
    variables = {
        "UV_INDEX_URL": f"http://me:{secret}@127.0.0.1:9/index",
        "UV_OTHER": secret,
        "UV_VERBOSE": "1",
    }
    with pytest.raises(BuildFailed) as exc:
        await host.obtain(bundle=host.bundle(root), variables=variables)
    assert secret not in host.log() + str(exc.value)
    async with asyncio.timeout(30):
        await scope.finished()  # what failed is removed beside
    assert not [
        p
        for p in (tmp_path / "envs").rglob("*")
        if p.is_file() and secret.encode() in p.read_bytes()
    ]


async def test_environments_that_are_not_in_use_go_when_there_are_too_many(scope, wheels, tmp_path):
    host = Host(tmp_path / "envs", scope, limits=ShelfLimits(count_max=2))
    await host.envs.recover()
    roots = [write_project(tmp_path / f"p{i}", wheels, [f"tinydep<={i + 1}"]) for i in range(3)]
    held = [await host.obtain(f"t{i}", bundle=host.bundle(r)) for i, r in enumerate(roots[:2])]
    assert all(is_there(one) for one in held)  # four folders, all in use
    host.envs.release("t0")
    await until(lambda: not is_there(held[0]), "the environment of t0 is gone")
    assert is_there(held[1])
    again = await host.obtain("t0", bundle=host.bundle(roots[0]))
    assert again.venv != held[0].venv


async def test_a_host_keeps_what_its_cluster_says_from_then_on(scope, wheels, tmp_path):
    host = Host(tmp_path / "envs", scope)
    await host.envs.recover()
    roots = [write_project(tmp_path / f"p{i}", wheels, [f"tinydep<={i + 1}"]) for i in range(2)]
    held = [await host.obtain(f"t{i}", bundle=host.bundle(r)) for i, r in enumerate(roots)]
    host.envs.release("t0")
    host.envs.limit(ShelfLimits())
    assert all(is_there(one) for one in held)
    host.envs.limit(ShelfLimits(count_max=2))
    await until(lambda: not is_there(held[0]), "the environment of t0 is gone")
    assert is_there(held[1])


async def test_a_build_that_takes_too_long_is_ended(host, tmp_path, monkeypatch):
    monkeypatch.setattr(manager, "BUILD_TIMEOUT_S", 0.5)
    package = write_slow_package(tmp_path / "slow", "slowdep", tmp_path / "control")
    asked = {"pip_packages": [f"slowdep @ file://{package}"], "bundle": host.bundle(package)}
    with pytest.raises(BuildFailed, match="it took more than") as exc:
        await host.obtain(**asked)
    assert exc.value.of_moment


async def test_a_host_without_uv_says_so(host, tmp_path, monkeypatch):
    monkeypatch.setattr("fray.cluster.worker.envs.steps.find_uv", lambda environ: ())
    root = tmp_path / "p"
    root.mkdir()
    with pytest.raises(BuildFailed, match="uv is not installed on this host") as exc:
        await host.obtain(bundle=host.bundle(root), pip_packages=["nothere"])
    assert exc.value.of_moment  # another host may have it


async def test_a_bundle_that_cannot_be_fetched_is_told_to_all_who_wait(host):
    async def fail(digest: str) -> bytes:
        raise ClusterError("no such blob")

    with pytest.raises(ClusterError, match="no such blob"):
        await host.envs.obtain("t", Asked(bundle="0" * 64, fetch=fail), print)


async def test_a_package_of_the_project_s_own_files_is_installed(host, wheels, tmp_path):
    root = write_project(tmp_path / "p", wheels)
    write_slow_package(root / "libs" / "tools", "toolsdep", tmp_path / "control")
    (tmp_path / "control" / "go").touch()
    where = await host.obtain(bundle=host.bundle(root), pip_packages=["./libs/tools"])
    assert run(where, "import toolsdep; print(toolsdep.VERSION)") == "1.0"


async def test_whoever_waits_hears_of_any_failure_whatever_it_is(host):
    with pytest.raises(KeyError):  # of `fetch`: there is no such bundle
        async with asyncio.timeout(20):
            await host.obtain(bundle="0" * 64)


async def test_a_bundle_that_came_damaged_is_not_unpacked(host, wheels, tmp_path):
    digest = host.bundle(write_project(tmp_path / "p", wheels))
    host.blobs[digest] = host.blobs[host.bundle(write_project(tmp_path / "other", wheels))] + b"x"
    with pytest.raises(BuildFailed, match="came damaged") as told:
        await host.obtain(bundle=digest)
    assert told.value.of_moment
