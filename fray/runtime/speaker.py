"""What a connection says: calls, answers and all else, checked before it is written.

The half of a `Connection` that speaks. It knows which calls are in flight both ways, decides what
may be written at once and what waits in a lane, and remembers what has left.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NoReturn, cast

from fray.errors import LocalProtocolError
from fray.runtime import frames
from fray.runtime.conversation import Conversation, Saying
from fray.runtime.encoder import Encoder, check_context, check_name
from fray.runtime.events import CallFlags, Role
from fray.runtime.frames import REASON_BYTES_MAX, Limits
from fray.runtime.hello import Hello, encode_hello
from fray.runtime.lanes import AnswerEntry, CallEntry, EndEntry, Lanes
from fray.runtime.sentlog import SentLog
from fray.runtime.transfers_out import Turns

if TYPE_CHECKING:
    from fray.runtime.payload import Payload
    from fray.runtime.sentlog import Content

_FLAGS_END = CallFlags.REPEATED << 1


class Speaker:
    """Says what its owner wants to say to the peer.

    Args:
        role: Whether this side opened the connection.
        hello: What this side says of itself.
        limits: What it sends at once, and accepts.

    Attributes:
        conversation: Where the two sides stand: the peer's hello, the agreed version and features.
        log: What was sent and is not known to have arrived.

    Raises:
        LocalProtocolError: The hello cannot be sent.
    """

    def __init__(self, role: Role, hello: Hello, limits: Limits) -> None:
        self.conversation = Conversation(role, hello)
        self.log = SentLog()
        self._allowance = limits.allowance
        self._raw_hello = encode_hello(hello, limits.allowance)
        self._inline_bytes_max = limits.inline_bytes_max
        self._encoder = Encoder(limits.batch_bytes)
        self._turns = Turns(limits.chunk_bytes)
        self._lanes = Lanes(self._encoder, self._turns, self.log, limits.inline_bytes_max)
        self._entries = self._lanes.entries
        self._calls_out: set[int] = set()
        self._calls_in: set[int] = set()
        self._calls_out_max = 0
        self._calls_sent = 0

    @property
    def call_slots_left(self) -> int:
        """How many more calls may be in flight: the peer accepts no more at once."""
        return self._calls_out_max - len(self._calls_out)

    # ---- what we say

    def start(self) -> None:
        """Says HELLO. The dialer's first act; the acceptor answers by itself.

        Raises:
            LocalProtocolError: This side did not dial, or has said it already.
        """
        if self.conversation.role is not Role.DIALER:
            raise LocalProtocolError("the acceptor does not start: it answers the dialer's HELLO")
        self.conversation.we_say(Saying.HELLO)
        self._encoder.text(frames.HELLO, self._raw_hello)

    def call(
        self,
        call_id: int,
        target: str,
        method: str,
        payload: Payload,
        *,
        timeout_s: float | None = None,
        flags: CallFlags = CallFlags.NONE,
        context: bytes = b"",
    ) -> None:
        """Makes a call. Calls to one target are delivered in the order in which they were made.

        Args:
            call_id: Below 2**64; not that of another call of ours in flight, and best never used
                twice: the outcome of a cancelled call may still be on its way.
            target: Which actor; 1 to 1,024 bytes of UTF-8.
            method: Which method; likewise.
            payload: The arguments. Its buffers must not change until they were sent.
            timeout_s: What is left of the time limit, finite; below 0 counts as 0. None for no
                limit.
            flags: See `CallFlags`.
            context: For the peer's runtime; at most 16 KiB.

        Raises:
            PayloadError: The payload is larger than the peer accepts.
            LocalProtocolError: The connection is not open, no slot is left (see
                `call_slots_left`), or an argument is out of its range.
        """
        calls_out = self._calls_out
        if (
            not self.conversation.is_open
            or call_id in calls_out
            or len(calls_out) >= self._calls_out_max
        ):
            self._refuse_call(call_id)
        if timeout_s is not None:
            if not math.isfinite(timeout_s):
                raise LocalProtocolError(f"a call's timeout is {timeout_s}")
            timeout_s = max(timeout_s, 0.0)
        if flags and not 0 < flags < _FLAGS_END:
            raise LocalProtocolError(f"unknown call flags {flags!r}")
        data, entries = payload.data, self._entries
        try:
            if (
                payload.buffers
                or len(data) > self._inline_bytes_max
                or (entries and target in entries)
            ):
                self._check_call(call_id, target, method, context)
                entry = CallEntry(call_id, target, method, payload, timeout_s, flags, context)
                self._lanes.add(target, entry)
            else:
                self._encoder.call(
                    call_id, target, method, data, payload.codec, timeout_s, flags, context
                )
                self.log.record(call_id)
        except struct.error as exc:
            raise LocalProtocolError(f"call {call_id} cannot be sent: {exc}") from exc
        calls_out.add(call_id)
        self._calls_sent += 1

    def cancel(self, call_id: int, *, is_late: bool = False) -> bool:
        """Waits no more for a call; it is not in flight any more.

        Of a call that was withdrawn nothing will arrive; else an outcome may, since it was on its
        way, and is to be ignored.

        Args:
            call_id: Of ours; one that is not in flight does no harm.
            is_late: Whether that is since its time was up.

        Returns:
            Whether the call was withdrawn before the peer had got it whole: it never ran.

        Raises:
            LocalProtocolError: The connection is not open.
        """
        self.conversation.we_say(Saying.RECORD)
        self._check_number(call_id)
        self._calls_out.discard(call_id)
        if self._lanes.withdraw_call(call_id):
            return True
        self._encoder.control(frames.CANCEL, call_id, int(is_late))
        self.log.record((frames.CANCEL, call_id, is_late))
        return False

    def grant(self, call_id: int, items: int, nbytes: int) -> None:
        """Lets the producer of a stream go on.

        Args:
            call_id: Of ours.
            items: How many more items it may send, below 2**32.
            nbytes: How many more bytes, below 2**64.

        Raises:
            LocalProtocolError: The connection is not open, or a number is out of its range.
        """
        self.conversation.we_say(Saying.RECORD)
        if not (0 <= items <= frames.U32_MAX and 0 <= nbytes <= frames.U64_MAX):
            raise LocalProtocolError(f"a grant of {items} items and {nbytes} bytes")
        self._check_number(call_id)
        if not self._lanes.add_grant(call_id, items, nbytes):
            self._encoder.grant(call_id, items, nbytes)
            self.log.record((frames.GRANT, call_id, (items, nbytes)))

    def result(self, call_id: int, payload: Payload) -> None:
        """Answers a call: the method returned. Terminal.

        Args:
            call_id: Of the peer's.
            payload: What it returned. Its buffers must not change until they were sent.

        Raises:
            PayloadError: The payload is larger than the peer accepts; nothing was said.
            LocalProtocolError: The connection is not open, or the id is out of its range.
        """
        self._answer(frames.RESULT, call_id, payload)
        self._calls_in.discard(call_id)

    def error(self, call_id: int, payload: Payload) -> None:
        """Answers a call: the method raised. Terminal. See `result`."""
        self._answer(frames.ERROR, call_id, payload)
        self._calls_in.discard(call_id)

    def failure(self, call_id: int, payload: Payload) -> None:
        """Answers a call: fray itself refused or stopped it. Terminal. See `result`."""
        self._answer(frames.FAILURE, call_id, payload)
        self._calls_in.discard(call_id)

    def item(self, call_id: int, payload: Payload) -> None:
        """Sends an item of a stream; before the later ones and the outcome. See `result`."""
        self._answer(frames.ITEM, call_id, payload)

    def end(self, call_id: int) -> None:
        """Answers a call: the stream is exhausted. Terminal. It arrives after the items.

        Args:
            call_id: Of the peer's.

        Raises:
            LocalProtocolError: The connection is not open, or the id is out of its range.
        """
        self.conversation.we_say(Saying.RECORD)
        self._check_number(call_id)
        if call_id in self._entries:
            self._lanes.add(call_id, EndEntry(call_id))
        else:
            self._encoder.control(frames.END, call_id)
            self.log.record((frames.END, call_id, None))
        self._calls_in.discard(call_id)

    def goodbye(self, reason: str) -> None:
        """Ends the conversation. What small records were said before still leave; bulk does not.

        Args:
            reason: Told to the other side; cut to 1,024 bytes of UTF-8.

        Raises:
            LocalProtocolError: It was said before.
        """
        self.conversation.we_say(Saying.GOODBYE)
        raw = reason.encode(errors="replace")[:REASON_BYTES_MAX]
        self._encoder.text(frames.GOODBYE, raw.decode(errors="ignore").encode())
        self._lanes.clear()

    def replay(self, delivery: tuple[int, int, Content]) -> None:
        """Says again what the peer lacks; a call of ours is made again by `call`.

        Args:
            delivery: Out of the `backlog` of the connection that stopped.
        """
        kind, call_id, content = delivery
        if kind == frames.CANCEL:
            self.cancel(call_id, is_late=content is True)
        elif kind == frames.END:
            self.end(call_id)
        elif isinstance(content, tuple) and len(content) == 2:
            self.grant(call_id, *content)
        else:
            self._answer(kind, call_id, cast("Payload", content))
            if kind != frames.ITEM:
                self._calls_in.discard(call_id)

    # ---- helpers

    def _answer(self, kind: int, call_id: int, payload: Payload) -> None:
        if not self.conversation.is_open:
            self.conversation.we_say(Saying.RECORD)  # refuses
        data, entries = payload.data, self._entries
        if (
            payload.buffers
            or len(data) > self._inline_bytes_max
            or (entries and call_id in entries)
        ):
            self._check_number(call_id)
            self._lanes.add(call_id, AnswerEntry(kind, call_id, payload))
            return
        try:
            self._encoder.answer(kind, call_id, data, payload.codec)
        except struct.error as exc:
            raise LocalProtocolError(f"call {call_id} cannot be answered: {exc}") from exc
        self.log.record((kind, call_id, payload))

    def _refuse_call(self, call_id: int) -> NoReturn:
        self.conversation.we_say(Saying.RECORD)
        if call_id in self._calls_out:
            raise LocalProtocolError(f"a call with the id {call_id} is in flight")
        raise LocalProtocolError(f"{len(self._calls_out)} calls are in flight: no slot is left")

    def _check_call(self, call_id: int, target: str, method: str, context: bytes) -> None:
        """Checks what waits in a lane when it is made, since nobody is told when it is written."""
        self._check_number(call_id)
        check_name(target, "target")
        check_name(method, "method")
        check_context(context)

    @staticmethod
    def _check_number(call_id: int) -> None:
        if not 0 <= call_id <= frames.U64_MAX:
            raise LocalProtocolError(f"the call id {call_id} is out of range")


__all__ = ["Speaker"]
