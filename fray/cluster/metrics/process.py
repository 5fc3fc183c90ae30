"""Figures that any fray process has: its links, its calls, its memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from fray.cluster.metrics.table import Reading
from fray.version import __version__

if TYPE_CHECKING:
    from fray.runtime.peer import Peer
    from fray.runtime.process import Process
    from fray.runtime.statistics import ConnectionStatistics


class ProcessMeter:
    """Reads a process. Counts on where links end: a counter never falls.

    What passes over a link between a reading and its end is not counted.

    Args:
        process: Which.
        role: What it is: ``controller`` or ``agent``.
    """

    def __init__(self, process: Process, role: str) -> None:
        self._process = process
        self._role = role
        self._seen: WeakKeyDictionary[Peer, ConnectionStatistics] = WeakKeyDictionary()
        self._calls = {"in": 0, "out": 0}
        self._bytes = {"in": 0, "out": 0}

    def read(self) -> list[Reading]:
        """What it shows now."""
        in_flight = {"in": 0, "out": 0}
        peers = self._process.peers.open_peers()
        for peer in peers:
            now = peer.statistics()
            before = self._seen.get(peer)
            self._seen[peer] = now
            self._calls["in"] += now.calls_received - (before.calls_received if before else 0)
            self._calls["out"] += now.calls_sent - (before.calls_sent if before else 0)
            self._bytes["in"] += now.bytes_received - (before.bytes_received if before else 0)
            self._bytes["out"] += now.bytes_sent - (before.bytes_sent if before else 0)
            in_flight["in"] += now.calls_in
            in_flight["out"] += now.calls_out
        times = os.times()
        readings = [
            Reading("fray_info", 1, {"version": __version__, "role": self._role}),
            Reading("fray_process_cpu_seconds_total", times.user + times.system),
            Reading("fray_process_memory_bytes", resident_bytes()),
            Reading("fray_process_links", len(peers)),
        ]
        for name, values in (
            ("fray_process_calls_in_flight", in_flight),
            ("fray_process_calls_total", self._calls),
            ("fray_process_network_bytes_total", self._bytes),
        ):
            readings += [Reading(name, v, {"direction": way}) for way, v in values.items()]
        return readings


def resident_bytes() -> int:
    """The resident memory of this process; 0 where that cannot be told."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


__all__ = ["ProcessMeter", "resident_bytes"]
