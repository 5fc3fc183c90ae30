"""A host's lease: for how long what runs there may go on without a word from the controller.

At its end everything on the host must be gone, for then the controller gives the tasks to others.
Agents crash, hang and are started again meanwhile, so the lease is a file: the agent of the hour
writes into it when it last heard the controller, and the supervisors of attempts, which outlive
agents, read it (`fray.cluster.worker.shim.supervisor`). Times are of the host's monotonic clock.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from fray.cluster.worker.shim.records import read_lease, write_lease

if TYPE_CHECKING:
    from pathlib import Path

    from fray.runtime.clock import Clock

log = logging.getLogger(__name__)

WRITE_S = 1.0
"""The file may be so much older than what the agent knows: it is no use to write it more often."""


class HomeLostError(Exception):
    """An agent's state folder is gone."""


class HostLease:
    """When the controller was last heard.

    Args:
        path: The file.
        clock: The host's.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._heard_at = clock.monotonic()
        self._written_at = float("-inf")
        self._problem: OSError | None = None

    def __repr__(self) -> str:
        return f"<HostLease heard {self.silent_s:.1f} s ago>"

    @property
    def silent_s(self) -> float:
        """Seconds since the controller was heard."""
        return self._clock.monotonic() - self._heard_at

    @property
    def heard_at(self) -> float:
        """When the controller was last heard, on the monotonic clock."""
        return self._heard_at

    def recall(self) -> None:
        """Goes on with what an earlier agent of this life of the host has heard."""
        heard_at = read_lease(str(self.path))
        # One from the future is of the time before the host was booted.
        if heard_at is not None and heard_at <= self._heard_at:
            self._heard_at = heard_at

    def renew(self, heard_at: float | None = None) -> None:
        """The controller was heard.

        Args:
            heard_at: When the answered question was asked, on the monotonic clock: the controller
                counts from when it got it, which is not before that. None for now.

        A file that cannot be written is tried again whenever the controller is heard. Meanwhile the
        lease runs out for what runs here, which cannot know that the controller was heard.

        Raises:
            OSError: The file's folder is gone.
        """
        heard_at = self._clock.monotonic() if heard_at is None else heard_at
        self._heard_at = max(self._heard_at, heard_at)
        if self._heard_at - self._written_at < WRITE_S:
            return
        try:
            write_lease(str(self.path), self._heard_at)
        except OSError as exc:
            if not self.path.parent.is_dir():
                raise
            if self._problem is None:
                log.error(
                    "the lease of this host cannot be written (%s): what runs here ends when that "
                    "which is written there has run out, and nothing is started; tried again "
                    "whenever the controller is heard",
                    exc,
                )
            self._problem = exc
            return
        if self._problem is not None:
            log.warning("the lease of this host is written again")
        self._problem = None
        self._written_at = self._heard_at

    def check(self) -> None:
        """Makes sure that what is started now can see the lease.

        Raises:
            OSError: It could not be written when the controller was last heard.
        """
        if self._problem is not None:
            raise OSError(
                errno.EIO,  # the host's fault, whatever it is
                f"the host's lease cannot be written: {self._problem.strerror}",
                str(self.path),
            )


class LeaseFence:
    """Whether the lease of this process's host has run out, as far as the process can tell.

    A host that was suspended comes back, and for a moment all that ran there goes on: long given
    up, and perhaps with a successor elsewhere. Whoever is called asks here first. It costs a look
    at the clock, and at the file when what is known of the lease has run out.

    Args:
        path: The lease's file.
        lease_s: How long it lasts after the controller was heard, in seconds.
        clock: The host's.
    """

    def __init__(self, path: Path, lease_s: float, clock: Clock) -> None:
        self._path = path
        self._lease_s = lease_s
        self._clock = clock
        self._until = float("-inf")

    def __call__(self) -> bool:
        """Whether it has."""
        now = self._clock.monotonic()
        if now < self._until:
            return False
        heard_at = read_lease(str(self._path))
        if heard_at is None or heard_at > now:  # there is none: nothing is known
            return False
        self._until = heard_at + self._lease_s
        return now >= self._until


__all__ = ["WRITE_S", "HomeLostError", "HostLease", "LeaseFence"]
