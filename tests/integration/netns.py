"""Hosts that are network namespaces: real sockets on real links, which can be cut.

Each host is a namespace with one address; a further namespace holds the bridge that joins them, so
nothing of the machine's own network is touched and two networks never meet, whatever runs beside.
Needs root, ``iproute2`` and ``iptables``; `unavailable` says what is missing.

The names carry the pid of the test run. What a run that was killed has left behind is removed by
the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PREFIX = "fray-test"
NAME = re.compile(rf"{PREFIX}-(\d+)-\d+-[\w-]+")
HUB = "hub"
BLOCKED = "FRAY-TEST"
"""The chain of each host that holds what it does not want to hear."""

COMMAND_S = 20.0
GONE_S = 5.0
"""What killed processes have until they are gone."""

_CLONE_NEWNET = 0x40000000
_numbers = iter(range(1_000_000))


def unavailable() -> str | None:
    """Why there can be no network namespaces here; None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "iptables", "ss") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: apt install iproute2 iptables)"
    probe = f"{PREFIX}-{os.getpid()}-0-probe"
    made = _try("ip", "netns", "add", probe)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.strip()}"
    try:
        allowed = _try("ip", "netns", "exec", probe, "iptables", "-S")
        return None if allowed.returncode == 0 else f"no iptables here: {allowed.stderr.strip()}"
    finally:
        _run("ip", "netns", "del", probe)


def sweep() -> list[str]:
    """Removes the namespaces, with all that runs there, of test runs that are no more.

    Returns:
        Their names.
    """
    swept: list[str] = []
    for line in _run("ip", "netns", "list").splitlines():
        match = NAME.fullmatch(line.split()[0]) if line else None
        if match is not None and not psutil.pid_exists(int(match[1])):
            # A sweep of another worker may be faster.
            with contextlib.suppress(subprocess.CalledProcessError):
                _remove(match[0])
                swept.append(match[0])
    return swept


@dataclass(frozen=True)
class Host:
    """One namespace.

    Attributes:
        name: What the test calls it.
        namespace: What the kernel calls it.
        address: Its address.
    """

    name: str
    namespace: str
    address: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What is put before a command so that it runs there."""
        return ("ip", "netns", "exec", self.namespace)

    def run(self, *command: str) -> str:
        """Runs a command there, and gives its output.

        Raises:
            CalledProcessError: It failed.
        """
        return _run(*self.prefix, *command)

    @contextmanager
    def entered(self) -> Generator[None]:
        """Moves this thread there, with all sockets that it opens and threads that it starts."""
        with Path("/proc/thread-self/ns/net").open() as home:
            with Path("/run/netns", self.namespace).open() as there:
                _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def pids(self) -> list[int]:
        """All processes there."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self.namespace).split()]

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Stops all that runs there, as a virtual machine is that its host lets wait."""
        stopped = [pid for pid in self.pids() if pid != os.getpid()]
        try:
            for pid in stopped:
                _signal(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)


class Network:
    """Hosts that reach each other, until a test comes between.

    Args:
        names: The hosts' names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        base = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._hub = f"{base}-{HUB}"
        self.hosts = {
            name: Host(name, f"{base}-{name}", f"10.199.0.{number}")
            for number, name in enumerate(names, 1)
        }

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __repr__(self) -> str:
        return f"<Network {self._hub} of {', '.join(self.hosts)}>"

    def open(self) -> None:
        """Makes it; `close` it also if this fails."""
        hub = ("ip", "-n", self._hub)
        _run("ip", "netns", "add", self._hub)
        _run(*hub, "link", "add", "br0", "type", "bridge")
        _run(*hub, "link", "set", "br0", "up")
        for number, host in enumerate(self.hosts.values(), 1):
            port, inside = f"port{number}", ("ip", "-n", host.namespace)
            _run("ip", "netns", "add", host.namespace)
            peer = ("type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _run("ip", "link", "add", port, "netns", self._hub, *peer)
            _run(*hub, "link", "set", port, "master", "br0", "up")
            _run(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _run(*inside, "link", "set", "lo", "up")
            _run(*inside, "link", "set", "eth0", "up")
            host.run("iptables", "-N", BLOCKED)
            host.run("iptables", "-A", "INPUT", "-j", BLOCKED)

    def close(self) -> None:
        """Removes it, with all that still runs there."""
        present = _run("ip", "netns", "list").split()
        for namespace in (*(host.namespace for host in self.hosts.values()), self._hub):
            if namespace in present:
                _remove(namespace)

    # ---- faults

    def partition(self, a: Host, b: Host, *, one_way: bool = False) -> None:
        """Nothing gets from one host to another any more, and nobody is told.

        Args:
            a: One host.
            b: The other.
            one_way: Only what ``a`` sends to ``b`` is lost.
        """
        b.run("iptables", "-A", BLOCKED, "-s", a.address, "-j", "DROP")
        if not one_way:
            a.run("iptables", "-A", BLOCKED, "-s", b.address, "-j", "DROP")

    def isolate(self, host: Host) -> None:
        """Parts a host from all others."""
        for other in self.hosts.values():
            if other is not host:
                self.partition(host, other)

    def heal(self) -> None:
        """Ends all partitions and refusals."""
        for host in self.hosts.values():
            host.run("iptables", "-F", BLOCKED)

    @contextmanager
    def parted(self, a: Host, b: Host, *, one_way: bool = False) -> Generator[None]:
        """A partition that heals, with all others, at the end of a ``with`` statement.

        Args:
            a: One host.
            b: The other.
            one_way: Only what ``a`` sends to ``b`` is lost.
        """
        self.partition(a, b, one_way=one_way)
        try:
            yield
        finally:
            self.heal()

    def reset(self, a: Host, b: Host) -> None:
        """Resets all connections between two hosts, both ends; new ones can be made at once.

        Args:
            a: One host.
            b: The other.
        """
        # Of what listens, ss says that it cannot be killed; what counts is that nothing is left.
        _try(*a.prefix, "ss", "--tcp", "--no-header", "--kill", "dst", b.address)
        _try(*b.prefix, "ss", "--tcp", "--no-header", "--kill", "dst", a.address)

    def refuse(self, a: Host, b: Host) -> None:
        """What one host sends to another is answered with a reset, until `heal`.

        Args:
            a: Whose connections are refused, and cut as soon as it sends something.
            b: By whom.
        """
        reject = ("-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
        b.run("iptables", "-A", BLOCKED, "-s", a.address, *reject)

    def connections(self, a: Host, b: Host) -> int:
        """How many connections from one host to another are open, as seen by the first."""
        shown = a.run("ss", "--tcp", "--no-header", "state", "established", "dst", b.address)
        return len(shown.splitlines())

    @contextmanager
    def detour(self, host: Host, address: str, port: int, *, mark: int) -> Generator[None]:
        """What a host sends to an address goes to a port of its own instead.

        There it is seen where it was meant to go (``SO_ORIGINAL_DST``).

        Args:
            host: Whose connections.
            address: ``host:port`` to which they go.
            port: Where they end up, on the loopback of that host.
            mark: Sockets with this ``SO_MARK`` are left alone.
        """
        to, _, to_port = address.rpartition(":")
        what = ("-p", "tcp", "-d", to, "--dport", to_port, "-m", "mark", "!", "--mark", str(mark))
        rule = ("OUTPUT", *what, "-j", "REDIRECT", "--to-ports", str(port))
        host.run("iptables", "-t", "nat", "-A", *rule)
        try:
            yield
        finally:
            host.run("iptables", "-t", "nat", "-D", *rule)


@contextmanager
def network(*names: str) -> Generator[Network]:
    """A network of some hosts, removed at the end.

    Args:
        *names: The hosts' names.
    """
    sweep()
    made = Network(names)
    try:
        made.open()
        yield made
    finally:
        made.close()


def present(*namespaces: str) -> list[str]:
    """Which of some namespaces exist."""
    there = set(_run("ip", "netns", "list").split())
    return [name for name in namespaces if name in there]


def _remove(namespace: str) -> None:
    """Removes a namespace: one in which something runs would live on without a name."""
    deadline = time.monotonic() + GONE_S
    while pids := _run("ip", "netns", "pids", namespace).split():
        for pid in map(int, pids):
            assert pid != os.getpid(), f"this process is still in {namespace}"
            _signal(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    _run("ip", "netns", "del", namespace)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _set_namespace(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _run(*command: str) -> str:
    done = _try(*command)
    if done.returncode != 0:
        error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        error.add_note(done.stderr.strip())
        raise error
    return done.stdout


def _try(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S)
