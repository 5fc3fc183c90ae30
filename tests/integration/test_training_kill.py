"""The training example, while a process of it is killed: the result is the same, bit for bit."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fray

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("jax", "optax")),
        reason="needs fray-actors[examples]",
    ),
]

KILL_AT = 6


def test_a_gang_that_loses_a_process_learns_what_it_would_have_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.command import ONE_THREAD
    from examples.training.checkpoint import Checkpoints
    from examples.training.config import TrainConfig
    from examples.training.job import Run, train

    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "local?use_processes=1")
    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    plain = TrainConfig(
        str(tmp_path / "plain"), steps=12, batch=4, context=16, width=16, heads=2,
        report_every=2, checkpoint_every=4,
    )  # fmt: skip
    killed_after: list[int] = []  # steps that were told of

    async def kill_one(run: Run, workers: list[Any]) -> None:
        if run.reports[-1].step >= KILL_AT and not killed_after:
            killed_after.append(run.reports[-1].step)
            os.kill(await workers[-1].pid.remote(), signal.SIGKILL)

    async def everything() -> tuple[Run, Run]:
        async with fray.connect():
            calm = await train(plain, lambda _: None)
            stormy = await train(
                replace(plain, output=str(tmp_path / "killed")), lambda _: None, kill_one
            )
            return calm, stormy

    calm, stormy = asyncio.run(everything())
    assert calm.lives == [0]
    assert len(stormy.lives) == 2
    # Reports may be long on their way, and the gang further by then: but never less far.
    left = range((killed_after[0] - 1) // 4 * 4, 12, 4)
    assert stormy.lives[1] in left, "it goes on after the newest checkpoint"
    ends = [
        Checkpoints(str(tmp_path / name / "checkpoints")).latest() for name in ("plain", "killed")
    ]
    assert ends[0] is not None
    assert ends[0][0] == 12
    assert ends[0] == ends[1]
