"""What every cluster does alike. Each test gets a ``cluster`` to run on, an `AsyncCluster`.

Jobs wait asynchronously, so that they also run where time is virtual.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fray
from fray.cluster import (
    Entrypoint,
    EnvironmentConfig,
    JobGroupConfig,
    JobRequest,
    JobStatus,
    ReservationConfig,
    ResourceConfig,
)
from fray.errors import JobFailedError, NameTakenError
from fray.rpc import FrayActorServer, fray_resolver

if TYPE_CHECKING:
    from fray.actor.resolver import SystemResolver

WAIT_S = 60.0
_NUMBERS = itertools.count(1)


class Blocking:
    """A `Cluster`, asynchronously: each question waits in a thread.

    Args:
        cluster: What is asked.
    """

    def __init__(self, cluster: Any) -> None:
        self.blocking = cluster

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.blocking, name)

        async def ask(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return ask

    @property
    def resolver(self) -> SystemResolver:
        return self.blocking.resolver


def write(path, text="done"):
    Path(path).write_text(text)


def say(*lines):
    for line in lines:
        print(line)


def fail(text):
    raise ValueError(text)


def leave(code):
    sys.exit(code)


def fail_at_first(path):
    if not Path(path).exists():
        Path(path).touch()
        raise ValueError("the first time")


async def sleep():
    await asyncio.sleep(300)


def write_replica(folder):
    me, count = os.environ["FRAY_REPLICA_ID"], os.environ["FRAY_REPLICA_COUNT"]
    Path(folder, me).write_text(f"{me} of {count}")


async def meet(folder, me, other):
    write(Path(folder, me))
    deadline = time.monotonic() + WAIT_S
    while not os.path.exists(os.path.join(folder, other)):  # noqa: ASYNC240 - it is short
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


class Model:
    def double(self, x):
        return 2 * x


@fray.actor
class Counter:
    def __init__(self):
        self.value = 0

    def add(self, by):
        self.value += by
        return self.value


async def serve(name):
    server = FrayActorServer(fray_resolver())
    await server.register_async(name, Model)
    await server.serve_async()


async def look_up(name, path):
    model = await fray_resolver().lookup_async(name)  # which waits, in a job
    write(path, str(await model.double.remote(4)))


def request(fn, *args, name="job", **fields):
    return JobRequest(name=name, entrypoint=Entrypoint.from_callable(fn, args=args), **fields)


def unique(name):
    return f"{name}-{next(_NUMBERS)}"


async def until_it_runs(cluster, job):
    deadline = time.monotonic() + WAIT_S
    while (await cluster.poll(job)).status is JobStatus.PENDING:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def until_listed(cluster, name):
    deadline = time.monotonic() + WAIT_S
    while not await cluster.resolver.list_actors_async(name):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def stopped(cluster, *jobs):
    for job in jobs:
        await cluster.terminate(job)
    await cluster.wait(list(jobs))


class ClusterConformance:
    """The suite; a subclass says which clusters there are by its fixture ``cluster``."""

    # ---- jobs

    async def test_a_job_runs_to_its_end(self, cluster, tmp_path):
        job = await cluster.launch(request(write, str(tmp_path / "done")))
        info = await cluster.wait(job, raise_on_failure=True)
        assert (info.job_id, info.status, info.name) == (job, JobStatus.SUCCEEDED, "job")
        assert [task.status for task in info.tasks] == [JobStatus.SUCCEEDED]
        assert (tmp_path / "done").read_text() == "done"
        assert (await cluster.poll(job)).status is JobStatus.SUCCEEDED

    async def test_a_program_runs_too(self, cluster, caplog):
        program = Entrypoint.from_binary("sh", ["-c", "echo from a program"])
        job = await cluster.launch(JobRequest(name="program", entrypoint=program))
        with caplog.at_level(logging.INFO, logger="fray.job"):
            assert (await cluster.monitor(job)).status is JobStatus.SUCCEEDED
        assert "[replica-0] from a program" in caplog.messages

    async def test_what_a_job_raises_fails_it_and_is_told(self, cluster):
        job = await cluster.launch(request(fail, "so"))
        info = await cluster.wait(job)
        assert info.status is JobStatus.FAILED
        assert "so" in info.error_message
        assert "so" in info.tasks[0].error_message
        with pytest.raises(JobFailedError, match="so"):
            await cluster.wait(job, raise_on_failure=True)

    @pytest.mark.parametrize(("code", "status"), [(0, "succeeded"), (3, "failed")])
    async def test_the_exit_code_decides(self, cluster, code, status):
        job = await cluster.launch(request(leave, code))
        assert (await cluster.wait(job)).status == status

    async def test_a_job_that_may_fail_is_started_again(self, cluster, tmp_path):
        path = str(tmp_path / "tried")
        job = await cluster.launch(request(fail_at_first, path, max_retries_failure=1))
        assert (await cluster.wait(job)).status is JobStatus.SUCCEEDED

    async def test_each_line_is_logged_with_its_replica(self, cluster, caplog):
        job = await cluster.launch(request(say, "one", "two"))
        with caplog.at_level(logging.INFO, logger="fray.job"):
            await cluster.monitor(job)
        lines = [message for message in caplog.messages if message.startswith("[replica-0]")]
        assert lines == ["[replica-0] one", "[replica-0] two"]

    async def test_replicas_know_which_they_are(self, cluster, tmp_path):
        resources = ResourceConfig(cpu=1, replicas=2)
        job = await cluster.launch(request(write_replica, str(tmp_path), resources=resources))
        assert len((await cluster.wait(job, raise_on_failure=True)).tasks) == 2
        assert [(tmp_path / me).read_text() for me in "01"] == ["0 of 2", "1 of 2"]

    async def test_variables_reach_the_job(self, cluster, tmp_path, caplog):
        environment = EnvironmentConfig(workspace=str(tmp_path), env_vars={"GREETING": "hello"})
        program = Entrypoint.from_binary("sh", ["-c", "echo $GREETING"])
        job = await cluster.launch(
            JobRequest(name="variables", entrypoint=program, environment=environment)
        )
        with caplog.at_level(logging.INFO, logger="fray.job"):
            await cluster.monitor(job)
        assert "[replica-0] hello" in caplog.messages

    async def test_the_project_reaches_the_job(self, cluster, tmp_path):
        (tmp_path / "greeting.txt").write_text("hello")
        environment = EnvironmentConfig(workspace=str(tmp_path))
        program = Entrypoint.from_binary("cp", ["greeting.txt", str(tmp_path / "copy.txt")])
        job = await cluster.launch(
            JobRequest(name="project", entrypoint=program, environment=environment)
        )
        await cluster.wait(job, raise_on_failure=True)
        assert (tmp_path / "copy.txt").read_text() == "hello"

    async def test_a_job_can_be_terminated(self, cluster):
        job = await cluster.launch(request(sleep))
        await until_it_runs(cluster, job)
        await cluster.terminate(job)
        assert (await cluster.wait(job)).status is JobStatus.STOPPED
        await cluster.terminate(job)  # does nothing to a finished one

    async def test_a_group_runs_together(self, cluster, tmp_path):
        jobs = await cluster.launch_group(
            [
                request(meet, str(tmp_path), "a", "b", name="a"),
                request(meet, str(tmp_path), "b", "a", name="b"),
            ],
            JobGroupConfig(name="pair"),
        )
        infos = await cluster.wait(jobs, raise_on_failure=True)
        assert [info.name for info in infos] == ["a", "b"]

    async def test_what_is_no_group_is_refused(self, cluster):
        one = request(say, "x", name="one")
        with pytest.raises(TypeError, match="launched from a list of JobRequests"):
            await cluster.launch_group({one.name}, JobGroupConfig(name="set"))
        with pytest.raises(TypeError, match="group is a JobGroupConfig, not 'pair'"):
            await cluster.launch_group([one], "pair")

    async def test_jobs_are_listed_oldest_first(self, cluster):
        jobs = [await cluster.launch(request(say, "x", name=f"listed-{i}")) for i in range(2)]
        await cluster.wait(jobs)
        listed = [info.job_id for info in await cluster.list_jobs()]
        assert [job for job in listed if job in jobs] == jobs

    async def test_launching_again_under_an_id_gives_the_same_job(self, cluster):
        once = request(say, "x", name="once")
        first = await cluster.launch(once, submission_id="conformance")
        assert await cluster.launch(once, submission_id="conformance") == first

    async def test_an_unknown_id_is_a_key_error(self, cluster):
        for ask in (cluster.poll, cluster.terminate, cluster.wait, cluster.monitor):
            with pytest.raises(KeyError):
                await ask("nobody/nothing-0000/0")

    @pytest.mark.unsupported_on("ray")
    async def test_a_job_ends_at_its_limit_of_time(self, cluster):
        job = await cluster.launch(request(sleep, time_limit_s=0.5))
        info = await cluster.wait(job)
        assert info.status is JobStatus.FAILED
        assert "limit" in info.error_message

    @pytest.mark.unsupported_on("ray")
    async def test_a_job_may_have_a_priority(self, cluster):
        job = await cluster.launch(request(say, "x", priority="high"))
        assert (await cluster.wait(job)).status is JobStatus.SUCCEEDED

    @pytest.mark.unsupported_on("ray")
    async def test_room_can_be_reserved(self, cluster):
        one = ResourceConfig.with_cpu(cpu=1)
        reservation = await cluster.create_reservation(ReservationConfig(one, one))
        job = await cluster.launch(request(say, "x", reservation_id=reservation))
        assert (await cluster.wait(job)).status is JobStatus.SUCCEEDED
        await cluster.release_reservation(reservation)
        assert (await cluster.get_reservation(reservation)).state == "released"

    # ---- names and actors

    async def test_a_job_serves_actors_that_its_driver_calls(self, cluster):
        name = unique("model")
        job = await cluster.launch(request(serve, name))
        await until_listed(cluster, name)
        model = await cluster.resolver.lookup_async(name)
        assert await model.double.remote(3) == 6
        await stopped(cluster, job)
        assert await cluster.resolver.list_actors_async(name) == []

    async def test_jobs_find_each_others_actors(self, cluster, tmp_path):
        name, path = unique("model"), tmp_path / "doubled"
        client = await cluster.launch(request(look_up, name, str(path), name="client"))
        server = await cluster.launch(request(serve, name, name="server"))
        await cluster.wait(client, raise_on_failure=True)
        assert path.read_text() == "8"
        await stopped(cluster, server)

    async def test_an_actor_is_made_and_found_by_its_name(self, cluster):
        name = unique("counter")
        counter = await Counter.options(name=name).remote()
        assert await counter.add.remote(2) == 2
        assert await (await cluster.resolver.lookup_async(name)).add.remote(3) == 5
        with pytest.raises(NameTakenError):
            await Counter.options(name=name).remote()
        await counter.kill()

    async def test_the_end_of_an_actor_is_told_to_who_monitors_it(self, cluster):
        counter = await Counter.remote()
        with fray.monitor(counter) as monitor:
            await counter.stop()
            down = await monitor
        assert (down.incarnation, str(down.cause)) == (1, "its handle stopped it")
        with pytest.raises(fray.ActorDied, match="its handle stopped it"):
            await counter.add.remote(1)

    @pytest.mark.unsupported_on("ray")
    async def test_a_supervisor_starts_its_child_again(self, cluster):
        async with fray.Supervisor() as supervisor:
            counter = await supervisor.start_child(fray.ChildSpec("counter", Counter))
            assert await counter.add.remote(2) == 2
            await counter.kill()
            while True:
                try:
                    assert await counter.add.remote(3) == 3
                    break
                except fray.ActorDied:  # it is between two lives
                    await asyncio.sleep(0.05)

    @pytest.mark.unsupported_on("ray")
    async def test_a_port_of_a_job_is_mapped_to_a_name(self, cluster):
        name, alias = unique("model"), unique("alias")
        job = await cluster.launch(request(serve, name, ports=["http"]))
        await cluster.create_mapping(job, "http", cluster.resolver.namespace, alias)
        await until_listed(cluster, alias)
        model = await cluster.resolver.lookup_async(alias)
        assert await model.double.remote(3) == 6
        await stopped(cluster, job)
