"""What this side has sent and the other side is not known to have got: the memory of a session.

A *delivery* is what the other side acts on once it has it whole: a call, a cancel, a grant, an
answer, an item, the end of a stream. A link delivers in the order in which the last bytes leave, so
both sides can count, and one number says what has arrived. When a link is lost and another one
goes on for it, each side tells its number in HELLO, and the other one sends what it lacks again.

Of a call only its id is kept: the caller has the rest, and knows best what time is left for it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from fray.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.runtime.payload import Payload

Content: TypeAlias = "Payload | tuple[int, int] | bool | None"
Delivery: TypeAlias = "int | tuple[int, int, Content]"
"""The id of a call of ours; or the kind of a record, the id of the call, and what goes with it: an
answer's payload, a grant's items and bytes, whether a cancel is for lateness."""

DELIVERIES_MAX = 1 << 17
"""Kept at most. The other side acknowledges every 64th; one that does not is not waited for."""


class SentLog:
    """The deliveries that were sent and not acknowledged, oldest first.

    Attributes:
        acknowledged: How many deliveries of the session the other side has.
        entries: Those after them.
        record: Adds one. An attribute, since every call and every answer comes by here.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.entries: deque[Delivery] = deque()
        self.record: Callable[[Delivery], object] = self.entries.append
        self._keeps = True

    @property
    def keeps(self) -> bool:
        """Whether it remembers: if not, the session ends with its link."""
        return self._keeps

    def forget(self) -> None:
        """Remembers nothing from now on: the other side does not know of sessions."""
        self._keeps = False
        self.entries = deque(maxlen=0)
        self.record = self.entries.append

    def check_size(self) -> None:
        """Gives up where the other side acknowledges nothing: memory has a bound."""
        if len(self.entries) > DELIVERIES_MAX:
            self.forget()

    def may_resume(self, received: int) -> bool:
        """Whether everything is at hand that the other side lacks.

        Args:
            received: How many deliveries of the session it says that it has.
        """
        return self._keeps and 0 <= received - self.acknowledged <= len(self.entries)

    def acknowledge(self, received: int) -> list[Delivery]:
        """Forgets what the other side has.

        Args:
            received: How many deliveries of the session.

        Returns:
            What is forgotten, in order.

        Raises:
            RemoteProtocolError: It says that it has more than was sent, or less than it said.
        """
        if not self._keeps:
            return []
        if not self.may_resume(received):
            raise RemoteProtocolError(
                f"an acknowledgement of {received} deliveries; from {self.acknowledged} to "
                f"{self.acknowledged + len(self.entries)} make sense"
            )
        entries = self.entries
        count = received - self.acknowledged
        self.acknowledged = received
        return [entries.popleft() for _ in range(count)]


__all__ = ["DELIVERIES_MAX", "Content", "Delivery", "SentLog"]
