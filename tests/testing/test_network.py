from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.errors import ConnectionRefused
from fray.runtime.auth import TokenAuthenticator
from fray.runtime.transport import Principal
from fray.testing import HOLD, PASS, RESET, PacketKind, Simulation, SimulationError, When, simulate
from fray.testing.links import HIGH_WATER_BYTES
from tests.testing.talk import PORT, Ear, Echo, dial, idle, server

if TYPE_CHECKING:
    from fray.testing import SimProcess


async def linked(sim: Simulation, host: str = "a") -> tuple[Ear, Ear]:
    """The test's end of a link to a server on a host, and the server's end."""
    ears: list[Ear] = []
    sim.process(host, server(Echo, ears), name="server")
    await asyncio.sleep(1)
    near = await dial(sim.transport, host)
    return near, ears[0]


async def echoed(near: Ear, data: bytes) -> bool:
    """Whether an echo comes back within five seconds."""
    near.link.send([data])
    try:
        async with asyncio.timeout(5):
            await near.until(lambda ear: data in ear.heard)
    except TimeoutError:
        return False
    return True


# --- dialling


async def test_a_port_where_nobody_listens_refuses_after_a_round_trip(sim: Simulation):
    sim.process("a", idle)
    with pytest.raises(ConnectionRefusedError):
        await dial(sim.transport, "a")
    assert 0 < sim.loop.time() < 0.1


async def test_an_unknown_host_has_no_address(sim: Simulation):
    with pytest.raises(socket.gaierror):
        await dial(sim.transport, "nowhere")


async def test_a_crashed_host_lets_a_dial_time_out(sim: Simulation):
    sim.process("a", server())
    sim.crash("a")
    with pytest.raises(TimeoutError) as caught:
        await dial(sim.transport, "a")
    assert caught.value.errno == errno.ETIMEDOUT
    assert sim.loop.time() == 10


@pytest.mark.parametrize("one_way", [None, ("test", "a"), ("a", "test")])
async def test_a_partition_lets_a_dial_time_out(sim: Simulation, one_way):
    sim.process("a", server())
    if one_way is None:
        sim.partition("a", "test")
    else:
        sim.partition(*one_way, one_way=True)
    with pytest.raises(TimeoutError):
        await dial(sim.transport, "a")


async def test_a_dial_gets_through_when_a_partition_heals_in_time(sim: Simulation):
    sim.process("a", server())
    partition = sim.partition("a", "test")
    sim.loop.call_later(4, partition.remove)
    near = await dial(sim.transport, "a")
    assert sim.loop.time() < 10
    assert await echoed(near, b"hello")


async def test_a_process_that_does_not_run_lets_a_dial_time_out(sim: Simulation):
    ears: list[Ear] = []
    process = sim.process("a", server(Echo, ears))
    await asyncio.sleep(1)
    sim.freeze(process)
    with pytest.raises(TimeoutError):
        await dial(sim.transport, "a")
    sim.thaw(process)
    await asyncio.sleep(1)
    assert all(ear.lost for ear in ears), "it finds a link that nobody wants any more"


async def test_a_server_that_crashes_while_it_is_dialled_resets_the_dial(sim: Simulation):
    process = sim.process("a", server())
    sim.delay("a", "test", 1, 1)
    sim.loop.call_later(2.5, sim.crash, process)
    with pytest.raises(ConnectionResetError):
        await dial(sim.transport, "a")
    assert sim.loop.time() < 5


async def test_a_door_that_closes_meanwhile_lets_nobody_in(sim: Simulation):
    ears: list[Ear] = []
    process = sim.process("a", idle)
    door = await process.transport.listen("a", PORT, lambda link: ears.append(Ear(link)) or ears[0])
    sim.delay("a", "test", 1, 1)
    dialling = asyncio.create_task(dial(sim.transport, "a"))
    await asyncio.sleep(2.5)  # the door was found open, and the request for a link is under way
    await door.close()
    with pytest.raises(ConnectionRefusedError, match="has closed"):
        await dialling
    assert ears == []


async def test_a_cancelled_dial_leaves_no_link_at_the_other_side(sim: Simulation):
    ears: list[Ear] = []
    sim.process("a", server(Echo, ears))
    sim.delay("a", "test", 1, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.5):  # the server has accepted, we have not been told yet
            await dial(sim.transport, "a")
    assert len(ears) == 1
    assert isinstance(await ears[0].until_lost(), ConnectionResetError)
    assert "0 links" in sim.network.snapshot()


async def test_closing_the_transport_ends_a_dial_that_is_under_way(sim: Simulation):
    sim.process("a", server())
    sim.delay("a", "test", 1, 1)
    transport = sim.driver.make_transport()
    dialling = [asyncio.create_task(dial(transport, "a")) for _ in range(2)]
    await asyncio.sleep(2.5)
    dialling.append(asyncio.create_task(dial(transport, "a")))
    await asyncio.sleep(0)
    await transport.close()
    outcomes = await asyncio.gather(*dialling, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionAbortedError] * 3


async def test_a_rule_may_reset_a_connection_that_is_being_opened(sim: Simulation):
    sim.process("a", server())
    sim.network.add_fault(When(lambda packet: packet.kind is PacketKind.CONNECT, RESET))
    with pytest.raises(ConnectionResetError):
        await dial(sim.transport, "a")


# --- who may come in


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_a_wrong_token_is_refused(sim: Simulation, token: str):
    process = sim.process("a", idle)
    guarded = process.make_transport(authenticator=TokenAuthenticator("right"))
    await guarded.listen("a", PORT, Ear)
    with pytest.raises(ConnectionRefused) as caught:
        await dial(sim.driver.make_transport(token=token), "a")
    assert caught.value.status == 401
    assert "0 links" in sim.network.snapshot()


async def test_a_token_may_change_between_dials(sim: Simulation):
    process = sim.process("a", idle)
    alice = Principal("alice", "user")
    guarded = process.make_transport(authenticator=TokenAuthenticator("right", alice))
    await guarded.listen("a", PORT, Ear)
    tokens = ["right", "stale"]
    transport = sim.driver.make_transport(token=lambda _: tokens.pop())
    with pytest.raises(ConnectionRefused):
        await dial(transport, "a")
    near = await dial(transport, "a")
    assert near.link.principal == alice


# --- doors


async def test_a_port_in_use_or_of_another_host_cannot_be_bound(sim: Simulation):
    transport = sim.process("a", idle).transport
    door = await transport.listen("a", 0, Ear)
    port = int(door.address.removeprefix("a:"))
    for host, taken, code in (
        ("0.0.0.0", port, errno.EADDRINUSE),
        ("test", 0, errno.EADDRNOTAVAIL),
        ("a", 70_000, errno.EINVAL),
    ):
        with pytest.raises(OSError) as caught:
            await transport.listen(host, taken, Ear)
        assert caught.value.errno == code
    await door.close()
    assert (await transport.listen("::", port, Ear)).address == f"[::]:{port}"


async def test_a_loopback_door_is_for_its_own_host_only(sim: Simulation):
    ears: list[Ear] = []
    process = sim.process("a", idle)
    await process.transport.listen(
        "127.0.0.1", PORT, lambda link: ears.append(Ear(link)) or ears[0]
    )
    with pytest.raises(ConnectionRefusedError):
        await dial(sim.transport, "a")
    neighbour = sim.process("a", idle)
    for name in ("localhost", "a"):
        assert await dial(neighbour.transport, name)
    assert len(ears) == 2


async def test_a_process_that_ends_takes_its_doors_and_links_with_it(sim: Simulation):
    async def serve_a_while(process: SimProcess) -> None:
        await process.transport.listen("0.0.0.0", PORT, Echo)
        await asyncio.sleep(5)

    sim.process("a", serve_a_while)
    await asyncio.sleep(1)
    near = await dial(sim.transport, "a")
    assert isinstance(await near.until_lost(), ConnectionResetError)
    assert 5 <= sim.loop.time() < 5.1
    with pytest.raises(ConnectionRefusedError):
        await dial(sim.transport, "a")


# --- crashes


async def test_the_crash_of_a_process_resets_its_links(sim: Simulation):
    near, far = await linked(sim)
    sim.crash("a/server")
    assert isinstance(await near.until_lost(), ConnectionResetError)
    assert sim.loop.time() < 1.1
    assert far.lost == [], "the dead are told nothing"
    assert "0 links" in sim.network.snapshot()


async def test_the_crash_of_a_host_is_silent(sim: Simulation):
    near, _ = await linked(sim)
    sim.crash("a")
    assert not await echoed(near, b"anybody?")
    await asyncio.sleep(3600)
    assert near.lost == []
    assert near.link.send([b"still open"])


async def test_what_a_host_sent_before_its_crash_still_arrives(sim: Simulation):
    near, far = await linked(sim)
    sim.delay("a", "test", 2, 2)
    far.link.send([b"last words"])
    sim.crash("a")
    await asyncio.sleep(3)
    assert near.heard == [b"last words"]


async def test_a_host_that_returns_resets_the_links_it_does_not_know(sim: Simulation):
    near, _ = await linked(sim)
    sim.crash("a")
    near.link.send([b"unanswered"])
    await asyncio.sleep(100)
    sim.restart("a")
    assert near.lost == []
    assert isinstance(await near.until_lost(), ConnectionResetError)
    assert sim.loop.time() < 103


async def test_an_idle_link_notices_a_restarted_host_within_a_minute(sim: Simulation):
    near, _ = await linked(sim)
    sim.crash("a")
    sim.restart("a")
    assert isinstance(await near.until_lost(), ConnectionResetError)
    assert sim.loop.time() < 62


async def test_sending_to_a_restarted_host_is_answered_by_a_reset(sim: Simulation):
    near, _ = await linked(sim)
    sim.crash("a")
    sim.restart("a")
    near.link.send([b"do you know me?"])
    assert isinstance(await near.until_lost(), ConnectionResetError)
    assert sim.loop.time() < 1.1


async def test_a_host_that_crashes_again_before_it_answers_stays_silent(sim: Simulation):
    near, _ = await linked(sim)
    sim.crash("a")
    near.link.send([b"unanswered"])
    sim.restart("a")
    sim.crash("a")
    await asyncio.sleep(3600)
    assert near.lost == []


async def test_a_crash_behind_a_partition_is_noticed_when_it_heals(sim: Simulation):
    near, _ = await linked(sim)
    partition = sim.partition("a", "test")
    sim.crash("a/server")
    await asyncio.sleep(3600)
    assert near.lost == []
    partition.remove()
    assert isinstance(await near.until_lost(), ConnectionResetError)


# --- partitions


async def test_what_is_sent_into_a_partition_arrives_in_order_when_it_heals(sim: Simulation):
    near, far = await linked(sim)
    with sim.partition("a", "test"):
        for i in range(20):
            near.link.send([b"%d" % i])
        await asyncio.sleep(3600)
        assert far.heard == []
    await near.until(lambda ear: len(ear.heard) == 20)
    assert far.heard == near.heard == [b"%d" % i for i in range(20)]
    assert near.lost == far.lost == []


async def test_a_one_way_partition_lets_the_other_way_through(sim: Simulation):
    near, far = await linked(sim)
    sim.partition("a", "test", one_way=True)
    assert not await echoed(near, b"heard")
    assert far.heard == [b"heard"]
    sim.heal("a", "test")
    await near.until(lambda ear: ear.heard)


async def test_a_partition_from_everybody_else_spares_the_host_itself(sim: Simulation):
    near, _ = await linked(sim)
    sim.partition("a")
    neighbour = sim.process("a", idle)
    own = await dial(neighbour.transport, "a")
    assert await echoed(own, b"home")
    assert not await echoed(near, b"abroad")


async def test_heal_ends_the_partitions_that_are_meant(sim: Simulation):
    for name in "abc":
        sim.process(name, server())
    await asyncio.sleep(1)
    ears = {name: await dial(sim.transport, name) for name in "abc"}
    for name in "abc":
        sim.partition("test", name)
    sim.heal("a", "test")
    assert [await echoed(ears[name], b"1") for name in "abc"] == [True, False, False]
    sim.heal("b")
    assert [await echoed(ears[name], b"2") for name in "abc"] == [True, True, False]
    sim.heal()
    assert [await echoed(ears[name], b"3") for name in "abc"] == [True, True, True]


async def test_overlapping_partitions_hold_until_the_last_is_gone(sim: Simulation):
    near, far = await linked(sim)
    first, second = sim.partition("a"), sim.partition("test", "a")
    near.link.send([b"x"])
    first.remove()
    await asyncio.sleep(10)
    assert far.heard == []
    second.remove()
    second.remove()
    await far.until(lambda ear: ear.heard)


async def test_closing_into_a_partition_gives_up_after_ten_seconds(sim: Simulation):
    near, far = await linked(sim)
    partition = sim.partition("a", "test")
    near.link.close("bye")
    assert isinstance(await near.until_lost(), TimeoutError)
    assert sim.loop.time() < 12
    partition.remove()
    assert isinstance(await far.until_lost(), ConnectionResetError)


# --- other faults


async def test_a_lossy_network_is_slow_but_keeps_the_order(sim: Simulation):
    near, far = await linked(sim)
    sim.lose("a", "test", 0.5)
    started = sim.loop.time()
    for i in range(50):
        near.link.send([b"%d" % i])
    await near.until(lambda ear: len(ear.heard) == 50)
    assert near.heard == far.heard == [b"%d" % i for i in range(50)]
    assert sim.loop.time() - started > 0.4


async def test_delays_add_up_and_do_not_undo_a_partition(sim: Simulation):
    near, far = await linked(sim)
    slow, slower = sim.delay("a", None, 1, 1), sim.delay(None, "a", 2, 2)
    started = sim.loop.time()
    near.link.send([b"late"])
    await far.until(lambda ear: ear.heard)
    assert 3 < sim.loop.time() - started < 3.1
    sim.partition("a")
    assert not await echoed(near, b"never")
    slow.remove()
    slower.remove()


async def test_a_rule_may_pick_one_message_and_hold_what_follows(sim: Simulation):
    near, far = await linked(sim)
    rule = When(lambda packet: b"secret" in packet.data, HOLD, "hold the secret")
    with sim.network.add_fault(rule) as fault:
        for message in (b"open", b"secret", b"behind"):
            near.link.send([message])
        await asyncio.sleep(10)
        assert far.heard == [b"open"]
        assert fault.judged == 1
        assert "rule: hold the secret (judged 1)" in sim.network.snapshot()
    await far.until(lambda ear: len(ear.heard) == 3)


async def test_the_first_rule_that_decides_wins(sim: Simulation):
    near, _ = await linked(sim)
    sim.network.add_fault(When(lambda packet: True, PASS))
    sim.partition("a")
    assert await echoed(near, b"through")


async def test_a_rule_may_reset_a_link_at_a_message(sim: Simulation):
    near, far = await linked(sim)
    sim.network.add_fault(When(lambda packet: packet.data == b"poison", RESET))
    near.link.send([b"poison"])
    assert isinstance(await near.until_lost(), ConnectionResetError)
    assert isinstance(await far.until_lost(), ConnectionResetError)
    assert far.heard == []


async def test_all_links_between_two_hosts_can_be_reset(sim: Simulation):
    near, far = await linked(sim)
    other = await dial(sim.process("b", idle).transport, "a")
    assert sim.network.reset_links("a", "test") == 1
    assert isinstance(await near.until_lost(), ConnectionResetError)
    assert isinstance(await far.until_lost(), ConnectionResetError)
    assert await echoed(other, b"spared")


async def test_near_hosts_are_faster_than_far_ones(sim: Simulation):
    for name, region, zone in (
        ("a", "eu", "1"),
        ("b", "eu", "1"),
        ("c", "eu", "2"),
        ("d", "us", "1"),
    ):
        sim.host(name, region=region, zone=zone)
    spans = [max(sim.network.travel_s("a", other) for _ in range(100)) for other in "abcd"]
    assert spans == sorted(spans)
    assert 0.04 < spans[3] < 0.08
    sim.network.set_distance("a", "d", 7, 7)
    assert sim.network.travel_s("d", "a") == 7


# --- back-pressure, and the strictness of links


async def test_a_frozen_reader_pushes_back_and_a_thawed_one_lets_go_on(sim: Simulation):
    near, far = await linked(sim)
    sim.freeze("a/server")
    piece = bytes(100_000)
    sent = 1
    while near.link.send([piece]):
        sent += 1
    assert sent == HIGH_WATER_BYTES // len(piece) + 1
    await asyncio.sleep(3600)
    assert near.drained == 0
    sim.thaw("a/server")
    await near.until(lambda ear: ear.drained)
    assert len(far.heard) == sent


async def test_a_buffer_that_changes_under_way_is_reported(sim: Simulation):
    near, far = await linked(sim)
    buffer = bytearray(b"before")
    near.link.send([b"kept ", buffer])
    await far.until(lambda ear: ear.heard)
    assert sim.errors == []
    near.link.send([buffer])
    buffer[:] = b"after!"
    await far.until(lambda ear: len(ear.heard) == 2)
    assert far.heard == [b"kept before", b"before"]
    error = sim.errors.pop()
    assert isinstance(error["exception"], SimulationError)
    assert "changed while it was under way" in error["message"]


async def test_a_view_that_is_kept_shows_nothing_afterwards(sim: Simulation):
    class Keeper(Ear):
        def message_received(self, data: memoryview) -> None:
            self.kept = data
            super().message_received(data)

    ears: list[Ear] = []
    sim.process("a", server(Keeper, ears))
    await asyncio.sleep(1)
    near = await dial(sim.transport, "a")
    near.link.send([b"abc"])
    await ears[0].until(lambda ear: ear.heard)
    assert ears[0].heard == [b"abc"]
    assert bytes(ears[0].kept) == b"\0\0\0"


async def test_a_handler_that_fails_fails_the_test_too(sim: Simulation):
    class Broken(Ear):
        def message_received(self, data: memoryview) -> None:
            raise ZeroDivisionError

    sim.process("a", server(Broken))
    await asyncio.sleep(1)
    near = await dial(sim.transport, "a")
    near.link.send([b"x"])
    assert isinstance(await near.until_lost(), ConnectionResetError)
    assert isinstance(sim.errors.pop()["exception"], ZeroDivisionError)


# --- what is shown


async def test_the_snapshot_shows_hosts_doors_links_and_rules(sim: Simulation):
    near, _ = await linked(sim)
    sim.host("b", region="eu", zone="1")
    sim.crash("b")
    sim.partition("a", "test")
    near.link.send([b"12345"])
    text = sim.network.snapshot()
    assert "3 hosts (1 down), 1 links" in text
    assert "listening: 80 a/server" in text
    assert "DOWN eu/1" in text
    assert "link 1: test (open, 5 B, 1 held out) -> a/server (open, 0 B out)" in text
    assert "rule: partition a <-> test (judged 1)" in text
    sim.crash("a")
    assert "(dead, 0 B out)" in sim.network.snapshot()


async def test_links_and_doors_show_what_they_are(sim: Simulation):
    near, far = await linked(sim)
    assert near.link.remote == f"a:{PORT}"
    assert far.link.remote.startswith("test:")
    assert repr(near.link) == f"<SimLink 1 test to a:{PORT} open, 0 bytes in flight>"
    assert "1 links" in repr(sim.transport)
    assert "seed" in repr(sim)


# --- any faults at all


FAULTS = st.lists(
    st.tuples(st.floats(0, 20), st.sampled_from(["partition", "one way", "delay", "lose", "heal"])),
    max_size=8,
)


@given(seed=st.integers(0, 1000), faults=FAULTS, sizes=st.lists(st.integers(0, 5000), max_size=30))
def test_whatever_the_faults_messages_arrive_once_and_in_order(seed, faults, sizes):
    async def main(sim: Simulation) -> None:
        near, far = await linked(sim)
        for at, kind in faults:
            act = {
                "partition": lambda: sim.partition("a"),
                "one way": lambda: sim.partition("test", "a", one_way=True),
                "delay": lambda: sim.delay("a", None, 0, 3),
                "lose": lambda: sim.lose("a", "test", 0.3),
                "heal": sim.heal,
            }[kind]
            sim.loop.call_later(at, act)
        sent = [b"%d " % i + bytes(size) for i, size in enumerate(sizes)]
        for message in sent:
            near.link.send([message])
            await asyncio.sleep(sim.clock.random.random())
        await asyncio.sleep(25)
        sim.heal()
        await near.until(lambda ear: len(ear.heard) >= len(sent))
        await asyncio.sleep(60)
        assert near.heard == far.heard == sent
        assert near.lost == far.lost == []

    simulate(seed, main)
