"""Many tasks, while the controller and the agents are killed at random moments, again and again.

``FRAY_KILL_TASKS`` and ``FRAY_KILLS`` make it bigger; ``FRAY_KILL_SEED`` repeats the choices.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.cluster import Entrypoint, JobGroupConfig, JobRequest, JobStatus, ResourceConfig
from fray.errors import FrayError
from tests.integration import tallies
from tests.integration.real_cluster import RealCluster, driving, until

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.ids import JobId

TASKS = int(os.environ.get("FRAY_KILL_TASKS", "24"))
KILLS = int(os.environ.get("FRAY_KILLS", "8"))
SEED = int(os.environ.get("FRAY_KILL_SEED", "1"))
AGENTS = ("w1", "w2")
SLICE = "v4-16"
"""Of two hosts: a gang of two tasks has all of it."""
RESOURCES = [
    f'{{"cpu": 64, "memory": "64g", "slice": {{"name": "s", "type": "{SLICE}", "index": {index}}}}}'
    for index in range(len(AGENTS))
]
PAUSE_S = (0.1, 1.0)
WORK_S = (0.5, 4.0)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120 + 4 * TASKS + 10 * KILLS)]


def request(directory: Path, name: str, dice: random.Random, replicas: int) -> JobRequest:
    fails = dice.random() < 0.3
    work_s = dice.uniform(*WORK_S)
    return JobRequest(
        name=name,
        entrypoint=Entrypoint.from_callable(tallies.work, args=(str(directory), work_s, fails)),
        resources=ResourceConfig(cpu=1, replicas=replicas),
        max_retries_failure=1,
    )


async def submit(
    driver: AsyncFrayCluster, directory: Path, dice: random.Random
) -> dict[str, list[JobId]]:
    """Single tasks, jobs of four and gangs of two, and groups of two jobs: a third each."""
    jobs: dict[str, list[JobId]] = {"single": [], "several": [], "gang": [], "group": []}
    for number in range(TASKS // 3):
        jobs["single"].append(await driver.launch(request(directory, f"one-{number}", dice, 1)))
    for number in range(TASKS // 12):
        if number % 2:
            several = request(directory, f"four-{number}", dice, 4)
            jobs["several"].append(await driver.launch(several))
        else:
            for part in range(2):
                gang = request(directory, f"gang-{number}-{part}", dice, 1)
                gang.resources = ResourceConfig.with_tpu(SLICE)
                jobs["gang"].append(await driver.launch(gang))
        pair = [request(directory, f"pair-{number}-{side}", dice, 2) for side in ("a", "b")]
        group = JobGroupConfig(f"pair-{number}", same_region=False)
        submission = f"pair-{number}"
        ids = await driver.launch_group(pair, group, submission_id=submission)
        again = await driver.launch_group(pair, group, submission_id=submission)
        assert ids == again
        jobs["group"] += ids
    return jobs


async def kill_again_and_again(cluster: RealCluster, dice: random.Random) -> dict[str, int]:
    killed = {"controller": 0, "agent": 0}
    for _ in range(KILLS):
        await asyncio.sleep(dice.uniform(*PAUSE_S))
        who: Sequence[str] = dice.choice([("controller",), *((name,) for name in AGENTS), AGENTS])
        for name in who:
            daemon = cluster.controller if name == "controller" else cluster.agents[name]
            assert daemon is not None
            daemon.kill()
            killed["controller" if name == "controller" else "agent"] += 1
        await asyncio.sleep(dice.uniform(0.0, PAUSE_S[0]))
        for name in who:
            await start(cluster, name)
    return killed


async def start(cluster: RealCluster, name: str) -> None:
    if name == "controller":
        await cluster.start_controller()
    else:
        await cluster.start_agent(name, resources=RESOURCES[AGENTS.index(name)])


async def test_no_task_is_lost_or_run_twice_whoever_is_killed(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    directory = tmp_path / "written"
    directory.mkdir()
    cluster = RealCluster(tmp_path / "home")
    try:
        for name in ("controller", *AGENTS):
            await start(cluster, name)
        async with driving(cluster) as driver:
            jobs = await submit(driver, directory, dice)
            killed = await kill_again_and_again(cluster, dice)
            every = [job_id for kind in jobs.values() for job_id in kind]
            await until(lambda: ended(driver, every), "all jobs have ended", 60.0 + 2 * TASKS)
            reports = [await driver.report(job_id) for job_id in every]
    finally:
        await asyncio.to_thread(cluster.close)
    attempts = never_began = 0
    for report in reports:
        assert report.status is JobStatus.SUCCEEDED, (report.job_id, report.error)
        for index, task in enumerate(report.tasks):
            written = tallies.read(directory / f"{report.name}.{index}")
            where = f"{report.job_id}/{index}"
            assert written.overlaps == []
            # Told of an attempt whose agent died as it launched it; nothing else was preempted.
            unborn = [a.number for a in task.attempts if a.state == "preempted"]
            numbers = [a.number for a in task.attempts if a.number not in unborn]
            assert all(len(pids) == 1 for pids in written.begun.values()), where
            assert written.ended[-1:] == numbers[-1:], where
            if report.name.startswith("gang"):  # one that falls takes the others along, at any time
                assert set(written.begun) <= {a.number for a in task.attempts}, where
            else:
                assert sorted(written.begun) == numbers, (where, task.attempts)
                assert written.ended == numbers[-1:], where
                assert len(written.failed) == task.failures, where
                assert task.preemptions == len(unborn), where
            attempts += len(numbers)
            never_began += len(unborn)
    tasks = sum(len(report.tasks) for report in reports)
    print(f"{tasks} tasks, {attempts} attempts, {never_began} that never began, {KILLS}: {killed}")


async def ended(driver: AsyncFrayCluster, job_ids: list[JobId]) -> bool:
    try:
        return all([(await driver.poll(job_id)).status.finished() for job_id in job_ids])
    except FrayError:  # the controller has only just been started again
        return False
