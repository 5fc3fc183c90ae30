from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fray.cluster.worker import shim
from fray.cluster.worker.shim import cgroups, procfs

V1_MOUNTS = """\
30 23 0:27 / /proc rw - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755
36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
37 31 0:34 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""

V2_MOUNTS = "31 23 0:28 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mounts", "groups", "found"),
    [
        (V1_MOUNTS, "9:memory:/a/b\n0::/c\n", ("/sys/fs/cgroup/memory/a/b", 1)),
        (V1_MOUNTS, "9:cpu,memory:/\n0::/\n", ("/sys/fs/cgroup/memory", 1)),
        (V2_MOUNTS, "0::/user.slice/x.scope\n", ("/sys/fs/cgroup/user.slice/x.scope", 2)),
        # A container sees its own part of the tree.
        (
            "1 2 0:3 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
            "4:memory:/docker/c1/sub",
            ("/sys/fs/cgroup/memory/sub", 1),
        ),
        (
            "1 2 0:3 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
            "4:memory:/docker/c11",
            None,
        ),
        ("30 23 0:27 / /proc rw - proc proc rw", "0::/", None),
    ],
)
def test_own_memory_group_is_found(mounts: str, groups: str, found: tuple[str, int] | None):
    group = cgroups.find_memory_group(mounts, groups)
    assert (None if group is None else (group.path, group.version)) == found


def test_looking_for_a_usable_group_leaves_nothing_behind():
    parent = cgroups.usable_parent()
    if parent is None:
        pytest.skip("no writable memory cgroup")
    assert not list(Path(parent.path).glob("fray-probe-*"))
    inside = [path for path in Path(parent.path).iterdir() if path.is_dir()]
    groups = [parent, *(cgroups.Group(str(path), parent.version) for path in inside)]
    assert any(os.getpid() in group.pids() for group in groups)


def test_memory_kills_are_counted_in_a_group_or_on_the_host():
    assert cgroups.oom_kills(None) >= 0
    own = cgroups.own_memory_group()
    if own is None:
        pytest.skip("no memory cgroup")
    assert cgroups.oom_kills(own) == own.oom_kills() >= 0


def test_group_that_is_gone_uses_nothing(tmp_path: Path):
    group = cgroups.Group(str(tmp_path / "gone"), cgroups.V2)
    assert (group.oom_kills(), group.usage_bytes(), group.pids()) == (0, 0, [])
    assert group.remove()


def test_counters_of_a_version_2_group_are_read(tmp_path: Path):
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (tmp_path / "memory.current").write_text("7120\n")
    (tmp_path / "memory.stat").write_text("anon 100\nfile 7000\nkernel 20\nshmem 3\n")
    group = cgroups.Group(str(tmp_path), cgroups.V2)
    assert (group.oom_kills(), group.usage_bytes(), group.is_readable()) == (2, 123, True)
    assert not group.reached_limit()
    (tmp_path / "memory.events").write_text("max 7\noom_kill 2\n")
    assert group.reached_limit()
    (tmp_path / "memory.events.local").write_text("oom_kill 1\n")
    assert group.oom_kills() == 1


def test_name_of_a_process_may_look_like_the_end_of_its_name(tmp_path: Path):
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "1000"], executable=str(program))
    try:
        stat = procfs.read_stat(process.pid)
        assert stat is not None
        assert (stat.pid, stat.ppid, stat.ended) == (process.pid, os.getpid(), False)
    finally:
        process.kill()
        process.wait()
    assert procfs.read_stat(process.pid) is None


def test_signal_reaches_only_the_process_that_was_seen():
    process = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        stat = procfs.read_stat(process.pid)
        assert stat is not None
        stat.start_time -= 1  # as if its pid had been another's when it was seen
        assert not procfs.send_signal(stat, signal.SIGKILL)
        assert process.poll() is None
        stat.start_time += 1
        assert procfs.send_signal(stat, signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
        assert not procfs.send_signal(stat, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


def test_zombie_is_told_from_the_living_and_counts_as_a_descendant():
    process = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    [stat] = [s for s in procfs.descendants(os.getpid()) if s.pid == process.pid]
    assert stat.ended
    process.wait()


def test_descendants_come_after_their_parents():
    process = subprocess.Popen(
        ["/bin/sh", "-c", "(sleep 1000 & echo; wait) & wait"],
        stdout=subprocess.PIPE,
        process_group=0,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        found = [process.pid, *(stat.pid for stat in procfs.descendants(process.pid))]
        parents = {stat.pid: stat.ppid for stat in procfs.all_processes()}
        assert len(found) == 3
        assert [parents[pid] for pid in found[1:]] == found[:2]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_processes_are_found_by_all_their_markers():
    environment = {"ONE": "1", "TWO": f"{os.getpid()}"}
    process = subprocess.Popen(["/bin/sleep", "1000"], env=environment)
    try:
        both = ["ONE=1", f"TWO={os.getpid()}"]
        assert [stat.pid for stat in procfs.marked(both)] == [process.pid]
        assert procfs.marked([*both, "THREE=3"]) == []
        assert procfs.sweep(both, 0, 0, [], 10) == []
        assert process.wait(0.1) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def test_shim_imports_neither_fray_nor_anything_installed():
    folder = Path(shim.__file__).parent.parent
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from shim import zygote\n"
        "print(sorted(n for n in sys.modules if n.split('.')[0] == 'fray'), len(sys.modules))\n"
        "assert not any('site-packages' in p for p in sys.path)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    modules, _, count = done.stdout.strip().rpartition(" ")
    assert modules == "[]"
    assert int(count) < 120
