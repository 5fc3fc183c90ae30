"""Whether anybody listens where a controller should be: told soon where that can be known."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fray.cli.output import note
from fray.cluster.addresses import split_address

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

KNOCK_WAIT_S = 0.5
"""A controller of this machine that is being started again has this time to listen."""

KNOCK_AGAIN_S = 0.05

PROGRESS_S = 1.0
"""After this time a person is told that, and for how long, a controller is waited for."""


async def nobody_listens(address: str, clock: Clock) -> bool:
    """Whether an address is this machine's, and refuses connections.

    Of other machines nothing is said: there a refusal may be a firewall's, or a machine's that is
    being started.

    Args:
        address: ``host:port``.
        clock: For waiting.
    """
    host, port = split_address(address)
    if not _is_loopback(host):
        return False
    deadline = clock.monotonic() + KNOCK_WAIT_S
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            if clock.monotonic() >= deadline:
                return True
            await clock.sleep(KNOCK_AGAIN_S)
        except OSError:  # whoever connects in earnest tells it better
            return False
        else:
            writer.close()
            return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@contextmanager
def waiting_told(label: str, timeout_s: float) -> Generator[None]:
    """For the time in which a controller is waited for: says so where that takes long.

    Args:
        label: Which cluster.
        timeout_s: How long it is waited for at most.
    """
    text = f"{label} does not answer yet; waiting for it, {timeout_s:g} s at most"
    loop = asyncio.get_running_loop()
    timer = loop.call_later(PROGRESS_S, note, text) if timeout_s > PROGRESS_S else None
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


__all__ = ["nobody_listens", "waiting_told"]
