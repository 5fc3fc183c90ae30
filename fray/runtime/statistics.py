"""What a connection tells of itself in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A connection in numbers, for tests and for people. All but the first six are of now.

    Attributes:
        calls_sent: Calls made, of any fate.
        calls_received: Calls delivered.
        messages_sent: Messages given out.
        messages_received: Messages taken in.
        bytes_sent: Their bytes.
        bytes_received: Their bytes.
        calls_out: Calls of ours in flight.
        calls_in: Calls of the peer's in flight, as far as delivered.
        transfers_out: Transfers of ours under way.
        transfers_waiting: Transfers of ours that wait for their turn.
        transfers_in: Transfers of the peer's under way.
        lanes: Targets and calls whose records wait behind a transfer.
        credit_bytes: Bulk that we may send before the peer gives more credit.
        credit_owed_bytes: Bulk that we took and gave no credit for yet.
        missing_bytes: Bulk that the peer announced and that has not arrived.
        names: Target and method names defined, both ways.
    """

    calls_sent: int
    calls_received: int
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    calls_out: int
    calls_in: int
    transfers_out: int
    transfers_waiting: int
    transfers_in: int
    lanes: int
    credit_bytes: int
    credit_owed_bytes: int
    missing_bytes: int
    names: int


__all__ = ["ConnectionStatistics"]
