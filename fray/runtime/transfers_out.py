"""Bulk that leaves: transfers, their turns, and the windows that they keep to.

This room knows bytes and credit, and nothing of what the payloads mean or of order between records
(`fray.runtime.lanes`). Open transfers take turns, one chunk each. How many may be open, and how
much may be on its way, the peer said in its HELLO; it closes the connection of whoever takes more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fray.errors import LocalProtocolError, RemoteProtocolError
from fray.runtime.encoder import Table
from fray.runtime.frames import CHUNK, HEAD, PARTS_MAX, READ_ONLY, credit_threshold
from fray.runtime.hello import Allowance

if TYPE_CHECKING:
    from fray.runtime.payload import Payload
    from fray.runtime.transport import Buffer

_NOTHING = Allowance(0, 0, 0, 0, 0, 0)


def bulk_views(payload: Payload, inline_bytes_max: int) -> tuple[list[memoryview], bool]:
    """What of a payload travels in chunks, and whether its data does.

    Args:
        payload: To be sent.
        inline_bytes_max: Longer data travels in chunks.

    Raises:
        LocalProtocolError: There are too many buffers, or one is not contiguous.
    """
    data_in_bulk = len(payload.data) > inline_bytes_max
    buffers: list[Buffer] = [payload.data, *payload.buffers] if data_in_bulk else [*payload.buffers]
    if len(buffers) > PARTS_MAX:
        raise LocalProtocolError(
            f"a payload in {len(buffers)} parts; at most {PARTS_MAX} can be sent"
        )
    return [_flat_view(buffer) for buffer in buffers], data_in_bulk


def _flat_view(buffer: Buffer) -> memoryview:
    view = memoryview(buffer)
    if view.nbytes == 0:  # which cannot be cast
        return memoryview(b"") if view.readonly else memoryview(bytearray())
    if view.ndim == 1 and view.format == "B" and view.c_contiguous:
        return view
    try:
        return view.cast("B")
    except TypeError as exc:
        raise LocalProtocolError(f"a buffer cannot be sent: {exc}") from exc


class OutgoingTransfer:
    """One payload on its way out.

    Args:
        transfer_id: Its number, from 1 on, never used twice.
        views: Its parts, as one-dimensional views of unsigned bytes; not all of them empty.
        data_in_bulk: Whether the first one is the payload's data.

    Attributes:
        table: How its record tells of it.
        left: Bytes that were not taken yet.
        credit: Bytes that may be taken before the peer gives more credit.
        is_open: Whether its record was written, and chunks may follow.
    """

    __slots__ = ("_offset", "_views", "credit", "is_open", "left", "table", "transfer_id")

    def __init__(self, transfer_id: int, views: list[memoryview], data_in_bulk: bool) -> None:
        self.transfer_id = transfer_id
        self.table = Table(
            transfer_id, [len(v) | (READ_ONLY if v.readonly else 0) for v in views], data_in_bulk
        )
        self.left = sum([len(view) for view in views])
        self.credit = 0
        self.is_open = False
        self._views = deque(views)
        self._offset = 0

    def take(self, nbytes: int) -> list[Buffer]:
        """Takes the next bytes, uncopied.

        Args:
            nbytes: How many; at most `left`.
        """
        self.left -= nbytes
        self.credit -= nbytes
        parts: list[Buffer] = []
        while nbytes:
            view = self._views[0]
            part = view[self._offset : self._offset + nbytes]
            nbytes -= len(part)
            self._offset += len(part)
            if part:
                parts.append(part)
            if self._offset == len(view):
                self._views.popleft()
                self._offset = 0
        return parts


class Turns:
    """Which transfer may send how much now.

    Args:
        chunk_bytes: Of bulk in one message, at most.

    Attributes:
        credit: Bytes that may be sent on the connection before the peer gives more credit.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._allowance = _NOTHING
        self._waiting: deque[OutgoingTransfer] = deque()
        self._open: deque[OutgoingTransfer] = deque()
        self._left = 0  # bytes that the open ones announced and have not sent
        self.credit = 0

    def accept(self, allowance: Allowance) -> None:
        """Takes note of what the peer accepts. Before, no transfer may be queued.

        Args:
            allowance: What its HELLO said.
        """
        self._allowance = allowance
        self.credit = allowance.window_bytes
        # See `credit_threshold`: a chunk is never more than the credit that comes back for sure.
        window_bytes = min(allowance.window_bytes, allowance.transfer_window_bytes)
        self._chunk_bytes = min(self._chunk_bytes, credit_threshold(window_bytes))

    @property
    def transfers(self) -> int:
        """Transfers under way."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Transfers that wait until they may be opened."""
        return len(self._waiting)

    @property
    def payload_bytes_max(self) -> int:
        """A larger payload could never be sent."""
        return min(self._allowance.payload_bytes_max, self._allowance.announced_bytes_max)

    def queue(self, transfer: OutgoingTransfer) -> None:
        """Adds a transfer, after those that wait already.

        Args:
            transfer: A new one, not empty.
        """
        self._waiting.append(transfer)

    def admit(self) -> OutgoingTransfer | None:
        """Opens the next transfer that waits, if it may be opened now.

        Returns:
            It; the caller writes its record before it asks for chunks.
        """
        if not self._waiting:
            return None
        transfer, allowance = self._waiting[0], self._allowance
        if (
            len(self._open) >= allowance.transfers_max
            or self._left + transfer.left > allowance.announced_bytes_max
        ):
            return None
        self._waiting.popleft()
        self._open.append(transfer)
        self._left += transfer.left
        transfer.credit = allowance.transfer_window_bytes
        transfer.is_open = True
        return transfer

    def withdraw(self, transfer: OutgoingTransfer) -> None:
        """Ends a transfer half way. If it `is_open`, the caller tells the peer.

        Args:
            transfer: One that is open or waits.
        """
        if transfer.is_open:
            self._open.remove(transfer)
            self._left -= transfer.left
        else:
            self._waiting.remove(transfer)

    @property
    def sendable(self) -> bool:
        """Whether `next_chunk` has something."""
        return self._next() is not None

    def next_chunk(self) -> tuple[list[Buffer], OutgoingTransfer] | None:
        """Takes the next CHUNK message in parts, and whose it is; None if credit or bulk is out.

        A transfer of which nothing is left is not open any more.
        """
        turn = self._next()
        if turn is None:
            return None
        transfer, nbytes = turn
        self.credit -= nbytes
        self._left -= nbytes
        message: list[Buffer] = [HEAD.pack(CHUNK, 0, 0, nbytes, transfer.transfer_id)]
        message += transfer.take(nbytes)
        self._open.popleft()
        if transfer.left:
            self._open.append(transfer)
        return message, transfer

    def _next(self) -> tuple[OutgoingTransfer, int] | None:
        """Whose turn it is, and for how many bytes; puts it first in the queue."""
        turns = self._open
        for _ in range(len(turns)):
            transfer = turns[0]
            nbytes = min(self._chunk_bytes, transfer.left)
            if nbytes > self.credit:
                return None  # nobody else may use what it waits for
            if nbytes <= transfer.credit:
                return transfer, nbytes
            turns.rotate(-1)
        return None

    def credited(self, transfer_id: int, nbytes: int) -> None:
        """Takes credit from the peer.

        Args:
            transfer_id: Of which transfer; 0 for the connection. One that has left is ignored.
            nbytes: How much more.

        Raises:
            RemoteProtocolError: It is more than was ever used.
        """
        if transfer_id == 0:
            self.credit += nbytes
            if self.credit > self._allowance.window_bytes:
                raise RemoteProtocolError(f"credit of {self.credit} bytes on the connection")
            return
        for transfer in self._open:
            if transfer.transfer_id == transfer_id:
                transfer.credit += nbytes
                if transfer.credit > self._allowance.transfer_window_bytes:
                    raise RemoteProtocolError(f"credit of {transfer.credit} bytes in a transfer")
                return

    def clear(self) -> None:
        """Drops everything."""
        self._waiting.clear()
        self._open.clear()
        self._left = 0


__all__ = ["OutgoingTransfer", "Turns", "bulk_views"]
