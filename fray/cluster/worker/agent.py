"""The agent of a host: it makes what runs there be what the controller wants to run there.

Level-triggered. The controller sends the complete set of attempts that the host should have; the
agent sends the complete set that it has. Each compares and closes the difference, so lost or
repeated messages do no harm, and an agent or a controller that starts again only compares anew.
An ended attempt is reported until it is no longer wanted: then its result has been taken note of.

Attempts outlive agents (`fray.cluster.worker.launcher`): a new agent adopts what still runs. What
is done with them is in `fray.cluster.worker.roster`; here is the conversation, and the lease.

The lease. While the host cannot hear the controller its lease runs down, and at its end the agent
kills everything: by then the controller may give the tasks to others. A *refused* connection does
not count, since it proves that no controller runs, and so that none gives anything away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.archive.store import Store, open_store
from fray.cluster.blobs import BlobStore
from fray.cluster.bundler import UPLOAD_TIMEOUT_S
from fray.cluster.control import (
    LOGS_HERE,
    BlobsApi,
    FleetApi,
    LogPiece,
    LogsApi,
    Orders,
    SessionsApi,
)
from fray.cluster.controlcalls import control
from fray.cluster.controller.commands import RegisterWorker, ReportAttempts
from fray.cluster.controller.desired import Standing
from fray.cluster.hosttimes import HostTimes
from fray.cluster.metrics.table import Reading
from fray.cluster.retention import RetentionPolicy
from fray.cluster.security.api import SecurityApi
from fray.cluster.security.keeper import REVOKED_FILE, write_revoked
from fray.cluster.usage import HostUse
from fray.cluster.worker.channels import Channels
from fray.cluster.worker.envs.desk import Desk
from fray.cluster.worker.envs.manager import Environments
from fray.cluster.worker.lease import HomeLostError, HostLease
from fray.cluster.worker.lives import Lives
from fray.cluster.worker.ports import PortRange
from fray.cluster.worker.preparation import Preparation
from fray.cluster.worker.roster import Roster
from fray.cluster.worker.shipping import Shipper
from fray.cluster.worker.stacks import stacks_of
from fray.cluster.worker.tidying import TIDY_S
from fray.cluster.worker.tokens import AttemptTokens
from fray.cluster.worker.usage import SystemMeter, UsageDesk, agent_readings
from fray.errors import (
    ClusterError,
    DeathCause,
    DeathKind,
    FrayError,
    InvalidRequestError,
    PermissionDeniedError,
    RemoteError,
)
from fray.ids import AttemptId
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.cluster.controller.specs import WorkerSpec
    from fray.cluster.security.revocations import Revocations
    from fray.cluster.worker.accounts import TaskAccounts
    from fray.cluster.worker.devicewatch import DeviceWatch
    from fray.cluster.worker.launcher import Launcher
    from fray.cluster.worker.tokens import WorkerToken

log = logging.getLogger(__name__)

REPORT_S = 60.0
"""How often a host reports where nothing changes: only in case that something was lost."""

RETRY_S = 0.2
"""Between two attempts to reach a controller that is away."""

REFUSED_S = 1.0
"""Before the controller is told again what it took for nonsense."""

LEAVE_S = 2.0
"""How long a host that goes tries to say so."""


class Agent:
    """The agent. Also the actor ``agent`` of its process: see `AgentApi`.

    Args:
        system: The process's actor system.
        spec: The host, as it is told to the controller; its address is this process's.
        boot_id: Which life of the host this is; the same as before where attempts are adopted.
        controller: The controller's ``host:port``.
        launcher: Starts attempts.
        home: Where run directories and logs go.
        token_file: The token that all tasks use, on a cluster with one for all.
        token: The agent's own, on a cluster with signed ones: then each attempt gets its own.
        accounts: Under which accounts tasks run; None for the agent's own.
        on_revoked: Told what does not count any more, at each change.
        earlier: The boot ids of the host's earlier lives, the last one first: they show the
            controller that it is the same host.
        remember_boot_id: Told of each new life that begins while this agent runs, so that the next
            agent of this host goes on with it.
        ports: Where tasks' ports come from.
        ships_logs: Whether what attempts print is archived, if the cluster says where.
        environments: Whether tasks get code and packages of their own here; else all run in this
            process's environment, on the files that there are.
        devices: Watches the host's accelerators; None where they are not watched.

    Attributes:
        roster: What runs here.
        shipper: Archives what attempts print.
        channels: Programs inside attempts, and their ports.
        failed: Done, with its error, if the agent cannot go on.
    """

    def __init__(
        self,
        system: ActorSystem,
        spec: WorkerSpec,
        boot_id: str,
        *,
        controller: str,
        launcher: Launcher,
        home: Path,
        token_file: str = "",
        token: WorkerToken | None = None,
        earlier: tuple[str, ...] = (),
        accounts: TaskAccounts | None = None,
        on_revoked: Callable[[Revocations], None] | None = None,
        remember_boot_id: Callable[[str], None] | None = None,
        ports: PortRange | None = None,
        ships_logs: bool = False,
        environments: bool = False,
        devices: DeviceWatch | None = None,
    ) -> None:
        self._system = system
        self._clock = system.process.clock
        self._spec = spec
        self._lives = Lives(self._clock, boot_id, earlier, remember_boot_id)
        self._controller = controller
        self._home = home
        self._launcher = launcher
        self._generation = 0
        self._retain_s = RetentionPolicy().age_s
        self._changed = asyncio.Event()
        self._scope = Scope(f"agent {spec.worker_id}", self._on_error)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lease = HostLease(home / "lease", self._clock)
        self._registered = asyncio.Event()
        self._preparation = Preparation(
            agent_address=spec.address,
            controller=controller,
            home=home,
            token_file=token_file,
            lease=self._lease,
            accounts=accounts,
            capacity=None if spec.oversubscribe else spec.capacity,
            gpu_tokens=devices.gpu_tokens if devices is not None else (),
        )
        desk = None
        self._environments: Environments | None = None
        if environments:
            kept = self._environments = Environments(home / "envs", self._clock, self._scope)
            bundles = control(BlobsApi, system, controller, "blobs", timeout_s=UPLOAD_TIMEOUT_S)
            desk = Desk(kept, bundles, self._clock)
        times = HostTimes()
        self._security = control(SecurityApi, system, controller, "security")
        self._on_revoked = on_revoked
        self._revoked = 0
        self._asking: asyncio.Task[None] | None = None
        self._tokens = None
        if token is not None:
            self._tokens = AttemptTokens(
                spec.worker_id, lambda: self._lives.boot_id, lambda: self._fleet, token, self._clock
            )
        self.roster = Roster(
            spec.worker_id,
            self._clock,
            self._scope,
            launcher=launcher,
            preparation=self._preparation,
            blobs=control(BlobsApi, system, controller, "blobs"),
            blobs_here=BlobStore(home / "blobs"),
            ports=ports or PortRange(),
            changed=self._changed,
            times=times,
            tokens=self._tokens,
            desk=desk,
            devices=devices,
        )
        self._take_times(times)
        self._ships_logs = ships_logs
        self.channels = Channels(self.roster, self._clock, self._scope)
        self._usage = UsageDesk(
            spec.worker_id,
            self.roster,
            self._clock,
            meter=SystemMeter(home),
            log_path=self._preparation.log_path,
        )
        self.shipper = Shipper(
            self._preparation.logs,
            spec.worker_id,
            self._clock,
            runs=self.roster.runs,
            find_store=self._find_store,
        )

    def __repr__(self) -> str:
        return f"<Agent {self._spec.worker_id} attempts={len(self.roster.attempts)}>"

    def _take_times(self, times: HostTimes) -> None:
        self._times = self.roster.times = times
        self._fleet = control(
            FleetApi, self._system, self._controller, "fleet", timeout_s=times.answer_s
        )

    @property
    def has_lost_home(self) -> bool:
        """Whether it failed because its state folder is gone: no successor finds what runs here."""
        return self.failed.done() and isinstance(self.failed.exception(), HomeLostError)

    # ---- life

    async def start(self) -> None:
        """Adopts what still runs, then works in the background."""
        self._preparation.make_directories()
        if await self.roster.adopt():
            self._lease.recall()  # its lease goes on as if there had always been an agent
        else:
            self._lease.renew()
        self._scope.spawn(self._serve(), name="serve")
        self._scope.spawn(self._tidy(), name="tidy")
        self._scope.spawn(self.roster.watch_devices(), name="devices")
        if self._ships_logs:
            self._scope.spawn(self.shipper.run(), name="logs")

    async def _tidy(self) -> None:
        while True:
            await self._clock.sleep(TIDY_S)
            await self.roster.tidy(self._retain_s)

    async def ready(self) -> None:
        """Waits until the controller knows this host.

        Raises:
            BaseException: The agent failed.
        """
        async with Scope("ready") as scope:
            registered = scope.spawn(self._registered.wait())
            await asyncio.wait((registered, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()

    def _on_error(self, name: str, exc: BaseException) -> None:
        """The agent cannot go on, and says so rather than limp. What runs here runs on."""
        if isinstance(exc, OSError) and not self._home.is_dir():
            exc = HomeLostError(
                f"the state folder {self._home} of host {self._spec.worker_id} is gone: nothing "
                "that runs here can be kept, or found again. The agent ends, and ends what runs "
                "here; start it again (`fray up`) to go on"
            )
            log.critical("%s", exc)
        elif isinstance(exc, ClusterError):  # it is not let in
            log.critical("agent %s: %s", self._spec.worker_id, exc)
        else:  # a bug
            log.critical("agent %s: %s failed", self._spec.worker_id, name, exc_info=exc)
        if not self.failed.done():
            self.failed.set_exception(exc)
            self.failed.exception()  # whoever awaits it is told; it is logged already

    async def close(self, *, kill: bool) -> None:
        """Ends the agent.

        Args:
            kill: Whether what runs here ends too; else the next agent adopts it.
        """
        await self._scope.close()
        await self._launcher.close(kill)
        if kill:
            await self.shipper.drain()
        if kill and self._registered.is_set():
            await self._leave()

    async def _leave(self) -> None:
        """Says goodbye, so that nobody waits for this host's lease to run out."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._fleet.leave(
                    self._spec.worker_id, self._lives.boot_id, "its agent was stopped"
                )
        except (FrayError, TimeoutError) as exc:  # the lease runs out by itself
            log.info("the controller was not told that this host goes: %s", exc)
        else:
            self._lives.begin()  # for the next agent: this one is over, and nothing of it runs

    async def _serve(self) -> None:
        while True:
            try:
                if await self._register():
                    await self._converse()
            except (InvalidRequestError, PermissionDeniedError):
                raise  # in a new life, too: it will not be otherwise
            except (ClusterError, RemoteError) as exc:
                self._note_silence(exc)
                await self._clock.sleep(RETRY_S)

    async def _register(self) -> bool:
        """Says that this host is there; False if that has to be said anew.

        Raises:
            InvalidRequestError: The controller does not take it in a new life either.
        """
        if self._lives.is_new:
            # A new life says that nothing of the earlier one runs: its tasks may start elsewhere.
            await self.roster.until_all_ended()
            await self._lives.pause()
        asked_at = self._clock.monotonic()
        # Whoever answers now counts as it does: its journal may be another one than before.
        self._generation = 0
        try:
            lives = self._lives
            host = RegisterWorker(self._spec, lives.boot_id, lives.earlier)
            orders = await self._fleet.register(host)
        except InvalidRequestError as exc:
            self._begin_anew(exc)
            return False
        self._lives.is_new = False
        if not self._heard(orders, asked_at):
            return False
        self._registered.set()
        return True

    async def _converse(self) -> None:
        """Reports and listens until the controller is gone or does not know us."""
        try:
            async with Scope("conversation", _told_below) as scope:
                listening = scope.spawn(self._listen(), name="orders")
                reporting = scope.spawn(self._report(), name="report")
                await asyncio.wait((listening, reporting), return_when=asyncio.FIRST_COMPLETED)
                for task in (listening, reporting):
                    if task.done():
                        task.result()
        except (
            InvalidRequestError,
            RemoteError,
        ) as exc:  # it makes no sense to it, or it has a bug
            # What runs here is not at fault and runs on: all is said again, from the beginning.
            log.error("the controller cannot deal with what this host tells it: %s", exc)
            await self._clock.sleep(REFUSED_S)

    async def _listen(self) -> None:
        while True:
            asked_at = self._clock.monotonic()
            orders = await self._fleet.orders(
                self._spec.worker_id,
                self._lives.boot_id,
                self._generation,
                wait_s=self._times.orders_wait_s,
            )
            if not self._heard(orders, asked_at):
                return

    async def _report(self) -> None:
        while True:
            self._changed.clear()
            report = ReportAttempts(
                self._spec.worker_id,
                self._lives.boot_id,
                self._generation,
                self.roster.observed(),
                self.roster.held(),
            )
            asked_at = self._clock.monotonic()
            if not self._heard(await self._fleet.report(report), asked_at):
                return
            try:
                async with asyncio.timeout(REPORT_S):
                    await self._changed.wait()
            except TimeoutError:
                pass  # nothing has changed

    def _note_silence(self, exc: FrayError) -> None:
        if _is_refusal(exc):
            self._lease.renew()
            return
        silent_s = self._lease.silent_s
        if silent_s > self._times.suspect_s:
            self._hang_up()
        if silent_s > self._times.lease_s:
            self._fence(f"it has not heard the controller for {silent_s:.0f} s")

    def _hang_up(self) -> None:
        """Drops the link to a controller that does not answer: the next question dials anew.

        On a link that is cut off a kernel tries ever less often, up to two minutes apart; so the
        lease might end although the network has healed long before.
        """
        for peer in self._system.process.peers.open_peers():
            if peer.link.remote == self._controller:
                peer.link.abort()

    def _begin_anew(self, refusal: InvalidRequestError) -> None:
        """The controller does not take this host as it is, because it has other resources now.

        Raises:
            InvalidRequestError: It does not take it in a new life either.
        """
        if self._lives.is_new:
            raise refusal
        self._fence(f"the controller refuses it: {refusal}")

    def _heard(self, orders: Orders, asked_at: float) -> bool:
        """Takes orders that were asked for; False if the conversation must begin anew."""
        if self._scope.closed:  # orders that come while this agent shuts down are its successor's
            return False
        self._lease.renew(asked_at)
        self._retain_s = orders.retain_s
        if self._environments is not None:
            self._environments.limit(orders.environments)
        if orders.lease_s != self._times.lease_s:
            self._take_times(HostTimes(orders.lease_s))
        if orders.standing is Standing.FENCED:
            self._fence("the controller has given it up")
            return False
        if orders.standing is Standing.UNKNOWN:
            return False
        self._mind_tokens(orders.revoked)
        desired = orders.desired
        if desired is not None and desired.generation >= self._generation:
            self._generation = desired.generation
            self.roster.obey(desired.attempts, orders.tokens)
        return True

    def _mind_tokens(self, revoked: int) -> None:
        """Renews tokens that are due, and asks what was revoked where there is something new."""
        if self._tokens is None or (self._asking is not None and not self._asking.done()):
            return
        if self._tokens.any_due() or revoked != self._revoked:
            self._asking = self._scope.spawn(self._ask_for_tokens(revoked), name="tokens")

    async def _ask_for_tokens(self, revoked: int) -> None:
        assert self._tokens is not None
        if self._tokens.any_due():
            await self._tokens.renew()
        if revoked == self._revoked:
            return
        try:
            known = await self._security.revocations()
            write_revoked(self._home / REVOKED_FILE, known)
        except (FrayError, OSError) as exc:  # asked again with the next orders
            log.warning("this host does not know yet what was revoked: %s", exc)
            return
        self._revoked = known.version
        if self._on_revoked is not None:
            self._on_revoked(known)

    def _fence(self, why: str) -> None:
        """This life of the host is over: everything ends, and a new one begins."""
        if self.roster.attempts:
            log.error("ending all tasks of host %s: %s", self._spec.worker_id, why)
        else:
            log.warning("host %s, where nothing runs, begins anew: %s", self._spec.worker_id, why)
        self._lives.fence()
        self._generation = 0
        self._lease.renew()
        self.roster.fence(
            DeathCause(
                DeathKind.HOST_LOST,
                f"ended by its host, since {why}",
                host=str(self._spec.worker_id),
            )
        )

    async def _find_store(self) -> Store | None:
        """The log archive, as the controller says where it is."""
        facts = await control(SessionsApi, self._system, self._controller, "sessions").facts()
        if facts.logs == LOGS_HERE:
            return control(LogsApi, self._system, self._controller, "logs")
        return open_store(facts.logs) if facts.logs else None

    # ---- AgentApi

    async def read_log(
        self, attempt_id: AttemptId, offset: int, max_bytes: int, wait_s: float
    ) -> LogPiece:
        """See `AgentApi.read_log`."""
        return await self.roster.read_log(attempt_id, offset, max_bytes, wait_s)

    async def log_offset(self, attempt_id: AttemptId, time: float) -> int:
        """See `AgentApi.log_offset`."""
        return self.roster.log_offset(attempt_id, time)

    async def obituary(self, attempt_id: AttemptId, wait_s: float) -> DeathCause | None:
        """See `AgentApi.obituary`."""
        return await self.roster.obituary(attempt_id, wait_s)

    async def use(self) -> HostUse:
        """See `AgentApi.use`."""
        return await self._usage.use()

    async def stacks(self, attempt_id: AttemptId) -> str:
        """See `AgentApi.stacks`."""
        pid, run_dir = self.roster.main_process(attempt_id)
        return await stacks_of(pid, run_dir, self._clock)

    async def readings(self) -> list[Reading]:
        """What this agent shows of its host to Prometheus."""
        return agent_readings(await self._usage.use(), self.shipper)

    async def set_blocked(self, attempt_id: AttemptId, blocked: bool) -> None:
        """See `AgentApi.set_blocked`."""
        self.roster.set_blocked(attempt_id, blocked)

    async def report_checkpoint(self, attempt_id: AttemptId) -> None:
        """See `AgentApi.report_checkpoint`."""
        self.roster.report_checkpoint(attempt_id)


def _told_below(name: str, exc: BaseException) -> None:
    """Half of a conversation failed, and raises where the other half ends too."""


def _is_refusal(exc: BaseException | None) -> bool:
    """Whether a connection was refused: proof that nothing listens there."""
    while exc is not None:
        if isinstance(exc, ConnectionRefusedError):
            return True
        exc = exc.__cause__
    return False


__all__ = ["Agent"]
