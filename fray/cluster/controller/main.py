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
from typing import TYPE_CHECKING

from fray.cluster.addresses import DEFAULT_PORT, is_loopback
from fray.cluster.archive.layout import LogRetention
from fray.cluster.archive.store import check_location, joined, open_store
from fray.cluster.connect import bind_host_for, make_process
from fray.cluster.control import LOGS_HERE, ClusterFacts
from fray.cluster.controller.figures import controller_readings
from fray.cluster.controller.garbage import collect_garbage
from fray.cluster.controller.journal import SqliteStore
from fray.cluster.controller.security import Security
from fray.cluster.controller.tree import STOPPING, Controller
from fray.cluster.home import ClusterHome
from fray.cluster.hosttimes import LEASE_S, HostTimes
from fray.cluster.metrics.exposition import METRICS_PATH, MetricsPage
from fray.cluster.metrics.process import ProcessMeter
from fray.cluster.metrics.table import Reading
from fray.cluster.retention import RetentionPolicy
from fray.cluster.security.audit import Audit
from fray.cluster.security.credentials import ControllerCredentials
from fray.cluster.security.keyring import GivenCertificate, Keyring
from fray.cluster.security.register import TokenRegister
from fray.cluster.shelflimits import ShelfLimits
from fray.errors import ClusterError
from fray.runtime.auth import TokenRefused
from fray.runtime.clock import SystemClock
from fray.runtime.loopthread import new_event_loop
from fray.runtime.root import run_root
from fray.runtime.tls import Tls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fray.runtime.clock import Clock
    from fray.runtime.process import Process
    from fray.runtime.transport import Principal

SWITCH_S = 0.0005
"""How long the loop waits for the interpreter at the most while a long plan is made beside it."""

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
    parser.add_argument(
        "--insecure-no-tls",
        action="store_true",
        help="encrypt nothing, although others than this machine's processes can listen",
    )
    parser.add_argument(
        "--certificate",
        nargs=3,
        type=Path,
        metavar=("CERTIFICATE", "KEY", "AUTHORITY"),
        help="files: the controller's certificate, its key, and who has signed it",
    )
    policy = RetentionPolicy()
    parser.add_argument(
        "--retain-jobs", type=int, default=policy.jobs_max, help="ended jobs that are remembered"
    )
    parser.add_argument(
        "--retain-s", type=float, default=policy.age_s, help="how long, after their end, in seconds"
    )
    shelf = ShelfLimits()
    parser.add_argument("--environments", type=int, default=shelf.count_max)
    parser.add_argument("--environments-bytes", type=int, default=shelf.size_bytes_max)
    keep = LogRetention()
    parser.add_argument(
        "--logs", default="", help="where logs of jobs are archived, as fsspec knows it; else here"
    )
    parser.add_argument("--logs-keep-bytes", type=int, default=keep.bytes_max)
    parser.add_argument("--logs-keep-s", type=float, default=keep.age_max_s)
    return parser


def advertised(host: str) -> str | None:
    """What others dial, where that is not the address that is bound.

    Args:
        host: Address to bind. Every address of this machine cannot be dialled: then it is the one
            on the way to the rest of the world.
    """
    return bind_host_for(ELSEWHERE) if host in EVERY_ADDRESS else None


def _register(keyring: Keyring, clock: Clock) -> TokenRegister:
    """The tokens that there are, those that the controller's machine has itself among them."""
    register = TokenRegister(keyring.register_path, clock)
    for claims in keyring.own_tokens():
        register.add(claims)
    return register


def _credentials(
    keyring: Keyring, name: str, clock: Clock, admit: Callable[[Principal], None], *, tls: bool
) -> ControllerCredentials:
    """What the controller shows to others, and expects of them."""
    signer = keyring.signer()
    own = None
    if tls:
        own = Tls(signer.ca, lambda _: "")
        own.show(*keyring.controller_certificate())
    return ControllerCredentials(signer.public, name, clock, admit, own)


def _readings_of(
    process: Process, controller: Controller, home: ClusterHome
) -> Callable[[], Awaitable[list[Reading]]]:
    """What the page of metrics shows."""
    meter = ProcessMeter(process, "controller")

    async def readings() -> list[Reading]:
        book = controller.book
        now = process.clock.time()
        return controller_readings(book.ledger, book.figures, now, home.journal) + meter.read()

    return readings


async def serve(
    home: ClusterHome,
    host: str,
    port: int,
    times: HostTimes,
    retention: RetentionPolicy,
    *,
    environments: ShelfLimits | None = None,
    logs: str = "",
    keep: LogRetention | None = None,
    tls: bool = False,
    given: GivenCertificate | None = None,
) -> int:
    """Runs a controller until SIGTERM or SIGINT.

    Args:
        home: The cluster's directory.
        host: Address to bind.
        port: Port to bind.
        times: How long hosts may be silent.
        retention: How long ended jobs are remembered.
        environments: How much hosts keep of environments that are not in use.
        logs: Where logs of jobs are archived, as fsspec knows it; empty for in the home.
        keep: How much of them stays.
        tls: Whether the cluster speaks TLS.
        given: The controller's certificate, where it is not to be made here.

    Returns:
        The exit code: 1 if it failed for good.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    home.ensure()
    try:
        location = joined(check_location(logs), home.name) if logs else str(home.archive)
        archive = (open_store(location), keep or LogRetention())
    except ClusterError as exc:
        log.critical("%s", exc)
        return 1
    facts = ClusterFacts(
        home.name, local=False, takes_bundles=True, logs=location if logs else LOGS_HERE
    )
    clock = SystemClock()
    keyring = Keyring(home, clock, tls=tls, given=given)
    controller: Controller | None = None

    def admit(principal: Principal) -> None:
        rulebook = controller.rulebook if controller is not None else None
        if rulebook is not None and rulebook.attempt_ended(principal):
            raise TokenRefused(f"attempt {principal.attempt_id} has ended")

    audit = Audit(keyring.audit_path, clock)
    register = _register(keyring, clock)
    credentials = _credentials(keyring, home.name, clock, admit, tls=tls)
    credentials.revoke(register.revoked)
    page = MetricsPage()
    process = make_process(
        credentials,
        host=host,
        port=port,
        advertise_host=advertised(host),
        label="controller",
        clock=clock,
        on_refused=lambda peer, reason: audit.refused("a link", reason, origin=peer),
        pages={METRICS_PATH: page},
    )
    async with process:
        store = SqliteStore(home.journal)
        security = Security(
            clock,
            signer=keyring.signer(),
            register=register,
            audit=audit,
            authority=keyring.authority() if tls else None,
            on_revoked=credentials.revoke,
        )
        controller = Controller(
            process,
            store,
            home.blobs,
            facts,
            times=times,
            retention=retention,
            environments=environments,
            archive=archive,
            security=security,
        )

        def ready() -> None:
            page.source = _readings_of(process, controller, home)
            home.write_daemon("controller", "", process.address)
            log.info("controller of %s at %s", home.name, process.address)

        async def stop_when_told() -> None:
            await stop.wait()
            await controller.root.stop(STOPPING)

        process.scope.spawn(stop_when_told(), name="stop")
        process.scope.spawn(collect_garbage(clock), name="garbage")
        try:
            return await run_root(controller.root, log.critical, ready=ready)
        finally:
            home.remove_daemon("controller")
            await controller.close()


def main() -> int:
    """Entry point; gives the exit code."""
    options = arguments().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    times = HostTimes(options.lease_s)
    retention = RetentionPolicy(options.retain_jobs, options.retain_s)
    home = ClusterHome.at(options.home)
    given = GivenCertificate(*options.certificate) if options.certificate else None
    tls = given is not None or not (options.insecure_no_tls or is_loopback(options.host))
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(
            serve(
                home,
                options.host,
                options.port,
                times,
                retention,
                environments=ShelfLimits(options.environments, options.environments_bytes),
                logs=options.logs,
                keep=LogRetention(options.logs_keep_bytes, options.logs_keep_s),
                tls=tls,
                given=given,
            )
        )


if __name__ == "__main__":
    sys.exit(main())
