"""Which of a host's accelerators are whose.

GPUs may be shared, and any of them will do; a part of a TPU machine's chips must be neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fray.cluster.resources import MILLI, Resources

Devices = Mapping[str, tuple[int, ...]]
"""What is taken of each device, in thousandths, by variant or family and device index."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What an attempt has of its host.

    Attributes:
        resources: Amounts; a GPU of any kind has become one of a kind.
        devices: Which of the host's accelerators, by index; empty where they are virtual.
    """

    resources: Resources
    devices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class HeldDevice:
    """A device that something still holds whose attempt has ended: nobody else gets it.

    Attributes:
        kind: The GPU variant or TPU family.
        index: Which of the host's devices of that kind.
        by: Who holds it, for people.
    """

    kind: str
    index: int
    by: str

    def __str__(self) -> str:
        return f"{self.kind} {self.index} is still held by {self.by}"


def choose_gpus(taken: Sequence[int], milli: int) -> tuple[int, ...]:
    """Picks GPUs: whole ones from the first, a fraction where it leaves the least over.

    Args:
        taken: What is taken of each, in thousandths.
        milli: How much to take: thousands, or below a thousand.

    Returns:
        Their indices; none where they do not suffice.
    """
    if milli >= MILLI:
        free = [index for index, used in enumerate(taken) if not used]
        count = milli // MILLI
        return tuple(free[:count]) if len(free) >= count else ()
    room = [(MILLI - used, index) for index, used in enumerate(taken) if MILLI - used >= milli]
    return (min(room)[1],) if room else ()


def choose_chips(taken: Sequence[int], count: int) -> tuple[int, ...]:
    """Picks TPU chips that are neighbours: an aligned run of indices.

    Args:
        taken: What is taken of each, in thousandths.
        count: How many.

    Returns:
        Their indices; none where no such run is free.
    """
    for at in range(0, len(taken) - count + 1, count):
        if not any(taken[at : at + count]):
            return tuple(range(at, at + count))
    return ()


def device_use(devices: Devices, capacity: Resources, kind: str) -> tuple[int, ...]:
    """What is taken of each device of one kind.

    Args:
        devices: What is taken of all.
        capacity: What the host has.
        kind: A GPU variant or TPU family.

    Returns:
        Thousandths by device index.
    """
    count = capacity.tpus.get(kind, 0) or capacity.gpus.get(kind, 0) // MILLI
    return devices.get(kind) or (0,) * count


def merge_use(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    """What two takers have of each device together; no device is taken more than whole.

    Args:
        left: In thousandths, by device index; nothing where it is empty.
        right: The same.
    """
    if not left:
        return tuple(right)
    return tuple(min(a + b, MILLI) for a, b in zip(left, right, strict=True))


def charge(devices: Devices, capacity: Resources, allocation: Allocation, sign: int) -> Devices:
    """Takes an allocation's devices, or gives them back.

    Args:
        devices: What is taken now.
        capacity: What the host has.
        allocation: Whose devices.
        sign: 1 takes, -1 gives back.

    Returns:
        What is taken then.
    """
    if not allocation.devices:
        return devices
    changed = dict(devices)
    shares = {**allocation.resources.gpus, **dict.fromkeys(allocation.resources.tpus, MILLI)}
    for kind, milli in shares.items():
        use = list(device_use(changed, capacity, kind))
        for index in allocation.devices:
            use[index] += sign * min(milli, MILLI)
        if any(use):
            changed[kind] = tuple(use)
        else:
            changed.pop(kind, None)
    return changed


__all__ = [
    "Allocation",
    "Devices",
    "HeldDevice",
    "charge",
    "choose_chips",
    "choose_gpus",
    "device_use",
    "merge_use",
]
