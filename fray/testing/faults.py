"""Network faults, as rules: what becomes of a packet.

A packet is shown to the rules in the order in which they were added; the first that decides wins,
and where none does, the packet passes. Delays do not decide: they add up, so that a slow network
can be partitioned, whichever came first. A rule is in force until its `Fault` is removed. There is
no clock and no I/O in here: a verdict says what shall happen, the network does it.

A link is a stream over TCP, so a message in it cannot just vanish. What TCP makes of a bad network
is time and, in the end, a lost connection; accordingly a verdict lets a packet pass, delays it,
holds it back with all that follows it on its link until some rule is removed, or resets the link.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

RETRANSMISSION_S = 0.2
"""TCP's least retransmission timeout (Linux; RFC 6298 says 1 s). It doubles with each loss."""

RETRANSMISSIONS_MAX = 6
"""A message of `Loss` is lost so many times in a row at most: 12.6 seconds."""


class PacketKind(StrEnum):
    """What a packet does."""

    CONNECT = "connect"
    """Asks for a link, or answers that (then from the dialled host to the dialling one)."""
    MESSAGE = "message"
    CLOSE = "close"
    """Ends a link in order, behind all messages."""
    RESET = "reset"
    """Ends a link at once."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What a rule judges.

    Attributes:
        kind: What it does.
        src: Name of the host that sends it.
        dst: Name of the host that it goes to.
        src_process: Name of the sending process; empty where the host itself answers.
        dst_process: Name of the receiving process; empty while that is not known.
        data: The whole message; empty for other kinds.
    """

    kind: PacketKind
    src: str
    dst: str
    src_process: str = ""
    dst_process: str = ""
    data: bytes = b""


class Action(Enum):
    """What becomes of a packet."""

    PASS = auto()
    """It passes, whatever later rules say."""
    DELAY = auto()
    """It arrives later, if later rules let it pass."""
    HOLD = auto()
    """It waits, and all that follows it on its link, until a rule is removed that changes that."""
    RESET = auto()
    """Its link is lost, at both ends."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet.

    Attributes:
        action: See there.
        delay_s: How much later than usual the packet arrives, if it passes.
    """

    action: Action
    delay_s: float = 0.0


PASS = Verdict(Action.PASS)
HOLD = Verdict(Action.HOLD)
RESET = Verdict(Action.RESET)


def delayed(delay_s: float) -> Verdict:
    """A verdict that makes a packet late.

    Args:
        delay_s: How much later, in seconds; at least 0.
    """
    return Verdict(Action.DELAY, delay_s)


class Rule(Protocol):
    """Judges packets. It must be deterministic, apart from a seeded generator of its own."""

    def judge(self, packet: Packet) -> Verdict | None:
        """Says what becomes of a packet, or None to say nothing.

        Args:
            packet: The packet. A held one is judged again whenever a rule is removed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """Which packets a rule is about.

    Attributes:
        sources: From these hosts; None for any.
        targets: To these hosts; None for any.
        both_ways: Packets from targets to sources, too.
    """

    sources: frozenset[str] | None = None
    targets: frozenset[str] | None = None
    both_ways: bool = True

    def covers(self, packet: Packet) -> bool:
        """Whether a packet takes this route.

        Args:
            packet: Any packet.
        """
        if _among(packet.src, self.sources) and _among(packet.dst, self.targets):
            return True
        return (
            self.both_ways and _among(packet.dst, self.sources) and _among(packet.src, self.targets)
        )

    def __str__(self) -> str:
        arrow = "<->" if self.both_ways else "->"
        return f"{_listed(self.sources)} {arrow} {_listed(self.targets)}"


def _among(host: str, hosts: frozenset[str] | None) -> bool:
    return hosts is None or host in hosts


def _listed(hosts: frozenset[str] | None) -> str:
    return "any" if hosts is None else ",".join(sorted(hosts))


@dataclass(frozen=True, slots=True)
class Partition:
    """Nothing gets through. A host still reaches itself.

    Attributes:
        route: Between whom.
    """

    route: Route

    def judge(self, packet: Packet) -> Verdict | None:
        """See `Rule.judge`."""
        return HOLD if packet.src != packet.dst and self.route.covers(packet) else None

    def __str__(self) -> str:
        return f"partition {self.route}"


@dataclass(frozen=True, slots=True)
class Delay:
    """Everything arrives later.

    Attributes:
        route: Between whom.
        low_s: Least additional delay of a packet, in seconds.
        high_s: Greatest additional delay.
        random: Draws between the two.
    """

    route: Route
    low_s: float
    high_s: float
    random: random.Random

    def judge(self, packet: Packet) -> Verdict | None:
        """See `Rule.judge`."""
        if not self.route.covers(packet):
            return None
        return delayed(self.random.uniform(self.low_s, self.high_s))

    def __str__(self) -> str:
        return f"delay {self.route} by {self.low_s:g} to {self.high_s:g} s"


@dataclass(frozen=True, slots=True)
class Loss:
    """Packets get lost and are retransmitted, which takes time.

    Attributes:
        route: Between whom.
        probability: Of each transmission to be lost; from 0 to below 1.
        random: Decides.
    """

    route: Route
    probability: float
    random: random.Random

    def judge(self, packet: Packet) -> Verdict | None:
        """See `Rule.judge`."""
        if not self.route.covers(packet):
            return None
        delay_s, wait_s = 0.0, RETRANSMISSION_S
        for _ in range(RETRANSMISSIONS_MAX):
            if self.random.random() >= self.probability:
                break
            delay_s += wait_s
            wait_s *= 2
        return delayed(delay_s) if delay_s else None

    def __str__(self) -> str:
        return f"loss {self.route} of {self.probability:.1%}"


@dataclass(slots=True)
class Throttle:
    """Only so much gets through. What is sent faster waits, and its sender is pushed back.

    Attributes:
        route: Between whom.
        bytes_per_s: How much gets through, in both directions together.
        now: The time.
        free_at: When all that was sent before is through.
    """

    route: Route
    bytes_per_s: float
    now: Callable[[], float]
    free_at: float = 0.0

    def judge(self, packet: Packet) -> Verdict | None:
        """See `Rule.judge`."""
        if not packet.data or not self.route.covers(packet):
            return None
        now = self.now()
        self.free_at = max(self.free_at, now) + len(packet.data) / self.bytes_per_s
        return delayed(self.free_at - now)

    def __str__(self) -> str:
        return f"throttle {self.route} to {self.bytes_per_s:g} B/s"


@dataclass(frozen=True, slots=True)
class When:
    """A rule for whatever a test can say of a packet.

    Attributes:
        applies: Whether the verdict applies to a packet; deterministic.
        verdict: What becomes of it then.
        name: For people.
    """

    applies: Callable[[Packet], bool]
    verdict: Verdict
    name: str = "when"

    def judge(self, packet: Packet) -> Verdict | None:
        """See `Rule.judge`."""
        return self.verdict if self.applies(packet) else None

    def __str__(self) -> str:
        return self.name


class Fault:
    """A rule in force, and the guard that ends it: by `remove`, or at the end of a ``with``.

    Attributes:
        rule: The rule.
        judged: How many packets it has decided about.
    """

    def __init__(self, rule: Rule, on_remove: Callable[[Fault], None]) -> None:
        self.rule = rule
        self.judged = 0
        self._on_remove = on_remove

    def remove(self) -> None:
        """Takes the rule out of force; held packets that may pass now do. Idempotent."""
        self._on_remove(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def __str__(self) -> str:
        return f"{self.rule} (judged {self.judged})"


class Faults:
    """The rules in force, in order.

    Args:
        on_change: Called after a rule was added or removed, with a line that says so.
    """

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._faults: list[Fault] = []
        self._on_change = on_change

    def __len__(self) -> int:
        return len(self._faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def add(self, rule: Rule) -> Fault:
        """Puts a rule in force, behind those that are.

        Args:
            rule: The rule.

        Returns:
            The guard that removes it.
        """
        fault = Fault(rule, self._remove)
        self._faults.append(fault)
        self._on_change(f"fault: {rule}")
        return fault

    def judge(self, packet: Packet) -> Verdict:
        """The first decision and the sum of the delays before it.

        Args:
            packet: The packet.
        """
        delay_s = 0.0
        for fault in self._faults:
            verdict = fault.rule.judge(packet)
            if verdict is None:
                continue
            fault.judged += 1
            delay_s += verdict.delay_s
            if verdict.action is not Action.DELAY:
                return Verdict(verdict.action, delay_s) if delay_s else verdict
        return Verdict(Action.PASS, delay_s) if delay_s else PASS

    def partitions(self) -> list[tuple[Fault, Partition]]:
        """The partitions among the rules."""
        return [(fault, fault.rule) for fault in self._faults if isinstance(fault.rule, Partition)]

    def _remove(self, fault: Fault) -> None:
        if fault in self._faults:
            self._faults.remove(fault)
            self._on_change(f"fault over: {fault.rule}")


__all__ = [
    "HOLD",
    "PASS",
    "RESET",
    "RETRANSMISSIONS_MAX",
    "RETRANSMISSION_S",
    "Action",
    "Delay",
    "Fault",
    "Faults",
    "Loss",
    "Packet",
    "PacketKind",
    "Partition",
    "Route",
    "Rule",
    "Throttle",
    "Verdict",
    "When",
    "delayed",
]
