"""An agent's own process: ``python -m fray.cluster.worker.main``. Started by ``fray worker``.

What runs on the host outlives it: killed and started again, it finds its tasks as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fray.actor.system import ActorSystem
from fray.cluster.connect import bind_host_for, make_process
from fray.cluster.control import SessionsApi
from fray.cluster.controlcalls import control
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.files import write_atomically
from fray.cluster.home import ClusterHome
from fray.cluster.metrics.exposition import METRICS_PATH, MetricsPage
from fray.cluster.metrics.process import ProcessMeter
from fray.cluster.security.api import SecurityApi
from fray.cluster.security.audit import Audit
from fray.cluster.security.credentials import Credentials, SignedCredentials, credentials_of
from fray.cluster.security.keeper import TokenKeeper
from fray.cluster.worker.accounts import TaskAccounts, open_root
from fray.cluster.worker.agent import Agent
from fray.cluster.worker.chips import Chips
from fray.cluster.worker.devicewatch import DeviceWatch
from fray.cluster.worker.gpus import Gpus
from fray.cluster.worker.hosts import HostShape, host_resources
from fray.cluster.worker.lives import lives_of, remember_life
from fray.cluster.worker.metadata import tpu_machine
from fray.cluster.worker.service import serve_agent
from fray.cluster.worker.subprocesses import SubprocessLauncher
from fray.cluster.worker.tokens import WorkerToken
from fray.errors import ClusterError
from fray.ids import WorkerId
from fray.runtime.clock import SystemClock
from fray.runtime.loopthread import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fray.cluster.metrics.table import Reading
    from fray.runtime.process import Process
    from fray.runtime.wsdoor import Page

FACTS_TIMEOUT_S = 5.0

DRIVER_TIMEOUT_S = 30.0
"""A driver that has to be woken takes some seconds for each GPU."""

log = logging.getLogger("fray.worker")


def arguments() -> argparse.ArgumentParser:
    """What the command line of an agent is."""
    parser = argparse.ArgumentParser(prog="fray-worker", description=__doc__)
    parser.add_argument("--join", required=True, help="the controller's host:port")
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory here")
    parser.add_argument("--name", default="", help="of this host; its host name by default")
    parser.add_argument(
        "--task-user", default="", help="accounts of tasks, as JSON; else the agent's own"
    )
    parser.add_argument("--resources", default="", help="what it has, as JSON; else it is found")
    return parser


async def open_process(
    credentials: Credentials | str,
    host: str,
    name: str,
    directory: Path,
    pages: Mapping[str, Page] | None = None,
) -> Process:
    """The agent's process, started; behind the same door as the agent before it, if that is free.

    What that one has started knows this host's agent by its address.

    Args:
        credentials: What it shows to others, and expects of them.
        host: Address to bind.
        name: Of the host.
        directory: Where the port is remembered.
        pages: What can be read over HTTP, by path.

    Raises:
        OSError: No port can be bound.
    """
    path = directory / "port"
    process = _process(credentials, host, name, _remembered_port(path), pages)
    try:
        await process.start()
    except OSError:  # somebody else has taken it meanwhile
        await process.close()
        process = _process(credentials, host, name, 0, pages)
        await process.start()
    write_atomically(path, process.address.rpartition(":")[2].encode())
    return process


def _process(
    credentials: Credentials | str,
    host: str,
    name: str,
    port: int,
    pages: Mapping[str, Page] | None,
) -> Process:
    return make_process(credentials, host=host, port=port, label=f"agent {name}", pages=pages)


def _remembered_port(path: Path) -> int:
    text = path.read_text() if path.exists() else ""
    return int(text) if text.isdigit() and int(text) < 1 << 16 else 0


async def found_resources(declared: str, gpus: Gpus) -> HostShape:
    """What this host has, by what is declared and by looking.

    Args:
        declared: See `host_resources`.
        gpus: Its GPUs.

    Raises:
        InvalidRequestError: What is declared is wrong.
    """
    host_resources(declared)  # what is wrong with it is said before anybody is asked
    models: Mapping[str, int] = {}
    try:
        async with asyncio.timeout(DRIVER_TIMEOUT_S):
            models = await asyncio.to_thread(gpus.models)
    except TimeoutError:
        log.warning("the driver of this host's GPUs hangs: they are left out")
    machine = await tpu_machine() if len(Chips()) else None
    return host_resources(declared, models, machine)


async def serve(options: argparse.Namespace) -> int:
    """Runs an agent until SIGTERM or SIGINT; then what runs on the host is stopped too.

    Args:
        options: The command line.

    Returns:
        The exit code: 1 if it failed for good, which was logged.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    home = ClusterHome.at(options.home).ensure()
    name = options.name or socket.gethostname()
    accounts = TaskAccounts.parse(options.task_user)
    own = home.path / "workers" / name
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    if accounts is not None:
        own = open_root(home.name, name)
    given = Path(os.path.abspath(options.token_file))  # noqa: ASYNC240 - no I/O
    token = WorkerToken(given, own / "token")
    clock = SystemClock()
    credentials = credentials_of(token.read, options.join, clock)
    page = MetricsPage()
    process = await open_process(
        credentials, bind_host_for(options.join), name, own, {METRICS_PATH: page}
    )
    try:
        signed = isinstance(credentials, SignedCredentials)
        system = ActorSystem(process, None, namespace="")
        gpus = Gpus.of_this_process()
        shape = await found_resources(options.resources, gpus)
        spec = WorkerSpec(
            worker_id=WorkerId(name),
            address=process.address,
            capacity=shape.capacity,
            region=shape.region,
            zone=shape.zone,
            slice=shape.slice,
            labels=shape.labels,
            preemptible=shape.preemptible,
        )
        boot_id, *earlier = lives_of(own, process.clock.token(8))
        agent = Agent(
            system,
            spec,
            boot_id,
            earlier=tuple(earlier),
            controller=options.join,
            launcher=SubprocessLauncher(
                own / "run", clock=process.clock, prestart=(sys.executable,)
            ),
            home=own,
            token_file="" if signed else str(given),
            token=token if signed else None,
            accounts=accounts,
            on_revoked=credentials.revoke if signed else None,
            ships_logs=True,
            environments=True,
            devices=DeviceWatch(shape.capacity, clock, gpus=gpus, chips=Chips(), root=own / "run"),
            remember_boot_id=lambda boot_id: remember_life(own, boot_id),
        )
        keeper = TokenKeeper(
            credentials,
            control(SessionsApi, system, options.join, "sessions"),
            control(SecurityApi, system, options.join, "security"),
            clock,
        )
        keep_credentials(keeper, signed, system, options.join)
        meter = ProcessMeter(process, "agent")

        async def readings() -> list[Reading]:
            return await agent.readings() + meter.read()

        page.source = readings
        await serve_agent(process, agent, Audit(own / "audit.jsonl", clock))
        try:
            await agent.ready()
        except ClusterError:  # which the agent has told: it is not let in
            await agent.close(kill=False)
            system.close()
            return 1
        home.write_daemon("worker", name, process.address, joins=options.join)
        log.info("worker %s at %s: %s", name, process.address, shape.capacity.describe())
        try:
            stopping = process.scope.spawn(stop.wait(), name="stop")
            await asyncio.wait((stopping, agent.failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            home.remove_daemon("worker", name)
            # Told to stop, it takes its tasks along; failed, it leaves them to its successor,
            # unless that could not find them.
            await agent.close(kill=not agent.failed.done() or agent.has_lost_home)
            system.close()
        return int(agent.failed.done())
    finally:
        await process.close()


def keep_credentials(
    keeper: TokenKeeper, signed: bool, system: ActorSystem, controller: str
) -> None:
    """Gets a certificate for the agent's door, if there is to be one, and keeps it up to date.

    Args:
        keeper: Of the agent's credentials.
        signed: Whether there is anything to keep.
        system: The agent's.
        controller: The controller's ``host:port``.
    """
    if not signed:
        return
    sessions = control(SessionsApi, system, controller, "sessions", timeout_s=FACTS_TIMEOUT_S)

    async def keep() -> None:
        # An agent that begins while the controller is away has tasks to look after meanwhile.
        while True:
            try:
                keeper.begin(await sessions.facts())
                break
            except ClusterError as exc:
                log.info("the controller has given no certificate yet: %s", exc)
                await system.process.clock.sleep(1.0)
        await keeper.keep()

    system.spawn(keep(), "credentials")


def main() -> int:
    """Entry point; gives the exit code."""
    options = arguments().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
