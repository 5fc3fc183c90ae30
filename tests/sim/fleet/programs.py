"""What the jobs of a fleet run: scripts of work, failure, children, and a bad end."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from typing import Any

import fray
from fray.actor.resolver import fray_resolver
from fray.cluster import Entrypoint, JobRequest, ResourceConfig, current_cluster
from fray.errors import FrayError

TALLY = "tally"
"""An actor that some tasks call by its name."""

STUBBORN_S = 300.0
"""How long a task that minds no SIGTERM would go on: far longer than its grace."""

CHILD = ResourceConfig(cpu=1)
"""What a task's child asks for."""

WAIT_S = 60.0
"""How long a task waits for its child."""

Fate = tuple[int, int]
"""A task's index, and the number of an attempt at it."""


@fray.actor
class Tally:
    """Counts those who come by."""

    def __init__(self) -> None:
        self.total = 0

    @fray.method(idempotent=True, retries=3)
    async def come_by(self) -> int:
        self.total += 1
        return self.total


@dataclass(frozen=True)
class Script:
    """What the tasks of a job do.

    Attributes:
        seed: Decides the rest.
        seconds: How long an attempt works.
        failing: The attempts that raise at their end; all others return.
        saves: Whether it reports checkpoints.
        stubborn: Whether it minds no SIGTERM.
        calls: Whether it calls the actor `TALLY`.
        child: What a job does that its first task launches; None for none.
        detached: Whether that child outlives it.
        waits: Whether it waits for the child.
    """

    seed: str
    seconds: float
    failing: tuple[Fate, ...] = ()
    saves: bool = False
    stubborn: bool = False
    calls: bool = False
    child: Script | None = None
    detached: bool = False
    waits: bool = False


def complaint(attempt_id: str) -> str:
    """What a failing attempt says.

    Args:
        attempt_id: Which.
    """
    return f"{attempt_id} fails, as it was told to"


async def work(script: Script) -> None:
    """The entrypoint of every job."""
    me, index = os.environ["FRAY_ATTEMPT_ID"], int(os.environ["FRAY_TASK_INDEX"])
    try:
        await _live(script, me, index)
    except asyncio.CancelledError:
        if script.stubborn:
            await asyncio.sleep(STUBBORN_S)
        raise
    if (index, int(os.environ["FRAY_ATTEMPT"])) in script.failing:
        raise RuntimeError(complaint(me))


async def _live(script: Script, me: str, index: int) -> None:
    dice = random.Random(f"{script.seed}/{me}")
    client: Any = current_cluster().asynchronous
    child = None
    if script.child is not None and index == 0:
        child = await _launch(client, script, f"{os.environ['FRAY_JOB_ID']}/child")
    parts = dice.randint(1, 3)
    for _ in range(parts):
        await asyncio.sleep(script.seconds / parts)
        if script.saves:
            fray.report_checkpoint()
    if script.calls:
        await _come_by(dice)
    if child is not None and script.waits:
        try:
            async with asyncio.timeout(WAIT_S):  # its user's quota may not be enough for both
                await client.wait_for(child)
        except (FrayError, TimeoutError):
            pass  # it goes on without


async def _launch(client: Any, script: Script, submission_id: str) -> Any:
    """Launches the child: under a name, so that another attempt gets the same one."""
    request = JobRequest(
        "child",
        Entrypoint.from_callable(work, args=(script.child,)),
        resources=CHILD,
        detached=script.detached,
        max_retries_failure=1,
    )
    for _ in range(3):
        try:
            return await client.launch(request, submission_id=submission_id)
        except FrayError:  # nobody answers, or this job is being stopped
            await asyncio.sleep(1)
    return None


async def _come_by(dice: random.Random) -> None:
    try:
        async with asyncio.timeout(dice.uniform(1, 20)):
            tally = await fray_resolver().lookup_async(TALLY)
            await tally.come_by.remote()
    except (FrayError, TimeoutError):
        pass  # what each call ended with is in the history
