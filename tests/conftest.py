"""Makes sure that no test leaves threads or processes behind.

A test that may do so says why: `@pytest.mark.leftovers("the thread ignores requests to stop")`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

# How long an example takes says what else the machine does.
hypothesis.settings.register_profile(
    "fray", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("fray")

pytest_plugins = ("tests.conformance",)

COMPUTING = (
    "test_inference_pool.py",
    "test_multislice_kill.py",
    "test_rl_kill.py",
    "test_training_kill.py",
)
"""Tests of processes that compute for long."""

SHORT_LEASES = ("test_partitions.py",)
"""Tests of hosts whose leases are short enough to be waited for."""

GRACE_S = 3.0
"""What ends by itself, such as a thread that is already told to, has this long."""

_BEFORE = pytest.StashKey[tuple[set[int], set[threading.Thread]]]()
_others: set[int] = set()
"""Processes known to be none of ours, to look at each only once."""
_MARKER = f"FRAY_TEST_RUN={uuid.uuid4().hex}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leftovers(why): may leave threads or processes behind")
    config.addinivalue_line("markers", "ray: wants a real Ray; added to whatever does")
    # Inherited by whatever the tests start, also by what detaches itself from its parents.
    name, _, value = _MARKER.partition("=")
    os.environ[name] = value


@pytest.fixture(autouse=True)
def _what_was_there(request: pytest.FixtureRequest) -> None:
    # A fixture, for it runs after those of the module and the session, whose things may stay.
    request.node.stash[_BEFORE] = (_started_processes(), set(threading.enumerate()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    yield  # every fixture of the test is gone now, its event loop included
    before = item.stash.get(_BEFORE, None)
    if before is None or item.get_closest_marker("leftovers") or item.get_closest_marker("ray"):
        return
    deadline = time.monotonic() + GRACE_S
    while left := _leftovers(*before):
        if time.monotonic() > deadline:
            pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)
        time.sleep(0.02)


def _leftovers(processes: set[int], threads: set[threading.Thread]) -> list[str]:
    new_processes = sorted(_started_processes() - processes)
    new_threads = [thread for thread in threading.enumerate() if thread not in threads]
    return [
        *(f"process {pid}: {_command(pid)}" for pid in new_processes),
        *(f"thread {thread.name}" for thread in new_threads),
    ]


def _started_processes() -> set[int]:
    """The living processes that any test of this run has started."""
    present = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    _others.intersection_update(present)
    found: set[int] = set()
    for pid in present - _others:
        try:
            environment = Path("/proc", str(pid), "environ").read_bytes()
        except OSError:  # another user's, or it ended
            continue
        if _MARKER.encode() in environment.split(b"\0"):
            found.add(pid)
        elif environment:  # a zombie's is empty, and so is one whose program is just being loaded
            _others.add(pid)
    return found


def _command(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "(gone)"


# ---- a real Ray

_RAY = """
import sys, ray
ray.init(
    address="local",
    num_cpus=4,
    resources={"TPU": 8},
    include_dashboard=False,
    log_to_driver=False,
    logging_level="ERROR",
    object_store_memory=128 << 20,
    _temp_dir=sys.argv[1],
)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


def _wants_ray(item: pytest.Item) -> bool:
    if {"ray", "ray_address"} & set(getattr(item, "fixturenames", ())):
        return True
    callspec = getattr(item, "callspec", None)
    return callspec is not None and any(
        callspec.params.get(fixture) == "ray" for fixture in ("cluster", "context")
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that want a Ray (``-m ray``), and has them first.

    pytest-xdist gives each worker a stretch of the list: so most often one has all of them, and
    starts the only Ray. Then come those whose hosts have leases of four seconds: late in a run of
    everything one of them has failed, never alone or beside any load that was tried, and why is not
    known. Those that take all cores for half a minute follow, so that nothing else is beside them.
    """
    for item in items:
        if _wants_ray(item):
            item.add_marker("ray")
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    if item.get_closest_marker("ray"):
        return 0
    if item.path.name in SHORT_LEASES:
        return 1
    return 2 if item.path.name in COMPUTING else 3


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Of a Ray of this run's own; tests that want it are skipped where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:  # not imported: it reads its variables then
        pytest.skip("the extra `ray` is not installed")
    # Else Ray keeps a token in the account's home, and gives it to some of its processes only.
    secrets = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex + uuid.uuid4().hex}
    os.environ.update(secrets)
    # Short, because Ray puts Unix sockets several folders below it.
    folder = tempfile.mkdtemp(prefix="r")
    name = _MARKER.partition("=")[0]
    child = subprocess.Popen(
        [sys.executable, "-c", _RAY, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Its workers come and go as it sees fit: no test has left them behind.
        env={key: value for key, value in os.environ.items() if key != name},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip()
    finally:
        child.stdin.close()
        child.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
        for each in secrets:
            del os.environ[each]


@contextmanager
def joined_to_ray(address: str, *folders: str) -> Iterator[ModuleType]:
    """Ray's module, joined to a Ray on which these folders of the repository can be imported."""
    import ray

    root = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join(str(root / folder) for folder in (".", *folders))
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def ray(ray_address: str) -> Iterator[ModuleType]:
    """That Ray, joined for as long as the tests of one module run."""
    with joined_to_ray(ray_address) as module:
        yield module
