"""Environments of jobs on real hosts: sent, built, shared, and told of when they fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import fray
from fray.cluster import (
    Entrypoint,
    EnvironmentConfig,
    JobRequest,
    JobStatus,
    LocalCluster,
    current_cluster,
)
from fray.errors import InvalidRequestError
from tests.integration.real_cluster import driving, is_gone, real_cluster, until
from tests.wheels import builds, write_project, write_slow_package, write_wheel

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.types import JobInfo
    from fray.ids import JobId

pytestmark = pytest.mark.integration

SECRET = "hunter2-and-more"


def environment(root: Path, **options: object) -> EnvironmentConfig:
    return EnvironmentConfig.create(workspace=str(root), **options)  # type: ignore[arg-type]


async def launch(
    cluster: AsyncFrayCluster, root: Path, *command: str, retries: int = 0, **options: object
) -> JobId:
    entry = Entrypoint.from_binary(command[0], list(command[1:]))
    request = JobRequest(
        name="j",
        entrypoint=entry,
        environment=environment(root, **options),
        max_retries_failure=retries,
    )
    return await cluster.launch(request)


async def ended(cluster: AsyncFrayCluster, job_id: JobId) -> tuple[JobInfo, list[str]]:
    lines = [line.text async for line in cluster.logs(job_id)]
    return await cluster.wait_for(job_id), lines


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_wheel(tmp_path / "wheels", "tinydep", "1.0")
    root = write_project(tmp_path / "project", tmp_path / "wheels", ["tinydep"])
    (root / "main.py").write_text(
        "import mine, tinydep, os, sys\n"
        "print('it is', mine.WHAT, tinydep.VERSION, os.path.basename(os.environ['VIRTUAL_ENV']))\n"
    )
    (root / ".gitignore").write_text("*.secret\n")
    (root / "key.secret").write_text("not for others")
    return root


def what_is_there() -> str:
    import mine  # type: ignore[import-not-found]
    import tinydep  # type: ignore[import-not-found]

    told = f"{mine.WHAT} {tinydep.VERSION} {os.environ['MODE']}"
    print(told)
    return told


class Teller:
    def tell(self) -> str:
        return what_is_there()


async def test_actors_of_a_driver_and_jobs_that_say_nothing_have_its_connection_s_environment(
    project, tmp_path, monkeypatch
):
    for each in (Teller, what_is_there):  # as from a script: these tests are not on the hosts
        monkeypatch.setattr(each, "__module__", "__main__")
    asked = environment(project, env_vars={"MODE": "full"})
    async with real_cluster(tmp_path / "home") as real:
        monkeypatch.setenv("FRAY_TOKEN_FILE", str(real.home.token_path))
        async with fray.connect(f"fray://{real.address}", environment=asked) as cluster:
            actor = await fray.actor(Teller).remote()
            assert await actor.tell.remote() == "mine 1.0 full"
            request = JobRequest("j", Entrypoint.from_callable(what_is_there))
            _, lines = await ended(cluster, await cluster.launch(request))
            assert lines[-1] == "mine 1.0 full"


async def test_a_program_runs_in_its_project_s_environment_and_the_next_one_at_once(
    project, tmp_path
):
    async with real_cluster(tmp_path / "home") as real, driving(real) as cluster:
        info, lines = await ended(cluster, await launch(cluster, project, "python", "main.py"))
        assert info.status is JobStatus.SUCCEEDED, lines
        assert lines[-1] == "it is mine 1.0 venv"
        assert lines[0] == "[build] building an environment: pyproject.toml"
        assert any("+ tinydep==1.0" in line for line in lines)
        (project / "src" / "mine" / "__init__.py").write_text('WHAT = "changed"\n')
        _, lines = await ended(cluster, await launch(cluster, project, "python", "main.py"))
        assert lines == ["it is changed 1.0 venv"]  # other code, and nothing was built
        _, lines = await ended(cluster, await launch(cluster, project, "ls"))
        assert "key.secret" not in lines
        assert "main.py" in lines


def report_what_is_here() -> None:
    import mine  # type: ignore[import-not-found]
    import tinydep  # type: ignore[import-not-found]

    print("here", mine.WHAT, tinydep.VERSION)


def launch_another() -> None:
    cluster = current_cluster()
    request = JobRequest(name="child", entrypoint=Entrypoint.from_callable(report_what_is_here))
    job = cluster.launch(request)
    cluster.wait(job, raise_on_failure=True)
    own = EnvironmentConfig.create()  # the folder that it runs in, whatever was written there
    Path("big").write_bytes(b"0" * (101 << 20))
    request = JobRequest(
        name="child",
        entrypoint=Entrypoint.from_callable(report_what_is_here),
        environment=own,
    )
    cluster.wait(cluster.launch(request), raise_on_failure=True)


async def test_functions_get_it_too_and_what_they_launch_inherits_it(project, tmp_path):
    async with real_cluster(tmp_path / "home") as real, driving(real) as cluster:
        for function in (report_what_is_here, launch_another):
            request = JobRequest(
                name="parent",
                entrypoint=Entrypoint.from_callable(_by_value(function)),
                environment=environment(project),
            )
            info, lines = await ended(cluster, await cluster.launch(request))
            assert info.status is JobStatus.SUCCEEDED, (info, lines)


def _by_value(function):  # type: ignore[no-untyped-def]
    """As a notebook's: the tests are not in the project."""
    import types

    space = {"current_cluster": current_cluster, "Entrypoint": Entrypoint, "Path": Path}
    space |= {"EnvironmentConfig": EnvironmentConfig, "JobRequest": JobRequest}
    for each in (report_what_is_here, launch_another):
        made = types.FunctionType(each.__code__, space, each.__name__)
        made.__module__ = "__main__"
        space[each.__name__] = made
    space["__name__"] = "__main__"
    return space[function.__name__]


async def test_a_build_that_fails_fails_the_job_at_once_and_says_why(project, tmp_path):
    async with real_cluster(tmp_path / "home") as real, driving(real) as cluster:
        job = await launch(cluster, project, "true", pip_packages=["nothere>1"], retries=5)
        info, lines = await ended(cluster, job)
        assert info.status is JobStatus.FAILED
        assert info.error_message is not None
        assert "task 0 cannot be started: its environment could not be built" in info.error_message
        assert "mine depends on nothere>1" in info.error_message
        assert any(line.startswith("[build]") and "No solution found" in line for line in lines)
        report = await cluster.report(job)
        assert len(report.tasks[0].attempts) == 1  # it would fail in the same way again


async def test_an_agent_that_is_killed_while_it_builds_leaves_no_half_environment(
    project, tmp_path
):
    control = tmp_path / "control"
    write_slow_package(project / "slow", "slowdep", control)
    async with real_cluster(tmp_path / "home") as real, driving(real) as cluster:
        job = await launch(cluster, project, "python", "main.py", pip_packages=["./slow"])
        await until(lambda: bool(builds(control)), "the build has begun")
        (first,) = builds(control)
        real.agents["w1"].kill()
        assert psutil.pid_exists(first)  # it outlives its agent
        await real.start_agent()
        await until(lambda: is_gone(first), "the successor has ended it")
        (control / "go").touch()
        info, lines = await ended(cluster, job)
        assert info.status is JobStatus.SUCCEEDED, lines
        assert lines[-1] == "it is mine 1.0 venv"
        assert len(list((real.home.path / "workers" / "w1" / "envs").glob("venv-*"))) == 1


async def test_an_adopted_task_keeps_its_environment(project, tmp_path):
    async with real_cluster(tmp_path / "home") as real, driving(real) as cluster:
        (project / "wait.py").write_text(
            "import os, time\nprint('started', flush=True)\n"
            f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
            "import tinydep; print(tinydep.VERSION)\n"
        )
        job = await launch(cluster, project, "python", "wait.py")
        log = cluster.logs(job)
        async for line in log:
            if line.text == "started":
                break
        real.agents["w1"].kill()
        await real.start_agent()
        other = write_project(tmp_path / "other", tmp_path / "wheels", ["tinydep<=1"])
        await ended(cluster, await launch(cluster, other, "true"))
        (tmp_path / "go").touch()
        info, lines = await ended(cluster, job)
        assert (info.status, lines[-1]) == (JobStatus.SUCCEEDED, "1.0")


async def test_secrets_are_nowhere_but_in_their_blob_and_the_task(project, tmp_path):
    url = f"http://me:{SECRET}@127.0.0.1:9/index"
    async with real_cluster(tmp_path / "home") as real, driving(real) as cluster:
        variables = {"UV_INDEX_URL": url, "UV_HTTP_RETRIES": "0", "TOKEN": SECRET}
        control = tmp_path / "control"
        write_slow_package(project / "slow", "slowdep", control)
        job = await launch(cluster, project, "true", pip_packages=["./slow"], env_vars=variables)
        await until(lambda: bool(builds(control)), "the build has begun")
        shown = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
        assert any("slow" in str(line) for line in shown)
        assert SECRET not in str(shown)
        (control / "go").touch()
        _, lines = await ended(cluster, job)
        assert SECRET not in "\n".join(lines)
        runs = real.home.path / "workers" / "w1" / "run"
        await until(lambda: not os.listdir(runs), "nothing of the task is left")
        found = {
            str(path.relative_to(real.home.path))
            for path in real.home.path.rglob("*")
            if path.is_file() and SECRET.encode() in path.read_bytes()
        }
    assert found
    assert all(Path(path).parent.name == "blobs" for path in found), found


async def test_a_workspace_that_is_too_large_is_refused_before_anything_is_sent(
    project, tmp_path, monkeypatch
):
    monkeypatch.setenv("FRAY_BUNDLE_SIZE_MAX", "1k")
    (project / "model.bin").write_bytes(b"0" * 2048)
    async with real_cluster(tmp_path / "home") as real, driving(real) as cluster:
        with pytest.raises(InvalidRequestError, match=r"too large .*model.bin \(2KiB\)"):
            await launch(cluster, project, "true")
        assert await cluster.list_jobs() == []


async def test_a_package_that_is_none_is_refused(project, tmp_path):
    async with real_cluster(tmp_path / "home") as real, driving(real) as cluster:
        with pytest.raises(InvalidRequestError, match="--pre' in pip_packages is no requirement"):
            await launch(cluster, project, "true", pip_packages=["--pre"])


def test_a_local_job_with_packages_runs_in_a_child_with_them(project, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    path = tmp_path / "version"

    def write() -> None:
        import tinydep  # type: ignore[import-not-found]

        path.write_text(f"{tinydep.VERSION} {os.getpid()}")

    with LocalCluster() as cluster:
        request = JobRequest(
            name="j",
            entrypoint=Entrypoint.from_callable(write),
            environment=environment(project, pip_packages=["tinydep"]),
        )
        cluster.wait(cluster.launch(request), raise_on_failure=True)
    version, pid = path.read_text().split()
    assert version == "1.0"
    assert int(pid) != os.getpid()


def test_a_local_cluster_with_isolated_environments_builds_the_project_s_own(project, tmp_path):
    path = tmp_path / "version"

    def write() -> None:
        import tinydep  # type: ignore[import-not-found]

        path.write_text(tinydep.VERSION)

    request = JobRequest(
        name="j", entrypoint=Entrypoint.from_callable(write), environment=environment(project)
    )
    with LocalCluster(use_isolated_env=True) as cluster:
        cluster.wait(cluster.launch(request), raise_on_failure=True)
    assert path.read_text() == "1.0"
    with LocalCluster() as cluster:  # else it is the driver's, which lacks it
        info = cluster.wait(cluster.launch(request))
    assert info.error_message is not None
    assert "No module named 'tinydep'" in info.error_message
