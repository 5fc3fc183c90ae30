"""Addresses of controllers and agents, as people write them."""

from __future__ import annotations

import ipaddress
import re

from fray.errors import InvalidRequestError

DEFAULT_PORT = 50051
"""Where a controller listens unless told otherwise."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def normalize_address(address: str) -> str:
    """One spelling for what means the same: a port, and one name for the loopback.

    Args:
        address: ``host``, ``host:port`` or ``[v6]:port``.
    """
    host, port = split_address(address)
    return f"{'localhost' if host in _LOOPBACK else host.lower()}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of an address.

    Args:
        address: ``host``, ``host:port`` or ``[v6]:port``; the port is `DEFAULT_PORT` by default.

    Raises:
        InvalidRequestError: It is none of these.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+))(?::(\d{1,5}))?", address)
    port = int(match[3] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise InvalidRequestError(f"an address is written host:port, not {address!r}")
    return match[1] or match[2], port


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine reach an address.

    Args:
        host: An address or a name. Of names only ``localhost`` counts.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


__all__ = ["DEFAULT_PORT", "is_loopback", "normalize_address", "split_address"]
