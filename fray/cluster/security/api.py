"""What is said of tokens between the parts of a cluster; see `fray.cluster.control`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fray.cluster.access import allows
from fray.cluster.security.claims import Role
from fray.cluster.security.revocations import Revocations
from fray.ids import AttemptId


@dataclass(frozen=True, slots=True)
class AttemptToken:
    """What an attempt shows to the controller.

    Attributes:
        attempt_id: Which attempt.
        token: Its token. It is good for hours and is asked for again in time.
    """

    attempt_id: AttemptId
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HostTokens:
    """Tokens for a host.

    Attributes:
        attempts: Of those attempts that were asked for and still run there.
        worker: The host's own, for its agent; "" where its present one is good for long.
    """

    attempts: tuple[AttemptToken, ...] = ()
    worker: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TokenReport:
    """A token that was made for somebody; never the token itself.

    Attributes:
        token_id: Its id.
        user: Whose it is.
        role: In which role.
        issued_at: When it was made, in seconds since 1970.
        expires_at: When it ends, likewise.
        worker_id: Of a worker's: the host; "" where it may be any.
        revoked: Whether it does not count any more.
    """

    token_id: str
    user: str
    role: Role
    issued_at: float
    expires_at: float
    worker_id: str = ""
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token for somebody.

    Attributes:
        token: The token; a secret.
        report: What it is.
    """

    token: str = field(repr=False)
    report: TokenReport


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A request that was refused.

    Attributes:
        time: When, in seconds since 1970.
        who: Whose token was shown; "" where there was no good one.
        role: Their role; likewise.
        origin: From where, as ``host:port``.
        what: What was asked for.
        why: Why it was refused.
    """

    time: float
    who: str
    role: str
    origin: str
    what: str
    why: str


class SecurityApi(Protocol):
    """Tokens, and who was refused. Actor ``security`` of the controller."""

    @allows()
    async def create_token(
        self, user: str, role: Role, lifetime_s: float, worker_id: str
    ) -> NewToken:
        """Makes a token for an administrator, a user or a worker.

        Raises:
            InvalidRequestError: There can be no such token.
        """
        ...

    @allows()
    async def tokens(self) -> list[TokenReport]:
        """The tokens that have not expired, the oldest first; without those of attempts."""
        ...

    @allows()
    async def revoke_token(self, token_id: str, mine: bool = False) -> TokenReport:
        """A token does not count any more, whoever has it; ``mine``: the caller's own may go.

        Raises:
            InvalidRequestError: No such token was made, or it is the one that the caller shows.
        """
        ...

    @allows()
    async def revoke_user(self, user: str, mine: bool = False) -> None:
        """No token of a user that was made until now counts any more; those of jobs neither.

        ``mine``: the one that the caller shows may be among them.

        Raises:
            InvalidRequestError: It is one of them.
        """
        ...

    @allows(Role.USER, Role.WORKER, Role.JOB)
    async def revocations(self) -> Revocations:
        """All that was revoked and has not expired."""
        ...

    @allows()
    async def audit(self, lines_max: int) -> list[AuditLine]:
        """The last requests that were refused, oldest first."""
        ...


__all__ = [
    "AttemptToken",
    "AuditLine",
    "HostTokens",
    "NewToken",
    "SecurityApi",
    "TokenReport",
]
