"""The inference server, where its device fails."""

import asyncio

import pytest

from examples.inference.server import SLOTS, InferenceServer


class FailingDevice:
    """An engine that is lost after two steps."""

    slots = SLOTS

    def __init__(self):
        self.steps = 0

    def step(self, texts):
        self.steps += 1
        if self.steps > 2:
            raise RuntimeError("the device is lost")
        for text in texts:
            text.data.append(ord("a"))


async def test_all_callers_are_told_that_the_engine_has_failed_and_later_ones_too(monkeypatch):
    server = InferenceServer(None)
    monkeypatch.setattr(server, "_load", FailingDevice)
    pieces = []

    async def call():
        with pytest.raises(RuntimeError, match="the device is lost"):
            async for piece in server.generate("x", 10):
                pieces.append(piece)

    await server.on_start()
    async with asyncio.timeout(30):
        await asyncio.gather(call(), call())
        await call()
    assert b"" not in pieces
    assert len(b"".join(pieces)) <= 4  # two steps for two callers
    await server.on_stop()
    assert len(asyncio.all_tasks()) == 1
