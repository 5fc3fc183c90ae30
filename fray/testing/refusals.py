"""What a simulated event loop does not do, and what to use instead.

A simulation that quietly opened a real socket or waited for a real process would still pass, and
would not be a simulation. So each such method of the loop refuses, and says why.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from fray.testing.errors import SimUnsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_T = TypeVar("_T")

_SOCKETS = (
    "there are no sockets in a simulation: dial and listen through the transport of the "
    "simulated process (SimProcess.transport), whose network the simulation decides"
)
_PROCESSES = (
    "a simulation starts no real process: start a simulated one with sim.process(host, program)"
)
_FILES = "a simulation does not wait for file descriptors or pipes: use sim.disk(host)"

_REFUSED = {
    _SOCKETS: (
        "connect_accepted_socket",
        "create_connection",
        "create_datagram_endpoint",
        "create_server",
        "create_unix_connection",
        "create_unix_server",
        "getaddrinfo",
        "getnameinfo",
        "sendfile",
        "sock_accept",
        "sock_connect",
        "sock_recv",
        "sock_recv_into",
        "sock_recvfrom",
        "sock_recvfrom_into",
        "sock_sendall",
        "sock_sendfile",
        "sock_sendto",
        "start_tls",
    ),
    _PROCESSES: ("subprocess_exec", "subprocess_shell"),
    _FILES: (
        "add_reader",
        "add_writer",
        "connect_read_pipe",
        "connect_write_pipe",
        "remove_reader",
        "remove_writer",
    ),
}


def _refusal(name: str, reason: str) -> Callable[..., Any]:
    def refused(self: object, *args: Any, **kwargs: Any) -> Any:
        raise SimUnsupported(f"loop.{name}(): {reason}")

    refused.__name__ = name
    refused.__doc__ = f"Refused: {reason}."
    return refused


def _refuse(table: dict[str, Iterable[str]]) -> Callable[[type[_T]], type[_T]]:
    def decorate(cls: type[_T]) -> type[_T]:
        for reason, names in table.items():
            for name in names:
                setattr(cls, name, _refusal(name, reason))
        return cls

    return decorate


@_refuse({**_REFUSED})
class RefusingLoop(asyncio.AbstractEventLoop):
    """An event loop whose every way into the real world raises `SimUnsupported`."""


__all__ = ["RefusingLoop"]
