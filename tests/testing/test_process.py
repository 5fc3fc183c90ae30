from __future__ import annotations

import asyncio
import signal
import sys
import warnings
from typing import TYPE_CHECKING

import pytest

from fray.testing import ExitKind, SimBackgroundError, SimDeadlock, Simulation, simulate
from tests.testing.talk import idle

if TYPE_CHECKING:
    from fray.testing import SimProcess


# --- how a process ends


async def test_a_program_that_returns_ends_its_process(sim: Simulation):
    async def program(process: SimProcess) -> int:
        await process.clock.sleep(5)
        return 7

    process = sim.process("a", program)
    assert repr(process) == "<SimProcess a/program pid 2 running>"
    ended = await process.wait()
    assert (ended.kind, ended.value, sim.loop.time()) == (ExitKind.RETURNED, 7, 5)
    assert process.exit is ended
    assert str(ended) == "returned 7"
    assert "a/program" not in sim.hosts["a"].processes


async def test_sys_exit_ends_the_process_and_not_the_test(sim: Simulation):
    async def program(process: SimProcess) -> None:
        sys.exit(3)

    ended = await sim.process("a", program).wait()
    assert (ended.kind, ended.value) == (ExitKind.RETURNED, 3)


async def test_a_program_that_raises_is_told_to_who_asked_not_to_check(sim: Simulation):
    async def program(process: SimProcess) -> None:
        raise ValueError("boo")

    ended = await sim.process("a", program, check=False).wait()
    assert ended.kind is ExitKind.RAISED
    assert str(ended) == "raised ValueError: boo"


def test_a_program_that_raises_fails_the_test():
    async def program(process: SimProcess) -> None:
        raise ValueError("boo")

    async def main(sim: Simulation) -> None:
        await sim.process("a", program).wait()

    with pytest.raises(SimBackgroundError, match="the program of a/program failed"):
        simulate(0, main)


async def test_a_process_that_ends_cancels_what_it_started(sim: Simulation):
    seen: list[str] = []

    async def child() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            seen.append("cleaned up")

    async def program(process: SimProcess) -> None:
        process.child = asyncio.create_task(child())
        await asyncio.sleep(1)

    await sim.process("a", program).wait()
    assert seen == ["cleaned up"]
    assert sim.loop.time() == 2


async def test_a_task_that_fails_while_its_process_ends_is_reported(sim: Simulation):
    async def child() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("late")

    async def program(process: SimProcess) -> None:
        process.child = asyncio.create_task(child(), name="child")
        await asyncio.sleep(1)

    await sim.process("a", program).wait()
    assert "child failed while a/program ended" in sim.errors.pop()["message"]


# --- stop


async def test_stop_cancels_the_program_and_lets_it_clean_up(sim: Simulation):
    seen: list[str] = []

    async def program(process: SimProcess) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)
            seen.append("cleaned up")

    process = sim.process("a", program)
    await asyncio.sleep(1)
    sim.stop("a/program")
    sim.stop(process)
    assert (await process.wait()).kind is ExitKind.STOPPED
    assert seen == ["cleaned up"]
    sim.stop(process)


async def test_stop_runs_the_handler_of_sigterm_where_there_is_one(sim: Simulation):
    async def program(process: SimProcess) -> str:
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        await told.wait()
        return "drained"

    process = sim.process("a", program)
    await asyncio.sleep(1)
    sim.stop(process)
    assert (await process.wait()).value == "drained"


async def test_stopping_a_host_stops_all_its_processes(sim: Simulation):
    processes = [sim.process("a", idle) for _ in range(3)]
    assert [process.name for process in processes] == ["a/idle", "a/idle-2", "a/idle-3"]
    await asyncio.sleep(1)
    sim.stop("a")
    assert {(await process.wait()).kind for process in processes} == {ExitKind.STOPPED}
    assert sim.hosts["a"].up


# --- crash


async def test_a_crash_runs_nothing_more_of_a_process(sim: Simulation):
    seen: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            seen.append("finally")

    async def program(process: SimProcess) -> None:
        process.clock.random.random()
        sim.loop.call_later(100, seen.append, "timer")
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(asyncio.to_thread(seen.append, "thread"))
            await child()

    process = sim.process("a", program)
    await asyncio.sleep(1)
    sim.crash("a/program")
    assert (await process.wait()).kind is ExitKind.CRASHED
    await asyncio.sleep(1000)
    assert seen == ["thread"]


async def test_a_process_may_crash_itself_and_stops_at_its_next_wait(sim: Simulation):
    seen: list[str] = []

    async def program(process: SimProcess) -> None:
        sim.crash(process)
        seen.append("last step")
        await asyncio.sleep(0)
        seen.append("after death")

    await sim.process("a", program).wait()
    await asyncio.sleep(1)
    assert seen == ["last step"]


async def test_others_may_wait_for_what_a_crashed_process_will_never_do(sim: Simulation):
    promise = sim.loop.create_future()

    async def program(process: SimProcess) -> None:
        await asyncio.sleep(10)
        promise.set_result(None)

    sim.process("a", program)
    await asyncio.sleep(1)
    sim.crash("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(100):
            await promise


def test_the_dead_are_buried_without_a_sound():
    seen: list[str] = []

    async def stubborn(process: SimProcess) -> None:
        while seen.count("finally") < 3:
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("finally")
                asyncio.get_event_loop_policy()
                await asyncio.sleep(1)
        raise ValueError("nobody hears this")

    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(1)

    async def program(process: SimProcess) -> None:
        process.kept = asyncio.create_task(stubborn(process))
        async with asyncio.timeout(1e6), asyncio.TaskGroup() as group:
            group.create_task(stubborn(process))
            async for _ in numbers():
                await asyncio.sleep(1e6)

    async def loud(process: SimProcess) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("loud")
            raise KeyError("nobody hears this either")

    async def main(sim: Simulation) -> None:
        sim.process("a", program)
        sim.process("b", program)
        sim.process("c", loud)
        await asyncio.sleep(1)
        sim.crash("a")
        assert seen == []

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(0, main)
    assert "loud" in seen


async def test_the_test_itself_cannot_be_crashed(sim: Simulation):
    for victim in (sim.driver, "test"):
        with pytest.raises(ValueError, match="the test itself"):
            sim.crash(victim)


async def test_a_name_that_means_nothing_is_an_error_that_lists_what_there_is(sim: Simulation):
    sim.process("a", idle)
    with pytest.raises(LookupError, match="a/idle"):
        sim.crash("a/server")
    with pytest.raises(LookupError):
        sim.partition("b")
    with pytest.raises(ValueError, match="cannot be the name"):
        sim.host("a")


# --- restart


async def test_a_restarted_process_is_new_and_has_the_old_name(sim: Simulation):
    seen: list[tuple[int, str]] = []

    async def program(process: SimProcess) -> None:
        seen.append((process.pid, process.clock.token()))
        await asyncio.Event().wait()

    first = sim.process("a", program, name="server")
    await asyncio.sleep(1)
    second = sim.restart("a/server")
    await asyncio.sleep(1)
    assert (await first.wait()).kind is ExitKind.CRASHED
    third = sim.restart(first)
    await asyncio.sleep(1)
    assert second.name == "a/server"
    assert third.name == "a/server-2", "the first one's name is taken by the second"
    assert len({pid for pid, _ in seen}) == len({token for _, token in seen}) == 3


async def test_a_host_that_boots_again_runs_its_main_program_only(sim: Simulation):
    started: list[str] = []

    async def main(process: SimProcess) -> None:
        started.append(process.name)
        await asyncio.Event().wait()

    host = sim.host("a", main, resources={"cpu": 8})
    sim.process("a", idle)
    await asyncio.sleep(1)
    sim.crash(host)
    assert not host.up
    assert host.processes == {}
    with pytest.raises(RuntimeError, match="is down"):
        sim.process("a", idle)
    assert sim.restart("a") is host
    await asyncio.sleep(1)
    assert list(host.processes) == ["a/main"]
    sim.restart("a")  # a reboot
    await asyncio.sleep(1)
    assert started == ["a/main"] * 3
    assert str(host) == "a"
    assert host.resources == {"cpu": 8}


# --- freeze


async def test_a_frozen_process_does_nothing_and_then_everything_at_once(sim: Simulation):
    seen: list[float] = []

    async def program(process: SimProcess) -> None:
        while len(seen) < 20:
            await asyncio.sleep(1)
            seen.append(sim.loop.time())

    process = sim.process("a", program)
    await asyncio.sleep(3.5)
    sim.freeze("a")
    sim.freeze(process)
    assert process.frozen
    await asyncio.sleep(100)
    assert seen == [1, 2, 3]
    sim.thaw(process)
    sim.thaw(process)
    await asyncio.sleep(1.9)
    assert seen[3:] == [103.5, 104.5]


async def test_a_frozen_process_can_be_crashed(sim: Simulation):
    process = sim.process("a", idle)
    await asyncio.sleep(1)
    sim.freeze(process)
    sim.crash(process)
    sim.thaw(process)
    assert not process.frozen
    assert (await process.wait()).kind is ExitKind.CRASHED


# --- what a process has


async def test_a_process_inherits_no_context_variables(sim: Simulation):
    import contextvars

    variable = contextvars.ContextVar("variable", default="nothing")
    variable.set("the test's")

    async def program(process: SimProcess) -> str:
        return variable.get()

    assert (await sim.process("a", program).wait()).value == "nothing"


async def test_an_unsynced_file_survives_a_process_but_not_its_host(sim: Simulation):
    async def program(process: SimProcess) -> None:
        process.disk["synced"] = b"1"
        await process.disk.sync()
        process.disk["unsynced"] = b"2"
        await asyncio.Event().wait()

    sim.process("a", program)
    await asyncio.sleep(1)
    sim.crash("a/program")
    assert dict(sim.disk("a")) == {"synced": b"1", "unsynced": b"2"}
    sim.crash("a")
    assert dict(sim.disk(sim.hosts["a"])) == {"synced": b"1"}
    assert any("lost what was not synced of unsynced" in line for line in sim.trace)


async def test_waiting_for_a_process_can_be_given_up(sim: Simulation):
    process = sim.process("a", idle)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await process.wait()
    assert process.exit is None


def test_a_test_task_that_cannot_be_cancelled_is_an_error_at_the_end():
    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def main(sim: Simulation) -> None:
        sim.kept = asyncio.create_task(stubborn())
        await asyncio.sleep(1)

    with pytest.raises(SimDeadlock, match="stubborn"):
        simulate(0, main)
