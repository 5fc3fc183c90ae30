"""Who has which value, and from whom it is fetched: decisions, and nothing else.

A value that many want spreads as a tree: whoever has fetched it gives it on, and nobody serves more
than a few at once. Its first holder serves `FIRST_COPIES` in all as long as there are others, so
that a driver sends a large value twice, to however many workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FAN_OUT = 2
"""So many fetch a value from one holder at the same time."""

FIRST_COPIES = 2
"""So many does the first holder serve as long as somebody else has the value or fetches it."""


@dataclass(slots=True)
class _Value:
    nbytes: int
    first: int
    served: int = 0  # by the first holder
    holders: dict[int, int] = field(default_factory=dict[int, int])  # whom each serves at present


class Holdings:
    """Who has which value; see the module. Holders and values are numbers."""

    def __init__(self) -> None:
        self._values: dict[int, _Value] = {}
        self._fetches: dict[tuple[int, int], int] = {}  # (value, taker): from whom

    def __contains__(self, value: int) -> bool:
        return value in self._values

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: int, holder: int, nbytes: int) -> None:
        """There is a value.

        Args:
            value: Its number.
            holder: Who has it.
            nbytes: Its size.
        """
        self._values[value] = _Value(nbytes, holder, holders={holder: 0})

    def has(self, value: int, holder: int) -> bool:
        """Whether somebody has a value.

        Args:
            value: Its number.
            holder: Who.
        """
        found = self._values.get(value)
        return found is not None and holder in found.holders

    def holders(self, value: int) -> list[int]:
        """Who has a value; nobody, where there is no such value.

        Args:
            value: Its number.
        """
        found = self._values.get(value)
        return list(found.holders) if found is not None else []

    def fetch(self, value: int, taker: int) -> int | None:
        """Somebody wants a value.

        Args:
            value: Its number.
            taker: Who; a number below 0 for somebody outside, who is not counted.

        Returns:
            From whom to fetch it; None to ask again after something has changed.

        Raises:
            KeyError: There is no such value.
        """
        found = self._values[value]
        if taker in found.holders:
            return taker
        if taker < 0:  # somebody outside of the pool, whose end nobody would tell of
            return min((busy, holder) for holder, busy in found.holders.items())[1]
        if (value, taker) in self._fetches:
            return None
        free = [(busy, holder) for holder, busy in found.holders.items() if busy < FAN_OUT]
        spread = len(found.holders) > 1 or any(found.holders.values())
        if spread and found.served >= FIRST_COPIES:
            free = [(busy, holder) for busy, holder in free if holder != found.first]
        if not free:
            return None
        _, source = min(free)
        found.holders[source] += 1
        found.served += source == found.first
        self._fetches[value, taker] = source
        return source

    def fetched(self, value: int, taker: int, *, whole: bool, keeps: bool = True) -> bool:
        """A fetch has ended.

        Args:
            value: The value's number.
            taker: Who fetched it.
            whole: Whether it came whole.
            keeps: Whether the taker can give it on.

        Returns:
            Whether the taker has become a holder.
        """
        source = self._fetches.pop((value, taker), None)
        found = self._values.get(value)
        if found is None or source is None:
            return False
        if source in found.holders:
            found.holders[source] -= 1
        if whole and keeps:
            found.holders[taker] = 0
        return whole and keeps

    def release(self, value: int) -> list[int]:
        """A value is not wanted any more.

        Args:
            value: Its number.

        Returns:
            Who had it.
        """
        found = self._values.pop(value, None)
        return list(found.holders) if found is not None else []

    def lose(self, holder: int) -> tuple[list[int], list[int]]:
        """A holder is gone.

        Args:
            holder: Who.

        Returns:
            The values that it had, and those among them that nobody has any more, which are gone.
        """
        for (value, taker), source in list(self._fetches.items()):
            if taker == holder:
                self.fetched(value, taker, whole=False)
            elif source == holder:
                del self._fetches[value, taker]
        had = [value for value, found in self._values.items() if holder in found.holders]
        for value in had:
            del self._values[value].holders[holder]
        gone = [value for value in had if not self._values[value].holders]
        for value in gone:
            del self._values[value]
        return had, gone


__all__ = ["FAN_OUT", "FIRST_COPIES", "Holdings"]
