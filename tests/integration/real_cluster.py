"""A cluster of real processes for the tests: a controller, agents, and whoever connects."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import psutil

from fray.actor.current import CURRENT_SYSTEM, DEFAULT_SYSTEM
from fray.cluster.connect import open_cluster
from fray.cluster.home import ClusterHome
from fray.cluster.hosttimes import LEASE_S
from fray.cluster.identity import Identity
from fray.cluster.security.keyring import GivenCertificate, Keyring
from fray.errors import FrayError
from fray.runtime.clock import SystemClock

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.worker.shim.cgroups import Group
    from tests.integration.netns import Host

ROOT = Path(__file__).resolve().parents[2]

DEADLINE_S = 30.0
"""For what has no bound of its own: a machine that is busy with other tests is slow, not broken."""

LOOK_S = 0.01

RESOURCES = '{"cpu": 64, "memory": "64g"}'
"""What an agent says that its host has, unless it is told otherwise."""

NOTHING: Mapping[str, str] = MappingProxyType({})


async def until(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]],
    what: str,
    deadline_s: float = DEADLINE_S,
) -> float:
    """Waits for a condition over other processes, which send no events; says how long it took."""
    clock = SystemClock()
    start = clock.monotonic()
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        elapsed_s = clock.monotonic() - start
        if holds:
            return elapsed_s
        assert elapsed_s < deadline_s, f"after {deadline_s:g} s still not: {what}"
        await asyncio.sleep(LOOK_S)


@dataclass
class Daemon:
    """A controller or an agent."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def end(self) -> None:
        """SIGTERM, as an operator's; SIGKILL where that does not help."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill()


class RealCluster:
    """A controller on one port, and agents beside it or on hosts of their own.

    Args:
        root: What ``FRAY_HOME`` would be.
        variables: Further environment variables of all its processes.
        host: The controller's host; None for this machine's loopback.
        lease_s: How long its hosts may be silent.
        every_address: Whether the controller listens on all of this machine's, and so speaks TLS.
        certificate: The files of the controller's certificate, of its key, and of who signed it.
    """

    def __init__(
        self,
        root: Path,
        variables: Mapping[str, str] = NOTHING,
        *,
        host: Host | None = None,
        lease_s: float = LEASE_S,
        every_address: bool = False,
        certificate: tuple[Path, Path, Path] | None = None,
    ) -> None:
        self.task_user = ""
        self.every_address = every_address
        self.certificate = certificate
        self.root = root
        self.variables = variables
        self.host = host
        self.lease_s = lease_s
        self.home = ClusterHome("test", root).ensure()
        given = None if certificate is None else GivenCertificate(*certificate)
        encrypted = every_address or given is not None
        self.keyring = Keyring(self.home, SystemClock(), tls=encrypted, given=given)
        self.token = self.keyring.admin_token()
        self.controller: Daemon | None = None
        self.agents: dict[str, Daemon] = {}
        self.port = 0

    @property
    def address(self) -> str:
        if self.every_address:
            return self.home.address
        return f"{self._bind}:{self.port}"

    @property
    def _bind(self) -> str:
        if self.every_address:
            return "0.0.0.0"
        return "127.0.0.1" if self.host is None else self.host.address

    @property
    def environ(self) -> dict[str, str]:
        """What a driver's process needs to find the cluster."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FRAY_HOME": str(self.root),
            "FRAY_TOKEN_FILE": str(self.home.token_path),
            "FRAY_CLUSTER_SPEC": f"fray://{self.address}",
            **self.variables,
        }

    def spawn(
        self,
        *arguments: str,
        log: str,
        host: Host | None = None,
        group: Group | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Daemon:
        """Starts ``python -m ARGUMENTS``."""
        path = self.home.logs / f"{log}.log"
        with path.open("ab") as output:
            process = subprocess.Popen(
                [*(host.prefix if host is not None else ()), sys.executable, "-m", *arguments],
                env=self.environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
                preexec_fn=group.enter if group is not None else None,
            )
        return Daemon(process, path)

    async def start(self) -> None:
        """Starts the controller and one agent."""
        await self.start_controller()
        await self.start_agent()

    async def start_controller(self) -> None:
        """Starts it, again on the same port; returns when it serves."""
        daemon = self.spawn(
            "fray.cluster.controller.main",
            *("--home", str(self.home.path)),
            *("--host", self._bind, "--port", str(self.port)),
            *("--lease-s", str(self.lease_s)),
            *(["--insecure-no-tls"] if self.host is not None else []),
            *(["--certificate", *map(str, self.certificate)] if self.certificate else []),
            log="controller",
            host=self.host,
        )
        self.controller = daemon

        def ready() -> bool:
            assert daemon.process.poll() is None, daemon.log.read_text()
            known = self.home.daemon("controller")
            return known is not None and known.pid == daemon.pid

        await until(ready, "the controller serves")
        self.port = int(self.home.address.rpartition(":")[2])

    async def start_agent(
        self,
        name: str = "w1",
        *,
        host: Host | None = None,
        group: Group | None = None,
        resources: str = RESOURCES,
    ) -> None:
        """Starts an agent, again on the same directory; returns when the controller knows it."""
        daemon = self.spawn(
            "fray.cluster.worker.main",
            *("--join", self.address),
            *("--token-file", str(self.keyring.worker_token_path(name))),
            *("--home", str(self.home.path)),
            *("--name", name),
            *("--resources", resources),
            *("--task-user", self.task_user),
            log=f"worker-{name}",
            host=host,
            group=group,
        )
        self.agents[name] = daemon

        def ready() -> bool:
            assert daemon.process.poll() is None, daemon.log.read_text()
            known = self.home.daemon("worker", name)
            return known is not None and known.pid == daemon.pid

        await until(ready, f"agent {name} is registered")

    def close(self) -> None:
        """Ends everything: agents take their tasks along."""
        for agent in self.agents.values():
            agent.end()
        if self.controller is not None:
            self.controller.end()


@asynccontextmanager
async def real_cluster(
    root: Path, variables: Mapping[str, str] = NOTHING, **options: Any
) -> AsyncGenerator[RealCluster]:
    """A controller and one agent."""
    cluster = RealCluster(root, variables, **options)
    try:
        await cluster.start()
        yield cluster
    finally:
        await asyncio.to_thread(cluster.close)


@asynccontextmanager
async def driving(
    cluster: RealCluster, *, namespace: str = "test", **options: Any
) -> AsyncGenerator[AsyncFrayCluster]:
    """A driver's connection on the running loop, as the current system."""
    identity = Identity("tester", namespace, session_id=f"d-{SystemClock().token(8)}")
    connection = await open_cluster(cluster.address, cluster.token, identity, **options)
    DEFAULT_SYSTEM.push(connection.system)
    token = CURRENT_SYSTEM.set(connection.system)
    try:
        yield connection
    finally:
        CURRENT_SYSTEM.reset(token)
        DEFAULT_SYSTEM.remove(connection.system)
        await connection.close()


async def outcome(call: Awaitable[Any]) -> Any:
    """What comes of a call: its result, or what fray says instead."""
    try:
        return await call
    except FrayError as exc:
        return exc


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has, too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
