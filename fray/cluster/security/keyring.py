"""A cluster's keys on the controller's machine, and the tokens that `fray up` makes by itself.

In the cluster's home, all readable by their owner only::

    token             the administrator's token: `fray up` made it, and nobody notices
    keys/signing-key  signs tokens; never leaves this machine
    keys/ca-key       signs certificates, where the cluster speaks TLS, with its own; likewise
    keys/issued.json  which tokens were made and revoked
    keys/worker-NAME  the token of this machine's worker
    audit.jsonl       who was refused what
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.files import write_atomically, write_once
from fray.cluster.identity import user_name
from fray.cluster.security.authority import CONTROLLER_NAME, Authority, new_authority
from fray.cluster.security.claims import Claims, Role, read_claims
from fray.cluster.security.register import TokenRegister
from fray.cluster.security.tokens import KEY_NBYTES, SignedAuthenticator, TokenSigner
from fray.errors import InvalidRequestError
from fray.runtime.auth import TokenRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.cluster.home import ClusterHome
    from fray.runtime.clock import Clock

LIFETIME_S = 365 * 86400.0
"""How long the tokens that `fray up` makes are good; it makes new ones when half of it is over."""


@dataclass(frozen=True, slots=True)
class GivenCertificate:
    """A certificate of the controller's that somebody else has signed.

    Attributes:
        certificate: The file with it, and with those between it and its authority; PEM.
        key: The file with its private key.
        authority: The file with the certificates of those who may sign; PEM.
    """

    certificate: Path
    key: Path
    authority: Path

    def read(self) -> tuple[str, str]:
        """The certificate and its key.

        Raises:
            InvalidRequestError: They cannot be read.
        """
        try:
            return self.certificate.read_text(), self.key.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidRequestError(
                f"the controller's certificate cannot be read: {exc}"
            ) from exc

    def authorities(self) -> bytes:
        """Those who may sign, as DER, one after another.

        Raises:
            InvalidRequestError: They cannot be read, or are no certificates.
        """
        import ssl

        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cafile=self.authority)
        except OSError as exc:
            problem = f"{self.authority} holds no certificates of authorities: {exc}"
            raise InvalidRequestError(problem) from exc
        found = b"".join(context.get_ca_certs(binary_form=True))
        if not found:
            raise InvalidRequestError(f"{self.authority} holds no certificate of an authority")
        return found


class Keyring:
    """The keys of a cluster.

    Args:
        home: The cluster's home on the controller's machine.
        clock: Dates tokens, makes keys.
        tls: Whether the cluster speaks TLS.
        given: The controller's certificate and who signed it, where that is not to be the
            cluster's own authority.
    """

    def __init__(
        self,
        home: ClusterHome,
        clock: Clock,
        *,
        tls: bool = False,
        given: GivenCertificate | None = None,
    ) -> None:
        self._tls = tls
        self._given = given
        self._home = home
        self._clock = clock
        self._keys = home.path / "keys"

    def __repr__(self) -> str:
        return f"<Keyring of {self._home.name}>"

    @property
    def register_path(self) -> Path:
        """The file of the `TokenRegister`."""
        return self._keys / "issued.json"

    @property
    def audit_path(self) -> Path:
        """The file of the `Audit`."""
        return self._home.path / "audit.jsonl"

    def signer(self) -> TokenSigner:
        """Signs this cluster's tokens. Makes the key if there is none; of several all get the same.

        Raises:
            InvalidRequestError: The key cannot be read or made.
        """
        path = self._keys / "signing-key"
        try:
            self._home.ensure()
            self._keys.mkdir(mode=0o700, exist_ok=True)
            if not path.exists():
                write_once(path, self._clock.token(KEY_NBYTES).encode() + b"\n")
            secret = bytes.fromhex(path.read_text().strip())
        except OSError as exc:
            raise InvalidRequestError(f"the key {path} cannot be read: {exc.strerror}") from exc
        except ValueError:
            secret = b""
        if len(secret) != KEY_NBYTES:
            raise InvalidRequestError(
                f"the file {path} holds no key; remove it, and `fray up` makes another (all tokens "
                "of the cluster have to be made anew then)"
            )
        if not self._tls:
            return TokenSigner(secret, self._home.name, self._clock)
        others = b"" if self._given is None else self._given.authorities()
        ca = self.authority().der
        return TokenSigner(secret, self._home.name, self._clock, ca=ca, controller_ca=others)

    def authority(self) -> Authority:
        """Signs the certificates of this cluster's processes; made if there is none.

        Raises:
            InvalidRequestError: Its key cannot be read or made.
        """
        both = self._keys / "ca-key"
        try:
            self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not both.exists():
                write_once(both, b"".join(new_authority(self._home.name, self._clock)))
            pem = both.read_bytes()
            return Authority(pem, pem[pem.index(b"-----BEGIN CERTIFICATE") :], self._clock)
        except (OSError, ValueError) as exc:
            raise InvalidRequestError(f"the key {both} cannot be read: {exc}") from exc

    def controller_certificate(self) -> tuple[str, str]:
        """The controller's certificate and key, as PEM.

        Raises:
            InvalidRequestError: They cannot be read or made.
        """
        if self._given is not None:
            return self._given.read()
        return self.authority().issue(CONTROLLER_NAME)

    def admin_token(self) -> str:
        """The administrator's token, in the home's token file; made anew where that is due.

        Raises:
            InvalidRequestError: It cannot be read or made.
        """
        signer = self.signer()
        return self._token(
            self._home.token_path,
            lambda: signer.claims(user_name(), Role.ADMIN, LIFETIME_S),
            signer,
        )

    def worker_token_path(self, name: str) -> Path:
        """The file with the token of a worker of this machine; made where that is due.

        Args:
            name: The worker.

        Raises:
            InvalidRequestError: It cannot be read or made.
        """
        signer = self.signer()
        path = self._keys / f"worker-{name}"
        self._token(
            path,
            lambda: signer.claims(user_name(), Role.WORKER, LIFETIME_S, worker_id=name),
            signer,
        )
        return path

    def own_tokens(self) -> list[Claims]:
        """What the tokens say that were made here."""
        paths = [self._home.token_path, *sorted(self._keys.glob("worker-*"))]
        return [read_claims(path.read_text().strip()) for path in paths if path.exists()]

    def _token(self, path: Path, make: Callable[[], Claims], signer: TokenSigner) -> str:
        try:
            if path.exists():
                token = path.read_text().strip()
                if self._is_good(token, signer):
                    return token
            token = signer.sign(make())
            write_atomically(path, token.encode() + b"\n")
        except OSError as exc:
            problem = f"the token file {path} cannot be read or made: {exc.strerror}"
            raise InvalidRequestError(problem) from exc
        return token

    def _is_good(self, token: str, signer: TokenSigner) -> bool:
        """Whether a token of ours may be used on: it is this key's, will last, is not revoked."""
        judge = SignedAuthenticator(signer.public, signer.cluster, self._clock)
        judge.revoked = TokenRegister(self.register_path, self._clock).revoked
        try:
            judge.verify(token)
        except TokenRefused:
            return False
        claims = read_claims(token)
        same = (claims.ca, claims.cca) == (signer.ca, signer.controller_ca)
        return same and claims.exp - self._clock.time() > LIFETIME_S / 2


__all__ = ["LIFETIME_S", "Keyring"]
