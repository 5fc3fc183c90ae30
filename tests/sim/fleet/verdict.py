"""What the controller says of a fleet's jobs at the end, beside what really became of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.types import JobStatus
from tests.sim.fleet.programs import complaint

if TYPE_CHECKING:
    from fray.cluster.controller.attempt import EndedAttempt
    from fray.cluster.controller.records import Job, Task
    from fray.cluster.controller.state import Ledger
    from tests.sim.fleet.climate import Climate
    from tests.sim.fleet.truth import Life, Truth
    from tests.sim.fleet.users import Told

TOO_LATE = "it would begin after the host's lease"
"""What a host says that starts nothing: it does so by its own fault, not by the task's."""

INNOCENT = (AttemptState.PREEMPTED, AttemptState.WORKER_LOST)


class Verdict:
    """See the module.

    Args:
        ledger: What the controller says.
        truth: What really ran.
        told: What users have asked for, and were told.
        climate: What had failed.
    """

    def __init__(self, ledger: Ledger, truth: Truth, told: Told, climate: Climate) -> None:
        self._ledger = ledger
        self._truth = truth
        self._told = told
        self._climate = climate

    def wrong(self) -> Iterator[str]:
        """All that is wrong, as sentences."""
        for job in self._ledger.tables.jobs.values():
            if job.spec.actor is None:
                yield from self._job(job)
        yield from self._submissions()
        yield from self._preemptions()

    def _preemptions(self) -> Iterator[str]:
        """Nobody makes room for whom they had make room; with reservations each takes its own."""
        tables = self._ledger.tables
        if tables.reservations:
            return
        pairs = {
            (task.job_id, _preemptor(ended)): None
            for task in tables.tasks.values()
            for ended in task.history
            if _preemptor(ended)
        }
        for victim, other in pairs:
            if (other, victim) in pairs:
                yield f"{victim} and {other} have preempted each other"

    def _submissions(self) -> Iterator[str]:
        jobs = self._ledger.tables.jobs.values()
        names = Counter(job.spec.name for job in jobs if job.spec.parent is None)
        for submission in self._told.submissions:
            for request in submission.requests:
                there = names[request.name]
                if there > 1 or (submission.job_ids is not None and there != 1):
                    yield f"{request.name}, of {submission.job_ids}, is there {there} times"
        for parent, count in Counter(job.spec.parent for job in jobs).items():
            if parent is not None and count > 1:
                yield f"{parent} has launched one child, and has {count}"

    def _job(self, job: Job) -> Iterator[str]:
        job_id, spec = job.spec.job_id, job.spec
        tasks = self._ledger.tasks(job_id)
        for task in tasks:
            yield from self._task(job, task)
        if job.status is JobStatus.SUCCEEDED:
            for task in tasks:
                if not task.history or task.history[-1].state is not AttemptState.SUCCEEDED:
                    yield f"{job_id} succeeded, and its task {task.index} did not"
        if job.status is JobStatus.FAILED:
            yield from self._failed_job(job, tasks)
        asked = job_id in self._told.asked_to_end or spec.parent is not None
        if job.status is JobStatus.STOPPED and not asked:
            yield f"{job_id} was stopped, and nobody had asked for it: {job.error_message}"
        if job_id in self._told.terminated and not job.status.finished():
            yield f"{job_id} was terminated, and is {job.status}"

    def _failed_job(self, job: Job, tasks: list[Task]) -> Iterator[str]:
        """Some limit was really exceeded."""
        spec, job_id = job.spec, job.spec.job_id
        gangs = [g for g in self._ledger.tables.gangs.values() if g.job_id == job_id]
        counted = gangs or tasks
        overspent = any(
            each.failures > spec.max_retries_failure
            or each.preemptions > spec.max_retries_preemption
            for each in counted
        )
        too_long = spec.time_limit_s is not None and "time limit" in job.error_message
        too_late = spec.queue_limit_s is not None and "queue limit" in job.error_message
        if too_late:
            assert job.ended_at is not None
            assert spec.queue_limit_s is not None
            set_back = self._climate.faults["set_the_controllers_clock"]
            # One that was to be ended already may have begun where no word of it had come to.
            waited_until = job.ended_at if job.started_at is None else job.started_at
            if waited_until - job.submitted_at < spec.queue_limit_s and not set_back:
                yield f"{job_id} has not waited too long, and failed for that: {job}"
        elif not too_long and not overspent:
            yield f"{job_id} failed within its budgets: {job.error_message}; {counted}"

    def _task(self, job: Job, task: Task) -> Iterator[str]:
        known = {int(e.attempt_id.rpartition("#")[2]): e for e in task.history}
        lives = {
            life.number: life
            for life in self._truth.of_job(task.job_id)
            if life.index == task.index
        }
        for number, life in lives.items():
            if number >= task.attempts:
                yield f"{life.attempt_id} ran, and nobody knows of it"
            if number in known:
                yield from self._attempt(known[number], life)
        for number, ended in known.items():
            began = ended.state in (AttemptState.SUCCEEDED, AttemptState.FAILED)
            if number not in lives and began and not self._came_too_late(ended):
                yield f"{ended.attempt_id} {ended.state}, and has never begun: {ended.cause}"
        if len(task.history) < task.attempts:
            return  # the first ones are forgotten
        if not job.spec.gang_of(task.index):
            yield from self._counts(task)

    def _came_too_late(self, ended: EndedAttempt) -> bool:
        """Whether a host that had stood still found that it may not start an attempt any more."""
        harmed = self._climate.harmed(ended.worker_id, self._truth.now)
        return harmed and TOO_LATE in ended.cause.message

    def _counts(self, task: Task) -> Iterator[str]:
        """Each end is counted once, on its own account."""
        states = Counter(ended.state for ended in task.history)
        late = sum(
            ended.state is AttemptState.FAILED and TOO_LATE in ended.cause.message
            for ended in task.history
        )
        failures = states[AttemptState.FAILED] - late
        innocent = sum(states[state] for state in INNOCENT) + late
        if (failures, innocent) != (task.failures, task.preemptions):
            yield (
                f"task {task.key} failed {failures} times and lost its place {innocent} times; "
                f"{task.failures} and {task.preemptions} were counted"
            )
        if states[AttemptState.SUCCEEDED] > 1:
            yield f"task {task.key} succeeded {states[AttemptState.SUCCEEDED]} times"

    def _attempt(self, ended: EndedAttempt, life: Life) -> Iterator[str]:
        """One attempt: as it is remembered, and as it was."""
        name = f"{ended.attempt_id} on {life.host}"
        told = f"{name} {life.end}, and counts as {ended.state}: {ended.cause}"
        died_at = life.died_at if life.died_at is not None else float("inf")
        harmed = self._climate.harmed(life.host, self._truth.now)
        match ended.state:
            case AttemptState.SUCCEEDED:
                if life.end != "returned":
                    yield told
            case AttemptState.FAILED:
                said = life.end == "failed" and complaint(ended.attempt_id) in ended.cause.message
                killed = life.end == "killed" and self._climate.was_killed(life.host, died_at)
                if not said and not killed:
                    yield told
            case AttemptState.WORKER_LOST:
                if not harmed:
                    yield f"{told}; nothing had happened to its host"
            case AttemptState.PREEMPTED:
                message = ended.cause.message
                wanted = (
                    "preempted by" in message or "draining" in message or "of its gang" in message
                )
                if life.end in ("returned", "failed") and not harmed and not wanted:
                    yield told
            case _:
                pass


def _preemptor(ended: EndedAttempt) -> str:
    """The job for which an attempt had to go; "" for none."""
    found = re.match(r"preempted by (\S+)", ended.cause.message)
    return found[1] if ended.state is AttemptState.PREEMPTED and found else ""


__all__ = ["Verdict"]
