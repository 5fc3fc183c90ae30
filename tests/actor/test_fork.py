"""Handles, calls and clusters in processes that were forked or spawned by a program that has them.

`multiprocessing` and data loaders do that behind the user's back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import asyncio, multiprocessing, os, sys
import fray

@fray.actor
class Counter:
    def __init__(self):
        self.value = 0
    def add(self):
        self.value += 1
        return self.value
    async def never(self):
        await asyncio.Event().wait()

def told(attempt):
    try:
        return attempt()
    except fray.FrayError as exc:
        return type(exc).__name__

async def awaited(future):
    return await future

def in_child(counter, pending, said):
    attempts = [lambda: counter.add(), lambda: counter.add.remote().result()]
    if pending is not None:
        attempts += [
            lambda: pending.result(),
            lambda: fray.wait([pending]),
            lambda: fray.gather(pending).result(),
            lambda: asyncio.run(awaited(pending)),
            lambda: pending.cancel(),
        ]
    said.put([told(attempt) for attempt in attempts])

"""

FORKED = (
    PROGRAM
    + """
counter = Counter.remote()
assert counter.add() == 1
pending = counter.never.remote()
fork = multiprocessing.get_context("fork")
said = fork.SimpleQueue()
child = fork.Process(target=in_child, args=(counter, pending, said))
child.start()
print(said.get())
child.join()
assert not pending.done()
pending.cancel()
print(counter.add())
"""
)

SPAWNED = (
    PROGRAM
    + """
if __name__ == "__main__":
    counter = Counter.remote()
    assert counter.add() == 1
    spawn = multiprocessing.get_context("spawn")
    said = spawn.SimpleQueue()
    child = spawn.Process(target=in_child, args=(counter, None, said))
    child.start()
    print(said.get())
    child.join()
    print(counter.add())
"""
)

FORKED_IN_A_BLOCK = (
    PROGRAM
    + """
def fork_and_leave():
    pid = os.fork()
    if pid == 0:
        return False
    assert os.waitpid(pid, 0)[1] == 0
    return True

def in_sync():
    with fray.connect() as cluster:
        counter = Counter.remote()
        assert counter.add() == 1
        if not fork_and_leave():
            return False
        print(counter.add())
    return True

if in_sync():
    print("the end")
sys.stdout.flush()
os._exit(0)  # as multiprocessing does; libuv's own clean-up at exit() fails in forks
"""
)

OWN_CLUSTER = (
    PROGRAM
    + """
counter = Counter.remote()
assert counter.add() == 1
pid = os.fork()
if pid == 0:
    own = Counter.remote()
    own.add()
    print(own.add(), flush=True)
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
print(counter.add())
"""
)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (FORKED, str([*["ClusterClosed"] * 6, False]) + "\n2\n"),
        (SPAWNED, "['ClusterClosed', 'ClusterClosed']\n2\n"),
        (FORKED_IN_A_BLOCK, "2\nthe end\n"),
        (OWN_CLUSTER, "2\n2\n"),
    ],
    ids=["forked", "spawned", "forked inside of a block", "with a cluster of its own"],
)
def test_a_child_is_told_what_it_does_not_have_and_harms_its_parent_in_nothing(
    program: str, said: str, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(program)
    environ = {k: v for k, v in os.environ.items() if k != "FRAY_CLUSTER_SPEC"}
    environ |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    # From 3.12 on Python warns of any fork beside threads; what becomes of it is what is tested.
    environ["PYTHONWARNINGS"] = "ignore:This process:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, str(script)], env=environ, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)
    assert list(tmp_path.glob("fray-local-*")) == []
