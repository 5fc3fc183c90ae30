"""Calling what users gave: plain and ``async`` functions, plain and ``async`` generators."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any, cast


def call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a function and, where it gives a coroutine, runs that to its end on this thread.

    Args:
        fn: The function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    result = fn(*args, **kwargs)
    if inspect.iscoroutine(result):
        return asyncio.run(cast("Any", result))
    return result


def items(fn: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[Any]:
    """What a generator yields; an ``async`` one is run on a loop of its own, on this thread.

    Args:
        fn: The generator function.
        args: Its arguments.
    """
    made = fn(*args)
    return _in_turn(cast("Any", made)) if inspect.isasyncgen(made) else iter(made)


def _in_turn(made: AsyncGenerator[Any, None]) -> Generator[Any, None, None]:
    end = object()

    async def following() -> Any:
        return await anext(made, end)

    with asyncio.Runner() as runner:
        try:
            while (item := runner.run(following())) is not end:
                yield item
        finally:
            runner.run(made.aclose())


__all__ = ["call", "items"]
