"""The lives of a host, as its folder remembers them.

A life has a boot id: the same over restarts of the agent, a new one after a boot of the machine, or
after a fence. The earlier ones prove to the controller that whoever comes under a new id is the
same host, and not another one of the same name.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from fray.cluster.files import write_atomically, write_once
from fray.cluster.worker.shim import procfs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fray.runtime.clock import Clock

log = logging.getLogger(__name__)

LIVES_MAX = 16
"""So many are remembered, the last ones: the controller may know an older one than the last."""

ANEW_S = 1.0
"""Between the end of a fenced life and the beginning of the next."""

ANEW_S_MAX = 10.0
"""So long it gets, doubling while lives follow each other within `ANEW_RESET_S`."""

ANEW_RESET_S = 300.0


class Lives:
    """The present life of a host, and those before, as its agent knows them.

    Args:
        clock: The process's clock.
        boot_id: Of the present life.
        earlier: Of those before, the last one first.
        remember: Told of each life that begins here; None where nothing outlives the agent.

    Attributes:
        boot_id: Of the present life.
        earlier: Of those before, the last one first.
        is_new: Whether it is a life that the controller does not know yet.
    """

    def __init__(
        self,
        clock: Clock,
        boot_id: str,
        earlier: tuple[str, ...] = (),
        remember: Callable[[str], None] | None = None,
    ) -> None:
        self.boot_id = boot_id
        self.earlier = earlier
        self.is_new = False
        self._clock = clock
        self._remember = remember
        self._fenced_at = -math.inf
        self._pause_s = self._pause_left_s = 0.0

    def __repr__(self) -> str:
        return f"<Lives {self.boot_id} after {len(self.earlier)}>"

    def begin(self) -> None:
        """Ends the present life and begins the next."""
        self.earlier = (self.boot_id, *self.earlier)[:LIVES_MAX]
        self.boot_id = self._clock.token(8)
        if self._remember is not None:
            try:
                self._remember(self.boot_id)
            except OSError as exc:  # the next agent is given up once more, and begins another
                log.error("that a new life of this host begins cannot be written: %s", exc)

    def fence(self) -> None:
        """Begins a new life since the last one was fenced; it has to `pause` first."""
        if not self.is_new:  # else it has not been back since the last time
            now = self._clock.monotonic()
            recent = now - self._fenced_at < ANEW_RESET_S
            self._fenced_at = now
            self._pause_s = min(self._pause_s * 2, ANEW_S_MAX) if recent else ANEW_S
            self._pause_left_s = self._pause_s
        self.begin()
        self.is_new = True

    async def pause(self) -> None:
        """Waits before a new life is told of: once, and ever longer where that happens often."""
        pause_s, self._pause_left_s = self._pause_left_s, 0.0
        await self._clock.sleep(pause_s)


def lives_of(directory: Path, fresh: str) -> tuple[str, ...]:
    """The boot ids of a host's lives, the present one first; that begins now if it has to.

    Args:
        directory: Where they are remembered.
        fresh: What a life is called that begins now.

    Raises:
        OSError: They cannot be read, or written.
    """
    path = _path(directory)
    others = [each for each in directory.glob("boot-*") if each != path]
    if not path.exists():
        others.sort(key=lambda each: each.stat().st_mtime, reverse=True)
        earlier = [life for each in others for life in each.read_text().split()]
        write_once(path, _lines([fresh, *earlier]))
    for each in others:  # what they say is in the present one
        each.unlink(missing_ok=True)
    return tuple(path.read_text().split())


def remember_life(directory: Path, boot_id: str) -> None:
    """Takes note of a life that begins while the machine is up.

    Args:
        directory: Where.
        boot_id: What it is called.

    Raises:
        OSError: It cannot be written.
    """
    path = _path(directory)
    earlier = path.read_text().split() if path.exists() else []
    write_atomically(path, _lines([boot_id, *earlier]))


def _lines(lives: list[str]) -> bytes:
    return "\n".join(lives[:LIVES_MAX]).encode()


def _path(directory: Path) -> Path:
    return directory / f"boot-{procfs.boot_id() or 'unknown'}"


__all__ = ["LIVES_MAX", "Lives", "lives_of", "remember_life"]
