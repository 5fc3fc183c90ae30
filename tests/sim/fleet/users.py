"""Who uses a fleet: users that launch, repeat, stop and reserve, and remember what they hear."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fray.cluster import JobGroupConfig, JobRequest, JobStatus, ReservationConfig, ResourceConfig
from fray.errors import ClusterUnavailable, InvalidRequestError
from fray.ids import JobId, ReservationId
from tests.sim.fleet.shapes import CONFIGS, SMALL, some_group, some_job

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fray.cluster.client import AsyncFrayCluster

PATIENCE_S = (0.0, 0.01, 0.05, 5.0, 300.0)
"""How long a user waits for the answer to a submission before they make it again."""


@dataclass(eq=False)
class Submission:
    """What a user has asked for.

    Attributes:
        submission_id: Under which name.
        requests: The jobs.
        group: Whether they start together.
        job_ids: What the user was told; None before.
        refused: Whether the user was told that it cannot be.
    """

    submission_id: str
    requests: Sequence[JobRequest]
    group: JobGroupConfig | None
    job_ids: list[JobId] | None = None
    refused: bool = False


@dataclass(eq=False)
class Told:
    """What was acknowledged, and is to be true for ever.

    Attributes:
        submissions: All that were made.
        ended: The jobs of which somebody was told that they have ended, and how.
        terminated: The jobs of which somebody was told that they will end.
        asked_to_end: The jobs that somebody has wanted to end, whether they were answered or not.
        reservations: Those that were made.
        wrong: Contradictions, as sentences.
    """

    submissions: list[Submission] = field(default_factory=list)
    ended: dict[JobId, JobStatus] = field(default_factory=dict)
    terminated: dict[JobId, None] = field(default_factory=dict)
    asked_to_end: dict[JobId, None] = field(default_factory=dict)
    reservations: list[ReservationId] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def jobs(self) -> list[JobId]:
        """All jobs that somebody knows of."""
        return [job_id for each in self.submissions for job_id in each.job_ids or ()]

    def answered(self, submission: Submission, job_ids: list[JobId]) -> None:
        """A submission was accepted, maybe again."""
        if submission.refused:
            self.wrong.append(f"{submission.submission_id} was refused, and then accepted")
        if submission.job_ids not in (None, job_ids):
            self.wrong.append(
                f"{submission.submission_id} is {job_ids}, and was {submission.job_ids} before"
            )
        submission.job_ids = job_ids

    def heard(self, job_id: JobId, status: JobStatus) -> None:
        """Somebody was told of a job."""
        known = self.ended.get(job_id)
        if known is not None and status is not known:
            self.wrong.append(f"{job_id} is {status}, and had ended before: {known}")
        if status.finished():
            self.ended[job_id] = status


class User:
    """One user, in the test's process.

    Args:
        name: Who.
        seed: Decides what they do.
        client: Their connection.
        kinds: The configurations that they choose from.
        told: Where they write down what they hear.
    """

    def __init__(
        self, name: str, seed: str, client: AsyncFrayCluster, kinds: list[str], told: Told
    ) -> None:
        self.name = name
        self.client = client
        self._seed = seed
        self._dice = random.Random(seed)
        self._kinds = kinds
        self._told = told
        self._mine: list[Submission] = []
        self._reserved: list[ReservationId] = []
        self._count = 0

    async def work(self, deeds: int, within_s: float) -> None:
        """Does some things, one after the other.

        Args:
            deeds: How many.
            within_s: In about how much time.
        """
        chances: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (9, self.launch_a_job),
            (3, self.launch_a_group),
            (2, self.repeat_a_submission),
            (2, self.terminate_a_job),
            (2, self.look_at_jobs),
            (2, self.wait_for_a_job),
            (2, self.reserve),
            (1, self.renew_a_reservation),
            (1, self.release_a_reservation),
        ]
        weights, acts = zip(*chances, strict=True)
        for number in range(deeds):
            [act] = self._dice.choices(acts, weights) if number else [self.launch_a_job]
            try:
                await act()
            except ClusterUnavailable:
                pass  # whether it was done is not known
            await asyncio.sleep(self._dice.uniform(0, 2 * within_s / deeds))

    # ---- deeds

    async def launch_a_job(self) -> None:
        name, seed = self._next("job")
        await self._submit(Submission(name, [some_job(self._dice, name, seed, self._kinds)], None))

    async def launch_a_group(self) -> None:
        name, seed = self._next("group")
        small = [kind for kind in self._kinds if kind in SMALL or kind == "slice"]
        requests, group = some_group(self._dice, name, seed, small)
        await self._submit(Submission(name, requests, group))

    def _next(self, what: str) -> tuple[str, str]:
        self._count += 1
        name = f"{what}-{self.name}-{self._count}"
        return name, f"{self._seed}/{name}"

    async def _submit(self, submission: Submission) -> None:
        self._mine.append(submission)
        self._told.submissions.append(submission)
        if self._reserved and self._dice.random() < 0.3:
            for request in submission.requests:
                request.reservation_id = self._dice.choice(self._reserved)
        await self.insist(submission)

    async def insist(self, submission: Submission) -> None:
        """Makes a submission until it is answered.

        Args:
            submission: Which.
        """
        while True:
            try:
                async with asyncio.timeout(self._dice.choice(PATIENCE_S)):
                    job_ids = await self._launch(submission)
            except (ClusterUnavailable, TimeoutError):
                await asyncio.sleep(self._dice.uniform(0, 3))
            except InvalidRequestError as exc:
                if submission.job_ids is not None:
                    self._told.wrong.append(f"{submission.submission_id} was accepted before {exc}")
                submission.refused = True
                return
            else:
                self._told.answered(submission, job_ids)
                return

    async def _launch(self, submission: Submission) -> list[JobId]:
        name = submission.submission_id
        if submission.group is not None:
            requests, group = submission.requests, submission.group
            return await self.client.launch_group(requests, group, submission_id=name)
        [request] = submission.requests
        return [await self.client.launch(request, submission_id=name)]

    async def repeat_a_submission(self) -> None:
        known = [each for each in self._mine if each.job_ids is not None]
        if known:
            await self.insist(self._dice.choice(known))

    def _some_job(self) -> JobId | None:
        known = [job_id for each in self._mine for job_id in each.job_ids or ()]
        return self._dice.choice(known) if known else None

    async def terminate_a_job(self) -> None:
        job_id = self._some_job()
        if job_id is not None:
            self._told.asked_to_end[job_id] = None
            await self.client.terminate(job_id)
            self._told.terminated[job_id] = None

    async def look_at_jobs(self) -> None:
        for info in await self.client.list_jobs():
            self._told.heard(info.job_id, info.status)

    async def wait_for_a_job(self) -> None:
        job_id = self._some_job()
        if job_id is not None:
            try:
                async with asyncio.timeout(self._dice.uniform(0, 60)):
                    info = await self.client.wait_for(job_id)
            except TimeoutError:
                return
            self._told.heard(job_id, info.status)

    async def reserve(self) -> None:
        kind = self._dice.choice([kind for kind in self._kinds if kind in (*SMALL, "slice", "gpu")])
        config = CONFIGS[kind]
        least, more = self._dice.randint(1, 2), self._dice.randint(0, 2)
        try:
            reservation_id = await self.client.create_reservation(
                ReservationConfig(
                    _times(config, least),
                    _times(config, least + more),
                    priority=self._dice.choice([0, 50, 99]),
                    ttl_seconds=self._dice.choice([10, 60, 200]),
                )
            )
        except InvalidRequestError:
            return  # never possible here, or above the quota
        self._reserved.append(reservation_id)
        self._told.reservations.append(reservation_id)

    async def renew_a_reservation(self) -> None:
        if self._reserved:
            try:
                await self.client.renew_reservation(self._dice.choice(self._reserved), 60.0)
            except InvalidRequestError:
                pass  # it has ended

    async def release_a_reservation(self) -> None:
        if self._reserved:
            await self.client.release_reservation(self._dice.choice(self._reserved))


def _times(config: ResourceConfig, replicas: int) -> ResourceConfig:
    return ResourceConfig(cpu=config.cpu, device=config.device, replicas=replicas)
