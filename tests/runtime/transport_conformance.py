"""What every `fray.runtime.transport.Transport` must do, as tests.

A test module runs the suite over its own transport by a subclass of `TransportConformance` with
an async fixture ``pair`` that makes a `Pair` and closes both transports afterwards. The suite uses
only the seam: no sockets, no clocks, no private names. Wherever it waits, it waits for a condition.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fray.errors import ConnectionRefused, LocalProtocolError
from fray.runtime.transport import (
    MESSAGE_BYTES_MAX,
    Link,
    LinkHandler,
    Listener,
    Principal,
    Transport,
)

PATIENCE_S = 30.0
"""How long a condition may take; reached only by a test that fails."""


@dataclass
class Pair:
    """Two transports that can reach each other."""

    acceptor: Transport
    dialler: Transport
    host: str
    """Where `acceptor` listens."""


class Recorder:
    """A handler that writes down what it is told, and checks the seam's promises on the order."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.messages: list[bytes] = []
        self.writables = 0
        self.lost: list[Exception | None] = []
        self.loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def message_received(self, data: memoryview) -> None:
        assert isinstance(data, memoryview)
        self._note()
        self.messages.append(bytes(data))

    def writable(self) -> None:
        self._note()
        self.writables += 1

    def link_lost(self, exc: Exception | None) -> None:
        self._note()
        self.lost.append(exc)

    def _note(self) -> None:
        assert not self.lost, "told something after link_lost"
        assert asyncio.get_running_loop() is self.loop
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until something is true that changes only when this handler is told something."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_lost(self) -> Exception | None:
        await self.until(lambda: self.lost)
        return self.lost[0]


class Echo(Recorder):
    """Answers every message with itself."""

    def message_received(self, data: memoryview) -> None:
        super().message_received(data)
        self.link.send([self.messages[-1]])


class Hall:
    """The accepting side of a test: a listener, and the recorders of what came in."""

    def __init__(self, make: Callable[[Link], LinkHandler] = Recorder) -> None:
        self.make = make
        self.accepted: list[LinkHandler] = []
        self.listener: Listener
        self._arrived = asyncio.Event()

    def accept(self, link: Link) -> LinkHandler:
        self._arrived.set()
        handler = self.make(link)
        self.accepted.append(handler)
        return handler

    async def open(self, pair: Pair) -> str:
        self.listener = await pair.acceptor.listen(pair.host, 0, self.accept)
        return self.listener.address

    async def arrival(self, count: int = 1) -> Recorder:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.accepted) < count:
                self._arrived.clear()
                await self._arrived.wait()
        handler = self.accepted[count - 1]
        assert isinstance(handler, Recorder)
        return handler


async def dial(
    transport: Transport, address: str, make: Callable[[Link], Recorder] = Recorder
) -> Recorder:
    """Dials, and gives the dialling side's recorder."""
    made: list[Recorder] = []

    def accept(link: Link) -> LinkHandler:
        made.append(make(link))
        return made[0]

    link = await transport.dial(address, accept)
    assert made[0].link is link
    assert len(made) == 1
    return made[0]


async def connect(
    pair: Pair,
    accepting: Callable[[Link], Recorder] = Recorder,
    dialling: Callable[[Link], Recorder] = Recorder,
) -> tuple[Recorder, Recorder]:
    """An open link: the dialling end and the accepting end."""
    hall = Hall(accepting)
    near = await dial(pair.dialler, await hall.open(pair), dialling)
    return near, await hall.arrival()


class TransportConformance:
    """The suite. See the module's docstring."""

    # --- messages

    async def test_both_ends_know_each_other(self, pair: Pair) -> None:
        near, far = await connect(pair)
        assert near.link.remote
        assert far.link.remote
        assert isinstance(far.link.principal, Principal)
        assert near.link.principal == far.link.principal

    async def test_messages_of_all_sizes_arrive_whole_and_in_order(self, pair: Pair) -> None:
        near, far = await connect(pair, Echo)
        sizes = [0, 1, 125, 126, 127, 1000, 65535, 65536, 200_000, MESSAGE_BYTES_MAX, 3, 0, 70_000]
        sent = [bytes([at]) * size for at, size in enumerate(sizes)]
        for message in sent:
            near.link.send([message])
        await near.until(lambda: len(near.messages) == len(sent))
        assert far.messages == sent
        assert near.messages == sent

    async def test_many_small_messages_keep_their_order_both_ways(self, pair: Pair) -> None:
        near, far = await connect(pair, Echo)
        sent = [b"message %d" % number for number in range(5000)]
        for message in sent:
            near.link.send([message])
        await near.until(lambda: len(near.messages) == len(sent))
        assert far.messages == sent
        assert near.messages == sent

    async def test_the_parts_of_a_message_are_joined_whatever_they_are(self, pair: Pair) -> None:
        near, far = await connect(pair)
        words = memoryview(array("I", range(3000)))
        small = [b"a", bytearray(b"bc"), memoryview(b"-def-")[1:4], b""]
        large = [b"x" * 20_000, b"", bytearray(b"y" * 10), words, memoryview(b"")]
        for parts in (small, large, [], [b"", b""]):
            near.link.send(parts)
        await far.until(lambda: len(far.messages) == 4)
        assert far.messages == [b"abcdef", b"".join(large), b"", b""]

    async def test_a_message_that_is_too_long_is_an_error_of_the_sender(self, pair: Pair) -> None:
        near, far = await connect(pair)
        with pytest.raises(LocalProtocolError):
            near.link.send([bytes(MESSAGE_BYTES_MAX), b"!"])
        near.link.send([b"still here"])
        await far.until(lambda: far.messages)
        assert far.messages == [b"still here"]

    async def test_a_message_received_may_be_answered_from_within_the_call(
        self, pair: Pair
    ) -> None:
        near, _ = await connect(pair, Echo)
        near.link.send([b"ping"])
        await near.until(lambda: near.messages)
        assert near.messages == [b"ping"]

    async def test_the_dialler_may_speak_as_soon_as_it_is_given_the_link(self, pair: Pair) -> None:
        def eager(link: Link) -> Recorder:
            link.send([b"first"])
            return Recorder(link)

        near, far = await connect(pair, Echo, eager)
        near.link.send([b"second"])
        await near.until(lambda: len(near.messages) == 2)
        assert far.messages == [b"first", b"second"]

    # --- back-pressure

    async def test_send_says_when_to_stop_and_writable_when_to_go_on(self, pair: Pair) -> None:
        near, far = await connect(pair)
        body = bytes(64 * 1024)
        sent = 0
        while sent < 16_384:
            sent += 1
            if not near.link.send([b"%8d" % sent, body]):
                break
        assert sent < 16_384, "a gigabyte is unsent and nobody objects"
        assert near.writables == 0
        await near.until(lambda: near.writables)
        await far.until(lambda: len(far.messages) == sent)
        assert [int(message[:8]) for message in far.messages] == list(range(1, sent + 1))
        assert near.writables == 1

    async def test_writable_is_not_called_where_no_send_was_told_to_stop(self, pair: Pair) -> None:
        near, far = await connect(pair, Echo)
        for _ in range(100):
            assert near.link.send([b"small"])
        await near.until(lambda: len(near.messages) == 100)
        assert near.writables == far.writables == 0

    # --- close

    async def test_close_delivers_what_is_unsent_and_tells_both_ends_once(self, pair: Pair) -> None:
        near, far = await connect(pair)
        sent = [bytes([number]) * 500_000 for number in range(20)]
        for message in sent:
            near.link.send([message])
        near.link.close("that was all")
        assert await far.until_lost() is None
        assert await near.until_lost() is None
        assert far.messages == sent

    async def test_the_accepting_end_may_close(self, pair: Pair) -> None:
        near, far = await connect(pair)
        near.link.send([b"hello"])
        await far.until(lambda: far.messages)
        far.link.send([b"goodbye"])
        far.link.close("enough")
        assert await near.until_lost() is None
        assert await far.until_lost() is None
        assert near.messages == [b"goodbye"]

    async def test_both_ends_may_close_at_once(self, pair: Pair) -> None:
        near, far = await connect(pair)
        near.link.close("I")
        far.link.close("I, too")
        assert await near.until_lost() is None
        assert await far.until_lost() is None

    async def test_after_close_nothing_is_sent_and_nothing_received(self, pair: Pair) -> None:
        near, far = await connect(pair)
        far.link.send([b"crosses the close"])
        near.link.close()
        near.link.send([b"too late"])
        near.link.close("again")
        await near.until_lost()
        await far.until_lost()
        assert near.messages == []
        assert far.messages == []

    async def test_a_long_reason_is_no_obstacle(self, pair: Pair) -> None:
        near, far = await connect(pair)
        near.link.close("äöü" * 1000)
        assert await far.until_lost() is None
        assert await near.until_lost() is None

    async def test_close_from_within_message_received_ends_the_messages(self, pair: Pair) -> None:
        class Satisfied(Recorder):
            def message_received(self, data: memoryview) -> None:
                super().message_received(data)
                self.link.close()

        near, far = await connect(pair, Satisfied)
        for number in range(10):
            near.link.send([b"%d" % number])
        assert await near.until_lost() is None
        assert await far.until_lost() is None
        assert far.messages == [b"0"]

    # --- abort

    @pytest.mark.parametrize("aborting", ["near", "far"])
    async def test_abort_tells_both_ends_once_and_says_why(self, pair: Pair, aborting: str) -> None:
        near, far = await connect(pair)
        near.link.send([b"hello"])
        await far.until(lambda: far.messages)
        (near if aborting == "near" else far).link.abort()
        assert isinstance(await near.until_lost(), Exception)
        assert isinstance(await far.until_lost(), Exception)

    async def test_abort_calls_nobody_back_before_it_returns(self, pair: Pair) -> None:
        near, _ = await connect(pair)
        near.link.abort()
        assert near.lost == []
        await near.until_lost()

    async def test_abort_from_within_message_received_ends_the_messages(self, pair: Pair) -> None:
        class Shy(Recorder):
            def message_received(self, data: memoryview) -> None:
                super().message_received(data)
                self.link.abort()

        near, far = await connect(pair, Shy)
        for number in range(10):
            near.link.send([b"%d" % number])
        await far.until_lost()
        await near.until_lost()
        assert far.messages == [b"0"]

    async def test_abort_cuts_a_close_that_is_under_way(self, pair: Pair) -> None:
        near, far = await connect(pair)
        near.link.close()
        near.link.abort()
        assert isinstance(await near.until_lost(), Exception)
        await far.until_lost()

    async def test_abort_drops_what_is_unsent_even_if_nobody_reads(self, pair: Pair) -> None:
        near, far = await connect(pair)
        while near.link.send([bytes(MESSAGE_BYTES_MAX)]):
            pass
        near.link.abort()
        assert isinstance(await near.until_lost(), Exception)
        assert near.writables == 0
        await far.until_lost()

    async def test_a_link_that_is_gone_ignores_everything(self, pair: Pair) -> None:
        near, far = await connect(pair)
        far.link.abort()
        await near.until_lost()
        await far.until_lost()
        for link in (near.link, far.link):
            link.send([b"anybody?"])
            link.close("well")
            link.abort()
            assert link.remote
            assert repr(link)
        again, _ = await connect(pair, Echo)
        again.link.send([b"x"])
        await again.until(lambda: again.messages)

    # --- handlers that fail

    async def test_a_failing_handler_costs_its_own_link_only(self, pair: Pair) -> None:
        class Broken(Recorder):
            def message_received(self, data: memoryview) -> None:
                super().message_received(data)
                if data == b"now":
                    raise ZeroDivisionError("a bug in the handler")

        hall = Hall(Broken)
        address = await hall.open(pair)
        victim, other = await dial(pair.dialler, address), await dial(pair.dialler, address)
        victim.link.send([b"now"])
        victim.link.send([b"never seen"])
        far = await hall.arrival(1)
        assert isinstance(await far.until_lost(), ZeroDivisionError)
        assert isinstance(await victim.until_lost(), Exception)
        assert far.messages == [b"now"]
        other.link.send([b"fine"])
        beside = await hall.arrival(2)
        await beside.until(lambda: beside.messages)
        assert other.lost == []

    async def test_a_handler_that_fails_in_writable_loses_its_link(self, pair: Pair) -> None:
        class Broken(Recorder):
            def writable(self) -> None:
                super().writable()
                raise ZeroDivisionError("a bug in the handler")

        near, far = await connect(pair, Recorder, Broken)
        while near.link.send([bytes(MESSAGE_BYTES_MAX)]):
            pass
        assert isinstance(await near.until_lost(), ZeroDivisionError)
        await far.until_lost()

    async def test_a_handler_that_fails_in_link_lost_disturbs_nobody(self, pair: Pair) -> None:
        class Broken(Recorder):
            def link_lost(self, exc: Exception | None) -> None:
                super().link_lost(exc)
                raise ZeroDivisionError("a bug in the handler")

        near, far = await connect(pair, Recorder, Broken)
        near.link.close()
        assert await near.until_lost() is None
        assert await far.until_lost() is None

    # --- who gives no handler

    async def test_an_accept_that_raises_costs_that_link_only(self, pair: Pair) -> None:
        calls: list[Link] = []

        def accept(link: Link) -> LinkHandler:
            calls.append(link)
            if len(calls) == 1:
                raise ZeroDivisionError("a bug in accept")
            return Echo(link)

        listener = await pair.acceptor.listen(pair.host, 0, accept)
        try:
            first = await dial(pair.dialler, listener.address)
        except OSError:
            pass
        else:
            assert isinstance(await first.until_lost(), Exception)
        second = await dial(pair.dialler, listener.address)
        second.link.send([b"x"])
        await second.until(lambda: second.messages)

    async def test_a_dialler_whose_accept_raises_gets_its_own_exception(self, pair: Pair) -> None:
        hall = Hall()
        address = await hall.open(pair)

        def accept(link: Link) -> LinkHandler:
            raise ZeroDivisionError("a bug in accept")

        with pytest.raises(ZeroDivisionError):
            await pair.dialler.dial(address, accept)
        far = await hall.arrival()
        assert isinstance(await far.until_lost(), Exception)

    @pytest.mark.parametrize("end", ["close", "abort"])
    async def test_a_link_may_be_ended_while_it_is_accepted(self, pair: Pair, end: str) -> None:
        def unwilling(link: Link) -> Recorder:
            getattr(link, end)()
            return Recorder(link)

        near, far = await connect(pair, Recorder, unwilling)
        assert isinstance(await near.until_lost(), Exception) is (end == "abort")
        assert isinstance(await far.until_lost(), Exception) is (end == "abort")

    # --- doors

    async def test_dialling_where_nobody_listens_is_an_os_error(self, pair: Pair) -> None:
        hall = Hall()
        address = await hall.open(pair)
        await hall.listener.close()
        with pytest.raises(OSError) as caught:
            await dial(pair.dialler, address)
        assert not isinstance(caught.value, ConnectionRefused)

    async def test_dialling_what_is_no_address_is_an_os_error(self, pair: Pair) -> None:
        for address in ("", "nowhere", "nowhere:", ":80", "nowhere:eighty"):
            with pytest.raises(OSError):
                await dial(pair.dialler, address)

    async def test_a_closed_door_leaves_open_links_alone(self, pair: Pair) -> None:
        hall = Hall(Echo)
        address = await hall.open(pair)
        near = await dial(pair.dialler, address)
        await hall.listener.close()
        await hall.listener.close()
        near.link.send([b"still here"])
        await near.until(lambda: near.messages)
        with pytest.raises(OSError):
            await dial(pair.dialler, address)
        assert near.lost == []

    async def test_one_transport_may_have_several_doors_and_dial_itself(self, pair: Pair) -> None:
        one, two = Hall(Echo), Hall(Echo)
        addresses = [await one.open(pair), await two.open(pair)]
        assert addresses[0] != addresses[1]
        for address in addresses:
            near = await dial(pair.acceptor, address)
            near.link.send([address.encode()])
            await near.until(lambda near=near: near.messages)
        assert (await one.arrival()).messages == [addresses[0].encode()]
        assert (await two.arrival()).messages == [addresses[1].encode()]

    async def test_many_links_between_the_same_two_are_independent(self, pair: Pair) -> None:
        hall = Hall(Echo)
        address = await hall.open(pair)
        ends = await asyncio.gather(*(dial(pair.dialler, address) for _ in range(20)))
        for number, near in enumerate(ends):
            near.link.send([b"%d" % number])
        for number, near in enumerate(ends):
            await near.until(lambda near=near: near.messages)
            assert near.messages == [b"%d" % number]
        ends[0].link.abort()
        await ends[0].until_lost()
        ends[1].link.send([b"more"])
        await ends[1].until(lambda: len(ends[1].messages) == 2)

    # --- the end of a transport

    @pytest.mark.parametrize("closing", ["dialler", "acceptor"])
    async def test_closing_a_transport_aborts_its_links_on_both_ends(
        self, pair: Pair, closing: str
    ) -> None:
        near, far = await connect(pair)
        near.link.send([b"hello"])
        await far.until(lambda: far.messages)
        await getattr(pair, closing).close()
        here, there = (near, far) if closing == "dialler" else (far, near)
        assert len(here.lost) == 1, "handlers are told before close() returns"
        assert isinstance(here.lost[0], Exception)
        assert isinstance(await there.until_lost(), Exception)

    async def test_closing_a_transport_closes_its_doors(self, pair: Pair) -> None:
        hall = Hall()
        address = await hall.open(pair)
        await pair.acceptor.close()
        with pytest.raises(OSError):
            await dial(pair.dialler, address)

    async def test_a_closed_transport_does_nothing_more(self, pair: Pair) -> None:
        hall = Hall()
        address = await hall.open(pair)
        await pair.dialler.close()
        await pair.dialler.close()
        with pytest.raises(OSError):
            await dial(pair.dialler, address)
        with pytest.raises(OSError):
            await pair.dialler.listen(pair.host, 0, Recorder)
        assert hall.accepted == []
