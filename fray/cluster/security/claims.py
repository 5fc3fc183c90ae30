"""What a token says: who, in which role, for which cluster, within which limits, until when.

A token is a JSON Web Token (RFC 7519) whose signature is Ed25519 (``alg: EdDSA``, RFC 8037). Pure:
this room signs nothing; `read_claims` tells what a token says whether or not that is true.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, cast

import orjson

from fray.errors import InvalidRequestError
from fray.runtime.transport import Principal

HEADER = b'{"alg":"EdDSA","typ":"JWT"}'
"""Of every token: there is one algorithm, and nothing to negotiate."""


_BYTES = ("key", "ca", "cca")


class Role(StrEnum):
    """What somebody is to a cluster; what each may do is declared with the control API."""

    ADMIN = "admin"
    """May do everything, also for others."""
    USER = "user"
    """Has jobs and namespaces."""
    WORKER = "worker"
    """A host's agent."""
    JOB = "job"
    """An attempt of a task: confined to its namespace and its children."""


class Audience(StrEnum):
    """To whom a token may be shown."""

    CONTROL = "control"
    """The controller, which acts upon it."""
    PEER = "peer"
    """Any process of the cluster. Whoever is dialled gets to know the token of the dialler, so
    this one opens only the doors of processes, and nothing at the controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """A token's content. The names on the wire are those of RFC 7519 where it has one.

    Attributes:
        sub: The user.
        role: See `Role`.
        iss: The cluster's name.
        aud: See `Audience`.
        jti: The token's id.
        iat: When it was made, in whole seconds since 1970.
        exp: When it ends, likewise.
        job: Of a job's token: the job.
        att: Likewise: the attempt.
        ns: The namespace that its bearer is confined to; empty for none.
        wrk: Of a worker's token: the host; empty where it may be any.
        key: The cluster's public key: for its bearer, to judge the tokens of others by. Whoever
            is shown the token ignores it, and has their own.
        ca: The certificate (DER) of the authority that signs those of the cluster's processes:
            likewise for its bearer alone. Empty where the cluster speaks no TLS.
        cca: The certificates (DER, one after another) of those who sign the controller's, where
            that is somebody else; its certificate has the name by which it is dialled then.
    """

    sub: str
    role: Role
    iss: str
    aud: Audience
    jti: str
    iat: int
    exp: int
    job: str = ""
    att: str = ""
    ns: str = ""
    wrk: str = ""
    key: bytes = b""
    ca: bytes = b""
    cca: bytes = b""

    def encode(self) -> bytes:
        """As JSON; what is empty is left out."""
        raw = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in _BYTES:
            raw[name] = b64(raw[name]).decode()
        return orjson.dumps({name: value for name, value in raw.items() if value})

    @classmethod
    def decode(cls, data: bytes) -> Claims:
        """The inverse of `encode`.

        Args:
            data: From anybody.

        Raises:
            ValueError: It is no such thing.
        """
        read: object = orjson.loads(data)
        if not isinstance(read, dict):
            raise ValueError("not an object")
        raw = cast("dict[str, Any]", read)
        known: dict[str, Any] = {}
        for name in (each.name for each in fields(cls)):
            value = raw.get(name)
            if value is None:
                continue  # a missing one that is needed is told by the constructor
            wanted = int if name in ("iat", "exp") else str
            if type(value) is not wanted:
                raise ValueError(f"the claim {name!r} is not of type {wanted.__name__}")
            known[name] = value
        try:
            known["role"] = Role(known.get("role", ""))
            known["aud"] = Audience(known.get("aud", ""))
            for name in _BYTES:
                known[name] = unb64(known.get(name, "").encode())
            return cls(**known)
        except TypeError as exc:  # a missing argument
            raise ValueError("a claim is missing") from exc

    def principal(self) -> Principal:
        """Who its bearer is."""
        return Principal(
            user=self.sub,
            role=self.role.value,
            namespace=self.ns,
            job_id=self.job,
            attempt_id=self.att,
            worker_id=self.wrk,
            token_id=self.jti,
            issued_at=float(self.iat),
            expires_at=float(self.exp),
        )


def b64(data: bytes) -> bytes:
    """URL-safe base64 without padding (RFC 7515, section 2).

    Args:
        data: Any.
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unb64(text: bytes) -> bytes:
    """The inverse of `b64`.

    Args:
        text: From anybody.

    Raises:
        ValueError: It is not what `b64` gives.
    """
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError("not base64") from exc
    if b64(data) != text:  # one token, one spelling
        raise ValueError("not base64")
    return data


def parts_of(token: str) -> tuple[bytes, bytes, bytes] | None:
    """Header, payload and signature of a token, as they stand there; None where it is no such.

    Args:
        token: From anybody.
    """
    parts = token.encode("utf-8", "surrogateescape").split(b".")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def read_claims(token: str) -> Claims:
    """What a token says, for its bearer: nothing is verified.

    Args:
        token: One's own.

    Raises:
        InvalidRequestError: It is no signed token.
    """
    parts = parts_of(token)
    try:
        if parts is None:
            raise ValueError("not three parts")
        return Claims.decode(unb64(parts[1]))
    except ValueError as exc:
        raise InvalidRequestError(
            "the token is not one that `fray token create` or `fray up` made; it may be cut short"
        ) from exc


def is_signed(token: str) -> bool:
    """Whether a token looks like one that carries claims, and not like a plain secret.

    Args:
        token: One's own.
    """
    return parts_of(token) is not None


__all__ = [
    "HEADER",
    "Audience",
    "Claims",
    "Role",
    "b64",
    "is_signed",
    "parts_of",
    "read_claims",
    "unb64",
]
