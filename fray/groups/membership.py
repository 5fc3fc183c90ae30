"""Who belongs to which epoch of a group: slices come and go at any time, epochs end at borders.

A `Roster` says which slices are wanted, which are members of the present epoch, which of those are
lost, and which are ready to be members of the next one. What happens to slices makes another
roster; only `Roster.border` changes who is a member, and it makes one epoch of all that happened.

This room knows no actors, no clock and no event loop.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from fray.wording import counted


class SliceId(NamedTuple):
    """One life of a slice.

    Attributes:
        number: Which slice of the group, from 0.
        life: Which life of it, from 1. Each has actors of its own, maybe on other hosts.
    """

    number: int
    life: int

    def __str__(self) -> str:
        return f"slice {self.number} (life {self.life})"


@dataclass(frozen=True, slots=True)
class Roster:
    """The membership of a group at a moment.

    Attributes:
        minimum: So many slices an epoch has at least, ≥ 1.
        wanted: The numbers of the slices that the group is to have, ascending.
        epoch: Which epoch it is, from 1; 0 before the first.
        members: Whose epoch it is, ascending.
        lost: Those of them that are gone.
        ready: Slices that have come since it began, ascending.
    """

    minimum: int
    wanted: tuple[int, ...]
    epoch: int = 0
    members: tuple[SliceId, ...] = ()
    lost: frozenset[SliceId] = frozenset()
    ready: tuple[SliceId, ...] = ()

    @property
    def leaving(self) -> tuple[SliceId, ...]:
        """Members that are there, and not wanted any more."""
        return tuple(m for m in self.members if m not in self.lost and m.number not in self.wanted)

    @property
    def following(self) -> tuple[SliceId, ...]:
        """Who would be a member if the next epoch began now."""
        staying = (m for m in self.members if m not in self.lost and m.number in self.wanted)
        return tuple(sorted((*staying, *self.ready)))

    @property
    def may_change(self) -> bool:
        """Whether `border` would begin another epoch."""
        following = self.following
        return len(following) >= self.minimum and following != self.members

    # ---- what happens

    def came(self, who: SliceId) -> Roster:
        """A slice is there, with all of its hosts. One that is not wanted any more changes nothing.

        Args:
            who: Which life of it; the one before it is gone.

        Raises:
            ValueError: Another life of it is there.
        """
        if who.number not in self.wanted:
            return self
        if any(other.number == who.number for other in self.following):
            raise ValueError(f"{who} came, and another life of it is there")
        return replace(self, ready=tuple(sorted((*self.ready, who))))

    def gone(self, who: SliceId) -> Roster:
        """A slice is there no longer, or not whole. One that nobody knows changes nothing.

        Args:
            who: Which life of it.
        """
        if who in self.members:
            return replace(self, lost=self.lost | {who})
        return replace(self, ready=tuple(each for each in self.ready if each != who))

    def resized(self, count: int) -> Roster:
        """Another number of slices is wanted.

        Those that are not there go first, then those that are not members, then members; of each
        kind the highest numbers. To have more, those stay that were about to leave; what is added
        then has the lowest free numbers.

        Args:
            count: How many, at least the minimum.

        Raises:
            ValueError: It is less than the minimum.
        """
        if count < self.minimum:
            raise ValueError(f"a group has at least {counted(self.minimum, 'slice')}, not {count}")
        staying = sorted(self.wanted, key=lambda number: (-self._worth(number), number))[:count]
        for number in itertools.chain((who.number for who in self.leaving), itertools.count()):
            if len(staying) == count:
                break
            if number not in staying:
                staying.append(number)
        ready = tuple(each for each in self.ready if each.number in staying)
        return replace(self, wanted=tuple(sorted(staying)), ready=ready)

    def _worth(self, number: int) -> int:
        def has(slices: Iterable[SliceId]) -> bool:
            return any(each.number == number for each in slices)

        if has(each for each in self.members if each not in self.lost):
            return 2
        return 1 if has(self.ready) else 0

    def border(self) -> Roster | None:
        """The epoch that begins now: the present one if nothing has changed.

        Returns:
            None where there would be too few slices for one.
        """
        following = self.following
        if len(following) < self.minimum:
            return None
        if following == self.members:
            return self
        return replace(self, epoch=self.epoch + 1, members=following, lost=frozenset(), ready=())


__all__ = ["Roster", "SliceId"]
