"""What is kept on a host for somebody: for reservations, and for who waits for freed room."""

from __future__ import annotations

from collections.abc import Mapping

from fray.cluster.resources import Resources
from fray.cluster.scheduling.hosts import Kept
from fray.cluster.scheduling.inventory import Allocation, charge

Keepings = Mapping[str, Kept]
"""What is kept on one host, by whom for."""


def kept_for(capacity: Resources, allocation: Allocation, for_s: float = 0.0) -> Kept:
    """What an allocation takes of a host, as something to be kept.

    Args:
        capacity: What the host has.
        allocation: What is to be kept.
        for_s: See `Kept`.
    """
    return Kept(allocation.resources, charge({}, capacity, allocation, 1), for_s)


def with_kept(
    kept: Keepings, owner: str, capacity: Resources, allocation: Allocation, sign: int
) -> Keepings:
    """What is kept, with one allocation more or less.

    Args:
        kept: As it was.
        owner: Whom for.
        capacity: What the host has.
        allocation: What is added or taken away.
        sign: 1 adds, -1 takes away.
    """
    changed = dict(kept)
    mine = changed.pop(owner, Kept(Resources(), {}))
    amount = allocation.resources
    resources = mine.resources + amount if sign > 0 else mine.resources - amount
    devices = charge(mine.devices, capacity, allocation, sign)
    if devices or resources != Resources():
        changed[owner] = Kept(resources, devices, mine.for_s)
    return changed


def rest_of(reserved: Keepings, drawn: Keepings) -> Keepings:
    """What of that which is reserved is not used.

    Args:
        reserved: All that is kept.
        drawn: What of it is used; perhaps more than is kept.
    """
    if not reserved or not drawn:
        return reserved
    found: dict[str, Kept] = {}
    for owner, kept in reserved.items():
        used = drawn.get(owner)
        if used is None:
            found[owner] = kept
            continue
        resources = (kept.resources - used.resources).clipped()
        devices: dict[str, tuple[int, ...]] = {}
        for name, use in kept.devices.items():
            taken = used.devices.get(name, (0,) * len(use))
            left = tuple(max(a - b, 0) for a, b in zip(use, taken, strict=True))
            if any(left):
                devices[name] = left
        if devices or resources != Resources():
            found[owner] = Kept(resources, devices)
    return found


__all__ = ["Keepings", "kept_for", "rest_of", "with_kept"]
