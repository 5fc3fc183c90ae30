"""Where connections wait that have not finished their TLS handshake: bounded in time and in number.

asyncio's server tells nobody of a connection before its handshake is done, so whoever opens sockets
and says nothing would be in no count. Here they are accepted, counted, and shaken hands with; the
oldest goes when there are too many, since who means well is through in milliseconds.

This room knows sockets and TLS; what comes after the handshake is a protocol like any other.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING, Any

from fray.runtime.tasks import Scope
from fray.runtime.wsgate import format_address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from fray.runtime.clock import Clock
    from fray.runtime.wsgate import Refusals

PAUSE_S = 0.2
"""Before the next connection is accepted where one could not be."""

_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger(__name__)


class Porch:
    """Accepts connections to one address, and shakes hands with them.

    Args:
        make: Makes the protocol for a connection whose handshake is done.
        context: This side of TLS.
        refusals: Where those are reported that are thrown out.
        clock: The process's.
        handshake_timeout_s: How long a handshake may take, in seconds.
        pending_max: Connections that may be in theirs at once.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        refusals: Refusals,
        clock: Clock,
        *,
        handshake_timeout_s: float,
        pending_max: int,
    ) -> None:
        self._make = make
        self._context = context
        self._refusals = refusals
        self._clock = clock
        self._handshake_timeout_s = handshake_timeout_s
        self._pending_max = pending_max
        self._pending: dict[asyncio.Task[None], str] = {}  # in order of arrival
        self._sockets: list[socket.socket] = []
        self._scope = Scope("porch")

    def __repr__(self) -> str:
        return f"<Porch {len(self._pending)} shake hands>"

    async def open(self, host: str, port: int, backlog: int) -> Any:
        """Opens it; gives the address that is bound.

        Args:
            host: Address to bind.
            port: Port to bind, 0 for any.
            backlog: Connections that the kernel holds for us.

        Raises:
            OSError: The address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, kind, proto, _, address in dict.fromkeys(found):
                self._sockets.append(_listening(family, kind, proto, address, backlog))
        except BaseException:
            for each in self._sockets:
                each.close()
            raise
        for each in self._sockets:
            self._scope.spawn(self._accept(each), name="accept")
        return self._sockets[0].getsockname()

    async def close(self) -> None:
        """Accepts nobody any more, and drops those that shake hands."""
        await self._scope.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    accepted, name = await loop.sock_accept(listening)
                except ConnectionAbortedError:  # the peer has gone already
                    continue
                except OSError as exc:
                    await self._not_accepted(exc)
                    continue
                if len(self._pending) >= self._pending_max:
                    self._drop_oldest(f"{self._pending_max} newer connections shake hands, too")
                peer = format_address(name)
                task = self._scope.spawn(self._shake(accepted, peer), name=f"handshake of {peer}")
                self._pending[task] = peer
                task.add_done_callback(self._pending.pop)

    async def _not_accepted(self, exc: OSError) -> None:
        _log.error("a connection cannot be accepted: %s", exc)
        if exc.errno in _FULL:
            self._drop_oldest("this process can have no more connections")
        await self._clock.sleep(PAUSE_S)

    def _drop_oldest(self, reason: str) -> None:
        if self._pending:
            oldest = next(iter(self._pending))
            self._refusals.refused(self._pending.pop(oldest), f"no TLS handshake yet, and {reason}")
            oldest.cancel()

    async def _shake(self, accepted: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        handed_over = False
        try:
            # The kernel would hold small messages back; asyncio does this for plain sockets only.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(self._handshake_timeout_s):
                await loop.connect_accepted_socket(
                    self._make,
                    accepted,
                    ssl=self._context,
                    ssl_handshake_timeout=2 * self._handshake_timeout_s,
                )
            handed_over = True
        except TimeoutError:
            self._refusals.refused(peer, f"no TLS handshake within {self._handshake_timeout_s:g} s")
        except OSError as exc:  # its reason was told where it was seen; see `Tls.server_watched`
            _log.debug("the TLS handshake of %s failed: %s", peer, exc)
        finally:
            if not handed_over:
                accepted.close()


def _listening(family: int, kind: int, proto: int, address: Any, backlog: int) -> socket.socket:
    made = socket.socket(family, kind, proto)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made


__all__ = ["PAUSE_S", "Porch"]
