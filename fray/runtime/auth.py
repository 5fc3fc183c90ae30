"""Who may come in: the bearer token of a connection, judged before anything else of it is read.

The door (`fray.runtime.wsdoor`) asks an `Authenticator` once per HTTP request. This room knows
tokens and principals; it knows no sockets, no files and no clusters. Tokens that carry signed
claims are judged by another implementation of the same protocol.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

from fray.runtime.transport import Principal

TOKEN_BYTES_MAX = 8 * 1024
"""Longer tokens are refused unseen; a signed token of a few claims has about 300 bytes."""


class TokenRefused(Exception):
    """Why a token is not valid here. Told to its bearer and to the log; never holds the token."""


class Authenticator(Protocol):
    """Decides who the bearer of a token is. It must be quick, and must not block."""

    def verify(self, token: str) -> Principal | None:
        """Judges a token.

        Args:
            token: As the peer sent it: 1 to `TOKEN_BYTES_MAX` visible ASCII characters; anything
                else about it may be hostile.

        Returns:
            Who it belongs to, or None where it is not valid. An exception refuses it too.

        Raises:
            TokenRefused: It is not valid, and there is more to say about that.
        """
        ...

    def is_good(self, principal: Principal) -> bool:
        """Whether somebody who was let in may stay: their token may have been revoked since.

        Args:
            principal: As `verify` gave it.
        """
        ...


class TokenAuthenticator:
    """Knows one token, and lets in whoever has it.

    The comparison takes the same time wherever a wrong token differs (and whatever its length), so
    that a token cannot be guessed piece by piece. Only a digest of the token is kept.
    """

    def __init__(self, token: str, principal: Principal | None = None) -> None:
        """Makes one.

        Args:
            token: The secret: visible ASCII, at least one character.
            principal: Who its bearer is; the local administrator if not given.

        Raises:
            ValueError: The token is empty or could not be sent in an HTTP header.
        """
        self._digest = _digest(check_token(token))
        self._principal = principal or Principal()

    def verify(self, token: str) -> Principal | None:
        """See `Authenticator.verify`."""
        return self._principal if hmac.compare_digest(_digest(token), self._digest) else None

    def is_good(self, principal: Principal) -> bool:
        """See `Authenticator.is_good`."""
        return True


def check_token(token: str) -> str:
    """Gives a token back if it can be sent in an HTTP header.

    Args:
        token: What was configured.

    Raises:
        ValueError: It is empty, too long, or has characters other than visible ASCII (a line end at
            the end of a token file, for example). The message does not show it.
    """
    if not token:
        raise ValueError("the token is empty")
    if len(token) > TOKEN_BYTES_MAX:
        raise ValueError(f"the token is longer than {TOKEN_BYTES_MAX} bytes")
    if not all("!" <= character <= "~" for character in token):
        raise ValueError("the token has characters other than visible ASCII (a line end, perhaps)")
    return token


def bearer_token(authorization: str) -> str | None:
    """The token of an ``Authorization: Bearer ...`` header (RFC 6750, section 2.1).

    Args:
        authorization: The header's value, from anybody.

    Returns:
        The token, or None where the header holds something else.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        return check_token(token.strip(" "))
    except ValueError:
        return None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


__all__ = [
    "TOKEN_BYTES_MAX",
    "Authenticator",
    "TokenAuthenticator",
    "TokenRefused",
    "bearer_token",
    "check_token",
]
