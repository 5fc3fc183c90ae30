"""Which tokens were made for people and hosts, and which do not count any more: one small file.

Tokens of attempts are not in it: there are thousands, good for hours, and end with their attempts.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fray.cluster.files import write_atomically
from fray.cluster.security.api import TokenReport
from fray.cluster.security.revocations import Revocations
from fray.errors import ClusterError, InvalidRequestError, PayloadError
from fray.runtime.jsoncodec import json_dumps, json_loads

if TYPE_CHECKING:
    from pathlib import Path

    from fray.cluster.security.claims import Claims
    from fray.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class _Content:
    """What is in the file."""

    issued: dict[str, TokenReport] = field(default_factory=dict[str, TokenReport])
    revoked: Revocations = field(default_factory=Revocations)


class TokenRegister:
    """The register of a cluster; has one writer, the controller.

    Args:
        path: Its file; None keeps it in memory.
        clock: Says what has expired.

    Raises:
        ClusterError: The file cannot be read: then nobody knows what was revoked.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._content = _Content()
        if path is not None and path.exists():
            try:
                self._content = json_loads(path.read_bytes(), _Content)
            except (OSError, PayloadError) as exc:
                raise ClusterError(
                    f"{path} says which tokens were revoked, and cannot be read: {exc}"
                ) from exc

    @property
    def revoked(self) -> Revocations:
        """All that was revoked."""
        return self._content.revoked

    def add(self, claims: Claims) -> TokenReport:
        """Notes a token that was made; a known one stays as it is.

        Args:
            claims: What it says.

        Raises:
            OSError: It cannot be kept.
        """
        known = self._content.issued.get(claims.jti)
        if known is not None:
            return known
        report = TokenReport(
            token_id=claims.jti,
            user=claims.sub,
            role=claims.role,
            issued_at=float(claims.iat),
            expires_at=float(claims.exp),
            worker_id=claims.wrk,
        )
        self._keep({**self._content.issued, report.token_id: report}, self.revoked)
        return report

    def all(self) -> list[TokenReport]:
        """The tokens that have not expired, the oldest first."""
        now, revoked = self._clock.time(), self.revoked
        found = [
            dataclasses.replace(report, revoked=_covers(revoked, report))
            for report in self._content.issued.values()
            if report.expires_at > now
        ]
        return sorted(found, key=lambda report: report.issued_at)

    def revoke_token(self, token_id: str) -> TokenReport:
        """A token counts no more.

        Args:
            token_id: Which.

        Raises:
            InvalidRequestError: No such token was made.
            OSError: It cannot be kept.
        """
        report = self._content.issued.get(token_id)
        if report is None:
            raise InvalidRequestError(
                f"no token {token_id!r} was made here, or it has expired; `fray token list` shows "
                "those that there are"
            )
        if token_id not in self.revoked.tokens:
            self._keep(self._content.issued, self.revoked.with_token(token_id, report.expires_at))
        return dataclasses.replace(report, revoked=True)

    def revoke_user(self, user: str) -> None:
        """All tokens that a user has so far count no more.

        Args:
            user: Whose.

        Raises:
            OSError: It cannot be kept.
        """
        self._keep(self._content.issued, self.revoked.with_user(user, self._clock.time()))

    def _keep(self, issued: dict[str, TokenReport], revoked: Revocations) -> None:
        now = self._clock.time()
        left = {token: report for token, report in issued.items() if report.expires_at > now}
        content = _Content(left, revoked.without_expired(now))
        if self._path is not None:
            write_atomically(self._path, json_dumps(content))
        self._content = content


def _covers(revoked: Revocations, report: TokenReport) -> bool:
    until = revoked.users.get(report.user)
    return report.token_id in revoked.tokens or (until is not None and report.issued_at <= until)


__all__ = ["TokenRegister"]
