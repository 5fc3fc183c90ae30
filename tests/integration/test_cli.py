"""The ``fray`` command as people use it: real daemons, real jobs, real signals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 90.0

STEPS = """
import os, pathlib, sys, time
print("first", sys.argv[1:], flush=True)
while not pathlib.Path(GO).exists():
    time.sleep(0.01)
print("second", flush=True)
sys.exit(int(os.environ.get("CODE", "0")))
"""

STUBBORN = """
import pathlib, signal, sys, time
def told(number, frame):
    print("told to stop", flush=True)
    if "--polite" in sys.argv:
        sys.exit(5)
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""

ACTOR = """
import asyncio, pathlib
import fray

@fray.actor
class Counter:
    def __init__(self): self.n = 0
    def add(self, by): self.n += by; return self.n

async def main():
    async with fray.connect() as cluster:
        counter = await Counter.options(name="counter").remote()
        print(await counter.add.remote(2), flush=True)
        while not pathlib.Path(GO).exists():
            await asyncio.sleep(0.01)

asyncio.run(main())
"""

CALLER = """
import asyncio
import fray

@fray.actor
class Counter:
    def __init__(self): self.n = 0
    def add(self, by): self.n += by; return self.n

async def main():
    async with fray.connect():
        counter = await Counter.options(name="counter").remote()
        print(await counter.add.remote(2), flush=True)
        try:
            while True:
                await counter.add.remote(1)
                await asyncio.sleep(0.01)
        except fray.ActorDied as exc:
            print(exc, flush=True)

asyncio.run(main())
"""


def until(condition: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> Any:
    """Waits for a condition that other processes make true, and gives its value."""
    deadline = time.monotonic() + wait_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {wait_s} s"
        time.sleep(0.02)
    return value


PATIENCE = re.compile(r"^fray: .* does not answer yet; waiting for it, .*\n", re.MULTILINE)
"""Said to who waits for longer than usual, as on a machine that does much else."""


class Fray:
    """Types commands, in a folder and with a home of its own."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self.started: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("steps", STEPS),
            ("stubborn", STUBBORN),
            ("actors", ACTOR),
            ("caller", CALLER),
        ):
            # A job runs in a copy of the folder on its host, so what it waits for is said whole.
            (folder / f"{name}.py").write_text(text.replace("GO", repr(str(folder / "go"))))
        usual = {k: v for k, v in os.environ.items() if not k.startswith("FRAY_CLUSTER")}
        self.environ = {
            **usual,
            "FRAY_HOME": str(home),
            "FRAY_USER": "ann",
            "PYTHONPATH": str(ROOT),
        }

    def popen(self, *arguments: str, **fields: Any) -> subprocess.Popen[str]:
        environ = {**self.environ, **fields.pop("environ", {})}
        fields.setdefault("stdout", subprocess.PIPE)
        fields.setdefault("stderr", subprocess.PIPE)
        process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "fray.cli.main", *arguments],
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            **fields,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """Ends the commands that a failed test has left."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                finish(process)

    def __call__(
        self, *arguments: str, code: int = 0, **fields: Any
    ) -> subprocess.CompletedProcess[str]:
        with self.popen(*arguments, **fields) as process:
            out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}\n{err}"
        err = PATIENCE.sub("", err)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)

    def submit(self, *arguments: str, name: str) -> str:
        return self("run", "--detach", "--name", name, *arguments).stdout.strip()

    def status_of(self, job_id: str) -> str:
        return self.json("job", "show", job_id)["status"]

    def run_file(self, name: str = "default", daemon: str = "controller") -> dict[str, Any]:
        path = self.home / "clusters" / name / "run" / f"{daemon}.json"
        return json.loads(path.read_text())


class Terminal:
    """What a command believes to be its terminal."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.ours)
        os.close(self.theirs)

    def wait_for(self, words: str) -> None:
        """Reads until some words are shown."""
        while words not in self.shown:
            assert select.select([self.ours], [], [], WAIT_S)[0], f"{words!r} not in {self.shown}"
            self.shown += os.read(self.ours, 4096).decode(errors="replace")


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of its output; it need not have ended."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a cluster that the tests share, which does not change in them."""
    base = tmp_path_factory.mktemp("shared")
    typed = Fray(base / "work", base / "home")
    typed("up", "--port", "0", "--resources", '{"cpu": 4, "memory": "4g", "region": "here"}')
    typed("run", "--", "true")  # what a worker starts once and keeps is there now
    try:
        yield base / "home"
    finally:
        typed("down", "--grace", "0")


@pytest.fixture
def fray(shared: Path, tmp_path: Path) -> Iterator[Fray]:
    typed = Fray(tmp_path / "work", shared)
    yield typed
    typed.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Fray]:
    """With no cluster; whatever the test starts is ended."""
    typed = Fray(tmp_path / "work", tmp_path / "home")
    try:
        yield typed
    finally:
        typed.close()
        for home in (tmp_path / "home" / "clusters").glob("*"):
            typed("down", "--name", home.name, "--grace", "0")


# ---- run


def test_output_comes_as_the_job_prints_it(fray: Fray) -> None:
    process = fray.popen("run", "steps.py", "--lr", "3")
    assert line_of(process) == "first ['--lr', '3']"
    (fray.folder / "go").touch()
    assert finish(process) == (0, "second\n", "")


def test_exit_code_is_the_jobs(fray: Fray) -> None:
    (fray.folder / "go").touch()
    failed = fray("run", "-e", "CODE=3", "steps.py", code=3)
    assert failed.stdout.splitlines() == ["first []", "second"]
    assert failed.stderr.count("\n") == 1
    assert "ann/steps-" in failed.stderr
    assert "exited with code 3" in failed.stderr
    fray("run", "--", "sh", "-c", "kill -KILL $$", code=137)


def test_lines_of_several_replicas_say_whose_they_are(fray: Fray) -> None:
    program = 'echo "$FRAY_REPLICA_ID of $FRAY_REPLICA_COUNT"'
    done = fray("run", "--replicas", "2", "--cpus", "0.5", "--", "sh", "-c", program)
    assert sorted(done.stdout.splitlines()) == ["[replica-0] 0 of 2", "[replica-1] 1 of 2"]


def test_job_finds_its_project_folder_and_variables(fray: Fray) -> None:
    project = fray.folder / "project"
    project.mkdir()
    (project / "main.py").write_text(
        "import os, sys\nprint(os.listdir(), os.environ['A'], os.environ['B'], sys.executable)"
    )
    done = fray(
        *("run", "--working-dir", "project", "-e", "A=1", "-e", "B", "project/main.py"),
        environ={"B": "2"},
    )
    listed, a, b, executable = done.stdout.split()
    assert (listed, a, b) == ("['main.py']", "1", "2")
    assert os.path.dirname(executable) == os.path.dirname(sys.executable)


def test_script_reads_events(fray: Fray) -> None:
    (fray.folder / "go").touch()
    done = fray("run", "--json", "-e", "CODE=4", "steps.py", code=4)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["submitted", "log", "log", "finished"]
    assert events[1] == {"event": "log", "task": 0, "attempt": 0, "line": "first []"}
    assert events[3]["exit_code"] == 4
    assert events[3]["job"]["status"] == "failed"
    assert events[3]["job"]["job_id"] == events[0]["job_id"]


def test_each_run_has_a_namespace_of_its_own_unless_one_is_given(fray: Fray) -> None:
    program = ("--", "sh", "-c", "echo $FRAY_NAMESPACE")
    names = [fray("run", *program).stdout for _ in range(2)]
    assert len({*names}) == 2
    assert fray("run", "--namespace", "mine", *program).stdout == "mine\n"


def test_job_that_no_host_could_ever_run_is_refused(fray: Fray) -> None:
    refused = fray("run", "--cpus", "1000", "--", "true", code=1)
    assert refused.stdout == ""
    assert refused.stderr.startswith("fray: ")
    assert "1000" in refused.stderr


def test_first_interrupt_lets_the_job_clean_up(fray: Fray) -> None:
    process = fray.popen("run", "stubborn.py", "--polite")
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, "told to stop\n")
    assert "Ctrl-C again kills it" in err.splitlines()[0]
    assert "stopped" in err.splitlines()[-1]


def test_second_interrupt_kills_the_job(fray: Fray) -> None:
    process = fray.popen("run", "--name", "stubborn2", "stubborn.py")
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGINT)
    assert line_of(process) == "told to stop"
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "killing" in err
    assert time.monotonic() - before < 20  # and not the 30 s that it had
    (found,) = [j for j in fray.json("job", "list") if j["name"] == "stubborn2"]
    assert found["status"] == "stopped"


def test_command_that_is_terminated_stops_its_job(fray: Fray) -> None:
    process = fray.popen("run", "stubborn.py", "--polite")
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGTERM)
    assert finish(process)[:2] == (143, "told to stop\n")


def test_terminal_shows_what_becomes_of_the_job(fray: Fray) -> None:
    (fray.folder / "go").touch()
    with Terminal() as terminal:
        process = fray.popen("run", "steps.py", stderr=terminal.theirs, environ={"TERM": "xterm"})
        for words in ("submitted ann/steps-", "runs on", "succeeded after"):
            terminal.wait_for(words)
        assert finish(process)[0] == 0


def test_terminal_shows_what_the_job_waits_for(fray: Fray) -> None:
    hog = fray.submit("--cpus", "4", "steps.py", name="hog")
    until(lambda: fray.status_of(hog) == "running", "the first job")
    with Terminal() as terminal:
        process = fray.popen(
            *("run", "--cpus", "4", "--", "true"), stderr=terminal.theirs, environ={"TERM": "xterm"}
        )
        terminal.wait_for("queued for")
        terminal.wait_for("cpu")
        (fray.folder / "go").touch()
        terminal.wait_for("succeeded")
        assert finish(process)[0] == 0


def test_reader_that_goes_away_ends_the_command_quietly(fray: Fray) -> None:
    job_id = fray.submit("--", "sh", "-c", "seq 100000", name="flood")
    until(lambda: fray.status_of(job_id) == "succeeded", "the job's end")
    process = fray.popen("job", "logs", job_id)
    assert line_of(process) == "1"
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    assert (process.wait(WAIT_S), told) == (141, "")
    process.stderr.close()


# ---- jobs


def test_job_goes_on_by_itself_and_is_looked_at(fray: Fray) -> None:
    job_id = fray.submit("steps.py", "x", name="looked")
    assert job_id.startswith("ann/looked-")
    logs = fray.popen("job", "logs", "-f", "looked")  # the beginning will do
    assert line_of(logs) == "first ['x']"
    assert fray.status_of(job_id) == "running"
    assert fray("job", "logs", job_id).stdout == "first ['x']\n"
    (fray.folder / "go").touch()
    assert finish(logs) == (0, "second\n", "")
    until(lambda: fray.status_of(job_id) == "succeeded", "the job's end")
    shown = fray("job", "show", job_id).stdout
    assert "succeeded" in shown
    assert "first" not in shown
    listed = fray("job", "list").stdout.splitlines()
    assert listed[0].split() == ["JOB", "STATUS", "RUNNING", "AGE", "RAN", "REASON"]
    assert any(line.startswith(f"{job_id} ") for line in listed)
    assert fray("job", "why", job_id).stdout == f"{job_id} has succeeded\n"
    lines = fray("job", "logs", "--json", job_id).stdout.splitlines()
    assert [json.loads(line)["line"] for line in lines] == ["first ['x']", "second"]


def test_of_jobs_of_one_name_the_newest_is_meant_but_not_where_one_is_stopped(fray: Fray) -> None:
    ids = [fray.submit("--", "true", name="twin") for _ in range(2)]
    shown = fray("job", "show", "twin")
    assert ids[1] in shown.stdout
    assert shown.stderr == f"fray: {ids[1]} is meant, of 2 jobs named twin\n"
    told = fray("job", "stop", "twin", code=1).stderr
    assert all(job_id in told for job_id in ids)
    told = fray("job", "show", "no-such", code=1).stderr
    assert told.startswith("fray: there is no job no-such; ")
    assert told.endswith("; `fray job list` shows them\n")


def test_jobs_are_stopped(fray: Fray) -> None:
    job_id = fray.submit("stubborn.py", name="stopped")
    until(lambda: "ready" in fray("job", "logs", job_id).stdout, "its output")
    stopped = fray("job", "stop", "--grace", "0", job_id)
    assert stopped.stdout == f"{job_id}: stopped\n"
    assert fray("job", "stop", job_id).stdout == f"{job_id}: had already ended: stopped\n"


def test_job_that_waits_says_why(fray: Fray) -> None:
    first = fray.submit("--cpus", "4", "steps.py", name="hog")
    until(lambda: fray.status_of(first) == "running", "the first job")
    second = fray.submit("--cpus", "4", "--", "true", name="waiting")
    told = until(lambda: fray.json("job", "why", second)["waits_for"], "a reason")
    assert fray.json("job", "why", second)["status"] == "pending"
    assert any("cpu" in reason for reason in told), told
    assert "waits" in fray("job", "why", "waiting").stdout.splitlines()[0]
    (fray.folder / "go").touch()
    until(lambda: fray.status_of(second) == "succeeded", "the second job")


def test_shell_completes_ids_of_jobs(fray: Fray) -> None:
    job_id = fray.submit("--", "true", name="completed")
    words = {"COMP_WORDS": "fray job show ann/comp", "COMP_CWORD": "3"}

    def proposed() -> list[str]:
        done = fray(environ={"_FRAY_COMPLETE": "complete_bash", **words})
        return done.stdout.split()

    assert until(proposed, "a proposal") == [job_id]  # none where the machine is too busy


# ---- actors


def test_actors_are_listed_shown_and_stopped(fray: Fray) -> None:
    process = fray.popen("run", "--namespace", "zoo", "actors.py")
    assert line_of(process) == "2"
    (row,) = fray.json("actor", "list", "--namespace", "zoo")
    assert (row["names"], row["status"], row["namespace"]) == (["counter"], "running", "zoo")
    assert row["made_by_cluster"]
    assert "counter" in fray("actor", "list").stdout
    shown = fray("actor", "show", "counter", "--namespace", "zoo").stdout
    assert row["actor_id"] in shown
    assert re.search(r"does +idle", shown)
    told = fray.json("actor", "show", "counter", "--namespace", "zoo")
    assert (told["activity"]["state"], told["activity"]["waiting"]) == ("running", 0)
    assert fray("actor", "stop", "counter").stdout == "counter: stopped\n"
    assert fray.json("actor", "list", "--namespace", "zoo") == []
    (fray.folder / "go").touch()
    assert finish(process)[0] == 0


def test_callers_of_an_actor_are_told_that_the_command_stopped_it(fray: Fray) -> None:
    process = fray.popen("run", "--namespace", "ward", "caller.py")
    assert line_of(process) == "2"
    fray("actor", "stop", "counter", "--namespace", "ward")
    assert "`fray actor stop` stopped it, by ann" in finish(process)[1]


@pytest.mark.parametrize("command", ["job list", "job list --json", "status"])
def test_closed_output_is_no_reason_to_crash(fray: Fray, command: str) -> None:
    shell = f'exec "{sys.executable}" -m fray.cli.main {command} <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", shell], cwd=fray.folder, env=fray.environ, timeout=WAIT_S)
    assert done.returncode == 0


# ---- clusters


def test_status_tells_hosts_and_jobs(fray: Fray) -> None:
    told = fray.json("status")
    assert told["controller"]["pid"] == fray.run_file()["pid"]
    (host,) = told["hosts"]
    assert (host["health"], host["region"]) == ("healthy", "here")
    shown = fray("status").stdout
    assert "cluster default at fray://127.0.0.1:" in shown
    assert "healthy" in shown
    assert "\x1b" not in shown


def test_up_again_changes_nothing(fray: Fray) -> None:
    before = fray.run_file()
    told = fray.json("up")
    assert (told["controller"]["started"], told["worker"]["started"]) == (False, False)
    assert fray.run_file() == before
    assert "already up at" in fray("up").stdout
    refused = fray("up", "--port", "1", code=1).stderr
    assert "is up on port" in refused
    assert "`fray down --name default` first" in refused


def test_wrong_token_is_refused_in_one_line(fray: Fray, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0" * 64)
    spec = fray.json("up")["spec"]
    environ = {
        "FRAY_CLUSTER_SPEC": spec,
        "FRAY_TOKEN_FILE": str(tmp_path / "token"),
    }
    told = fray("job", "list", code=1, environ=environ).stderr
    assert told.count("\n") == 1
    assert "refuses the link (401" in told
    assert "is not this cluster's" in told


def test_job_survives_a_controller_that_is_killed(alone: Fray) -> None:
    alone("up", "--port", "0", "--resources", '{"cpu": 4}')
    before = alone.run_file()
    process = alone.popen("run", "steps.py")
    assert line_of(process) == "first []"
    psutil.Process(before["pid"]).kill()
    until(lambda: not psutil.pid_exists(before["pid"]), "the controller's end")
    told = alone("status", code=1).stderr
    assert told == (
        f"fray: the controller of cluster default (process {before['pid']}) is dead;"
        " `fray up` starts it again, with all its jobs\n"
    )
    restarted = alone.json("up")
    assert restarted["address"] == before["address"]
    assert (restarted["controller"]["started"], restarted["worker"]["started"]) == (True, False)
    status = alone.json("status")
    assert [host["health"] for host in status["hosts"]] == ["healthy"]
    assert status["jobs"]["running"] == 1
    (alone.folder / "go").touch()
    code, out, _ = finish(process)
    assert (code, out) == (0, "second\n")  # each line once


def test_command_is_not_kept_by_a_controller_that_has_gone(alone: Fray) -> None:
    alone("up", "--port", "0")
    process = alone.popen("run", "steps.py")
    assert line_of(process) == "first []"
    psutil.Process(alone.run_file()["pid"]).kill()
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, out) == (143, "")
    assert "could not be told to stop" in err
    assert "leaving; ann/steps-" in err


def test_up_on_any_port_goes_on_at_the_port_of_a_controller_that_was_killed(alone: Fray) -> None:
    first = alone.json("up", "--port", "0")
    psutil.Process(first["controller"]["pid"]).kill()
    until(lambda: not psutil.pid_exists(first["controller"]["pid"]), "the controller's end")
    second = alone.json("up", "--port", "0")
    assert second["address"] == first["address"]  # where its worker looks for it
    assert alone("run", "--", "echo", "back").stdout == "back\n"


def test_up_at_another_port_takes_the_worker_along_and_what_runs_there(alone: Fray) -> None:
    first = alone.json("up", "--port", "0", "--resources", '{"cpu": 4}')
    job_id = alone.submit("steps.py", name="moved")
    until(lambda: "first" in alone("job", "logs", job_id).stdout, "its output")
    psutil.Process(first["controller"]["pid"]).kill()
    until(lambda: not psutil.pid_exists(first["controller"]["pid"]), "the controller's end")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = alone("up", "--port", str(port), "--json")
    assert f"looks for its controller at {first['address']}; it is started anew" in done.stderr
    second = json.loads(done.stdout)
    assert (second["address"], second["worker"]["started"]) == (f"127.0.0.1:{port}", True)
    assert alone.json("up")["worker"] == {**second["worker"], "started": False}
    (alone.folder / "go").touch()
    until(lambda: alone.status_of(job_id) == "succeeded", "the job's end")
    assert alone.json("job", "show", job_id)["tasks"][0]["attempts"][0]["number"] == 0


def test_job_survives_a_worker_that_is_killed(alone: Fray) -> None:
    alone("up", "--port", "0", "--resources", '{"cpu": 4}')
    process = alone.popen("run", "steps.py")
    assert line_of(process) == "first []"
    worker = alone.json("up")["worker"]
    psutil.Process(worker["pid"]).kill()
    until(lambda: not psutil.pid_exists(worker["pid"]), "the worker's end")
    told = alone.json("up")
    assert (told["controller"]["started"], told["worker"]["started"]) == (False, True)
    (alone.folder / "go").touch()
    assert finish(process)[:2] == (0, "second\n")


def test_down_ends_everything_and_up_goes_on_from_there(alone: Fray) -> None:
    first = alone.json("up", "--port", "0", "--resources", '{"cpu": 3}')
    job_id = alone.submit("stubborn.py", name="left")
    until(lambda: "ready" in alone("job", "logs", job_id).stdout, "its output")
    running = processes_of(alone)
    assert any("stubborn.py" in command for command in running.values())
    ended = alone.json("down", "--grace", "0")
    assert ended["stopped_jobs"] == [job_id]
    assert [daemon["kind"] for daemon in ended["ended"]] == ["worker", "controller"]
    until(lambda: not processes_of(alone), "the end of all processes")
    assert "no cluster is up" in alone("status", code=1).stderr
    assert alone("down").stdout == "cluster default was not up\n"
    second = alone.json("up")
    assert second["address"] == first["address"]
    assert second["hosts"][0]["capacity"]["cpus"] == 3
    assert alone.status_of(job_id) == "stopped"


def test_down_ends_what_a_killed_worker_left_behind(alone: Fray) -> None:
    worker = alone.json("up", "--port", "0")["worker"]
    job_id = alone.submit("stubborn.py", name="orphan")
    until(lambda: "ready" in alone("job", "logs", job_id).stdout, "its output")
    psutil.Process(worker["pid"]).kill()
    until(lambda: not psutil.pid_exists(worker["pid"]), "the worker's end")
    alone("down", "--grace", "0")
    until(lambda: not processes_of(alone), "the end of all processes")


def test_second_worker_joins_and_leaves(alone: Fray) -> None:
    (alone.folder / "lab.toml").write_text('name = "lab"\nport = 0\n')
    up = alone("up", "lab.toml").stdout
    assert "no worker here; hosts join with `fray worker --join" in up
    address = alone.run_file("lab")["address"]
    assert "no hosts yet" in alone("status").stdout
    joined = alone("worker", "--join", address, "--name", "a", "--resources", '{"cpu": 2}')
    assert joined.stdout.startswith("worker a has joined")
    again = alone.json("worker", "--join", f"fray://{address}", "--name", "a")
    assert (again["cluster"], again["started"]) == ("lab", False)
    process = alone.popen("worker", "--join", address, "--name", "b", "--foreground")
    names = until(lambda: [h["worker"] for h in alone.json("status")["hosts"]][1:], "two hosts")
    assert names == ["b"]
    refused = alone("worker", "--join", address, "--name", "b", "--foreground", code=1)
    assert "worker b is up already" in refused.stderr
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0
    ended = alone("down", "--name", "lab").stdout.splitlines()
    assert ended[0].startswith("ended worker a")
    assert ended[-1] == "cluster lab is down"


def test_cluster_that_listens_everywhere_is_dialled_where_it_can_be(alone: Fray) -> None:
    told = alone.json("up", "--host", "0.0.0.0", "--port", "0")
    host = told["address"].rpartition(":")[0]
    assert host != "0.0.0.0"
    assert told["hosts"][0]["address"].rpartition(":")[0] == host  # and not the loopback
    assert alone("run", "--", "echo", "hi").stdout == "hi\n"
    assert alone.json("up")["address"] == told["address"]


def test_port_that_is_taken_is_told(alone: Fray, fray: Fray) -> None:
    port = fray.run_file()["address"].rpartition(":")[2]
    told = alone("up", "--port", port, code=1).stderr
    assert told == (
        f"fray: port {port} of 127.0.0.1 is taken by another process; --port chooses another\n"
    )


# ---- without a cluster


def test_job_runs_on_a_cluster_inside_the_command(alone: Fray) -> None:
    (alone.folder / "go").touch()
    done = alone("run", "--replicas", "2", "steps.py")
    assert sorted(done.stdout.splitlines()) == [
        "[replica-0] first []",
        "[replica-0] second",
        "[replica-1] first []",
        "[replica-1] second",
    ]
    assert done.stderr == ""
    assert "exited with code 7" in alone("run", "-e", "CODE=7", "steps.py", code=7).stderr
    until(lambda: not processes_of(alone), "the end of all processes")


def test_interrupt_ends_the_cluster_inside_the_command_too(alone: Fray) -> None:
    process = alone.popen("run", "stubborn.py")
    assert line_of(process) == "ready"
    process.send_signal(signal.SIGINT)
    assert line_of(process) == "told to stop"
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    until(lambda: not processes_of(alone), "the end of all processes")


def processes_of(fray: Fray) -> dict[int, str]:
    """What runs with this test's home in its environment: daemons, supervisors and jobs."""
    mark = f"FRAY_HOME={fray.home}".encode()
    found: dict[int, str] = {}
    for process in psutil.process_iter():
        try:
            environ = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if mark in environ:
                found[process.pid] = " ".join(process.cmdline())
        except (OSError, psutil.Error):  # another user's, or it has ended
            continue
    return found


def test_output_that_was_dropped_is_told_of_with_how_much(alone: Fray) -> None:
    written = 256 << 20
    flood = (
        f"import os; [os.write(1, (b'x' * 1023 + b'\\n') * 1024) for _ in range({written >> 20})]"
    )
    done = alone("run", "--", sys.executable, "-c", flood)
    marked = [line for line in done.stdout.splitlines() if line.startswith("[fray] ")]
    missing = sum(int(line.split()[1]) for line in marked)
    assert missing > 0
    shown = [line for line in done.stdout.splitlines() if line.startswith("x")]
    assert len(shown) * 1024 + missing == written
    assert f"fray: {missing} bytes of the output are missing, as marked there" in done.stderr
    assert "64 MiB are kept" in done.stderr
