"""Letting this host work for a cluster, which may be another machine's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fray.cli import daemons
from fray.cli.connecting import SCHEME
from fray.cli.errors import Failure, UsageFailure
from fray.cli.output import note, print_json, print_line
from fray.cluster.addresses import normalize_address, split_address
from fray.cluster.home import ClusterHome, find_home_by_address, is_same_address
from fray.runtime.clock import SystemClock

if TYPE_CHECKING:
    from fray.cli.clusterfile import WorkerSettings
    from fray.cluster.home import Daemon
    from fray.runtime.clock import Clock


async def ensure_worker(
    home: ClusterHome, join: str, token_file: Path, settings: WorkerSettings, clock: Clock
) -> tuple[Daemon, bool]:
    """Starts a worker unless it is running, and for that very controller.

    One that looks for a controller elsewhere is started anew; what runs on the host goes on.

    Args:
        home: Where it keeps its files.
        join: The controller's ``host:port``.
        token_file: The cluster's token.
        settings: The worker's.
        clock: For waiting.

    Returns:
        The worker, and whether it was started now.

    Raises:
        Failure: It cannot be started, or stopped.
    """
    name = settings.name or daemons.worker_name()
    running = home.daemon("worker", name)
    if running is not None and running.alive:
        if is_same_address(running.joins, join):
            return running, False
        note(f"worker {name} looks for its controller at {running.joins}; it is started anew")
        await daemons.stop(running, clock, grace_s=0)  # told to stop it would stop its tasks
    command = daemons.worker_command(
        home,
        join=join,
        token_file=token_file,
        name=name,
        resources=settings.resources,
        task_user=settings.task_user,
    )
    return await daemons.start(home, "worker", name, command, clock), True


async def join_cluster(
    join: str, token_file: Path | None, settings: WorkerSettings, *, as_json: bool
) -> int:
    """`fray worker`.

    Args:
        join: The controller's address.
        token_file: The cluster's token, where the command line says.
        settings: The worker's.
        as_json: Whether the result is for a script.

    Raises:
        Failure: It cannot be started, or there is no token.
    """
    home, address, token = _home_of(join, token_file, os.environ)
    clock = SystemClock()
    async with daemons.locked(home, clock):
        worker, is_new = await ensure_worker(home, address, token, settings, clock)
    if as_json:
        print_json(
            {
                "worker": worker.name,
                "cluster": home.name,
                "address": worker.address,
                "controller": address,
                "pid": worker.pid,
                "started": is_new,
                "log": str(home.log_path("worker", worker.name)),
            }
        )
        return 0
    state = "has joined" if is_new else "has already joined"
    print_line(f"worker {worker.name} {state} {address} (process {worker.pid})")
    print_line(f"  log: {home.log_path('worker', worker.name)}")
    alone = home.daemon("controller") is None  # else that would stop the whole cluster
    stop = f"`fray down --name {home.name}`" if alone else f"`kill {worker.pid}`"
    print_line(f"  {stop} stops it")
    return 0


def become_worker(join: str, token_file: Path | None, settings: WorkerSettings) -> NoReturn:
    """`fray worker --foreground`: this process becomes the worker.

    Args:
        join: The controller's address.
        token_file: The cluster's token, where the command line says.
        settings: The worker's.

    Raises:
        Failure: It is running already, or there is no token.
    """
    home, address, token = _home_of(join, token_file, os.environ)
    home.ensure()
    name = settings.name or daemons.worker_name()
    running = home.daemon("worker", name)
    if running is not None and running.alive:
        raise Failure(f"worker {name} is up already (process {running.pid}); --name names another")
    command = daemons.worker_command(
        home,
        join=address,
        token_file=token,
        name=name,
        resources=settings.resources,
        task_user=settings.task_user,
    )
    os.execve(command[0], command, daemons.daemon_environment(os.environ))


def _home_of(
    join: str, token_file: Path | None, environ: Mapping[str, str]
) -> tuple[ClusterHome, str, Path]:
    """Where a worker keeps its files, the controller's whole address, and the token's file."""
    host, port = split_address(join.removeprefix(SCHEME))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    home = find_home_by_address(address)
    if home is None:
        # A cluster of another machine is known here by its address.
        name = normalize_address(address).replace(":", "-").strip("[]-.")
        home = ClusterHome("".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:64])
    given = token_file or Path(environ.get("FRAY_TOKEN_FILE") or home.token_path)
    if not given.is_file():
        raise UsageFailure(
            f"there is no token file {given}; `fray token create --role worker --user NAME --output"
            " FILE` on the controller's machine makes one: name a copy of it with --token-file"
        )
    return home, address, given.absolute()


__all__ = ["become_worker", "ensure_worker", "join_cluster"]
