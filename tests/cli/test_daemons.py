"""Small programs in the places of controllers and workers: real processes, no cluster."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fray.cli import daemons
from fray.cli.clusterfile import LogSettings, TlsSettings
from fray.cli.errors import Failure
from fray.cluster.home import ClusterHome, Daemon
from fray.cluster.retention import RetentionPolicy
from fray.cluster.shelflimits import ShelfLimits
from fray.runtime.clock import SystemClock

READY = """
import pathlib, signal, sys, threading
from fray.cluster.home import ClusterHome
print("hello from the daemon", flush=True)
{before}
ClusterHome.at(pathlib.Path({path!r})).write_daemon("controller", "", "127.0.0.1:9")
threading.Event().wait()
"""

clock = SystemClock()


@pytest.fixture
def home(tmp_path: Path) -> ClusterHome:
    return ClusterHome("lab", tmp_path).ensure()


@pytest.fixture(autouse=True)
def _fray_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", root)


def program(home: ClusterHome, before: str = "") -> list[str]:
    return [sys.executable, "-c", READY.format(before=before, path=str(home.path))]


async def start(home: ClusterHome, command: list[str]) -> Daemon:
    return await daemons.start(home, "controller", "", command, clock, environ=os.environ)


async def test_daemon_runs_by_itself_and_prints_to_its_log(home: ClusterHome) -> None:
    daemon = await start(home, program(home))
    assert daemon.alive
    assert os.getsid(daemon.pid) == daemon.pid
    assert psutil.Process(daemon.pid).cwd() == str(home.path)
    assert home.log_path("controller").read_text() == "hello from the daemon\n"
    assert home.log_path("controller").stat().st_mode & 0o777 == 0o600
    assert await daemons.stop(daemon, clock, grace_s=10)
    assert not daemon.alive
    assert await daemons.stop(daemon, clock, grace_s=10)


async def test_daemon_that_does_not_listen_is_killed(home: ClusterHome) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    daemon = await start(home, program(home, ignore))
    assert not await daemons.stop(daemon, clock, grace_s=0.1)
    assert not daemon.alive


async def test_daemon_that_ends_at_once_is_told_with_its_last_words(home: ClusterHome) -> None:
    home.log_path("controller").write_text("words of an earlier life\n")
    told = r"the controller ended at once \(exit code 3\): no port is free; see .*controller.log"
    with pytest.raises(Failure, match=told):
        await start(home, program(home, "print('no port is free\\n'); sys.exit(3)"))
    with pytest.raises(Failure, match=r"\(signal 9\): hello from the daemon"):
        await start(home, program(home, "signal.raise_signal(signal.SIGKILL)"))


async def test_daemon_that_says_nothing_says_so(home: ClusterHome) -> None:
    home.log_path("controller").write_text("words of an earlier life\n")
    with pytest.raises(Failure, match=r"\(exit code 0\): it printed nothing"):
        await start(home, [sys.executable, "-c", ""])


async def test_daemon_that_is_never_ready_is_ended(
    home: ClusterHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "READY_TIMEOUT_S", 1.0)
    with pytest.raises(Failure, match=r"not ready within 1 s: .*; see"):
        await start(home, program(home, "threading.Event().wait()"))


async def test_only_one_command_at_a_time_changes_a_cluster(
    home: ClusterHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    async def change(name: str) -> None:
        async with daemons.locked(home, clock):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    async with asyncio.TaskGroup() as group:
        for name in ("a", "b", "c"):
            group.create_task(change(name))
    assert [order[n].split()[0] == order[n + 1].split()[0] for n in (0, 2, 4)] == [True] * 3

    monkeypatch.setattr(daemons, "LOCK_TIMEOUT_S", 0.0)
    async with daemons.locked(home, clock):
        with pytest.raises(Failure, match="of cluster lab is stuck"):
            await change("d")


def test_daemon_does_not_inherit_what_makes_us_a_task() -> None:
    environ = {
        "FRAY_JOB_ID": "x",
        "FRAY_CLUSTER_SPEC": "fray://h",
        "FRAY_PORT_HTTP": "1",
        "FRAY_HOME": "/somewhere",
        "OTHER": "1",
        "PATH": "/bin",
    }
    bin_folder = os.path.dirname(sys.executable)
    assert daemons.daemon_environment(environ) == {
        "FRAY_HOME": "/somewhere",
        "OTHER": "1",
        "PATH": f"{bin_folder}:/bin",
    }


def test_python_means_our_interpreter_once() -> None:
    environ = {"PATH": "/bin"}
    daemons.activate_interpreter(environ)
    once = dict(environ)
    daemons.activate_interpreter(environ)
    assert environ == once
    found = subprocess.run(
        ["python", "-c", "import sys; print(sys.executable)"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert os.path.dirname(found.stdout.strip()) == os.path.dirname(sys.executable)


def test_port_that_is_taken_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not daemons.is_free("127.0.0.1", port)
    assert daemons.is_free("127.0.0.1", port)
    assert not daemons.is_free("no.such.host.invalid", port)


def test_worker_is_named_after_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, name in (("gpu-7.lab.example", "gpu-7"), ("ü!", "worker"), ("-a_b-", "a_b")):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        assert daemons.worker_name() == name


def test_command_lines_name_what_is_wanted(home: ClusterHome) -> None:
    logs = LogSettings("gs://bucket/logs", 1000, 2)
    kept = RetentionPolicy(5, 9.0)

    def command(host: str, logs: LogSettings) -> list[str]:
        return daemons.controller_command(
            home,
            host,
            1234,
            lease_s=60.0,
            retention=kept,
            environments=ShelfLimits(3, 9),
            logs=logs,
            tls=TlsSettings(),
        )

    controller = command("0.0.0.0", logs)
    assert controller[:4] == [sys.executable, "-P", "-m", "fray.cluster.controller.main"]
    assert controller[-18:] == [
        *("--port", "1234", "--lease-s", "60.0", "--retain-jobs", "5", "--retain-s", "9.0"),
        *("--environments", "3", "--environments-bytes", "9"),
        *("--logs-keep-bytes", "1000", "--logs-keep-s", "172800", "--logs", "gs://bucket/logs"),
    ]
    assert "--logs" not in command("h", LogSettings())
    worker = daemons.worker_command(
        home, join="h:1", token_file=home.token_path, name="box", resources={"cpu": 8}
    )
    assert worker[-2:] == ["--resources", '{"cpu":8}']
    assert "--resources" not in daemons.worker_command(
        home, join="h:1", token_file=home.token_path, name="box", resources=None
    )
