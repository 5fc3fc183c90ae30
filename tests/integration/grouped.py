"""What the members of a group are, in the tests of groups on a cluster of processes."""

from __future__ import annotations

import os
import time

import fray


@fray.actor
class Member:
    @fray.method(concurrent=True)
    async def pid(self) -> int:
        return os.getpid()

    def environment(self) -> tuple[str, str]:
        return os.environ["TPU_WORKER_ID"], os.environ["FRAY_AGENT_ADDRESS"]

    def step(self, work_s: float) -> float:
        time.sleep(work_s)
        return work_s


def hold(seconds: float) -> None:
    time.sleep(seconds)
