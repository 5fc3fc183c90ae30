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
from pathlib import Path
from typing import TYPE_CHECKING

from fray.actor.system import ActorSystem
from fray.cluster.connect import bind_host_for, make_process
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.files import write_atomically, write_once
from fray.cluster.home import ClusterHome
from fray.cluster.worker.agent import Agent
from fray.cluster.worker.hosts import host_resources
from fray.cluster.worker.service import serve_agent
from fray.cluster.worker.subprocesses import SubprocessLauncher
from fray.ids import WorkerId
from fray.runtime.loopthread import new_event_loop

if TYPE_CHECKING:
    from fray.runtime.process import Process

log = logging.getLogger("fray.worker")


def arguments() -> argparse.ArgumentParser:
    """What the command line of an agent is."""
    parser = argparse.ArgumentParser(prog="fray-worker", description=__doc__)
    parser.add_argument("--join", required=True, help="the controller's host:port")
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory here")
    parser.add_argument("--name", default="", help="of this host; its host name by default")
    parser.add_argument("--resources", default="", help="what it has, as JSON; else it is found")
    return parser


def boot_id_of(directory: Path, fresh: str) -> str:
    """Which life of the host this is: the same over restarts of the agent, not of the machine.

    Args:
        directory: Where it is remembered.
        fresh: What a new life is called.
    """
    path = _boot_path(directory)
    write_once(path, fresh.encode())
    return path.read_text()


def _boot_path(directory: Path) -> Path:
    kernel = Path("/proc/sys/kernel/random/boot_id")
    boot = kernel.read_text().strip() if kernel.exists() else "unknown"
    return directory / f"boot-{boot}"


async def open_process(token: str, host: str, name: str, directory: Path) -> Process:
    """The agent's process, started; behind the same door as the agent before it, if that is free.

    What that one has started knows this host's agent by its address.

    Args:
        token: What it shows to others, and expects of them.
        host: Address to bind.
        name: Of the host.
        directory: Where the port is remembered.

    Raises:
        OSError: No port can be bound.
    """
    path = directory / "port"
    process = _process(token, host, name, _remembered_port(path))
    try:
        await process.start()
    except OSError:  # somebody else has taken it meanwhile
        await process.close()
        process = _process(token, host, name, 0)
        await process.start()
    write_atomically(path, process.address.rpartition(":")[2].encode())
    return process


def _process(token: str, host: str, name: str, port: int) -> Process:
    return make_process(token, host=host, port=port, label=f"agent {name}")


def _remembered_port(path: Path) -> int:
    text = path.read_text() if path.exists() else ""
    return int(text) if text.isdigit() and int(text) < 1 << 16 else 0


async def serve(options: argparse.Namespace) -> None:
    """Runs an agent until SIGTERM or SIGINT; then what runs on the host is stopped too.

    Args:
        options: The command line.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    home = ClusterHome.at(options.home).ensure()
    name = options.name or socket.gethostname()
    own = home.path / "workers" / name
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = options.token_file.read_text().strip()
    process = await open_process(token, bind_host_for(options.join), name, own)
    try:
        system = ActorSystem(process, None, namespace="")
        shape = host_resources(options.resources)
        spec = WorkerSpec(
            worker_id=WorkerId(name),
            address=process.address,
            capacity=shape.capacity,
            region=shape.region,
            zone=shape.zone,
            slice=shape.slice,
        )
        agent = Agent(
            system,
            spec,
            boot_id_of(own, process.clock.token(8)),
            controller=options.join,
            launcher=SubprocessLauncher(own / "run", clock=process.clock),
            home=own,
            token_file=os.path.abspath(options.token_file),  # noqa: ASYNC240 - no I/O
            remember_boot_id=lambda boot_id: write_atomically(_boot_path(own), boot_id.encode()),
        )
        await serve_agent(process, agent)
        await agent.ready()
        home.write_daemon("worker", name, process.address)
        log.info("worker %s at %s: %s", name, process.address, shape.capacity.describe())
        try:
            stopping = process.scope.spawn(stop.wait(), name="stop")
            await asyncio.wait((stopping, agent.failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            home.remove_daemon("worker", name)
            # Told to stop, it takes its tasks along; failed, it leaves them to its successor.
            await agent.close(kill=not agent.failed.done())
            system.close()
    finally:
        await process.close()


def main() -> None:
    """Entry point."""
    options = arguments().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
