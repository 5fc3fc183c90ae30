"""Ports for tasks: each held by one attempt at a time.

They come from a range below the ephemeral one (Linux: 32768 and up), so that no outgoing connection
takes them between the choice and the task's own bind.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence

from fray.errors import ClusterError

FIRST_PORT = 20000
LAST_PORT = 29999


class PortRange:
    """Hands out ports.

    Args:
        first: The first port.
        last: The last one, not below the first.
        is_free: Whether nobody listens at a port; asks the kernel by default.
    """

    def __init__(
        self,
        first: int = FIRST_PORT,
        last: int = LAST_PORT,
        is_free: Callable[[int], bool] | None = None,
    ) -> None:
        self._first = first
        self._last = last
        self._is_free = is_free or _can_bind
        self._next = first
        self._held: dict[int, str] = {}

    def take(self, holder: str, names: Sequence[str]) -> dict[str, int]:
        """Gives a port for each name.

        Args:
            holder: Who gets them.
            names: What they are for.

        Raises:
            ClusterError: None is left; then the holder gets none.
        """
        taken: dict[str, int] = {}
        for name in names:
            port = self._free()
            if port is None:
                self.release(holder)
                raise ClusterError(f"this host has no port left for {name!r}")
            self._held[port] = holder
            taken[name] = port
        return taken

    def hold(self, holder: str, ports: Iterable[int]) -> None:
        """Takes note of ports that a holder has had from before.

        Args:
            holder: Who has them.
            ports: Which.
        """
        self._held.update(dict.fromkeys(ports, holder))

    def release(self, holder: str) -> None:
        """Takes a holder's ports back.

        Args:
            holder: Whose; one without ports does no harm.
        """
        self._held = {port: who for port, who in self._held.items() if who != holder}

    def _free(self) -> int | None:
        size = self._last - self._first + 1
        for step in range(size):
            port = self._first + (self._next - self._first + step) % size
            if port not in self._held and self._is_free(port):
                self._next = port + 1
                return port
        return None


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


__all__ = ["FIRST_PORT", "LAST_PORT", "PortRange"]
