"""Arithmetic on what hosts have and tasks need.

All amounts are whole numbers (thousandths of a CPU or GPU, bytes, chips), so that what is taken
and given back a million times still adds up. Nothing here knows hosts, jobs or placement.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from fray.errors import InvalidRequestError
from fray.wording import counted

MILLI = 1000
"""Thousandths of a CPU or of a GPU in a whole one."""

BYTES_MAX = 1 << 50
"""Of memory or disk that is asked for: sums over many tasks have to fit into 64 bits."""

UNITS_MAX = 1_000_000
"""Likewise, of CPUs or GPUs."""

N = TypeVar("N", int, float)

_SUFFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b|i)?\s*", re.IGNORECASE)


def parse_bytes(text: str | int, *, what: str = "memory") -> int:
    """Reads an amount of memory or disk.

    The units are powers of 1024 however they are spelled (``8g``, ``8G``, ``8GB``, ``8Gi``,
    ``8GiB``), as Docker and the JVM have it.

    Args:
        text: A number with a unit; without one, bytes. An integer is bytes too.
        what: The quantity's name, for the error.

    Returns:
        Bytes, rounded up, at least 0.

    Raises:
        InvalidRequestError: It cannot be read, or is more than `BYTES_MAX`.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return _bounded(text, what)
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidRequestError(
            f"{what} must be a number with a unit, such as '8g', '512m' or '1.5GiB', not {text!r}"
        )
    amount = float(match[1]) * 1024 ** _SUFFIXES[match[2].lower()]
    return -int(-_bounded(amount, what) // 1)


def _bounded(amount: N, what: str) -> N:
    if amount > BYTES_MAX:
        raise InvalidRequestError(f"{what} is at most {format_bytes(BYTES_MAX)}: no host has more")
    return amount


def format_bytes(amount_bytes: int) -> str:
    """An amount for people, as in ``1.5GiB``.

    Args:
        amount_bytes: At least 0.
    """
    amount, unit = float(amount_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):  # noqa: B007 - the last one is used
        if amount < 1024:
            break
        amount /= 1024
    return f"{amount:.4g}{unit}"


def format_milli(milli: int) -> str:
    """Thousandths for people, as in ``1.5``.

    Args:
        milli: Thousandths.
    """
    return f"{milli / MILLI:g}"


def _no_amounts() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Resources:
    """A vector of amounts: of one host, of one task, of a sum of them.

    Attributes:
        cpu_milli: Thousandths of a CPU.
        memory_bytes: Memory.
        disk_bytes: Disk.
        gpus: Thousandths of a GPU, by variant.
        tpus: TPU chips, by family (``v5litepod``).
    """

    cpu_milli: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: Mapping[str, int] = field(default_factory=_no_amounts)
    tpus: Mapping[str, int] = field(default_factory=_no_amounts)

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            self.cpu_milli + other.cpu_milli,
            self.memory_bytes + other.memory_bytes,
            self.disk_bytes + other.disk_bytes,
            _combine(self.gpus, other.gpus, 1),
            _combine(self.tpus, other.tpus, 1),
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(
            self.cpu_milli - other.cpu_milli,
            self.memory_bytes - other.memory_bytes,
            self.disk_bytes - other.disk_bytes,
            _combine(self.gpus, other.gpus, -1),
            _combine(self.tpus, other.tpus, -1),
        )

    def times(self, count: int) -> "Resources":
        """So many of it.

        Args:
            count: At least 0.
        """
        if count == 1:
            return self
        return Resources(
            self.cpu_milli * count,
            self.memory_bytes * count,
            self.disk_bytes * count,
            {key: n * count for key, n in self.gpus.items()} if count else {},
            {key: n * count for key, n in self.tpus.items()} if count else {},
        )

    def clipped(self) -> "Resources":
        """The same without what is below nothing."""
        return Resources(
            max(self.cpu_milli, 0),
            max(self.memory_bytes, 0),
            max(self.disk_bytes, 0),
            {key: n for key, n in self.gpus.items() if n > 0},
            {key: n for key, n in self.tpus.items() if n > 0},
        )

    def __hash__(self) -> int:
        return hash(
            (
                self.cpu_milli,
                self.memory_bytes,
                self.disk_bytes,
                tuple(sorted(self.gpus.items())),
                tuple(sorted(self.tpus.items())),
            )
        )

    @property
    def has_accelerators(self) -> bool:
        """Whether any GPU or TPU is in it."""
        return bool(self.gpus or self.tpus)

    def within(self, capacity: "Resources") -> bool:
        """Whether every amount is at most the other's.

        Args:
            capacity: What there is.
        """
        return (
            self.cpu_milli <= capacity.cpu_milli
            and self.memory_bytes <= capacity.memory_bytes
            and self.disk_bytes <= capacity.disk_bytes
            and all(n <= capacity.gpus.get(k, 0) for k, n in self.gpus.items())
            and all(n <= capacity.tpus.get(k, 0) for k, n in self.tpus.items())
        )

    def describe(self) -> str:
        """For people, as in ``4 cpus, 8GiB memory, 2 H100``; ``nothing`` where all is zero."""
        parts = [
            counted(format_milli(self.cpu_milli), "cpu") if self.cpu_milli else "",
            f"{format_bytes(self.memory_bytes)} memory" if self.memory_bytes else "",
            f"{format_bytes(self.disk_bytes)} disk" if self.disk_bytes else "",
            *(
                counted(format_milli(n), f"{variant} gpu")
                for variant, n in sorted(self.gpus.items())
            ),
            *(counted(n, f"{family} chip") for family, n in sorted(self.tpus.items())),
        ]
        return ", ".join(part for part in parts if part) or "nothing"


def _combine(left: Mapping[str, int], right: Mapping[str, int], sign: int) -> Mapping[str, int]:
    if not right:
        return left
    merged = dict(left)
    for key, amount in right.items():
        merged[key] = merged.get(key, 0) + sign * amount
    return {key: merged[key] for key in sorted(merged) if merged[key]}


def total(amounts: Iterable[Resources]) -> Resources:
    """The sum of many vectors.

    Args:
        amounts: Any number of them.
    """
    result = Resources()
    for each in amounts:
        result += each
    return result


__all__ = [
    "BYTES_MAX",
    "MILLI",
    "UNITS_MAX",
    "Resources",
    "format_bytes",
    "format_milli",
    "parse_bytes",
    "total",
]
