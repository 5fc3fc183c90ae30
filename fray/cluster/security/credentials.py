"""What one process shows to those whom it dials, and by what it judges those who dial it.

The controller alone gets to see the token itself. To every other process goes a *peer token*, which
the controller makes for whoever connects: it opens doors of processes, and is worth nothing at the
controller. So a job that is called by its driver does not come by the driver's powers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fray.cluster.security.authority import CONTROLLER_NAME
from fray.cluster.security.claims import Audience, Claims, Role, is_signed, read_claims
from fray.cluster.security.tokens import SignedAuthenticator
from fray.errors import InvalidRequestError
from fray.runtime.auth import TokenAuthenticator, TokenRefused

if TYPE_CHECKING:
    from fray.cluster.security.revocations import Revocations
    from fray.runtime.auth import Authenticator
    from fray.runtime.clock import Clock
    from fray.runtime.tls import Tls
    from fray.runtime.transport import Principal


class Credentials(Protocol):
    """See the module."""

    @property
    def authenticator(self) -> Authenticator:
        """Judges those who dial this process."""
        ...

    def show(self, address: str) -> str:
        """The token for somebody who is dialled.

        Args:
            address: Their ``host:port``.
        """
        ...

    @property
    def tls(self) -> Tls | None:
        """Whom this process trusts, and what its door shows; None where nothing is encrypted."""
        ...

    def when_revoked(self, cut_off: Callable[[], None]) -> None:
        """Says how links are cut whose tokens do not count any more.

        Args:
            cut_off: Cuts them.
        """
        ...


class SharedSecret:
    """One secret for all: of an embedded cluster, whose processes are one account's on one host.

    Args:
        secret: It.
    """

    tls = None

    def __init__(self, secret: str) -> None:
        self.authenticator = TokenAuthenticator(secret)
        self._secret = secret

    def show(self, address: str) -> str:
        """See `Credentials.show`."""
        return self._secret

    def when_revoked(self, cut_off: Callable[[], None]) -> None:
        """See `Credentials.when_revoked`: a secret is not revoked."""


class _Revocable:
    """Credentials whose tokens may be revoked."""

    def __init__(self, authenticator: SignedAuthenticator, tls: Tls | None) -> None:
        self.authenticator = authenticator
        self.tls = tls
        self._cut_off: Callable[[], None] | None = None

    def when_revoked(self, cut_off: Callable[[], None]) -> None:
        """See `Credentials.when_revoked`."""
        self._cut_off = cut_off

    @property
    def revoked(self) -> Revocations:
        """What does not count any more, as far as is known here."""
        return self.authenticator.revoked

    def revoke(self, revoked: Revocations) -> None:
        """Cuts off those whose tokens do not count any more, and lets them in no more.

        Args:
            revoked: All that was revoked.
        """
        self.authenticator.revoked = revoked
        if self._cut_off is not None:
            self._cut_off()


class SignedCredentials(_Revocable):
    """A signed token of one's own, and a peer token once the controller has given one.

    Args:
        read: Gives the token; asked anew each time, since tokens are renewed.
        controller: The controller's ``host:port``.
        clock: This process's.
        namespace: In which its actors are; None for a host's agent.

    Attributes:
        peer_token: What others than the controller are shown; empty before there is one.
    """

    def __init__(
        self,
        read: Callable[[], str],
        controller: str,
        clock: Clock,
        *,
        namespace: str | None = None,
    ) -> None:
        claims = read_claims(read())
        visitors = _visitors(claims, namespace)
        super().__init__(
            SignedAuthenticator(claims.key, claims.iss, clock, allows=visitors),
            _tls_of(claims, controller),
        )
        self.peer_token = ""
        self._read = read
        self._controller = controller

    def show(self, address: str) -> str:
        """See `Credentials.show`."""
        if address == self._controller:
            return self._read()
        return self.peer_token

    def take(self, peer_token: str, certificate: str, key: str) -> None:
        """Takes what the controller has given.

        Args:
            peer_token: What others are shown from now on.
            certificate: What this process's door shows, as PEM; empty for nothing.
            key: Its private key, likewise.

        Raises:
            OSError: The certificate cannot be used.
        """
        self.peer_token = peer_token
        if self.tls is not None and certificate:
            self.tls.show(certificate, key)


class ControllerCredentials(_Revocable):
    """The controller's own: it judges tokens that are for it, and dials nobody.

    Args:
        public: The cluster's public key.
        cluster: Its name.
        clock: This process's.
        allows: Decides who else may not come in: raises `TokenRefused`.
        tls: What its door shows; None where nothing is encrypted.
    """

    def __init__(
        self,
        public: bytes,
        cluster: str,
        clock: Clock,
        allows: Callable[[Principal], None],
        tls: Tls | None,
    ) -> None:
        audiences = frozenset({Audience.CONTROL})
        super().__init__(
            SignedAuthenticator(public, cluster, clock, audiences=audiences, allows=allows), tls
        )

    def show(self, address: str) -> str:
        """See `Credentials.show`.

        Raises:
            OSError: Always.
        """
        raise OSError(f"the controller does not dial anybody, nor {address}")


def credentials_of(
    token: str | Path | Callable[[], str],
    controller: str,
    clock: Clock,
    *,
    namespace: str | None = None,
) -> SharedSecret | SignedCredentials:
    """What a process has that was given a token.

    Args:
        token: It, or the file that holds it, or what reads it.
        controller: The controller's ``host:port``.
        clock: This process's.
        namespace: In which its actors are; None for a host's agent.

    Raises:
        InvalidRequestError: The token makes no sense.
        OSError: The file cannot be read.
    """

    def read() -> str:
        if callable(token):
            return token()
        return token if isinstance(token, str) else token.read_text().strip()

    first = read()
    if not is_signed(first):
        return SharedSecret(first)
    return SignedCredentials(read, controller, clock, namespace=namespace)


def _tls_of(own: Claims, controller: str) -> Tls | None:
    """Whom a process trusts, as its own token says."""
    if not own.ca:
        return None
    from fray.runtime.tls import Tls

    def name_of(address: str) -> str:
        # The controller may be reached under any address; others are what their address says.
        if address == controller and not own.cca:
            return CONTROLLER_NAME
        return address.rpartition(":")[0].strip("[]")

    try:
        return Tls(own.ca, name_of, apart={controller: own.cca} if own.cca else None)
    except ValueError as exc:
        raise InvalidRequestError(f"the token's certificate makes no sense: {exc}") from exc


def _visitors(own: Claims, namespace: str | None) -> Callable[[Principal], None]:
    """Who may open a link to a process, whose token says who it is."""

    def check(principal: Principal) -> None:
        if principal.role == Role.ADMIN or namespace is None:
            return  # what may be asked of an agent is decided call by call
        if principal.role == Role.WORKER:
            raise TokenRefused("an agent has no business here")
        if principal.user != own.sub and own.role is not Role.ADMIN:
            raise TokenRefused(f"this process is not one of the user {principal.user!r}")
        if principal.role == Role.JOB and principal.namespace != namespace:
            raise TokenRefused(f"this process is not in the namespace {principal.namespace!r}")

    return check


__all__ = [
    "ControllerCredentials",
    "Credentials",
    "SharedSecret",
    "SignedCredentials",
    "credentials_of",
]
