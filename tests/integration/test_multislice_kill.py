"""The multi-slice example, while slices of it are killed: the result is the same, bit for bit."""

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

KILL_ONE_AT, KILL_ALL_AT = 6, 10


def test_slices_that_lose_hosts_learn_what_an_undisturbed_one_would_have_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.command import ONE_THREAD
    from examples.multislice.config import SliceConfig
    from examples.multislice.leader import Run, train
    from examples.training.checkpoint import Checkpoints

    monkeypatch.setenv("FRAY_CLUSTER_SPEC", "local?use_processes=1")
    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    plain = SliceConfig(
        str(tmp_path / "plain"), slices=1, steps=14, batch=8, shards=4, context=16, width=16,
        heads=2, report_every=2, checkpoint_every=4,
    )  # fmt: skip
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "compiled").symlink_to(tmp_path / "plain" / "compiled")  # to save time
    killed: list[int] = []

    async def kill(run: Run, group: fray.Group) -> None:
        made = len(run.steps)
        while not made and len(group.slices) < 2:
            await group.changed()
            await group.barrier()
        if not killed and made >= KILL_ONE_AT:
            await kill_last_host(group, group.slices[1:])
        elif len(killed) == 1 and made >= KILL_ALL_AT:
            await kill_last_host(group, group.slices)

    async def kill_last_host(group: fray.Group, slices: Any) -> None:
        for each in group.members:
            if each.slice in slices and each.host == each.place.hosts - 1:
                killed.append(await each.handle.pid.remote())
                os.kill(killed[-1], signal.SIGKILL)

    async def everything() -> tuple[Run, Run]:
        async with fray.connect() as cluster:
            calm = await train(cluster, plain, lambda _: None)
            stormy = replace(plain, output=str(tmp_path / "killed"), slices=2)
            return calm, await train(cluster, stormy, lambda _: None, kill)

    calm, stormy = asyncio.run(everything())
    assert {each.epoch for each in calm.steps} == {1}
    assert len({each.epoch for each in stormy.steps}) >= 3
    assert len(stormy.losses) >= 2
    assert len(stormy.steps) > 14, "all were lost at once: it went back to a checkpoint"
    ends = [
        Checkpoints(str(tmp_path / name / "checkpoints")).latest() for name in ("plain", "killed")
    ]
    assert ends[0] is not None
    assert ends[0][0] == 14
    assert ends[0] == ends[1]
    steps = {each.number: each.loss for each in stormy.steps}
    assert [steps[each.number] for each in calm.steps] == [each.loss for each in calm.steps]
    again = [each.number for each in stormy.steps if each.loss != steps[each.number]]
    assert not again, "a step that is made twice has the same loss twice"
