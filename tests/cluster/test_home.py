from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import orjson
import psutil
import pytest

from fray.cluster.addresses import normalize_address, split_address
from fray.cluster.files import write_atomically
from fray.cluster.home import (
    ClusterHome,
    all_homes,
    find_home_by_address,
    fray_home,
    is_process,
)
from fray.errors import InvalidRequestError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pretend(home: ClusterHome, *, pid: int, started: float, address: str, host: str = "") -> None:
    """Writes the file that a controller in another process would have written."""
    home.ensure()
    record = {"pid": pid, "started": started, "address": address, "host": host}
    write_atomically(home.run / "controller.json", orjson.dumps(record))


def a_dead_process() -> tuple[int, float]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
    return process.pid, started


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "x" * 65, "-n"])
def test_names_that_would_be_strange_folders_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cluster's name"):
        ClusterHome(name, tmp_path)


def test_home_is_where_the_environment_says() -> None:
    assert fray_home({"FRAY_HOME": "/somewhere"}) == Path("/somewhere")
    assert fray_home({}) == Path.home() / ".fray"
    assert fray_home({"FRAY_HOME": ""}) == Path.home() / ".fray"


def test_asking_makes_nothing(tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path)
    assert not home.exists
    assert home.daemons() == []
    assert home.address == ""
    assert all_homes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_folders_are_for_their_owner_only(tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path).ensure()
    folders = [home.path, home.logs, home.run, home.bundles, home.blobs]
    assert [mode(each) for each in folders] == [0o700] * 5


def test_folder_that_was_too_open_is_closed(tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path)
    home.path.mkdir(parents=True, mode=0o755)
    home.path.chmod(0o755)
    assert mode(home.ensure().path) == 0o700


def test_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "clusters").write_text("a file")
    with pytest.raises(InvalidRequestError, match="set FRAY_HOME"):
        ClusterHome("one", tmp_path).ensure()


def test_home_is_found_by_its_path(tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path)
    assert ClusterHome.at(home.path).name == "one"
    assert ClusterHome.at(home.path).token_path == home.token_path


def test_daemon_says_who_it_is_until_it_takes_that_back(tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path)
    home.write_daemon("controller", "", "127.0.0.1:1234")
    home.write_daemon("worker", "gpu-box", "127.0.0.1:1235")
    controller, worker = home.daemons()
    assert (controller.label, worker.label) == ("controller", "worker gpu-box")
    assert (controller.pid, controller.alive, worker.alive) == (os.getpid(), True, True)
    assert home.address == "127.0.0.1:1234"
    assert mode(home.run / "controller.json") == 0o600
    home.remove_daemon("controller")
    home.remove_daemon("controller")
    assert home.daemons() == [worker]


def test_process_that_ended_is_dead(tmp_path: Path) -> None:
    pid, started = a_dead_process()
    pretend(ClusterHome("one", tmp_path), pid=pid, started=started, address="h:1")
    assert [each.alive for each in ClusterHome("one", tmp_path).daemons()] == [False]


def test_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    assert is_process(process.pid, started)
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_process(process.pid, started)
    process.wait()


def test_later_process_with_the_same_pid_is_not_the_daemon(tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path)
    started = psutil.Process().create_time()
    pretend(home, pid=os.getpid(), started=started - 60, address="h:1")
    assert [each.alive for each in home.daemons()] == [False]


def test_daemon_on_another_machine_is_not_judged_by_its_pid(tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path)
    started = psutil.Process().create_time()
    pretend(home, pid=os.getpid(), started=started, address="h:1", host="another.example")
    assert [(each.alive, each.is_here) for each in home.daemons()] == [(False, False)]


def test_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as successor:
        started = psutil.Process(successor.pid).create_time()
        pretend(home, pid=successor.pid, started=started, address="h:1")
        home.remove_daemon("controller")
        assert [each.alive for each in home.daemons()] == [True]
    home.remove_daemon("controller")
    assert home.daemons() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": null}'])
def test_file_that_makes_no_sense_is_no_daemon(content: bytes, tmp_path: Path) -> None:
    home = ClusterHome("one", tmp_path).ensure()
    (home.run / "controller.json").write_bytes(content)
    assert home.daemons() == []


def test_home_is_found_by_any_spelling_of_its_address(tmp_path: Path) -> None:
    ClusterHome("one", tmp_path).write_daemon("controller", "", "127.0.0.1:50051")
    ClusterHome("two", tmp_path).write_daemon("controller", "", "127.0.0.1:50052")
    assert [home.name for home in all_homes(tmp_path)] == ["one", "two"]
    for address in ("localhost", "127.0.0.1:50051", "[::1]:50051"):
        found = find_home_by_address(address, tmp_path)
        assert found is not None
        assert found.name == "one"
    assert find_home_by_address("localhost:1", tmp_path) is None
    assert find_home_by_address("elsewhere", tmp_path) is None


def test_living_controller_wins_where_two_have_used_an_address(tmp_path: Path) -> None:
    pid, started = a_dead_process()
    pretend(ClusterHome("a-dead", tmp_path), pid=pid, started=started, address="localhost:7")
    ClusterHome("b-alive", tmp_path).write_daemon("controller", "", "localhost:7")
    pretend(ClusterHome("c-odd", tmp_path), pid=pid, started=started, address="no address")
    found = find_home_by_address("localhost:7", tmp_path)
    assert found is not None
    assert found.name == "b-alive"


def test_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("address", "parts"),
    [("h", ("h", 50051)), ("h:1", ("h", 1)), ("[::1]:2", ("::1", 2)), ("10.0.0.1", None)],
)
def test_addresses_are_split(address: str, parts: tuple[str, int] | None) -> None:
    assert split_address(address) == (parts or (address, 50051))


@pytest.mark.parametrize("address", ["", "h:", "h:0", "h:65536", "::1", "a b:1", "fray://h:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequestError, match="host:port"):
        split_address(address)


def test_addresses_that_mean_the_same_are_spelled_the_same() -> None:
    assert normalize_address("127.0.0.1") == normalize_address("localhost:50051")
    assert normalize_address("Host.Example:1") == normalize_address("host.example:1")
