"""The controller's own process: ``python -m fray.cluster.controller.main``.

It is started by ``fray up``, which also starts it again after it died: on the same journal and
port, so that everybody finds it again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from fray.cluster.addresses import DEFAULT_PORT
from fray.cluster.connect import bind_host_for, make_process
from fray.cluster.control import ClusterFacts
from fray.cluster.controller.journal import SqliteStore
from fray.cluster.controller.tree import Controller
from fray.cluster.home import ClusterHome
from fray.cluster.hosttimes import LEASE_S, HostTimes
from fray.errors import SupervisorFailed
from fray.runtime.failures import explain
from fray.runtime.loopthread import new_event_loop

EVERY_ADDRESS = ("0.0.0.0", "::", "")

ELSEWHERE = "192.0.2.1:9"
"""An address of nobody (RFC 5737), to which nothing is sent: only the route there is looked up."""

log = logging.getLogger("fray.controller")


def arguments() -> argparse.ArgumentParser:
    """What the command line of the controller is."""
    parser = argparse.ArgumentParser(prog="fray-controller", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to bind; 0 for any")
    parser.add_argument(
        "--lease-s",
        type=float,
        default=LEASE_S,
        help="how long a host goes on without hearing the controller, in seconds",
    )
    return parser


def advertised(host: str) -> str | None:
    """What others dial, where that is not the address that is bound.

    Args:
        host: Address to bind. Every address of this machine cannot be dialled: then it is the one
            on the way to the rest of the world.
    """
    return bind_host_for(ELSEWHERE) if host in EVERY_ADDRESS else None


async def serve(home: ClusterHome, host: str, port: int, times: HostTimes) -> int:
    """Runs a controller until SIGTERM or SIGINT.

    Args:
        home: The cluster's directory.
        host: Address to bind.
        port: Port to bind.
        times: How long hosts may be silent.

    Returns:
        The exit code: 1 if it failed for good.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    home.ensure()
    process = make_process(
        home.token(), host=host, port=port, advertise_host=advertised(host), label="controller"
    )
    async with process:
        facts = ClusterFacts(home.name, local=False)
        store = SqliteStore(home.journal)
        controller = Controller(process, store, home.blobs, facts, times=times)
        try:
            await controller.start()
        except SupervisorFailed as exc:
            log.critical("%s", exc)
            return 1
        home.write_daemon("controller", "", process.address)
        log.info("controller of %s at %s", home.name, process.address)
        try:
            stopping = process.scope.spawn(stop.wait(), name="stop")
            failed = controller.root.stopped
            await asyncio.wait((stopping, failed), return_when=asyncio.FIRST_COMPLETED)
            if controller.root.failure is not None:
                log.critical("%s", explain(controller.root.failure))
                return 1
        finally:
            home.remove_daemon("controller")
            await controller.close()
    return 0


def main() -> int:
    """Entry point; gives the exit code."""
    options = arguments().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    times = HostTimes(options.lease_s)
    home = ClusterHome.at(options.home)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(serve(home, options.host, options.port, times))


if __name__ == "__main__":
    sys.exit(main())
