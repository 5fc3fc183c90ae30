"""What is wrong with a child's spec, or a supervisor, is told where it is written."""

from __future__ import annotations

import asyncio
import math
import pickle
from typing import Any

import pytest

import fray


@fray.actor
class Part:
    def __init__(self, size: int) -> None:
        self.size = size


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, "a child's name is a string"),
        ({"restart": "always"}, "restart is one of permanent, transient, temporary"),
        ({"shutdown_s": -1}, "shutdown_s must be 0 or more"),
        ({"shutdown_s": math.nan}, "shutdown_s must be 0 or more"),
        ({"significant": True}, "is permanent: it never ends"),
        ({"actor": Part.options(name="x", lifetime="detached")}, "belongs to its supervisor"),
        ({"actor": Part.options(name="x", get_if_exists=True)}, "belongs to its supervisor"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(values: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        fray.ChildSpec(**{"name": "part", "actor": Part, "args": (1,), **values})


def test_arguments_and_actors_are_checked_when_the_spec_is_written():
    with pytest.raises(TypeError, match="missing a required argument: 'size'"):
        fray.ChildSpec("part", Part)
    with pytest.raises(TypeError, match="is an actor's class"):
        fray.ChildSpec("part", Part(1))  # type: ignore[arg-type]
    assert fray.ChildSpec("part", Part, kwargs={"size": 1}, shutdown_s=math.inf).factory


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": "all"}, "strategy is one of one_for_one, one_for_all, rest_for_one, gang"),
        ({"intensity": -2}, "intensity must be at least -1"),
        ({"period_s": 0}, "period_s must be above 0"),
        ({"jitter": 2}, "jitter must be from 0 to 1"),
        ({"children": [fray.ChildSpec("a", Part, (1,))] * 2}, "have the same name"),
    ],
)
def test_a_supervisor_that_makes_no_sense_is_refused(values: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        fray.Supervisor(**values)


async def test_a_supervisor_that_was_not_started_says_so():
    supervisor = fray.Supervisor()
    with pytest.raises(RuntimeError, match="was not started"):
        await supervisor.which_children()
    with pytest.raises(RuntimeError, match="was not started"):
        await supervisor.start_child(fray.ChildSpec("a", Part, (1,)))
    await supervisor.stop()
    with pytest.raises(KeyError):
        supervisor["a"]


async def test_a_driver_supervises_actors_in_its_own_process_too():
    async with fray.connect("local"):
        spec = fray.ChildSpec("part", Part, (1,))
        async with fray.Supervisor([spec]) as supervisor:
            with pytest.raises(RuntimeError, match="was started before"):
                await supervisor.start()
            handle = supervisor["part"]
            await handle.kill()
            await handle  # it is permanent
            [part] = await supervisor.which_children()
            assert part.starts == 2


def test_a_supervisor_works_on_another_loop_than_its_connections():
    async def main() -> None:
        with pytest.raises(fray.SupervisorFailed):
            async with fray.Supervisor([fray.ChildSpec("part", Part, (1,))], intensity=0) as boss:
                assert (await boss.count_children()).active == 1
                await boss["part"].kill()
                await asyncio.sleep(60)
                pytest.fail("the block goes on")

    with fray.connect("local"):
        asyncio.run(main())


async def test_a_supervisor_whose_connection_is_closed_has_ended():
    async with fray.connect("local"):
        supervisor = fray.Supervisor([fray.ChildSpec("part", Part, (1,))], intensity=-1)
        await supervisor.start()
        ending = asyncio.ensure_future(supervisor.wait())
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await ending


async def test_a_supervisor_that_was_started_is_nobodys_child():
    async with fray.connect("local"):
        inner = fray.Supervisor(name="inner")
        async with inner:
            outer = fray.Supervisor([fray.ChildSpec("inner", inner)], intensity=0)
            with pytest.raises(fray.SupervisorFailed, match="belongs to another tree"):
                await outer.start()


def test_what_a_monitor_tells_can_be_sent_on():
    cause = fray.DeathCause(fray.DeathKind.SIGNAL, "killed", signal=9)
    down = fray.Down("part", "a-1", 2, cause)
    assert pickle.loads(pickle.dumps(down)) == down
    assert str(down) == "part ended (life 2): killed; it may come back"


def test_a_program_without_a_loop_waits_for_an_end_and_blocks():
    with fray.connect("local"):
        part = Part.remote(1)
        watching = fray.monitor(part)
        with pytest.raises(TimeoutError):
            watching.result(timeout=0.05)
        part.kill().result()
        assert watching.result(timeout=10).cause.kind is fray.DeathKind.STOPPED
        with pytest.raises(fray.ActorNotFoundError):
            watching.result(timeout=10)
