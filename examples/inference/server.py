"""`InferenceServer`: an actor that answers many callers with one model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import fray
from examples.inference.text import Text
from fray.rpc import FrayActorServer, fray_resolver

if TYPE_CHECKING:
    from examples.inference.engine import Engine
    from examples.training.config import TrainConfig

POOL = "inference"
"""The name that all servers have: a handle to it balances its calls over them."""

SLOTS = 8
DRAIN_S = 20.0
CALLS_MAX = 64


@dataclass(eq=False, slots=True)
class _Request:
    text: Text
    written: asyncio.Event = field(default_factory=asyncio.Event)
    told: int = 0


@fray.actor(max_concurrency=CALLS_MAX)
class InferenceServer:
    """Writes texts for many callers; each step of the model is shared by up to eight of them.

    A caller comes in between two steps and leaves when its text is done, or when it has gone:
    nobody waits for a batch to fill, or for the longest text of one.

    Args:
        config: Of the run that has trained the model.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._requests: list[_Request] = []
        self._wanted = asyncio.Event()
        self._stepping: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Loads the model."""
        self._stepping = asyncio.create_task(self._steps(await asyncio.to_thread(self._load)))
        self._stepping.add_done_callback(self._wake_all)

    async def on_stop(self) -> None:
        """Ends, once all callers have had their texts."""
        assert self._stepping is not None
        self._stepping.cancel()
        await asyncio.wait([self._stepping])

    @fray.method(concurrent=True)
    async def pid(self) -> int:
        """Its process."""
        return os.getpid()

    async def generate(self, prompt: str, length: int, seed: int = 0) -> AsyncIterator[bytes]:
        """Goes on with a text; gives what it adds, piece by piece.

        Args:
            prompt: What comes before; not empty.
            length: How many bytes to add.
            seed: Decides what is written; the same seed gives the same text on every server.

        Raises:
            ValueError: The prompt is empty.
        """
        data = list(prompt.encode())
        if not data:
            raise ValueError("the prompt is empty")
        self._check_engine()
        request = _Request(Text(data, len(data) + length, seed), told=len(data))
        self._requests.append(request)
        self._wanted.set()
        try:
            while request.told < request.text.end:
                await request.written.wait()
                self._check_engine()
                request.written.clear()
                piece, request.told = request.text.data[request.told :], len(request.text.data)
                if piece:  # the last one had what this step wrote, too
                    yield bytes(piece)
        finally:
            if request in self._requests:  # its caller has gone
                self._requests.remove(request)

    async def _steps(self, engine: Engine) -> None:
        while True:
            await self._wanted.wait()
            sharing = self._requests[: engine.slots]
            if not sharing:
                self._wanted.clear()
                continue
            await asyncio.to_thread(engine.step, [request.text for request in sharing])
            for request in sharing:
                if request.text.done and request in self._requests:
                    self._requests.remove(request)
                request.written.set()

    def _check_engine(self) -> None:
        assert self._stepping is not None
        if self._stepping.done():
            self._stepping.result()  # which raises what has ended it

    def _wake_all(self, _: asyncio.Task[None]) -> None:
        for request in self._requests:
            request.written.set()

    def _load(self) -> Engine:
        from examples.inference.engine import Engine

        engine = Engine(self._config, SLOTS)
        engine.step([Text([32], 2, 0)])  # compiled before anybody waits for it
        return engine


def serve(config: TrainConfig) -> None:
    """A job that is one server of the pool. Told to stop, it lets its callers have their texts.

    Args:
        config: Of the run that has trained the model.
    """
    server = FrayActorServer(fray_resolver())
    server.register(POOL, InferenceServer(config))
    try:
        server.serve()
    finally:
        server.shutdown(grace_period=DRAIN_S)
