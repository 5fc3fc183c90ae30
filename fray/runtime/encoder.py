"""Writes records, and gathers them to messages.

This room knows the wire format and nothing of order, windows or state: it writes what it is told
in the order in which it is told. The hot path is one ``struct.pack`` and two list appends per call,
and one join per message.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fray.errors import LocalProtocolError
from fray.runtime import frames
from fray.runtime.frames import (
    CALL,
    CALL_FLAGS_SHIFT,
    CALL_HEAD,
    CALL_HEAD_TIMEOUT,
    CODEC_SHIFT,
    CONTEXT_BYTES_MAX,
    CONTEXT_FIELD,
    DEFINE,
    FLAG_BULK,
    FLAG_CONTEXT,
    FLAG_TIMEOUT,
    GRANT,
    GRANT_BYTES_FIELD,
    HEAD,
    METHOD,
    METHODS_MAX,
    NAME_BYTES_MAX,
    TARGET,
    TARGETS_MAX,
    TIMEOUT_FIELD,
)

if TYPE_CHECKING:
    from fray.runtime.transport import Buffer


class Table(NamedTuple):
    """The part of a record that opens a transfer.

    Attributes:
        transfer_id: Never used before on this connection in this direction, from 1 on.
        parts: Size of each part in bytes, with `frames.READ_ONLY` where it is.
        data_in_bulk: Whether the first part is the payload's data.
    """

    transfer_id: int
    parts: list[int]
    data_in_bulk: bool

    def pack(self) -> bytes:
        """The table's bytes."""
        return frames.TABLE_HEAD.pack(
            self.transfer_id, len(self.parts), frames.DATA_IN_BULK if self.data_in_bulk else 0
        ) + b"".join([part.to_bytes(8, "little") for part in self.parts])


def check_name(name: str, what: str) -> bytes:
    """Gives a name's bytes.

    Args:
        name: Of a target or method.
        what: Which of them, for people.

    Raises:
        LocalProtocolError: It cannot be sent.
    """
    try:
        raw = name.encode()
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(f"{what} {name!r:.80} cannot be sent: {exc}") from exc
    if not 0 < len(raw) <= NAME_BYTES_MAX:
        raise LocalProtocolError(
            f"{what} {name!r:.80} has {len(raw)} bytes; from 1 to {NAME_BYTES_MAX} can be sent"
        )
    return raw


def check_context(context: bytes) -> None:
    """Checks a call's context.

    Args:
        context: Any bytes.

    Raises:
        LocalProtocolError: It is too long.
    """
    if len(context) > CONTEXT_BYTES_MAX:
        raise LocalProtocolError(
            f"a context of {len(context)} bytes; at most {CONTEXT_BYTES_MAX} can be sent"
        )


class _Names:
    """Numbers for strings. When all are used up, the oldest one gets a new meaning."""

    def __init__(self, what: int, count_max: int) -> None:
        self.numbers: dict[str, int] = {}
        self._by_number: list[str] = []
        self._what = what
        self._count_max = count_max
        self._next = 0

    def define(self, name: str) -> tuple[int, bytes]:
        """Gives a name a number.

        Args:
            name: A name without one.

        Returns:
            The number, and the DEFINE record that says so.
        """
        raw = check_name(name, "method" if self._what == METHOD else "target")
        number = self._next
        self._next = (number + 1) % self._count_max
        if number < len(self._by_number):
            del self.numbers[self._by_number[number]]
            self._by_number[number] = name
        else:
            self._by_number.append(name)
        self.numbers[name] = number
        return number, HEAD.pack(DEFINE, self._what, 0, len(raw), number) + raw


class Encoder:
    """What is to be sent in batches.

    Args:
        batch_bytes: A batch is closed before it would grow beyond this.
        targets_max: Target names with a number at once.
        methods_max: Method names likewise.
    """

    def __init__(
        self, batch_bytes: int, *, targets_max: int = TARGETS_MAX, methods_max: int = METHODS_MAX
    ) -> None:
        self._batch_bytes = batch_bytes
        self._parts: list[Buffer] = []
        self._nbytes = 0
        self._full: deque[list[Buffer]] = deque()
        self._targets = _Names(TARGET, targets_max)
        self._methods = _Names(METHOD, methods_max)
        self._target_numbers = self._targets.numbers
        self._method_numbers = self._methods.numbers

    @property
    def pending(self) -> bool:
        """Whether `next_batch` has something."""
        return bool(self._parts)

    @property
    def names(self) -> int:
        """How many names have a number."""
        return len(self._target_numbers) + len(self._method_numbers)

    def call(
        self,
        call_id: int,
        target: str,
        method: str,
        data: Buffer,
        codec: int = 0,
        timeout_s: float | None = None,
        flags: int = 0,
        context: bytes = b"",
        table: Table | None = None,
    ) -> None:
        """Writes a CALL.

        Args:
            call_id: Below 2**64.
            target: 1 to `NAME_BYTES_MAX` bytes.
            method: Likewise.
            data: The payload's data; empty if it travels in bulk.
            codec: The payload's codec.
            timeout_s: Seconds, finite and ≥ 0, or None.
            flags: Three bits.
            context: At most `CONTEXT_BYTES_MAX` bytes.
            table: Of the transfer that this call opens, if it does.

        Raises:
            LocalProtocolError: A name or the context cannot be sent. Nothing was written.
            struct.error: A number is out of its range. No call was written.
        """
        target_number = self._target_numbers.get(target)
        if target_number is None:
            target_number = self._define(self._targets, target)
        method_number = self._method_numbers.get(method)
        if method_number is None:
            method_number = self._define(self._methods, method)
        length = len(data)
        bits = flags << CALL_FLAGS_SHIFT | codec << CODEC_SHIFT
        if context or table is not None:
            options_bits, options = self._options(timeout_s, context, table)
            bits |= options_bits
            head = CALL_HEAD.pack(CALL, bits, method_number, target_number, call_id, length)
            head += options
        elif timeout_s is None:
            head = CALL_HEAD.pack(CALL, bits, method_number, target_number, call_id, length)
        else:
            bits |= FLAG_TIMEOUT
            head = CALL_HEAD_TIMEOUT.pack(
                CALL, bits, method_number, target_number, call_id, length, timeout_s
            )
        # The same lines stand in `answer`: a function call here would cost a tenth of a call.
        nbytes = self._nbytes + len(head) + length
        if nbytes > self._batch_bytes and self._parts:
            nbytes = self._close_batch(nbytes)
        self._nbytes = nbytes
        self._parts.append(head)
        self._parts.append(data)

    def answer(
        self, kind: int, call_id: int, data: Buffer, codec: int = 0, table: Table | None = None
    ) -> None:
        """Writes a RESULT, ERROR, FAILURE or ITEM.

        Args:
            kind: Which.
            call_id: Below 2**64.
            data: The payload's data; empty if it travels in bulk.
            codec: The payload's codec.
            table: Of the transfer that this record opens, if it does.

        Raises:
            struct.error: A number is out of its range. Nothing was written.
        """
        length = len(data)
        if table is None:
            head = HEAD.pack(kind, codec << CODEC_SHIFT, 0, length, call_id)
        else:
            head = HEAD.pack(kind, codec << CODEC_SHIFT | FLAG_BULK, 0, length, call_id)
            head += table.pack()
        nbytes = self._nbytes + len(head) + length
        if nbytes > self._batch_bytes and self._parts:
            nbytes = self._close_batch(nbytes)
        self._nbytes = nbytes
        self._parts.append(head)
        self._parts.append(data)

    def control(self, kind: int, number: int, small: int = 0) -> None:
        """Writes a record that is only a header: CANCEL, END, ABORT, CREDIT.

        Args:
            kind: Which.
            number: The record's id, below 2**64.
            small: What stands in the place of its length, below 2**32.

        Raises:
            struct.error: A number is out of its range. Nothing was written.
        """
        self._add(HEAD.pack(kind, 0, 0, small, number))

    def grant(self, call_id: int, items: int, nbytes: int) -> None:
        """Writes a GRANT.

        Args:
            call_id: Below 2**64.
            items: Below 2**32.
            nbytes: Below 2**64.

        Raises:
            struct.error: A number is out of its range. Nothing was written.
        """
        self._add(HEAD.pack(GRANT, 0, 0, items, call_id) + GRANT_BYTES_FIELD.pack(nbytes))

    def text(self, kind: int, body: bytes) -> None:
        """Writes a HELLO or GOODBYE.

        Args:
            kind: Which.
            body: Its text.
        """
        self._add(HEAD.pack(kind, 0, 0, len(body), 0) + body)

    def next_batch(self) -> Buffer | None:
        """Takes the next message, or None."""
        if self._full:
            parts = self._full.popleft()
        elif self._parts:
            parts, self._parts, self._nbytes = self._parts, [], 0
        else:
            return None
        return b"".join(parts)

    def clear(self) -> None:
        """Drops what was not taken."""
        self._full.clear()
        self._parts, self._nbytes = [], 0

    def _add(self, record: bytes) -> None:
        nbytes = self._nbytes + len(record)
        if nbytes > self._batch_bytes and self._parts:
            nbytes = self._close_batch(nbytes)
        self._nbytes = nbytes
        self._parts.append(record)

    def _close_batch(self, nbytes: int) -> int:
        """Begins a new batch; gives the size of its first record."""
        nbytes -= self._nbytes
        self._full.append(self._parts)
        self._parts = []
        return nbytes

    def _define(self, names: _Names, name: str) -> int:
        number, record = names.define(name)
        self._add(record)
        return number

    @staticmethod
    def _options(timeout_s: float | None, context: bytes, table: Table | None) -> tuple[int, bytes]:
        bits, parts = 0, b""
        if timeout_s is not None:
            bits |= FLAG_TIMEOUT
            parts += TIMEOUT_FIELD.pack(timeout_s)
        if context:
            check_context(context)
            bits |= FLAG_CONTEXT
            parts += CONTEXT_FIELD.pack(len(context)) + context
        if table is not None:
            bits |= FLAG_BULK
            parts += table.pack()
        return bits, parts


__all__ = ["Encoder", "Table", "check_context", "check_name"]
