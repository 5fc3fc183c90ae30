"""The actor ``security``: makes tokens, revokes them, and tells who was refused."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fray.cluster.control import ClusterFacts
from fray.cluster.guard import caller
from fray.cluster.security.api import AuditLine, NewToken, TokenReport
from fray.cluster.security.audit import Audit
from fray.cluster.security.claims import Audience, Claims, Role
from fray.cluster.security.register import TokenRegister
from fray.cluster.security.revocations import Revocations
from fray.errors import InvalidRequestError, UnsupportedError

if TYPE_CHECKING:
    from fray.cluster.controller.attempt import Attempt
    from fray.cluster.controller.specs import JobSpec
    from fray.cluster.security.authority import Authority
    from fray.cluster.security.tokens import TokenSigner
    from fray.ids import WorkerId
    from fray.runtime.clock import Clock
    from fray.runtime.transport import Principal

ATTEMPT_LIFETIME_S = 24 * 3600.0
"""Of an attempt's token, and of peer tokens: a controller may be away for half of that."""

LIFETIME_S_MAX = 10 * 366 * 86400.0

WORKER_LIFETIME_S = 365 * 86400.0

_IN_USE = (
    "is the one that this request is made with: nothing more could be asked with it. Nothing was "
    "revoked. Use another administrator's token (FRAY_TOKEN_FILE), or --including-mine: on the "
    "controller's machine `fray up` makes the administrator's token anew"
)

_USER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


class Security:
    """See `SecurityApi`; the controller's other actors have tokens made here, too.

    Args:
        clock: The process's clock.
        signer: Signs; None on an embedded cluster, which has one secret for all.
        register: What was made and revoked.
        audit: Who was refused.
        authority: Signs certificates; None where nothing is encrypted.
        on_revoked: Told what does not count any more, at each change.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        signer: TokenSigner | None = None,
        register: TokenRegister | None = None,
        audit: Audit | None = None,
        authority: Authority | None = None,
        on_revoked: Callable[[Revocations], None] | None = None,
    ) -> None:
        self.audit_log = audit or Audit(None, clock)
        self._clock = clock
        self._signer = signer
        self._register = register or TokenRegister(None, clock)
        self._authority = authority
        self._on_revoked = on_revoked

    def __repr__(self) -> str:
        return f"<Security {'signing' if self._signer else 'one secret'}>"

    @property
    def revoked(self) -> Revocations:
        """What does not count any more."""
        return self._register.revoked

    # ---- SecurityApi

    async def create_token(
        self, user: str, role: Role, lifetime_s: float, worker_id: str
    ) -> NewToken:
        """See `SecurityApi.create_token`."""
        if not _USER.fullmatch(user):
            raise InvalidRequestError(
                f"a user's name has up to 64 lower-case letters, digits and dashes, not {user!r}"
            )
        if role is Role.JOB:
            raise InvalidRequestError("tokens of jobs are made for each attempt, by the controller")
        if not 1.0 <= lifetime_s <= LIFETIME_S_MAX:
            raise InvalidRequestError(
                f"a token is good for 1 s to {LIFETIME_S_MAX:.0f} s, not {lifetime_s:g} s"
            )
        if worker_id and role is not Role.WORKER:
            raise InvalidRequestError(f"a token of the role {role.value!r} is for no host")
        claims = self._claims(user, role, lifetime_s, worker_id=worker_id)
        report = self._register.add(claims)  # before anybody has it
        return NewToken(self._signing().sign(claims), report)

    async def tokens(self) -> list[TokenReport]:
        """See `SecurityApi.tokens`."""
        return self._register.all()

    async def revoke_token(self, token_id: str, mine: bool = False) -> TokenReport:
        """See `SecurityApi.revoke_token`."""
        self._signing()
        if not mine and token_id and token_id == caller().token_id:
            raise InvalidRequestError(f"{token_id} {_IN_USE}")
        report = self._register.revoke_token(token_id)
        self._tell()
        return report

    async def revoke_user(self, user: str, mine: bool = False) -> None:
        """See `SecurityApi.revoke_user`."""
        self._signing()
        who = caller()
        if not mine and who.token_id and who.user == user:
            raise InvalidRequestError(f"{who.token_id}, a token of {user}, {_IN_USE}")
        self._register.revoke_user(user)
        self._tell()

    async def revocations(self) -> Revocations:
        """See `SecurityApi.revocations`."""
        return self.revoked

    async def audit(self, lines_max: int) -> list[AuditLine]:
        """See `SecurityApi.audit`."""
        return self.audit_log.last(lines_max)

    # ---- for the controller's other actors

    def welcome(self, facts: ClusterFacts, principal: Principal) -> ClusterFacts:
        """What somebody who connects is told, with what they show to other processes.

        Args:
            facts: What everybody is told.
            principal: Who connects.
        """
        if self._signer is None:
            return facts
        certificate, key = "", ""
        if self._authority is not None:
            # For the address from which they come, whatever they say: nobody poses as another host.
            host = principal.remote.rpartition(":")[0].strip("[]")
            certificate, key = self._authority.issue(host)
        return dataclasses.replace(
            facts,
            peer_token=self._peer_token(principal),
            certificate=certificate,
            key=key,
            renew_s=ATTEMPT_LIFETIME_S / 2,
        )

    def _peer_token(self, principal: Principal) -> str:
        """What somebody shows to other processes; "" for an agent, which dials none."""
        if principal.role == Role.WORKER:
            return ""
        claims = self._claims(
            principal.user,
            Role(principal.role),
            ATTEMPT_LIFETIME_S,
            audience=Audience.PEER,
            job_id=principal.job_id,
            attempt_id=principal.attempt_id,
            namespace=principal.namespace,
        )
        return self._signing().sign(claims)

    def attempt_token(self, attempt: Attempt, job: JobSpec) -> str:
        """What an attempt shows to the controller; "" where one secret serves for all.

        Args:
            attempt: Which.
            job: Its job.
        """
        if self._signer is None:
            return ""
        claims = self._claims(
            job.user,
            Role.JOB,
            ATTEMPT_LIFETIME_S,
            job_id=job.job_id,
            attempt_id=attempt.attempt_id,
            namespace=job.namespace,
        )
        return self._signer.sign(claims)

    def worker_token(self, worker_id: WorkerId) -> str:
        """A host's next token; "" where the one that was shown is good for long.

        Args:
            worker_id: Which host.
        """
        who = caller()
        if self._signer is None or who.role != Role.WORKER or who.expires_at is None:
            return ""
        left_s = who.expires_at - self._clock.time()
        if who.worker_id and left_s > (who.expires_at - who.issued_at) / 2:
            return ""
        lifetime_s = min(who.expires_at - who.issued_at, WORKER_LIFETIME_S)
        claims = self._claims(who.user, Role.WORKER, lifetime_s, worker_id=worker_id)
        self._register.add(claims)
        return self._signer.sign(claims)

    def _claims(self, user: str, role: Role, lifetime_s: float, **limits: Any) -> Claims:
        """What a new token says. It is not covered by what was revoked before it was made."""
        claims = self._signing().claims(user, role, lifetime_s, **limits)
        until = self.revoked.users.get(user)
        if until is None or claims.iat > until:
            return claims
        return dataclasses.replace(claims, iat=int(until) + 1)  # times are in whole seconds

    def _signing(self) -> TokenSigner:
        if self._signer is None:
            raise UnsupportedError(
                "an embedded cluster has one secret for all its processes, and no tokens to give "
                "away; `fray up` starts a cluster that has"
            )
        return self._signer

    def _tell(self) -> None:
        if self._on_revoked is not None:
            self._on_revoked(self.revoked)


__all__ = ["ATTEMPT_LIFETIME_S", "Security"]
