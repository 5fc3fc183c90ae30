"""The tokens of a host: its agent's own, and those that it has made for its attempts.

An attempt's token is in its run directory, readable by it alone. It is good for a day and replaced
when half of that is over; whoever dials reads it anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.files import write_atomically
from fray.cluster.security.claims import read_claims
from fray.errors import ClusterError, ClusterUnavailable, FrayError, InvalidRequestError

if TYPE_CHECKING:
    from fray.cluster.control import FleetApi
    from fray.cluster.security.api import AttemptToken, HostTokens
    from fray.ids import AttemptId, WorkerId
    from fray.runtime.clock import Clock

TOKEN_FILE = "token"
"""In an attempt's run directory."""

RETRY_S = 0.2
"""Between two attempts to get an attempt's first token from a controller that is away."""

RENEW_RETRY_S = 60.0
"""Between two attempts to have one renewed."""

log = logging.getLogger(__name__)


class WorkerToken:
    """The agent's own token: the one that it was given, until the controller has sent another.

    Args:
        given: The file that the command line names.
        kept: Where the one is that the controller has sent.
    """

    def __init__(self, given: Path, kept: Path) -> None:
        self._given = given
        self._kept = kept

    def read(self) -> str:
        """The one that is good for longer.

        Raises:
            OSError: There is none.
            InvalidRequestError: The one that was given makes no sense.
        """
        given = self._given.read_text().strip()
        try:
            kept = self._kept.read_text().strip()
            new, old = read_claims(kept), read_claims(given)
        except (FileNotFoundError, InvalidRequestError):
            return given
        # Of another cluster, or of another key of this one, it is of no use any more.
        same = (new.key, new.iss, new.ca, new.cca) == (old.key, old.iss, old.ca, old.cca)
        return kept if same and new.exp > old.exp else given

    def keep(self, token: str) -> None:
        """Keeps one that the controller has sent.

        Args:
            token: It.

        Raises:
            OSError: It cannot be written.
        """
        write_atomically(self._kept, token.encode() + b"\n")


@dataclass(slots=True)
class _Renewal:
    path: Path
    due_at: float


class AttemptTokens:
    """The tokens of a host's attempts, each of its own.

    Args:
        worker_id: The host.
        boot_id: Says which life of it this is.
        fleet: Gives the controller's fleet.
        own: The agent's token.
        clock: The host's.
    """

    def __init__(
        self,
        worker_id: WorkerId,
        boot_id: Callable[[], str],
        fleet: Callable[[], FleetApi],
        own: WorkerToken,
        clock: Clock,
    ) -> None:
        self._worker_id = worker_id
        self._boot_id = boot_id
        self._fleet = fleet
        self._own = own
        self._clock = clock
        self._renewals: dict[AttemptId, _Renewal] = {}
        self._own_due_at = 0.0

    def __repr__(self) -> str:
        return f"<AttemptTokens of {self._worker_id}: {len(self._renewals)}>"

    async def first(
        self,
        attempt_id: AttemptId,
        path: Path,
        is_wanted: Callable[[], bool],
        owner: tuple[int, int] | None = None,
        *,
        given: str = "",
    ) -> None:
        """Writes an attempt's first token down; has it made where it did not come with the orders.

        Args:
            attempt_id: Which.
            path: The file; its directory exists.
            is_wanted: Whether it is still to be waited for.
            owner: Whose the file is to be, user and group; by default ours.
            given: The token that came with the orders; empty for none.

        Raises:
            ClusterError: It was not made: the attempt is not to run any more.
            OSError: It cannot be written.
        """
        if given:
            self._write(attempt_id, path, given, owner)
            return
        while True:
            try:
                tokens = await self._ask([attempt_id])
                break
            except ClusterUnavailable:  # the controller is away: neither side's fault
                if not is_wanted():
                    raise
                await self._clock.sleep(RETRY_S)
        if not tokens.attempts:
            raise ClusterError(f"the controller gave no token for attempt {attempt_id}")
        self._write(attempt_id, path, tokens.attempts[0].token, owner)

    def adopt(self, attempt_id: AttemptId, path: Path) -> None:
        """Takes over a token that an earlier agent has had made.

        Args:
            attempt_id: Whose.
            path: The file.
        """
        self._renewals[attempt_id] = _Renewal(path, self._clock.time())

    def forget(self, attempt_id: AttemptId) -> None:
        """An attempt has ended: it needs none any more.

        Args:
            attempt_id: Which.
        """
        self._renewals.pop(attempt_id, None)

    def any_due(self) -> bool:
        """Whether a token is to be renewed."""
        now = self._clock.time()
        return self._own_due_at <= now or any(r.due_at <= now for r in self._renewals.values())

    async def renew(self) -> None:
        """Renews what is due."""
        now = self._clock.time()
        due = [a for a, renewal in self._renewals.items() if renewal.due_at <= now]
        self._put_off(due, now + RENEW_RETRY_S)
        try:
            tokens = await self._ask(due)
            if tokens.worker:
                self._own.keep(tokens.worker)
            self._own_due_at = _half_time(self._own.read())
        except (FrayError, OSError) as exc:  # the present ones are good for long
            log.warning("tokens of this host were not renewed yet: %s", exc)
            return
        for each in tokens.attempts:
            try:
                self._renew(each)
            except (FrayError, OSError) as exc:  # a task may have removed its own
                log.warning("the token of %s was not renewed: %s", each.attempt_id, exc)

    def _renew(self, token: AttemptToken) -> None:
        renewal = self._renewals.get(token.attempt_id)
        if renewal is not None:
            was = renewal.path.stat()
            self._write(token.attempt_id, renewal.path, token.token, (was.st_uid, was.st_gid))

    def _put_off(self, attempt_ids: Iterable[AttemptId], until: float) -> None:
        self._own_due_at = max(self._own_due_at, until)
        for attempt_id in attempt_ids:
            self._renewals[attempt_id].due_at = until

    async def _ask(self, attempt_ids: list[AttemptId]) -> HostTokens:
        return await self._fleet().tokens(self._worker_id, self._boot_id(), attempt_ids)

    def _write(
        self, attempt_id: AttemptId, path: Path, token: str, owner: tuple[int, int] | None
    ) -> None:
        # Attempts do not survive the machine either, and a launch should not wait for a disk.
        write_atomically(path, token.encode() + b"\n", owner=owner, durable=False)
        self._renewals[attempt_id] = _Renewal(path, _half_time(token))


def _half_time(token: str) -> float:
    claims = read_claims(token)
    return (claims.iat + claims.exp) / 2


__all__ = ["TOKEN_FILE", "AttemptTokens", "WorkerToken"]
