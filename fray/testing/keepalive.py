"""What kernels do about links on which nobody answers any more.

TCP itself is patient: a link to a host that lost its power stays open. But the production transport
asks its kernel to probe idle links (`fray.runtime.wslink`), and the kernel gives up a link on which
what was sent is not acknowledged. Both take minutes, and nothing in fray may have to wait for them;
but some of it relies on their coming to an end.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fray.testing.links import LinkState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fray.testing.links import SimLink
    from fray.testing.loop import SimLoop

IDLE_S = 180.0
"""Of an idle link: 5 s until the first probe, and 35 probes 5 s apart."""

BUSY_S = 924.6
"""Of a link with something unacknowledged: Linux's tcp_retries2 = 15, as ip-sysctl.rst has it."""


class Keepalive:
    """Ends links whose other end cannot be reached for too long.

    Args:
        loop: The loop of the simulation.
        idle_s: How long a link lives on that has nothing under way, in seconds.
        busy_s: And one that has.
    """

    def __init__(self, loop: SimLoop, idle_s: float = IDLE_S, busy_s: float = BUSY_S) -> None:
        self._loop = loop
        self._idle_s = idle_s
        self._busy_s = busy_s
        self._cut_since: dict[SimLink, float] = {}

    def look(self, links: Iterable[SimLink], is_cut: Callable[[SimLink], bool]) -> None:
        """Something has changed in the network.

        Args:
            links: Both ends of all links.
            is_cut: Whether an end's packets, or the answers to them, get lost.
        """
        now = self._loop.time()
        before, self._cut_since = self._cut_since, {}
        for link in links:
            if link.state is LinkState.ENDED or not is_cut(link):
                continue
            self._cut_since[link] = since = before.get(link, now)
            if since == now:
                self._look_again(link, since, self._idle_s)

    def _look_again(self, link: SimLink, since: float, after_s: float) -> None:
        # In the lane of the link's process: where that is dead, there is no link to be given up.
        self._loop.call_at(since + after_s, self._give_up, link, since, context=link.context)

    def _give_up(self, link: SimLink, since: float) -> None:
        if self._cut_since.get(link) != since or link.state is LinkState.ENDED:
            return
        busy = bool(link.in_flight or link.held)
        if busy and self._loop.time() < since + self._busy_s:
            self._look_again(link, since, self._busy_s)
            return
        del self._cut_since[link]
        link.cut(TimeoutError(errno.ETIMEDOUT, f"{link.remote} does not answer any more"))


__all__ = ["BUSY_S", "IDLE_S", "Keepalive"]
