"""Bringing a cluster up on this machine: level-triggered, like the agents.

`bring_up` compares what runs with what is wanted and starts what is missing; doing it again
changes nothing. What was wanted is remembered in the cluster's home, so that a later `fray up`
without arguments starts the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fray.cli import daemons
from fray.cli.clusterfile import LogSettings, WorkerSettings
from fray.cli.connecting import SCHEME, Place, connection
from fray.cli.errors import Failure
from fray.cli.joining import ensure_worker
from fray.cli.output import print_json, print_line
from fray.cli.reports import host_json
from fray.cli.settings import DEFAULT_HOST, Settings, TlsSettings, load_settings, save_settings
from fray.cluster.addresses import DEFAULT_PORT, is_loopback, split_address
from fray.cluster.home import DEFAULT_NAME, ClusterHome, Daemon
from fray.cluster.hosttimes import LEASE_S
from fray.cluster.reports import HostReport
from fray.cluster.retention import RetentionPolicy
from fray.cluster.security.keyring import GivenCertificate, Keyring
from fray.cluster.shelflimits import ShelfLimits
from fray.runtime.clock import SystemClock

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

HEALTHY_TIMEOUT_S = 30.0
HEALTHY_LOOK_S = 0.1

HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `fray up` was asked for.

    Attributes:
        name: The cluster's; None for the default.
        host: Where the controller listens; None for where it did, or the loopback.
        port: Likewise; 0 for any.
        lease_s: Likewise.
        retention: Likewise.
        environments: Likewise.
        logs: Where logs are archived, and how much of them; None for as before.
        tls: How it is encrypted; None for as it was, or as it should be.
        worker: The worker that is wanted; None for none.
        is_told: Whether anything was said of the worker; if not, an earlier word holds.
    """

    name: str | None = None
    host: str | None = None
    port: int | None = None
    lease_s: float | None = None
    retention: RetentionPolicy | None = None
    environments: ShelfLimits | None = None
    logs: LogSettings | None = None
    worker: WorkerSettings | None = field(default_factory=WorkerSettings)
    is_told: bool = False
    tls: TlsSettings | None = None


# ---- up


async def bring_up(wanted: Wanted, *, as_json: bool) -> int:
    """`fray up`.

    Args:
        wanted: What is to run.
        as_json: Whether the result is for a script.

    Raises:
        Failure: Something cannot be started, or is up and different.
    """
    home = ClusterHome(wanted.name or DEFAULT_NAME)
    clock = SystemClock()
    async with daemons.locked(home, clock):
        earlier = load_settings(home)
        _refuse_changes(home, wanted, earlier)
        host = wanted.host or (earlier.host if earlier else DEFAULT_HOST)
        tls = wanted.tls or (earlier.tls if earlier else TlsSettings())
        keyring = _keyring(home, host, tls, clock)
        keyring.admin_token()
        lease_s = wanted.lease_s or (earlier.lease_s if earlier else LEASE_S)
        retention = wanted.retention or (earlier.retention if earlier else RetentionPolicy())
        kept = wanted.environments or (earlier.environments if earlier else ShelfLimits())
        logs = wanted.logs or (earlier.logs if earlier else LogSettings())
        start = partial(
            daemons.controller_command,
            lease_s=lease_s,
            retention=retention,
            environments=kept,
            logs=logs,
            tls=tls,
        )
        controller, controller_is_new = await _controller(
            home, host, wanted.port, earlier.port if earlier else 0, start, clock
        )
        settings = Settings(
            host=host,
            port=split_address(controller.address)[1],
            worker=wanted.worker if wanted.is_told or earlier is None else earlier.worker,
            lease_s=lease_s,
            retention=retention,
            logs=logs,
            tls=tls,
            environments=kept,
        )
        save_settings(home, settings)
        worker: Daemon | None = None
        worker_is_new = False
        if settings.worker is not None:
            name = settings.worker.name or daemons.worker_name()
            worker, worker_is_new = await ensure_worker(
                home, controller.address, keyring.worker_token_path(name), settings.worker, clock
            )
        hosts = await _until_healthy(home, worker, clock)
    up = Up(home, controller, controller_is_new, worker, worker_is_new, hosts)
    if as_json:
        print_json(up.as_json())
    else:
        for line in up.as_text():
            print_line(line)
    return 0


def _keyring(home: ClusterHome, host: str, tls: TlsSettings, clock: Clock) -> Keyring:
    """The cluster's keys; the controller's process comes to the same by itself."""
    given = GivenCertificate(*map(Path, tls.certificate)) if tls.certificate else None
    encrypted = given is not None or not (tls.insecure or is_loopback(host))
    return Keyring(home, clock, tls=encrypted, given=given)


def _refuse_changes(home: ClusterHome, wanted: Wanted, earlier: Settings | None) -> None:
    """What is up stays as it is: says so where something else was asked for."""
    controller = home.daemon("controller")
    if controller is None or not (controller.alive or not controller.is_here):
        return
    if not controller.is_here:
        raise Failure(
            f"cluster {home.name} is up on {controller.host}, and its files are shared with this"
            " machine; use another --name, or `fray worker --join` to add this host"
        )
    change = f"`fray down --name {home.name}` first"
    port = split_address(controller.address)[1]
    if wanted.port not in (None, 0, port):
        raise Failure(f"cluster {home.name} is up on port {port}, not {wanted.port}; {change}")
    if wanted.host is not None and earlier is not None and wanted.host != earlier.host:
        raise Failure(f"cluster {home.name} is up on {earlier.host}, not {wanted.host}; {change}")
    if wanted.lease_s is not None and earlier is not None and wanted.lease_s != earlier.lease_s:
        was = f"a lease_s of {earlier.lease_s:g}, not {wanted.lease_s:g}"
        raise Failure(f"cluster {home.name} is up with {was}; {change}")
    if wanted.tls is not None and earlier is not None and wanted.tls != earlier.tls:
        raise Failure(f"cluster {home.name} is up with other TLS settings; {change}")
    if earlier is not None and wanted.retention not in (None, earlier.retention):
        raise Failure(f"cluster {home.name} is up with another retention; {change}")
    if earlier is not None and wanted.environments not in (None, earlier.environments):
        raise Failure(f"cluster {home.name} is up with another bound of environments; {change}")
    if wanted.logs is not None and earlier is not None and wanted.logs != earlier.logs:
        raise Failure(f"cluster {home.name} is up with other settings of its logs; {change}")
    if not wanted.is_told or wanted.worker is None or earlier is None or earlier.worker is None:
        return
    name = earlier.worker.name or daemons.worker_name()
    running = home.daemon("worker", name)
    if running is not None and running.alive and wanted.worker != earlier.worker:
        raise Failure(f"worker {name} is up with other resources or another name; {change}")


async def _controller(
    home: ClusterHome,
    host: str,
    wanted_port: int | None,
    last_port: int,
    command_of: Callable[[ClusterHome, str, int], list[str]],
    clock: Clock,
) -> tuple[Daemon, bool]:
    """The running controller, and whether it was started now."""
    last = home.daemon("controller")
    if last is not None and last.alive:
        return last, False
    port = wanted_port
    if port in (None, 0) and last is not None:
        port = split_address(last.address)[1]  # it was killed, and its workers know it there
    if port is None:
        port = last_port or (DEFAULT_PORT if daemons.is_free(host, DEFAULT_PORT) else 0)
    if port and not daemons.is_free(host, port):
        raise Failure(f"port {port} of {host} is taken by another process; --port chooses another")
    command = command_of(home, host, port)
    return await daemons.start(home, "controller", "", command, clock), True


async def _until_healthy(
    home: ClusterHome, worker: Daemon | None, clock: Clock
) -> list[HostReport]:
    """Waits until the controller answers, and counts the worker as healthy."""
    deadline = clock.monotonic() + HEALTHY_TIMEOUT_S
    async with connection(Place(SCHEME + home.address, home, is_ours=True)) as cluster:
        while True:
            hosts = await cluster.fleet.hosts()
            if worker is None:
                return hosts
            ours = next((host for host in hosts if host.worker_id == worker.name), None)
            if ours is not None and (ours.health, ours.address) == (HEALTHY, worker.address):
                return hosts
            if clock.monotonic() > deadline:
                health = ours.health if ours else "unknown to the controller"
                raise Failure(f"worker {worker.name} is {health}; see {home.logs}")
            await clock.sleep(HEALTHY_LOOK_S)


@dataclass(frozen=True, slots=True)
class Up:
    """A cluster that is up.

    Attributes:
        home: Its files.
        controller: Its controller.
        controller_is_new: Whether that was started now.
        worker: This machine's worker.
        worker_is_new: Whether that was started now.
        hosts: All its hosts.
    """

    home: ClusterHome
    controller: Daemon
    controller_is_new: bool
    worker: Daemon | None
    worker_is_new: bool
    hosts: list[HostReport]

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        worker = self.worker
        return {
            "cluster": self.home.name,
            "address": self.controller.address,
            "spec": SCHEME + self.controller.address,
            "token_file": str(self.home.token_path),
            "logs": str(self.home.logs),
            "controller": {"pid": self.controller.pid, "started": self.controller_is_new},
            "worker": worker
            and {"name": worker.name, "pid": worker.pid, "started": self.worker_is_new},
            "hosts": [host_json(host) for host in self.hosts],
        }

    def as_text(self) -> list[str]:
        """For people, line by line."""
        new = self.controller_is_new or self.worker_is_new
        lines = [
            f"cluster {self.home.name} is {'up' if new else 'already up'}"
            f" at {self.controller.address}",
            _daemon_line(self.controller, self.controller_is_new),
        ]
        if self.worker is not None:
            ours = next(host for host in self.hosts if host.worker_id == self.worker.name)
            lines.append(
                f"{_daemon_line(self.worker, self.worker_is_new)}, {ours.capacity.describe()}"
            )
        else:
            lines.append(
                f"  no worker here; hosts join with `fray worker --join {self.controller.address}"
                " --token-file FILE`, and a file that `fray token create --role worker --user NAME"
                " --output FILE` made here"
            )
        return [
            *lines,
            f"  logs in {self.home.logs}",
            "`fray run` and `fray job` on this machine find it; for programs:",
            f"  export FRAY_CLUSTER_SPEC={SCHEME}{self.controller.address}",
            f"  export FRAY_TOKEN_FILE={self.home.token_path}",
        ]


def _daemon_line(daemon: Daemon, is_new: bool) -> str:
    return f"  {daemon.label}: {'started' if is_new else 'running'}, process {daemon.pid}"


__all__ = ["Up", "Wanted", "bring_up"]
