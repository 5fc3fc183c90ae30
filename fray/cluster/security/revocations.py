"""Which tokens no longer count although they have not expired. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fray.runtime.transport import Principal


@dataclass(frozen=True, slots=True)
class Revocations:
    """All that was revoked: a complete set, so that a later one replaces an earlier one.

    Attributes:
        version: Grows with each change.
        tokens: Ids of tokens, and when each would have expired anyway (seconds since 1970).
        users: Users, and the time up to which tokens made for them do not count: theirs and those
            of their jobs.
    """

    version: int = 0
    tokens: Mapping[str, float] = field(default_factory=dict[str, float])
    users: Mapping[str, float] = field(default_factory=dict[str, float])

    def covers(self, principal: Principal) -> bool:
        """Whether the token with which somebody came does not count any more.

        Args:
            principal: Who came.
        """
        if principal.token_id in self.tokens:
            return True
        until = self.users.get(principal.user)
        return until is not None and principal.issued_at <= until

    def with_token(self, token_id: str, expires_at: float) -> Revocations:
        """The same, and one token more.

        Args:
            token_id: The token.
            expires_at: When it would have ended.
        """
        return Revocations(self.version + 1, {**self.tokens, token_id: expires_at}, self.users)

    def with_user(self, user: str, now: float) -> Revocations:
        """The same, and all tokens that a user has so far.

        Args:
            user: The user.
            now: In seconds since 1970.
        """
        return Revocations(self.version + 1, self.tokens, {**self.users, user: now})

    def without_expired(self, now: float) -> Revocations:
        """The same without what has expired by itself; the version stays.

        Args:
            now: In seconds since 1970.
        """
        left = {token: until for token, until in self.tokens.items() if until > now}
        return Revocations(self.version, left, self.users)


NOTHING_REVOKED = Revocations()

__all__ = ["NOTHING_REVOKED", "Revocations"]
