"""Hosts that are alike, so that each question is asked once for all of them.

Two hosts are of one kind where they differ in nothing but their names (and their place in a
slice). What fits one of them fits the other, and is refused by the other for the same reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from fray.cluster.resources import Resources
    from fray.cluster.scheduling.feasible import Answer
    from fray.cluster.scheduling.hosts import Host
    from fray.cluster.scheduling.view import Shape

ANSWERS_MAX = 512
"""Shapes whose fit is remembered per kind."""

Rank = tuple[float, bool, bool, int, int]


class HostKind:
    """What hosts that are alike share.

    Attributes:
        host: One of them, as a specimen; its name says nothing.
        free: What it has left, for everybody.
        answers: Whether a shape fits, and how well; kept by `feasible.ask`.
        properties: What constraints speak of, by name.
    """

    __slots__ = ("__weakref__", "answers", "free", "host", "properties")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.free: Resources = host.capacity - host.used
        self.answers: dict[Shape, Answer] = {}
        self.properties = properties_of(host)


def properties_of(host: Host) -> dict[str, tuple[str, ...]]:
    """What constraints speak of, but for the host's own name: values by property.

    Args:
        host: The host.
    """
    found: dict[str, tuple[str, ...]] = {k: (value,) for k, value in host.labels.items()}
    if host.region:
        found["region"] = (host.region,)
    if host.zone:
        found["zone"] = (host.zone,)
    found["preemptible"] = ("true" if host.preemptible else "false",)
    found["device"] = (*host.capacity.gpus, *host.capacity.tpus) or ("cpu",)
    if host.slice is not None:
        found["tpu_type"] = (host.slice.tpu_type,)
        if host.slice.topology:
            found["topology"] = (host.slice.topology,)
    return found


_KINDS: WeakValueDictionary[tuple[object, ...], HostKind] = WeakValueDictionary()
"""All kinds that some host is of; a kind goes with its last host."""


def kind_of(host: Host) -> HostKind:
    """The kind of a host: the same object for all that are alike.

    Args:
        host: The host.
    """
    kind: HostKind | None = host.kind
    if kind is None:
        key = _key(host)
        kind = _KINDS.get(key)
        if kind is None:
            kind = _KINDS[key] = HostKind(host)
        object.__setattr__(host, "kind", kind)
    return kind


def _key(host: Host) -> tuple[object, ...]:
    part = host.slice
    labels = tuple(sorted(host.labels.items())) if host.labels else ()
    return (
        host.capacity,
        host.used,
        tuple(sorted(host.devices.items())) if host.devices else (),
        host.region,
        host.zone,
        host.preemptible,
        part and (part.tpu_type, part.size, part.topology),
        host.oversubscribe,
        host.slots,
        tuple(sorted(host.holdings.items())) if host.holdings else (),
        host.closed,
        labels,
        _kept(host.reserved) if host.reserved else (),
        _kept(host.locked) if host.locked else (),
        host.held,
    )


def _kept(kept: object) -> tuple[object, ...]:
    items: list[tuple[object, ...]] = []
    for owner, (resources, devices, for_s) in sorted(kept.items()):  # pyright: ignore
        items.append((owner, resources, tuple(sorted(devices.items())), for_s))  # pyright: ignore
    return tuple(items)


__all__ = ["ANSWERS_MAX", "HostKind", "Rank", "kind_of", "properties_of"]
