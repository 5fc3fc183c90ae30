"""Who runs where, and what a host would be without some of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from fray.cluster.resources import Resources
from fray.cluster.scheduling.inventory import charge

if TYPE_CHECKING:
    from fray.cluster.scheduling.hosts import Host
    from fray.cluster.scheduling.view import (
        Part,
        Running,
    )
    from fray.ids import WorkerId


class Occupants:
    """What runs, by host.

    Args:
        running: All that runs.
        now: In seconds since 1970.
    """

    def __init__(self, running: Iterable[Running], now: float) -> None:
        self._now = now
        self._on: dict[WorkerId, list[Running]] = {}
        for each in running:
            for worker_id in dict.fromkeys(part.worker_id for part in each.parts):
                self._on.setdefault(worker_id, []).append(each)

    def on(self, worker_id: WorkerId) -> list[Running]:
        """What runs on a host.

        Args:
            worker_id: Which host.
        """
        return self._on.get(worker_id, [])

    def workers(self) -> Iterable[WorkerId]:
        """The hosts on which something runs."""
        return self._on

    def gone_in_s(self, worker_ids: Iterable[WorkerId]) -> float:
        """In how many seconds some hosts are empty at the latest; 0 where nobody knows.

        Args:
            worker_ids: Which hosts.
        """
        latest = self._now
        for worker_id in worker_ids:
            for each in self.on(worker_id):
                if each.ends_at is None:
                    return 0.0
                latest = max(latest, each.ends_at)
        return latest - self._now


def parts_on(running: Running, worker_id: WorkerId) -> list[Part]:
    """What of something that runs is on one host.

    Args:
        running: Which.
        worker_id: The host.
    """
    return [part for part in running.parts if part.worker_id == worker_id]


def without(host: Host, gone: Iterable[Running]) -> Host:
    """A host as it will be when some of what runs there has gone.

    What reservations have there is theirs again only when the ledger says so: that of a
    reservation whose own job goes is not counted as free here.

    Args:
        host: As it is.
        gone: What goes; each of them once.
    """
    used, devices = host.used, host.devices
    for each in gone:
        for part in parts_on(each, host.worker_id):
            used -= part.allocation.resources
            devices = charge(devices, host.capacity, part.allocation, -1)
    return replace(host, used=used, devices=devices)


def emptied(host: Host) -> Host:
    """A host as it would be if nothing ran there; what is kept for somebody stays kept.

    Args:
        host: As it is.
    """
    if not host.devices and not host.holdings and host.used == Resources():
        return host
    return replace(host, used=Resources(), devices={}, holdings={})


__all__ = ["Occupants", "emptied", "parts_on", "without"]
