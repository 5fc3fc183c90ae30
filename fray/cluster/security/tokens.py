"""Signing tokens, and judging them.

They are signed with a private key, which only the controller's machine has, and judged with the
public one, which everybody has. So whoever is dialled can judge the dialler while the controller is
down, and nobody but the controller can make a token. There is one algorithm, so no token can choose
another: the header is compared, not interpreted.

`cryptography` is imported when the first token is signed or judged: most tasks never judge one.
The tokens are plain JWTs, but PyJWT does not judge them here: importing it takes longer than a
small task needs to start. In the tests it is the second opinion.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from fray.cluster.security.claims import (
    HEADER,
    Audience,
    Claims,
    Role,
    b64,
    parts_of,
    unb64,
)
from fray.cluster.security.revocations import NOTHING_REVOKED, Revocations
from fray.runtime.auth import TokenRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.runtime.clock import Clock
    from fray.runtime.transport import Principal

KEY_NBYTES = 32

LEEWAY_S = 60.0
"""By how much clocks of two hosts may differ."""

CACHE_MAX = 4096
"""Tokens whose signature is known to be good: a cluster's processes come back all at once."""

_HEADER = b64(HEADER)


class TokenSigner:
    """Makes tokens.

    Args:
        secret: The private key, `KEY_NBYTES` bytes.
        cluster: The cluster's name.
        clock: Dates them, and makes their ids.
        ca: Who signs the certificates of the cluster's processes (DER); empty without TLS.
        controller_ca: Who signs the controller's, where that is somebody else (DER).
    """

    def __init__(
        self,
        secret: bytes,
        cluster: str,
        clock: Clock,
        *,
        ca: bytes = b"",
        controller_ca: bytes = b"",
    ) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self._clock = clock
        self.cluster = cluster
        self.ca = ca
        self.controller_ca = controller_ca
        self.public = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"<TokenSigner of {self.cluster}>"

    def claims(
        self,
        user: str,
        role: Role,
        lifetime_s: float,
        *,
        audience: Audience = Audience.CONTROL,
        job_id: str = "",
        attempt_id: str = "",
        namespace: str = "",
        worker_id: str = "",
    ) -> Claims:
        """What a new token will say.

        Args:
            user: Whose it is.
            role: In which role.
            lifetime_s: How long it is good, in seconds, > 0.
            audience: To whom it may be shown.
            job_id: Of a job's token.
            attempt_id: Likewise.
            namespace: The one that its bearer is confined to.
            worker_id: Of a worker's token: the host, unless it may be any.
        """
        now = self._clock.time()
        return Claims(
            sub=user,
            role=role,
            iss=self.cluster,
            aud=audience,
            jti=f"t-{self._clock.token(8)}",
            iat=int(now),
            exp=int(now + lifetime_s),
            job=job_id,
            att=attempt_id,
            ns=namespace,
            wrk=worker_id,
            key=self.public,
            ca=self.ca,
            cca=self.controller_ca,
        )

    def sign(self, claims: Claims) -> str:
        """The token that says something.

        Args:
            claims: What it says.
        """
        signed = _HEADER + b"." + b64(claims.encode())
        return (signed + b"." + b64(self._key.sign(signed))).decode()


class SignedAuthenticator:
    """Judges signed tokens. See `fray.runtime.auth.Authenticator`.

    Args:
        public: The cluster's public key.
        cluster: Its name.
        clock: Says what has expired.
        audiences: Whose tokens open this door.
        allows: Decides who else may not come in, although the token is good: raises
            `TokenRefused`.

    Attributes:
        revoked: What no longer counts; replaced as a whole.
    """

    def __init__(
        self,
        public: bytes,
        cluster: str,
        clock: Clock,
        *,
        audiences: frozenset[Audience] = frozenset(Audience),
        allows: Callable[[Principal], None] | None = None,
    ) -> None:
        self.revoked: Revocations = NOTHING_REVOKED
        self._public = public
        self._cluster = cluster
        self._clock = clock
        self._audiences = audiences
        self._allows = allows
        self._known: OrderedDict[bytes, Claims] = OrderedDict()

    def __repr__(self) -> str:
        return f"<SignedAuthenticator of {self._cluster}>"

    def verify(self, token: str) -> Principal:
        """See `Authenticator.verify`.

        Raises:
            TokenRefused: The token is not valid here.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        claims = self._known.get(digest)
        if claims is None:
            claims = self._judge(token)
            self._known[digest] = claims
            if len(self._known) > CACHE_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(digest)
        if claims.aud not in self._audiences:
            raise TokenRefused(f"the token is for {claims.aud.value} doors, and this is none")
        principal = claims.principal()
        self._check_time(principal)
        if self.revoked.covers(principal):
            raise TokenRefused("the token was revoked")
        if self._allows is not None:
            self._allows(principal)
        return principal

    def is_good(self, principal: Principal) -> bool:
        """See `Authenticator.is_good`."""
        try:
            self._check_time(principal)
        except TokenRefused:
            return False
        return not self.revoked.covers(principal)

    def _judge(self, token: str) -> Claims:
        """What a token says, once it is certain who said it."""
        parts = parts_of(token)
        if parts is None or parts[0] != _HEADER:
            raise TokenRefused("the token is not one of a fray cluster")
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        header, payload, signature = parts
        try:
            key = Ed25519PublicKey.from_public_bytes(self._public)
            key.verify(unb64(signature), header + b"." + payload)
            claims = Claims.decode(unb64(payload))
        except InvalidSignature as exc:
            raise TokenRefused("the token was not signed by this cluster") from exc
        except ValueError as exc:
            raise TokenRefused("the token is damaged") from exc
        if claims.iss != self._cluster:  # whoever copies a home, key included, has two clusters
            raise TokenRefused(f"the token is for the cluster {claims.iss[:64]!r}")
        return claims

    def _check_time(self, principal: Principal) -> None:
        now = self._clock.time()
        if principal.expires_at is not None and now > principal.expires_at + LEEWAY_S:
            ago_s = now - principal.expires_at
            raise TokenRefused(f"the token has expired ({ago_s:.0f} s ago by the clock here)")
        if principal.issued_at > now + LEEWAY_S:
            raise TokenRefused(
                f"the token will be made in {principal.issued_at - now:.0f} s by the clock here; "
                "set the clocks of both hosts"
            )


__all__ = ["CACHE_MAX", "KEY_NBYTES", "LEEWAY_S", "SignedAuthenticator", "TokenSigner"]
