"""Looking into a cluster of real processes: programs inside tasks, stacks, ports, figures."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import tarfile
from pathlib import Path

import pytest

from fray.cluster import Entrypoint, EnvironmentConfig, JobRequest, ResourceConfig
from fray.cluster.control import AgentApi, JobQuery
from fray.cluster.controlcalls import control
from fray.cluster.worker import stacks
from fray.errors import InvalidRequestError, JobNotFoundError
from fray.ids import AttemptId
from tests.integration.real_cluster import RealCluster, driving, real_cluster, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

CANARY = "canary-5f1e77ab"


def serve(ready: str) -> None:
    import socket
    import threading

    def compute_for_ever() -> None:
        while True:
            sum(range(1000))

    threading.Thread(target=compute_for_ever, daemon=True, name="computing").start()
    with socket.create_server(("127.0.0.1", int(os.environ["FRAY_PORT_WEB"]))) as server:
        Path(ready).touch()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                data = connection.recv(100)
                connection.sendall(b"you said " + data + b"." * 300_000)


async def fray(cluster: RealCluster, *arguments: str, text: str = "") -> tuple[int, str, str]:
    import sys

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fray.cli.main", *arguments),
        env=cluster.environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(text.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def metrics(cluster: RealCluster, address: str) -> str:
    import aiohttp

    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{address}/metrics") as refused:
            assert refused.status == 401
        async with session.get(f"http://{address}/metrics", headers=headers) as response:
            assert response.status == 200
            return await response.text()


async def test_a_running_task_can_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ready = tmp_path / "ready"
    request = JobRequest(
        name="web",
        entrypoint=Entrypoint.from_callable(serve, args=[str(ready)]),
        resources=ResourceConfig.with_cpu(cpu=1),
        environment=EnvironmentConfig.create(env_vars={"MY_SECRET": CANARY}),
        ports=["web"],
    )
    async with real_cluster(tmp_path) as cluster, driving(cluster) as connection:
        job_id = await connection.launch(request)
        await until(ready.exists, "it serves")

        # A program inside it has its variables; what it reads, prints and ends with is passed on.
        shell = "echo $MY_SECRET; cat; echo oops >&2; exit 7"
        code, out, err = await fray(
            cluster, "task", "exec", job_id, "--", "sh", "-c", shell, text="abc\n"
        )
        assert (code, out) == (7, f"{CANARY}\nabc\n")
        assert err.endswith("oops\n")
        code, out, err = await fray(cluster, "task", "exec", job_id, "no-such-program")
        assert code == 127
        assert err.endswith("fray: cannot run no-such-program: No such file or directory\n")
        big = "head -c 3000000 /dev/zero"
        code, out, _ = await fray(cluster, "task", "exec", job_id, "--", "sh", "-c", big)
        assert (code, len(out)) == (0, 3_000_000)
        code, out, err = await fray(cluster, "task", "exec", f"{job_id}/3", "true")
        assert code == 1
        assert "has 1 task," in err

        # Its stacks, though a thread of it computes.
        code, out, err = await fray(cluster, "stack", job_id)
        assert code == 0, err
        assert "compute_for_ever" in out
        assert "serve" in out
        report = await connection.report(job_id)
        place = report.tasks[0].attempts[-1]
        agent = control(AgentApi, connection.system, place.agent_address, "agent")
        with pytest.raises(JobNotFoundError):
            await agent.stacks(AttemptId("ann/none-0000/0#0"))

        # Its port, from here.
        await _check_port(cluster, job_id)

        # Figures.
        shown = await metrics(cluster, place.agent_address)
        labels = f'attempt="0",job="{job_id}",task="0"'
        assert f"fray_attempt_cpu_seconds_total{{{labels}}}" in shown
        assert "fray_host_memory_total_bytes" in shown
        shown = await metrics(cluster, cluster.address)
        assert 'fray_jobs{status="running"} 1.0' in shown
        assert "fray_job_wait_seconds_count 1.0" in shown
        code, out, err = await fray(cluster, "top", "--json")
        assert code == 0, err
        (host,) = json.loads(out)
        (use,) = host["attempts"]
        assert use["cpus"] > 0.05
        assert use["memory_bytes"] > 1 << 20
        code, out, _ = await fray(cluster, "task", "show", job_id, "--json")
        assert json.loads(out)["use"]["processes"] == 1

        # A report without secrets, though a log of the cluster holds some.
        with (cluster.home.logs / "controller.log").open("a") as log:
            log.write(f"somebody wrote {cluster.token} and PASSWORD={CANARY}\n")
        path = tmp_path / "report.tar.gz"
        code, out, err = await fray(cluster, "bug-report", "-o", str(path), "--json")
        assert code == 0, err
        with tarfile.open(path) as archive:
            files = {m.name.partition("/")[2]: archive.extractfile(m) for m in archive.getmembers()}
            texts = {name: file.read().decode() for name, file in files.items() if file}
        assert {"versions.json", "jobs.json", "hosts.json", "metrics.txt"} <= set(texts)
        assert "MY_SECRET" not in texts["hosts.json"]
        for name, text in texts.items():
            assert CANARY not in text, name
            assert cluster.token not in text, name
        assert "somebody wrote [removed]" in texts["logs/controller.log"]

        # What would be, and is not.
        code, out, err = await fray(
            cluster, "run", "--dry-run", "--json", "--cpus", "60", "-e", f"X={CANARY}", "--", "true"
        )
        assert code == 0, err
        plan = json.loads(out)
        assert plan["hosts"] == {"0": "w1"}
        assert plan["environment"]["variables"] == ["X"]
        assert CANARY not in out
        code, out, _ = await fray(
            cluster, "run", "--dry-run", "--json", "--cpus", "64", "--", "true"
        )
        assert json.loads(out)["hosts"] == {}
        assert json.loads(out)["waits_for"]
        assert len(await connection.jobs.list(JobQuery())) == 1

        await connection.terminate(job_id)
        await connection.wait(job_id)
        with pytest.raises(InvalidRequestError, match=r"does not run|knows no attempt"):
            try:
                await agent.stacks(place.attempt_id)
            except JobNotFoundError as exc:
                raise InvalidRequestError(str(exc)) from exc


async def _check_port(cluster: RealCluster, job_id: str) -> None:
    import sys

    forward = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fray.cli.main", "port-forward", job_id, "web", "--json"),
        env=cluster.environ,
        stdout=asyncio.subprocess.PIPE,
    )
    assert forward.stdout is not None
    try:
        async with asyncio.timeout(60):
            address = json.loads(await forward.stdout.readline())["address"]
            host, _, port = address.rpartition(":")
            for word in (b"hello", b"again"):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(word)
                assert await reader.read() == b"you said " + word + b"." * 300_000
                writer.close()
    finally:
        forward.terminate()
        await forward.wait()


async def test_program_at_a_terminal_has_one(tmp_path: Path):
    import sys

    ready = tmp_path / "ready"
    request = JobRequest(
        name="web", entrypoint=Entrypoint.from_callable(serve, args=[str(ready)]), ports=["web"]
    )
    async with real_cluster(tmp_path) as cluster, driving(cluster) as connection:
        job_id = await connection.launch(request)
        await until(ready.exists, "it serves")
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fray.cli.main", "task", "exec", job_id, "--"),
            *("sh", "-c", "tty; read line; echo got $line; sleep 1000"),
            env=cluster.environ,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        seen = b""

        async def until_seen(what: bytes) -> None:
            nonlocal seen
            async with asyncio.timeout(60):
                while what not in seen:
                    seen += await asyncio.to_thread(os.read, ours, 1000)

        await until_seen(b"/dev/pts/")
        os.write(ours, b"word\r")
        await until_seen(b"got word")
        os.write(ours, b"\x03")  # Ctrl-C goes to the program there
        async with asyncio.timeout(60):
            assert await process.wait() == 130
        os.close(ours)


@pytest.mark.parametrize("with_pyspy", [True, False])
async def test_stacks_are_told_in_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_pyspy: bool
):
    if with_pyspy and stacks.shutil.which("py-spy", path=stacks._beside()) is None:
        pytest.skip("py-spy is not installed")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, pathlib\n"
        "from fray.cluster.worker.stacks import answer_signals\n"
        "answer_signals(pathlib.Path(sys.argv[1]))\n"
        "import asyncio\n"
        "async def patient(): await asyncio.sleep(1000)\n"
        "async def main():\n"
        "    waiting = asyncio.create_task(patient(), name='patient one')\n"
        "    print('ready', flush=True)\n"
        "    await waiting\n"
        "asyncio.run(main())\n"
    )
    import sys

    from fray.runtime.clock import SystemClock

    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        if not with_pyspy:
            monkeypatch.setattr(stacks.shutil, "which", lambda *_, **__: None)
        told = await stacks.stacks_of(process.pid, tmp_path, SystemClock())
        assert "main" in told or "run" in told
        if not with_pyspy:
            assert "patient one" in told
            assert "2 tasks of the event loop" in told
    finally:
        process.kill()
        await process.wait()


async def test_program_that_answers_no_signal_is_not_killed_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from fray.runtime.clock import SystemClock

    monkeypatch.setattr(stacks.shutil, "which", lambda *_, **__: None)
    (tmp_path / stacks.STACKS_FILE).touch()
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        with pytest.raises(InvalidRequestError, match="py-spy is not installed"):
            await stacks.stacks_of(process.pid, tmp_path, SystemClock())
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()
