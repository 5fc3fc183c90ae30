"""Order: what must not overtake a transfer waits here until that transfer has left.

A *lane* is what must stay in order: the calls to one target, or the answers to one call. A lane
exists only while a payload in it travels in bulk; what is added to it meanwhile waits, and is
written when the transfer at its head has left. So a peer can deliver all that it receives at once,
and small calls to others never wait.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from fray.errors import PayloadError
from fray.runtime.frames import ABORT, END, GRANT
from fray.runtime.transfers_out import OutgoingTransfer, bulk_views

if TYPE_CHECKING:
    from fray.runtime.encoder import Encoder, Table
    from fray.runtime.payload import Payload
    from fray.runtime.sentlog import Delivery, SentLog
    from fray.runtime.transfers_out import Turns
    from fray.runtime.transport import Buffer

Lane: TypeAlias = "str | int"
"""The target of calls of ours, or the id of a call of the peer's."""


class CallEntry(NamedTuple):
    """A call in a lane; its fields are those of `Encoder.call`."""

    call_id: int
    target: str
    method: str
    payload: Payload
    timeout_s: float | None
    flags: int
    context: bytes


class AnswerEntry(NamedTuple):
    """A RESULT, ERROR, FAILURE or ITEM in a lane."""

    kind: int
    call_id: int
    payload: Payload


class EndEntry(NamedTuple):
    """An END in the lane of its answers."""

    call_id: int


Entry: TypeAlias = CallEntry | AnswerEntry | EndEntry


class Lanes:
    """All lanes of one side of a connection.

    Args:
        encoder: Where records are written.
        turns: Where transfers wait and leave.
        log: Told what has left whole.
        inline_bytes_max: Longer payload data travels in chunks.

    Attributes:
        entries: What waits in each lane; the first is the one whose payload is in bulk.
    """

    def __init__(self, encoder: Encoder, turns: Turns, log: SentLog, inline_bytes_max: int) -> None:
        self._encoder = encoder
        self._turns = turns
        self._log = log
        self._inline_bytes_max = inline_bytes_max
        self.entries: dict[Lane, deque[Entry]] = {}
        self._transfers: dict[Lane, OutgoingTransfer] = {}  # of the first entries
        self._lane_of_transfer: dict[int, Lane] = {}
        self._lane_of_call: dict[int, str] = {}  # of calls that the peer has not got whole
        self._grants: dict[int, list[tuple[int, int]]] = {}  # of some of these
        self._last_id = 0

    def add(self, lane: Lane, entry: Entry) -> None:
        """Adds a record to its lane: it is in bulk, or its lane exists.

        Args:
            lane: Which.
            entry: The record.

        Raises:
            PayloadError: The payload is larger than the peer accepts. Nothing was added.
            LocalProtocolError: It cannot be sent for another reason. Nothing was added.
        """
        if not isinstance(entry, EndEntry):
            self._check_payload(entry.payload)
        entries = self.entries.setdefault(lane, deque())
        entries.append(entry)
        if isinstance(entry, CallEntry):
            self._lane_of_call[entry.call_id] = entry.target
        if len(entries) == 1:
            self._advance(lane)

    def add_grant(self, call_id: int, items: int, nbytes: int) -> bool:
        """Keeps a GRANT until right after its call, if that call still waits here.

        Args:
            call_id: Of ours.
            items: How many more items, below 2**32.
            nbytes: How many more bytes, below 2**64.

        Returns:
            Whether it does; if not, nothing was done.
        """
        if call_id not in self._lane_of_call:
            return False
        # Not an entry of the lane: another payload in bulk might stand between it and its call.
        self._grants.setdefault(call_id, []).append((items, nbytes))
        return True

    def withdraw_call(self, call_id: int) -> bool:
        """Withdraws a call of ours, if the peer has not got it whole.

        Args:
            call_id: Which.

        Returns:
            Whether it was withdrawn: the peer never delivers it.
        """
        lane = self._lane_of_call.pop(call_id, None)
        if lane is None:
            return False
        self._grants.pop(call_id, None)
        entries = self.entries[lane]
        was_first = entries[0].call_id == call_id
        self.entries[lane] = deque([entry for entry in entries if entry.call_id != call_id])
        if was_first:
            self._stop(lane)
            self._advance(lane)
        return True

    def withdraw_answers(self, call_id: int) -> None:
        """Withdraws what the peer has not got of the answers to a call of its own.

        Args:
            call_id: Which.
        """
        if self.entries.pop(call_id, None) is not None:
            self._stop(call_id)

    def next_chunk(self) -> list[Buffer] | None:
        """Takes the next CHUNK message in parts, or None. It may be followed by small records."""
        turn = self._turns.next_chunk()
        if turn is None:
            return None
        message, transfer = turn
        if transfer.left == 0:
            lane = self._lane_of_transfer.pop(transfer.transfer_id)
            del self._transfers[lane]
            self._forget(self.entries[lane].popleft())
            self._advance(lane)
        self._admit()
        return message

    def clear(self) -> None:
        """Drops everything."""
        self.entries.clear()
        self._transfers.clear()
        self._lane_of_transfer.clear()
        self._lane_of_call.clear()
        self._grants.clear()
        self._turns.clear()

    def _check_payload(self, payload: Payload) -> None:
        views, data_in_bulk = bulk_views(payload, self._inline_bytes_max)
        nbytes = sum([len(view) for view in views]) + (0 if data_in_bulk else len(payload.data))
        most = self._turns.payload_bytes_max
        if nbytes > most:
            raise PayloadError(
                f"a value of {nbytes} bytes cannot be sent: the other process accepts at most "
                f"{most} bytes at once; send it in pieces, or through storage"
            )

    def _advance(self, lane: Lane) -> None:
        """Writes a lane's records up to the next one in bulk, whose transfer is queued."""
        entries = self.entries[lane]
        while entries:
            entry, table = entries[0], None
            if not isinstance(entry, EndEntry):
                views, data_in_bulk = bulk_views(entry.payload, self._inline_bytes_max)
                if views:
                    self._last_id += 1
                    transfer = OutgoingTransfer(self._last_id, views, data_in_bulk)
                    if transfer.left:
                        self._transfers[lane] = transfer
                        self._lane_of_transfer[transfer.transfer_id] = lane
                        self._turns.queue(transfer)
                        self._admit()
                        return
                    table = transfer.table  # nothing but empty buffers: whole once it is written
            self._write(entry, table)
            self._forget(entries.popleft())
        del self.entries[lane]

    def _admit(self) -> None:
        """Opens the transfers that may be opened."""
        while (transfer := self._turns.admit()) is not None:
            lane = self._lane_of_transfer[transfer.transfer_id]
            self._write(self.entries[lane][0], transfer.table)

    def _stop(self, lane: Lane) -> None:
        """Ends the transfer of a lane half way."""
        transfer = self._transfers.pop(lane)
        del self._lane_of_transfer[transfer.transfer_id]
        self._turns.withdraw(transfer)
        if transfer.is_open:
            self._encoder.control(ABORT, transfer.transfer_id)
        self._admit()

    def _write(self, entry: Entry, table: Table | None) -> None:
        encoder = self._encoder
        if isinstance(entry, EndEntry):
            encoder.control(END, entry.call_id)
            return
        payload = entry.payload
        data = b"" if table is not None and table.data_in_bulk else payload.data
        if isinstance(entry, CallEntry):
            encoder.call(
                entry.call_id,
                entry.target,
                entry.method,
                data,
                payload.codec,
                entry.timeout_s,
                entry.flags,
                entry.context,
                table,
            )
        else:
            encoder.answer(entry.kind, entry.call_id, data, payload.codec, table)

    def _forget(self, entry: Entry) -> None:
        """Notes that an entry has left its lane for good, whole."""
        call_id = entry.call_id
        self._log.record(_delivery(entry))
        if isinstance(entry, CallEntry):
            del self._lane_of_call[call_id]
            for grant in self._grants.pop(call_id, ()):
                self._encoder.grant(call_id, *grant)
                self._log.record((GRANT, call_id, grant))

    def waiting(self) -> list[Delivery]:
        """What has not left whole, in order within each lane."""
        deliveries: list[Delivery] = []
        for entries in self.entries.values():
            for entry in entries:
                deliveries.append(_delivery(entry))
                if isinstance(entry, CallEntry):
                    grants = self._grants.get(entry.call_id, ())
                    deliveries += [(GRANT, entry.call_id, grant) for grant in grants]
        return deliveries


def _delivery(entry: Entry) -> Delivery:
    if isinstance(entry, CallEntry):
        return entry.call_id
    if isinstance(entry, EndEntry):
        return (END, entry.call_id, None)
    return (entry.kind, entry.call_id, entry.payload)


__all__ = ["AnswerEntry", "CallEntry", "EndEntry", "Lanes"]
