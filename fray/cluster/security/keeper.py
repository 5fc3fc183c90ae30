"""Keeps what a connection's process shows, and what it refuses, up to date."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.security.credentials import SignedCredentials
from fray.cluster.security.revocations import Revocations
from fray.errors import FrayError, PayloadError
from fray.runtime.jsoncodec import json_dumps, json_loads

if TYPE_CHECKING:
    from fray.cluster.control import ClusterFacts, SessionsApi
    from fray.cluster.security.api import SecurityApi
    from fray.cluster.security.credentials import Credentials
    from fray.runtime.clock import Clock

RETRY_S = 60.0
"""Between two attempts to have a token renewed while the controller is away."""

LOOK_S = 15.0
"""How often a task looks at what its host's agent knows to be revoked."""

REVOKED_FILE = "revoked.json"
"""Beside the file of a host's lease."""

log = logging.getLogger(__name__)


class TokenKeeper:
    """For one connection.

    Args:
        credentials: The process's; nothing is kept up to date but signed ones.
        sessions: The controller's sessions.
        security: The controller's tokens.
        clock: The process's.
        revoked_path: Of a task: where its host's agent writes what was revoked.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        sessions: SessionsApi,
        security: SecurityApi,
        clock: Clock,
        *,
        revoked_path: Path | None = None,
    ) -> None:
        self._credentials = credentials if isinstance(credentials, SignedCredentials) else None
        self._sessions = sessions
        self._security = security
        self._clock = clock
        self._revoked_path = revoked_path
        self._seen = 0
        self._renew_at = 0.0

    def begin(self, facts: ClusterFacts) -> bool:
        """Takes what the controller has given at first; says whether there is anything to keep.

        Args:
            facts: What it has told.

        Raises:
            OSError: The certificate cannot be used.
        """
        if self._credentials is None:
            return False
        self._credentials.take(facts.peer_token, facts.certificate, facts.key)
        self._renew_at = self._clock.time() + facts.renew_s
        self._look()
        return True

    async def keep(self) -> None:
        """Asks for a new token and certificate when half of their time is over, for ever."""
        clock = self._clock
        while True:
            left_s = max(self._renew_at - clock.time(), 0.0)
            await clock.sleep(left_s if self._revoked_path is None else min(left_s, LOOK_S))
            self._look()
            if clock.time() < self._renew_at:
                continue
            self._renew_at = clock.time() + RETRY_S
            try:
                self.begin(await self._sessions.facts())
            except (FrayError, OSError) as exc:  # the present ones are good for long
                log.info("the token was not renewed yet: %s", exc)

    async def heard(self, version: int) -> None:
        """The controller has said how much was revoked so far.

        Args:
            version: The version of that.

        Raises:
            FrayError: It cannot be asked for more.
        """
        if self._credentials is not None and version != self._credentials.revoked.version:
            self._take(await self._security.revocations())

    def _look(self) -> None:
        """What the agent of this host knows."""
        path = self._revoked_path
        if path is None:
            return
        try:
            changed = path.stat().st_mtime_ns
            if changed != self._seen:
                self._take(json_loads(path.read_bytes(), Revocations))
                self._seen = changed
        except FileNotFoundError:
            pass  # nothing was revoked
        except (OSError, PayloadError) as exc:
            log.error("%s cannot be read: %s", path, exc)

    def _take(self, revoked: Revocations) -> None:
        assert self._credentials is not None
        self._credentials.revoke(revoked)


def write_revoked(path: Path, revoked: Revocations) -> None:
    """Tells the tasks of a host what was revoked.

    Args:
        path: `REVOKED_FILE` beside the file of the host's lease.
        revoked: All that was.

    Raises:
        OSError: It cannot be written.
    """
    from fray.cluster.files import write_atomically

    write_atomically(path, json_dumps(revoked))
    path.chmod(0o644)  # tasks may run under other accounts


__all__ = ["LOOK_S", "REVOKED_FILE", "TokenKeeper", "write_revoked"]
