"""What the jobs of a fleet ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.cluster import Entrypoint, JobGroupConfig, JobRequest, ResourceConfig
from tests.sim.fleet.programs import CHILD, Script, work

if TYPE_CHECKING:
    import random

SLICE = "v4-16"
"""The smallest slice that has several hosts: two of four chips each."""

HOST_CPUS = 4.0
"""Of every host of a fleet."""

BANDS = ("batch", "normal", "normal", "high", "critical")

CONFIGS = {
    "one": ResourceConfig(cpu=1),
    "pair": ResourceConfig(cpu=1, replicas=2),
    "wide": ResourceConfig(cpu=2, replicas=3),
    "large": ResourceConfig(cpu=4, preemptible=False),
    "half": ResourceConfig.with_gpu("auto", 0.5, replicas=2),
    "gpu": ResourceConfig.with_gpu("H100", 1),
    "slice": ResourceConfig.with_tpu(SLICE),
    "slices": ResourceConfig.with_tpu(SLICE, 2),
}
"""By name; the names of jobs begin with them."""


def config_of(name: str) -> ResourceConfig:
    """What each task of a job was promised.

    Args:
        name: The job's.
    """
    return CONFIGS.get(name.partition("-")[0], CHILD)


SMALL = ("one", "pair", "half")


def kinds_for(*, gpus: bool, slices: int) -> list[str]:
    """The configurations that make sense in a world, the more frequent ones several times.

    Args:
        gpus: Whether it has GPUs.
        slices: How many slices it has.
    """
    kinds = ["one", "one", "pair", "wide", "large"]
    kinds += ["half", "gpu"] if gpus else []
    kinds += ["slice", "slice"] if slices else []
    return kinds + (["slices"] if slices > 1 else [])


def some_script(dice: random.Random, seed: str, tasks: int, *, deep: int = 1) -> Script:
    """What a job does.

    Args:
        dice: Decides.
        seed: Of the script's own dice.
        tasks: How many tasks the job has.
        deep: How many generations of children there may be.
    """
    failing = [
        (index, number)
        for index in range(tasks)
        for number in range(3)
        if dice.random() < (0.25 if number == 0 else 0.35) / tasks**0.5
    ]
    child = None
    if deep and dice.random() < 0.2:
        child = some_script(dice, f"{seed}/child", 1, deep=deep - 1)
    return Script(
        seed=seed,
        seconds=dice.choice([0.0, dice.uniform(0, 5), dice.uniform(0, 30), dice.uniform(0, 60)]),
        failing=tuple(failing),
        saves=dice.random() < 0.3,
        stubborn=dice.random() < 0.15,
        calls=dice.random() < 0.3,
        child=child,
        detached=dice.random() < 0.5,
        waits=dice.random() < 0.5,
    )


def some_job(dice: random.Random, name: str, seed: str, kinds: list[str]) -> JobRequest:
    """A job.

    Args:
        dice: Decides.
        name: What it is called, behind the name of its configuration.
        seed: Of its script's own dice.
        kinds: The configurations to choose from.
    """
    kind = dice.choice(kinds)
    config = CONFIGS[kind]
    tasks = config.replicas * (2 if kind.startswith("slice") else 1)
    return JobRequest(
        f"{kind}-{name}",
        Entrypoint.from_callable(work, args=(some_script(dice, seed, tasks),)),
        resources=config,
        max_retries_failure=dice.choice([0, 1, 1, 2]),
        max_retries_preemption=dice.choice([0, 1, 3, 100, 100, 100]),
        priority=dice.choice(BANDS),
        evictable=dice.random() < 0.7,
        time_limit_s=dice.choice([None, None, None, dice.uniform(5, 60)]),
        queue_limit_s=dice.choice([None, None, None, None, dice.uniform(5, 120)]),
    )


def some_group(
    dice: random.Random, name: str, seed: str, kinds: list[str]
) -> tuple[list[JobRequest], JobGroupConfig]:
    """Jobs that start together.

    Args:
        dice: Decides.
        name: The group's, and behind it of its jobs.
        seed: Of their scripts' own dice.
        kinds: The configurations to choose from.
    """
    jobs = [
        some_job(dice, f"{name}-{number}", f"{seed}/{number}", kinds)
        for number in range(dice.randint(2, 3))
    ]
    near = dice.choice([(False, False), (True, False), (True, True)])
    return jobs, JobGroupConfig(f"group-{name}", same_region=near[0], same_zone=near[1])
