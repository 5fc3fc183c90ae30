"""What type checkers must understand of fray's API; `test_types.py` runs them over this file.

Each line that ends in ``# E`` must be rejected, and every other line accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import fray


@fray.actor(num_gpus=1, max_restarts=3)
class Model:
    def __init__(self, path: str, n: int = 1) -> None:
        self.n = n

    @fray.method
    def predict(self, x: int, *, scale: float = 1.0) -> str:
        return str(x * scale)

    @fray.method
    async def predict_async(self, x: int) -> bytes:
        assert_type(self.predict(x), str)  # a call inside the class is an ordinary one
        return b""

    @fray.method
    async def stream(self, n: int) -> AsyncIterator[int]:
        yield n

    @fray.method
    def plain_stream(self, n: int) -> Iterator[int]:
        yield n

    @fray.method(concurrent=True, timeout=1.0)
    async def health(self) -> dict[str, int]:
        return {}


@fray.actor
class Bare:
    @fray.method
    def f(self) -> int:
        return 1


async def calls() -> None:
    model = await fray.spawn(Model, "path", n=2)
    assert_type(model, Model)
    assert_type(await model.predict.remote(1, scale=2.0), str)
    assert_type(await model.predict_async.remote(1), bytes)
    assert_type(await model.health.remote(), dict[str, int])
    assert_type(await model.predict.options(timeout=1.0).remote(1), str)
    assert_type(model.predict(1), str)
    assert_type(model.predict.remote(1).result(timeout=1.0), str)
    async for token in model.stream.remote(3):
        assert_type(token, int)
    bare = await fray.spawn(Bare)
    assert_type(await bare.f.remote(), int)


async def wrong_calls() -> None:
    model = await fray.spawn(Model, "path")
    model.predict.remote("one")  # E
    model.predict.remote(1, 2)  # E
    model.predict_async.remote()  # E
    model.nope.remote()  # E
    model.stream.remote("three")  # E
    fray.spawn(Model)  # E
    fray.spawn(Model, 3)  # E
    fray.spawn(Model, "path", m=1)  # E


def plain_use() -> None:
    model = Model("path")  # still an ordinary class
    assert_type(model.n, int)
    assert_type(model.predict(1), str)
