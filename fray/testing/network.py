"""The network of a simulation: hosts, distances, faults, and what is under way.

It carries whole messages between the ends of links (`fray.testing.links`), each a seeded while
after it was sent, in order on each link and in no order between links. The rules of
`fray.testing.faults` say what is late, stuck or lost.

What a crash does depends on what is left to speak for the dead. When a process dies its kernel
resets its links. When a host dies nobody says anything: what is sent to it stays under way, and
links stay open, until the host is back and its new kernel resets what it does not know.

This module knows no processes and programs, only lanes and transports.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from typing import TYPE_CHECKING

from fray.testing.faults import Action, Fault, Faults, Packet, PacketKind, Rule
from fray.testing.links import Item, LinkState, SimLink

if TYPE_CHECKING:
    from fray.testing.keepalive import Keepalive
    from fray.testing.loop import SimLoop
    from fray.testing.trace import Trace
    from fray.testing.transport import SimListener

SAME_HOST_S = (20e-6, 100e-6)
SAME_ZONE_S = (0.2e-3, 1e-3)
SAME_REGION_S = (0.5e-3, 3e-3)
BETWEEN_REGIONS_S = (20e-3, 80e-3)
"""Least and greatest time from one host to another, by how far apart they are."""

RETRANSMIT_S = (0.2, 1.0)
"""When a sender whose packets are not acknowledged tries again, once the other host is back."""

KEEPALIVE_S = 5.0
"""How long it takes at most until an idle link notices that the other host has restarted."""

FIRST_EPHEMERAL_PORT = 40_000
PORT_MAX = 65_535

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARD = frozenset({"", "0.0.0.0", "::"})


class NetworkHost:
    """A host as the network sees it.

    Attributes:
        name: Its name, which is its address too.
        region: Where it is.
        zone: Where in the region.
        up: Whether its kernel runs.
        doors: Who listens, by port.
    """

    def __init__(self, name: str, region: str = "", zone: str = "") -> None:
        self.name = name
        self.region = region
        self.zone = zone
        self.up = True
        self.doors: dict[int, SimListener] = {}
        self._next_port = FIRST_EPHEMERAL_PORT

    def free_port(self) -> int:
        """An ephemeral port at which nobody listens.

        Raises:
            OSError: There is none.
        """
        for _ in range(FIRST_EPHEMERAL_PORT, PORT_MAX + 1):
            port = self._next_port
            self._next_port = port + 1 if port < PORT_MAX else FIRST_EPHEMERAL_PORT
            if port not in self.doors:
                return port
        raise OSError(errno.EADDRNOTAVAIL, f"{self.name} has no free port")


class SimNetwork:
    """A seeded in-memory network.

    Args:
        loop: Gives time and seed.
        trace: Where it writes what happens.

    Attributes:
        loop: As given.
        hosts: All hosts by name.
        faults: The rules in force.
        messages: How many messages have arrived.
        keepalive: Ends links on which nobody answers; None lets them wait for ever.
    """

    def __init__(self, loop: SimLoop, trace: Trace) -> None:
        self.loop = loop
        self.hosts: dict[str, NetworkHost] = {}
        self.faults = Faults(self._faults_changed)
        self.messages = 0
        self.keepalive: Keepalive | None = None
        self._trace = trace
        self._random = random.Random(f"{loop.seed}/network")
        self._distances: dict[tuple[str, str], tuple[float, float]] = {}
        self._links_made = 0
        self._links: dict[SimLink, None] = {}  # the dialling ends of those that are not over
        self._holding: dict[SimLink, None] = {}

    # ---- hosts

    def add_host(self, name: str, *, region: str = "", zone: str = "") -> NetworkHost:
        """Connects a host.

        Args:
            name: Its name and address.
            region: Hosts of one region are near each other.
            zone: Hosts of one zone of a region even nearer.

        Raises:
            ValueError: The name is taken or cannot be an address.
        """
        if name in self.hosts or name in LOOPBACK or name in WILDCARD or ":" in name:
            raise ValueError(f"{name!r} cannot be the name of another host")
        host = self.hosts[name] = NetworkHost(name, region, zone)
        return host

    def resolve(self, name: str, asker: str) -> NetworkHost:
        """Finds a host by name.

        Args:
            name: The name, or one of those that mean the asking host itself.
            asker: Who asks.

        Raises:
            OSError: No host has this name.
        """
        host = self.hosts.get(asker if name in LOOPBACK or name in WILDCARD else name)
        if host is None:
            raise socket.gaierror(socket.EAI_NONAME, f"name not known: {name!r}")
        return host

    def set_distance(self, a: str, b: str, low_s: float, high_s: float) -> None:
        """Says how long packets travel between two hosts, both ways.

        Args:
            a: One host.
            b: The other, or the same.
            low_s: Least time in seconds; at least 0.
            high_s: Greatest time.
        """
        self._distances[a, b] = self._distances[b, a] = (low_s, high_s - low_s)

    def travel_s(self, src: str, dst: str) -> float:
        """Draws how long a packet travels, faults apart.

        Args:
            src: From which host.
            dst: To which host.
        """
        distance = self._distances.get((src, dst))
        if distance is None:
            low_s, high_s = self._usual_distance(self.hosts[src], self.hosts[dst])
            distance = self._distances[src, dst] = (low_s, high_s - low_s)
        return distance[0] + self._random.random() * distance[1]

    @staticmethod
    def _usual_distance(a: NetworkHost, b: NetworkHost) -> tuple[float, float]:
        if a is b:
            return SAME_HOST_S
        if a.region != b.region:
            return BETWEEN_REGIONS_S
        return SAME_ZONE_S if a.zone == b.zone else SAME_REGION_S

    # ---- what links ask (`fray.testing.links.Carrier`)

    def note(self, event: str) -> None:
        """See `Carrier.note`."""
        self._trace.note(event)

    def transmit(self, link: SimLink, item: Item) -> None:
        """See `Carrier.transmit`."""
        if link.held:
            link.held.append(item)
        else:
            self._forward(link, item)

    def acknowledge(self, link: SimLink, nbytes: int) -> None:
        """See `Carrier.acknowledge`. At once: acknowledgements need no time here."""
        self.messages += 1
        link.peer.arrived(nbytes)

    def _forward(self, link: SimLink, item: Item) -> None:
        peer = link.peer
        src, dst = link.owner.host_name, peer.owner.host_name
        delay_s = self.travel_s(src, dst)
        if len(self.faults):
            verdict = self.faults.judge(
                Packet(
                    item.kind,
                    src,
                    dst,
                    link.owner.process_name,
                    peer.owner.process_name,
                    item.data,
                )
            )
            if verdict.action is Action.HOLD:
                link.held.append(item)
                self._holding[link] = None
                return
            if verdict.action is Action.RESET:
                self.reset(link)
                return
            delay_s += verdict.delay_s
        at = self.loop.time() + delay_s
        if not peer.owner.lane.alive:
            self._answer_for_the_dead(link, at)
            return
        if item.kind is not PacketKind.RESET:  # which may overtake
            at = link.last_at = max(at, link.last_at)
        self.loop.call_at(at, peer.arrive, item, context=peer.context)

    def _answer_for_the_dead(self, link: SimLink, at: float) -> None:
        """A packet comes to a process that is no more: its host's kernel says so, if it runs."""
        peer = link.peer.owner.host_name
        if self.hosts[peer].up and link.state is not LinkState.ENDED:
            at += self.travel_s(peer, link.owner.host_name)
            self.loop.call_at(at, link.arrive, Item(PacketKind.RESET), context=link.context)

    def reset(self, link: SimLink) -> None:
        """Breaks a link in the middle: both ends find it reset.

        Args:
            link: Either end.
        """
        for end in (link, link.peer):
            end.held.clear()
            self._holding.pop(end, None)
            at = self.loop.time() + self.travel_s(end.owner.host_name, end.peer.owner.host_name)
            self.loop.call_at(at, end.arrive, Item(PacketKind.RESET), context=end.context)

    def reset_links(self, a: str, b: str) -> int:
        """Breaks all links between two hosts, as a firewall does that loses its state.

        Args:
            a: One host.
            b: The other.

        Returns:
            How many links.
        """
        ends = {a, b}
        hit = [
            link
            for link in self._links
            if {link.owner.host_name, link.peer.owner.host_name} == ends
        ]
        for link in hit:
            self.reset(link)
        return len(hit)

    # ---- faults

    def add_fault(self, rule: Rule) -> Fault:
        """Puts a rule in force; see `Faults.add`.

        Args:
            rule: The rule.
        """
        return self.faults.add(rule)

    def _faults_changed(self, event: str) -> None:
        self.note(event)
        holding, self._holding = self._holding, {}
        for link in holding:
            items = list(link.held)
            link.held.clear()
            for item in items:
                self.transmit(link, item)  # behind what is held again
        self._look_at_links()

    def _look_at_links(self) -> None:
        if self.keepalive is not None:
            ends = [end for link in self._links for end in (link, link.peer)]
            self.keepalive.look(ends, self._is_cut)

    def _is_cut(self, link: SimLink) -> bool:
        """Whether packets of this end, or their acknowledgements, do not get through."""
        here, there = link.owner.host_name, link.peer.owner.host_name
        return not self.hosts[there].up or any(
            rule.judge(Packet(PacketKind.MESSAGE, *way)) is not None
            for _, rule in self.faults.partitions()
            for way in ((here, there), (there, here))
        )

    async def knock(self, src: str, dst: NetworkHost) -> bool:
        """Sends a packet there and waits for one back, as opening a TCP connection does.

        Args:
            src: From which host.
            dst: To which.

        Returns:
            Whether the host answered; if not, no time need have passed.

        Raises:
            ConnectionResetError: A rule resets the connection.
        """
        delay_s = self.travel_s(src, dst.name) + self.travel_s(dst.name, src)
        for a, b in ((src, dst.name), (dst.name, src)):
            verdict = self.faults.judge(Packet(PacketKind.CONNECT, a, b))
            if verdict.action is Action.HOLD:
                return False
            if verdict.action is Action.RESET:
                raise ConnectionResetError(errno.ECONNRESET, f"connection to {dst.name} reset")
            delay_s += verdict.delay_s
        await asyncio.sleep(delay_s)
        return dst.up

    # ---- life and death

    def next_link_number(self) -> int:
        """Counts links from 1."""
        self._links_made += 1
        return self._links_made

    def link_made(self, link: SimLink) -> None:
        """A link exists.

        Args:
            link: The end that dialled.
        """
        self._links[link] = None

    def link_ended(self, link: SimLink) -> None:
        """An end is over; the link is forgotten when both are.

        Args:
            link: Either end.
        """
        if link.state is LinkState.ENDED and link.peer.state is LinkState.ENDED:
            self._links.pop(link, None)
            self._links.pop(link.peer, None)

    def process_died(self, links: list[SimLink]) -> None:
        """Ends the links of a process whose lane is dead. Its kernel tells the others, if it runs.

        Args:
            links: Its ends.
        """
        for link in links:
            if link.state is not LinkState.ENDED:
                link.die()
                self._holding.pop(link, None)
                if self.hosts[link.owner.host_name].up:
                    self.transmit(link, Item(PacketKind.RESET))
                self.link_ended(link)

    def host_down(self, name: str) -> None:
        """A host falls silent.

        Args:
            name: Which.
        """
        self.hosts[name].up = False
        self._look_at_links()

    def host_up(self, name: str) -> None:
        """A host is back, and knows nothing of what was before.

        Args:
            name: Which.
        """
        host = self.hosts[name]
        host.up = True
        self._look_at_links()
        now = self.loop.time()
        for link in [end for made in self._links for end in (made, made.peer)]:
            peer = link.peer
            if peer.owner.host_name != name or peer.owner.lane.alive:
                continue
            if link.state is not LinkState.ENDED:
                busy = link.in_flight or link.held
                low_s, high_s = RETRANSMIT_S if busy else (0.0, KEEPALIVE_S)
                at = now + self._random.uniform(low_s, high_s)
                self.loop.call_at(at, self._probe, link, context=link.context)

    def _probe(self, link: SimLink) -> None:
        if link.state is not LinkState.ENDED:
            self.transmit(link, Item(PacketKind.MESSAGE))

    # ---- for those who look into it

    def leaks(self) -> list[str]:
        """Links that should be over, since one of their processes is, and those held back."""
        found: list[str] = []
        for link in self._links:
            living = [end for end in (link, link.peer) if end.owner.lane.alive]
            held = len(link.held) + len(link.peer.held)
            if len(living) < 2 or (held and not len(self.faults)):
                found.append(f"link {_describe_link(link)}")
        return found

    def snapshot(self) -> str:
        """What ``netstat`` would say of all hosts together, and the faults in force."""
        down = sum(not host.up for host in self.hosts.values())
        lines = [
            f"network at t={self.loop.time():.6f} s: {len(self.hosts)} hosts ({down} down), "
            f"{len(self._links)} links, {self.messages} messages so far"
        ]
        for host in self.hosts.values():
            doors = [f"{port} {door.process_name}" for port, door in sorted(host.doors.items())]
            place = "/".join(part for part in (host.region, host.zone) if part)
            lines.append(
                f"  host {host.name:12} {'up  ' if host.up else 'DOWN'} {place} "
                f"listening: {', '.join(doors) or 'nobody'}"
            )
        lines += [f"  {_describe_link(link)}" for link in self._links]
        lines += [f"  rule: {fault}" for fault in self.faults]
        return "\n".join(lines)


def _describe_link(link: SimLink) -> str:
    def end(end: SimLink) -> str:
        under_way = f"{end.in_flight} B" + (f", {len(end.held)} held" if end.held else "")
        state = end.state if end.owner.lane.alive else "dead"
        return f"{end.owner.process_name} ({state}, {under_way} out)"

    return f"link {link.number}: {end(link)} -> {end(link.peer)}"


__all__ = [
    "KEEPALIVE_S",
    "LOOPBACK",
    "WILDCARD",
    "NetworkHost",
    "SimNetwork",
]
