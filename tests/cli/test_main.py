from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fray.cli import app as cli
from fray.cli.knocking import nobody_listens
from fray.cli.main import main
from fray.cli.run import _IS_PROGRAM, RunCommand  # pyright: ignore[reportPrivateUsage]
from fray.runtime.clock import SystemClock
from fray.version import __version__

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *((name,) for name in ("run", "up", "down", "status", "worker")),
    *(("job", name) for name in ("list", "show", "why", "logs", "stop")),
    *(("actor", name) for name in ("list", "show", "stop")),
)
LAZY = ("typer", "rich", "aiohttp", "uvloop", "psutil", "cattrs")


@pytest.fixture(autouse=True)
def _no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAY_HOME", str(tmp_path / "home"))
    for variable in ("FRAY_CLUSTER_SPEC", "FRAY_TOKEN_FILE", "FRAY_DEBUG"):
        monkeypatch.delenv(variable, raising=False)


def fray(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fray.cli.main", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_told(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"fray {__version__}\n"


def test_version_needs_no_library() -> None:
    code = "import sys, fray.cli.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in LAZY if name in loaded] == []


def test_entry_point_adds_next_to_nothing_to_importing_fray() -> None:
    code = (
        "import time, fray; before = time.process_time(); import fray.cli.main;"
        " print(time.process_time() - before)"
    )
    times_s = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(times_s) < 0.02


def test_putting_the_commands_together_loads_no_cluster() -> None:
    code = "import sys, fray.cli.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = (
        "aiohttp",
        "uvloop",
        "psutil",
        "cattrs",
        "fray.cluster.client",
        "fray.cluster.controlcalls",
    )
    assert [name for name in heavy if name in loaded] == []


def test_help_is_shown_to_whoever_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"], ["job"], ["actor"]):
        assert cli.execute(arguments) == 0
        assert "Usage: fray" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"Usage: fray {' '.join(command)}" in told
    assert "--json" in told


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] in ("run", "status", "job")])
def test_commands_that_ask_a_cluster_let_one_choose_it(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert "--cluster " in told
    assert "--cluster-name" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nope"], "No such command 'nope'"),
        (["run", "--nope", "x"], "No such option: --nope"),
        (["run"], "nothing to run: `fray run SCRIPT.py …` or `fray run -- PROGRAM …`"),
        (["run", "gone.py"], "there is no script 'gone.py'"),
        (["run", "--cpus", "x", "y"], "Invalid value for '--cpus'"),
        (["job", "logs"], "Missing argument 'JOB'"),
        (["job", "list", "--status", "odd"], "Invalid value for '--status'"),
        (["up", "gone.toml"], "gone.toml cannot be read: No such file or directory"),
        (["up", "--resources", '{"cpus": 1}'], "unknown key '--resources.cpus'; did you mean"),
        (["up", "--port", "70000"], "Invalid value for '--port'"),
        (["worker"], "Missing option '--join'"),
        (["worker", "--join", "h:1"], "there is no token file"),
        (["status", "--cluster", "a:1", "--cluster-name", "b"], "--cluster and --cluster-name"),
    ],
)
def test_wrong_usage_is_one_line_and_ends_with_two(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"fray: {told}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["status"], "no cluster is up on this machine; `fray up` starts one"),
        (["job", "list"], "no cluster is up on this machine"),
        (["actor", "list"], "no cluster is up on this machine"),
        (["status", "--cluster", "local"], "'local' is a cluster inside each process"),
        (["status", "--cluster-name", "lab"], "there is no cluster 'lab' on this machine"),
        (["down", "--name", "lab"], "there is no cluster 'lab' on this machine (known: none)"),
        (["up", "--name", "a/b"], "a cluster's name has up to 64 letters"),
        (["run", "--detach", "--", "true"], "--detach needs a cluster that outlives this command"),
    ],
)
def test_failures_are_one_line_and_end_with_one(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"fray: {told}")
    assert captured.err.count("\n") == 1


def test_yaml_file_is_told_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cluster.yaml").write_text("name: lab\n")
    assert cli.execute(["up", str(tmp_path / "cluster.yaml")]) == 2
    assert "TOML or JSON, not YAML; write the same keys as cluster.toml" in capsys.readouterr().err


def test_down_where_nothing_was_up_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["down"]) == 0
    assert capsys.readouterr().out == "cluster default was not up\n"


def test_traceback_is_shown_only_to_whoever_wants_it() -> None:
    quiet = fray("status")
    assert (quiet.returncode, quiet.stderr.count("\n")) == (1, 1)
    loud = fray("status", FRAY_DEBUG="1")
    assert loud.returncode == 1
    assert "Traceback" in loud.stderr


@pytest.fixture
def token_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    token = tmp_path / "token"
    token.write_text("secret\n")
    monkeypatch.setenv("FRAY_TOKEN_FILE", str(token))
    return token


@pytest.mark.usefixtures("token_file")
def test_controller_that_does_not_answer_is_told_in_time_and_meanwhile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fray.cli.connecting.CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr("fray.cli.knocking.PROGRESS_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert cli.execute(["job", "list", "--cluster", address]) == 1
    waits, gives_up = capsys.readouterr().err.splitlines()
    where = f"fray: the cluster at fray://{address} does not answer"
    assert waits == f"{where} yet; waiting for it, 0.3 s at most"
    assert gives_up.startswith(f"{where} within 0.3 s;")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.usefixtures("token_file")
def test_address_of_this_machine_where_nobody_listens_is_told_at_once(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    assert cli.execute(["actor", "show", "x", "--cluster", f"{host}:1"]) == 1
    assert time.monotonic() - began < 3  # a connection is tried for 5 s, and a command waits for 10
    assert f"nobody listens at {host}:1: the controller there has ended" in capsys.readouterr().err


@pytest.mark.usefixtures("token_file")
async def test_controller_that_begins_to_listen_is_not_called_gone() -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{late.getsockname()[1]}"
        asyncio.get_running_loop().call_later(0.1, late.listen)
        assert not await nobody_listens(address, SystemClock())


# ---- what stands behind `--`


def is_program(*arguments: str) -> tuple[bool, list[str]]:
    import typer

    command = typer.main.get_command(cli.app)
    run = command.get_command(None, "run")  # pyright: ignore
    assert isinstance(run, RunCommand)
    context = run.make_context("run", list(arguments))
    return context.meta[_IS_PROGRAM], context.params["command"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("x.py",), (False, ["x.py"])),
        (("x.py", "--", "y"), (False, ["x.py", "--", "y"])),
        (("--cpus", "2", "x.py", "--cpus", "3"), (False, ["x.py", "--cpus", "3"])),
        (("--", "./x.py"), (True, ["./x.py"])),
        (("--name", "n", "--", "echo", "--name"), (True, ["echo", "--name"])),
        (("-e", "A=1", "--json", "--", "sh", "-c", "x"), (True, ["sh", "-c", "x"])),
    ],
)
def test_program_behind_two_dashes_is_told_from_a_script(
    arguments: tuple[str, ...], expected: tuple[bool, list[str]]
) -> None:
    assert is_program(*arguments) == expected


# ---- completion


def complete(words: str) -> list[str]:
    done = fray(_FRAY_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert done.returncode == 0
    assert done.stderr == ""
    return done.stdout.split()


def test_shell_completes_commands_and_options() -> None:
    assert complete("fray stat") == ["status"]
    assert sorted(complete("fray st")) == ["stack", "status"]
    assert complete("fray job lo") == ["logs"]
    assert complete("fray run --det") == ["--detach"]


def test_shell_completes_names_of_clusters(tmp_path: Path) -> None:
    (tmp_path / "home" / "clusters" / "lab").mkdir(parents=True)
    assert complete("fray status --cluster-name l") == ["lab"]


def test_completion_of_jobs_is_silent_where_no_cluster_is_up() -> None:
    assert complete("fray job logs tr") == []


def test_shells_can_be_told_how_to_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["--help"]) == 0
    assert "--install-completion" in capsys.readouterr().out


_INTERRUPTED = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)

wanted = sys.argv.pop()
sys.meta_path.insert(0, Interrupting())
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="fray")
command.load()()
"""


def test_ctrl_c_before_a_handler_can_be_set_ends_a_command_silently() -> None:
    program = """
import os, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "signal":
            os.kill(os.getpid(), 2)

assert "signal" not in sys.modules
sys.meta_path.insert(0, Interrupting())
import fray_start
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "imported", ["fray", "fray.cli.main", "typer", "fray.cli.status", "fray.cli.connecting"]
)
def test_ctrl_c_while_a_command_is_imported_ends_it_silently(imported: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, "status", imported],
        cwd=ROOT,
        env={**os.environ, "FRAY_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
