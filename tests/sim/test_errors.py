"""What went wrong at an actor is told whole to whoever called it, on another host."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

import fray
from fray.errors import BlockingCallError, RemoteError


class Simple(Exception):
    pass


class TwoArguments(Exception):
    """Its own pickle calls it with one argument, which it does not accept."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")


class NoReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("I do not pickle")


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("I do not speak")


class Handle(Exception):
    """Holds what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("the handle broke")
        self.handle = (x for x in ())


@fray.actor
class Failing:
    async def fail(self, how: str) -> None:
        getattr(self, f"_{how}")()

    def fail_on_a_thread(self, how: str) -> None:
        getattr(self, f"_{how}")()

    async def well(self) -> str:
        return "well"

    def _simple(self):
        raise Simple("simply")

    def _two_arguments(self):
        raise TwoArguments(7, "no reason")

    def _no_reduce(self):
        raise NoReduce("quietly")

    def _no_text(self):
        raise NoText

    def _handle(self):
        raise Handle

    def _noted(self):
        exc = Simple("with a note")
        exc.add_note("look at the tap")
        raise exc

    def _caused(self):
        try:
            try:
                raise KeyError("the root")
            except KeyError as exc:
                raise NoReduce("the middle") from exc
        except NoReduce:
            raise Simple("the top")  # noqa: B904 - its context is what is tested

    def _circular(self):
        one, other = Simple("one"), Simple("other")
        one.__cause__, other.__cause__ = other, one
        raise one

    def _group(self):
        inner = ExceptionGroup("inner", [ValueError("deep"), Handle()])
        inner.add_note("a note of the inner one")
        raise ExceptionGroup("outer", [inner, Simple("beside")])


@pytest.fixture
async def failing(sim_cluster):
    await sim_cluster.add_hosts(1)
    return await Failing.remote()


ON_BOTH = pytest.mark.parametrize("method", ["fail", "fail_on_a_thread"])


@ON_BOTH
@pytest.mark.parametrize(
    ("how", "kind", "told"),
    [
        ("simple", Simple, ["Simple: simply", "in _simple"]),
        ("two_arguments", TwoArguments, ["TwoArguments: 7: no reason", "in _two_arguments"]),
        ("no_reduce", RemoteError, ["NoReduce: quietly", "I do not pickle"]),
        ("no_text", NoText, ["NoText", "in _no_text"]),
        ("handle", RemoteError, ["Handle: the handle broke", "in _handle"]),
        ("noted", Simple, ["with a note", "look at the tap"]),
        ("caused", Simple, ["the root", "the middle", "the top"]),
        ("circular", Simple, ["one", "other"]),
        (
            "group",
            RemoteError,
            ["outer", "inner", "ValueError: deep", "the handle broke", "beside", "a note of the"],
        ),
    ],
)
async def test_whatever_a_method_raises_is_told_whole_and_the_actor_lives_on(
    failing, method, how, kind, told
):
    with pytest.raises(Exception) as caught:
        await getattr(failing, method).remote(how)
    assert type(caught.value) is kind
    account = fray.remote_error(caught.value)
    assert account is not None
    text = "\n".join([str(account), *getattr(account, "__notes__", ())])
    for each in told:
        assert each in text
    assert await failing.well.remote() == "well"


async def test_a_failure_that_nobody_awaited_is_logged_once(failing, caplog):
    failing.fail.remote("simple")
    looked_at = failing.fail.remote("noted")
    await asyncio.sleep(1)
    assert isinstance(looked_at.exception(), Simple)
    del looked_at
    gc.collect()
    logged = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(logged) == 1, logged
    assert "a call failed and nobody looked: " in logged[0]
    assert "Failing.fail" in logged[0]


async def test_a_blocking_call_on_the_loop_is_refused_with_what_to_write_instead(failing):
    with pytest.raises(BlockingCallError, match=r"write `await Failing\.well\.remote\(\.\.\.\)`"):
        failing.well()
    with pytest.raises(BlockingCallError, match=r"await Failing\.well\.remote"):
        failing.well.remote().result()
