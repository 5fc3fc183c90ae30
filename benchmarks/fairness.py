"""How three users with weights 1, 1 and 2 share a full cluster over a day.

The production ledger and planner, without anything around them, on a virtual clock: tasks of
random lengths (seeded) end, the ledger hears of it, and a plan gives their places away. Run it:
``python -m benchmarks.fairness``.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.commands import (
    Command,
    ObservedAttempt,
    RegisterWorker,
    ReportAttempts,
    SetUser,
    SubmitJobs,
)
from fray.cluster.controller.scheduler import command_of
from fray.cluster.controller.specs import JobSpec, Program, WorkerSpec
from fray.cluster.controller.state import Ledger
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import MILLI, Resources
from fray.cluster.scheduling.planner import plan

GIB = 1 << 30
DAY_S = 86_400.0


@dataclass
class Flood:
    """A cluster that is full all day, and who has what of it.

    Args:
        weights: Of the users, by name.
        cpus: What each task of a user needs, by name.
        hosts: How many, of 16 CPUs each.
        seed: Of the tasks' lengths.
    """

    weights: Mapping[str, float]
    cpus: Mapping[str, int]
    hosts: int = 4
    seed: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    used_s: dict[str, float] = field(default_factory=dict)
    now: float = 0.0

    def do(self, command: Command) -> None:
        self.ledger.apply(command, self.now)

    def run(self, seconds: float = DAY_S, step_s: float = 300.0, tasks: int = 1800) -> None:
        """Lets time pass."""
        lengths = random.Random(self.seed)
        for number in range(self.hosts):
            has = Resources(16 * MILLI, 64 * GIB, 64 * GIB)
            name = f"host-{number}"
            self.do(RegisterWorker(WorkerSpec(name, f"{name}:1", has), "boot"))
        for user, weight in self.weights.items():
            self.do(SetUser(user, weight))
            each = ResourceConfig(cpu=self.cpus[user], replicas=tasks)
            spec = JobSpec(f"{user}/flood", "flood", user, "ns", Program(blob="x"), resources=each)
            self.do(SubmitJobs(user, (spec,)))
        ends: list[tuple[float, str]] = []
        known: set[str] = set()
        while self.now < seconds:
            made = plan(self.ledger.view(), self.now)
            self.do(command_of(made))
            for attempt_id in self.ledger.tables.attempts:
                if attempt_id not in known:
                    known.add(attempt_id)
                    end = self.now + lengths.uniform(300.0, 3600.0)
                    heapq.heappush(ends, (end, attempt_id))
            for user in self.weights:
                live = self.ledger.tables.users[user].account.live.cpu_milli / MILLI
                self.used_s[user] = self.used_s.get(user, 0.0) + live * step_s
            self.now += step_s
            gone: set[str] = set()
            while ends and ends[0][0] <= self.now:
                gone.add(heapq.heappop(ends)[1])
            self.end(gone)

    def end(self, gone: set[str]) -> None:
        """Lets some attempts succeed: each host reports all that it has."""
        by_host: dict[str, list[ObservedAttempt]] = {}
        for attempt_id, attempt in self.ledger.tables.attempts.items():
            state = AttemptState.SUCCEEDED if attempt_id in gone else AttemptState.RUNNING
            seen = ObservedAttempt(attempt_id, state)
            by_host.setdefault(attempt.worker_id, []).append(seen)
        for name, seen in by_host.items():
            generation = self.ledger.tables.workers[name].generation
            self.do(ReportAttempts(name, "boot", generation, tuple(seen)))

    def shares(self) -> dict[str, float]:
        """What each user had of what all had, from 0 to 1."""
        total = sum(self.used_s.values())
        return {user: used / total for user, used in self.used_s.items()}


def main() -> None:
    """Prints what each of three users gets."""
    flood = Flood({"ann": 1.0, "bob": 1.0, "cat": 2.0}, {"ann": 1, "bob": 2, "cat": 1})
    flood.run()
    for user, part in flood.shares().items():
        print(f"{user}: weight {flood.weights[user]:g}, {part:.1%} of the cluster over a day")


if __name__ == "__main__":
    main()
