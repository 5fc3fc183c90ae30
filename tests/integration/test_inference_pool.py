"""The inference example: servers come, die and go under load, and no caller has an error."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import fray
from fray.cluster import LocalCluster
from fray.rpc import fray_resolver

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("jax", "optax")),
        reason="needs fray-actors[examples]",
    ),
]

PHASE_S = 1.0


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(use_processes=True) as cluster:
        yield cluster


def test_a_pool_changes_under_load_without_an_error(cluster: LocalCluster, tmp_path: Path) -> None:
    from examples.command import ONE_THREAD
    from examples.inference.job import tell
    from examples.inference.pool import InferencePool, generate
    from examples.training.config import TrainConfig
    from examples.training.worker import TrainWorker

    config = TrainConfig(
        str(tmp_path), processes=1, steps=2, batch=4, context=16, width=16, heads=2,
        report_every=2, checkpoint_every=2,
    )  # fmt: skip
    list(TrainWorker(config, 0).train("nobody to meet"))
    pool = InferencePool(cluster, config, ONE_THREAD)

    async def text(server: object, seed: int) -> bytes:
        return b"".join([piece async for piece in generate(server, "The ", 30, seed, [])])

    try:
        pool.add()
        pool.wait_until_there(1)
        server = fray_resolver().lookup("inference")
        story = asyncio.run(tell(pool, 6, PHASE_S, lambda _: None))
        alone = [asyncio.run(text(server, seed)) for seed in range(3)]
        with pytest.raises(ValueError, match="the prompt is empty"):
            list(server.generate.remote("", 10))

        async def together() -> list[bytes]:
            return await asyncio.gather(*(text(server, seed) for seed in range(3)))

        assert asyncio.run(together()) == alone, "a text does not depend on its company"
    finally:
        pool.close()
    one, added, killed, removed = story.phases
    assert story.load.errors == []
    assert [phase.servers for phase in story.phases] == [1, 2, 2, 1]
    assert all(phase.served(story.load) for phase in (one, added, killed))
    assert sum(each.retried for each in killed.served(story.load)) > 0
    assert sum(each.retried for each in added.served(story.load)) == 0
    assert sum(each.retried for each in removed.served(story.load)) == 0
    with pytest.raises(fray.ActorNotFoundError):
        fray_resolver().lookup("inference").pid()
