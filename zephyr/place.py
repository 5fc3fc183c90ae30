"""Where items are worked on: for names of files, and for what an error says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from zephyr.errors import StoppedError

_MARK = "zephyr: "


@dataclass(frozen=True)
class Place:
    """Where items are worked on.

    Attributes:
        shard: The shard's number, from 0.
        total: How many shards there are.
        source: What the shard is made of, for people.
        tag: Of the attempt, for names of unfinished files.
        lost_tags: Of attempts at the same that were lost.
        stopped: Whether nobody wants the result any more.
        rights: Of each join, the other side's items.
    """

    shard: int
    total: int
    source: str
    tag: str = "0"
    lost_tags: tuple[str, ...] = ()
    stopped: Callable[[], bool] = lambda: False
    rights: tuple[Callable[[], Iterator[list[Any]]], ...] = ()

    def check(self) -> None:
        """Raises where nobody wants the result any more."""
        if self.stopped():
            raise StoppedError(f"shard {self.shard} is not wanted any more")


def locate(exc: Exception, place: Place, step: Any, position: int, what: str = "item") -> None:
    """Adds to a user's exception where it was raised, unless that is said already.

    Args:
        exc: The exception.
        place: The shard.
        step: The operation.
        position: Of the item, among those that the operation got, from 0.
        what: What has that position.
    """
    if isinstance(exc, StoppedError) or _note_of(exc):
        return
    exc.add_note(
        f"{_MARK}raised by {step} at {what} {position} of shard {place.shard} of {place.total}"
        + (f" ({place.source})" if place.source else "")
    )


def keep_place(exc: Exception) -> None:
    """Has an exception say what its cause says of the place, for causes do not travel.

    Args:
        exc: The exception.
    """
    note = _note_of(exc)
    if note and note not in getattr(exc, "__notes__", ()):
        exc.add_note(note)


def _note_of(exc: BaseException) -> str:
    """Where it was raised; a `StopIteration` leaves a generator as cause of a `RuntimeError`."""
    for note in getattr(exc, "__notes__", ()):
        if note.startswith(_MARK):
            return note
    return "" if exc.__cause__ is None else _note_of(exc.__cause__)


__all__ = ["Place", "keep_place", "locate"]
