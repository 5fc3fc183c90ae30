"""TLS for the links of a process: one context for its doors, one for what it dials.

This room knows `ssl`, and no certificates: whoever makes a process decides whom it trusts.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

PLAIN_HTTP = "it spoke plain HTTP, and this port speaks TLS"


class Tls:
    """The TLS of a process.

    Args:
        trusted: The certificates of the authorities that sign others' certificates: DER, one after
            another.
        name_of: The name that must be in the certificate of whoever is dialled, by their
            ``host:port``.
        apart: The authorities for some addresses, in place of those.

    Raises:
        ValueError: What is trusted is no certificate.
    """

    def __init__(
        self,
        trusted: bytes,
        name_of: Callable[[str], str],
        *,
        apart: Mapping[str, bytes] | None = None,
    ) -> None:
        self._client = _client(trusted)
        self._apart = {address: _client(others) for address, others in (apart or {}).items()}
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.minimum_version = ssl.TLSVersion.TLSv1_3
        self.name_of = name_of

    def client(self, address: str) -> ssl.SSLContext:
        """The context for dialling.

        Args:
            address: Who is dialled: ``host:port``.
        """
        return self._apart.get(address, self._client)

    def show(self, certificate: str, key: str) -> None:
        """Takes a certificate for the doors; from now on it is what those who dial see.

        Args:
            certificate: As PEM.
            key: Its private key, as PEM. It goes through memory only.

        Raises:
            OSError: They do not fit, or cannot be read.
        """
        # Contexts load from files alone; this one is nobody else's and has no name.
        with contextlib.ExitStack() as stack:
            descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
            stack.callback(os.close, descriptor)
            os.write(descriptor, f"{certificate}\n{key}\n".encode())
            self.server.load_cert_chain(f"/proc/self/fd/{descriptor}")

    def server_watched(self, told: Callable[[str], None]) -> ssl.SSLContext:
        """The context of the doors.

        Args:
            told: Told why a handshake failed: asyncio says nothing of it.
        """
        failed: WeakSet[ssl.SSLObject] = WeakSet()

        class Watched(ssl.SSLObject):
            def do_handshake(self, *args: Any, **kwargs: Any) -> None:
                try:
                    super().do_handshake(*args, **kwargs)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as exc:
                    reason = exc.reason or "it failed"
                    if self in failed:  # asyncio tries once more
                        raise
                    failed.add(self)
                    told(PLAIN_HTTP if reason == "HTTP_REQUEST" else f"no TLS: {reason}")
                    raise

        self.server.sslobject_class = Watched
        return self.server


def _client(trusted: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=trusted)
    except ssl.SSLError as exc:
        raise ValueError(f"that is no certificate: {exc}") from exc
    return context


__all__ = ["PLAIN_HTTP", "Tls"]
