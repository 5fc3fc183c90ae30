"""A ledger with a clock and agents that say what the test wants them to say.

After every command the invariants are checked, so each scenario is a test of them too.
"""

from collections.abc import Mapping
from dataclasses import fields

from fray.cluster.accelerators import tpu_topology
from fray.cluster.controller.attempt import Attempt, AttemptState
from fray.cluster.controller.codec import decode_command, encode_command
from fray.cluster.controller.commands import (
    Command,
    GroupSpec,
    ObservedAttempt,
    RegisterWorker,
    ReportAttempts,
    StopJob,
    SubmitJobs,
)
from fray.cluster.controller.events import Event
from fray.cluster.controller.invariants import violations
from fray.cluster.controller.journal import Entry
from fray.cluster.controller.scheduler import command_of
from fray.cluster.controller.specs import GangScope, JobSpec, Program, WorkerSpec
from fray.cluster.controller.state import Applied, Ledger
from fray.cluster.devices import ResourceConfig, TpuConfig
from fray.cluster.resources import Resources
from fray.cluster.scheduling.hosts import SliceMember
from fray.cluster.scheduling.plan import Plan
from fray.cluster.scheduling.planner import plan
from fray.cluster.types import JobInfo

GIB = 1 << 30
ASSIGNED, BUILDING, RUNNING = AttemptState.ASSIGNED, AttemptState.BUILDING, AttemptState.RUNNING
SUCCEEDED, FAILED, STOPPED = AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.STOPPED


class World:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.now = 1000.0
        self.entries: list[Entry] = []
        self.count = 0

    def do(self, command: Command) -> Applied:
        self.now += 1.0
        assert decode_command(encode_command(command)) == command
        applied = self.ledger.apply(command, self.now)
        if applied.changed:
            self.entries.append(Entry(applied.revision, self.now, encode_command(command)))
        assert violations(self.ledger.tables) == []
        self.check_view()
        return applied

    def check_view(self) -> None:
        """What is remembered of the last view is what is found anew."""
        old, new = self.ledger.view(), Ledger(self.ledger.tables).view()
        for each in fields(old):
            had, has = getattr(old, each.name), getattr(new, each.name)
            if each.name in ("units", "running"):  # in no particular order
                had, has = ({unit.unit_id: unit for unit in units} for units in (had, has))
            assert had == has, each.name

    def events(self, command: Command, kind: type[Event]) -> list:
        return [event for event in self.do(command).events if isinstance(event, kind)]

    # Hosts

    def host(self, name: str, cpu: float = 8, gpus=None, tpus=None, boot: str = "b1", **values):
        earlier = [worker.boot_id for worker in self.ledger.tables.workers.values()]
        gpus = {variant: count * 1000 for variant, count in (gpus or {}).items()}
        capacity = Resources(round(cpu * 1000), 64 * GIB, 512 * GIB, gpus, tpus or {})
        spec = WorkerSpec(name, f"{name}:7000", capacity, **values)
        return self.do(RegisterWorker(spec, boot, tuple(earlier)))

    def slice(self, name: str, tpu_type: str = "v5litepod-16", **values) -> list[str]:
        topology = tpu_topology(tpu_type)
        names = [f"{name}-{index}" for index in range(topology.vm_count)]
        for index, host in enumerate(names):
            member = SliceMember(name, tpu_type, index, topology.vm_count)
            tpus = {topology.family: topology.chips_per_vm}
            self.host(host, tpus=tpus, slice=member, **values)
        return names

    # Jobs

    def spec(self, name: str = "job", resources: ResourceConfig | None = None, **values) -> JobSpec:
        resources = resources or ResourceConfig()
        tpu = isinstance(resources.device, TpuConfig)
        hosts = values.pop("hosts", resources.device.vm_count() if tpu else 1)
        values.setdefault("gang", GangScope.REPLICA if hosts > 1 else GangScope.TASK)
        return JobSpec(
            **{
                "job_id": f"u/{name}",
                "name": name,
                "user": "u",
                "namespace": "ns",
                "program": Program(blob="digest"),
                "resources": resources,
                "hosts_per_replica": hosts,
                **values,
            }
        )

    def submit(self, *specs: JobSpec | str, group: GroupSpec | None = None) -> list[str]:
        made = tuple(self.spec(spec) if isinstance(spec, str) else spec for spec in specs)
        self.count += 1
        self.do(SubmitJobs(f"s{self.count}", made, group))
        return [spec.job_id for spec in made]

    def stop(self, job: str, grace_s: float = 30.0) -> Applied:
        return self.do(StopJob(job, "asked to", grace_s))

    def schedule(self) -> Plan:
        made = plan(self.ledger.view(), self.now + 1.0)
        self.do(command_of(made))
        return made

    # Agents

    def attempt(self, job: str, index: int = 0) -> Attempt:
        live = self.ledger.tasks(job)[index].live
        assert live is not None, f"{job}/{index} has no live attempt"
        return self.ledger.tables.attempts[live]

    def report(
        self,
        worker: str,
        said: Mapping[str, AttemptState | ObservedAttempt | None] | None = None,
        generation: int | None = None,
        boot: str | None = None,
    ) -> Applied:
        """A whole report: what is not said stays as it is; None says that it is not there."""
        record = self.ledger.tables.workers[worker]
        seen: dict[str, AttemptState | ObservedAttempt | None] = {}
        for attempt in self.ledger.tables.attempts.values():
            if attempt.worker_id == worker:
                stopping = attempt.state is AttemptState.STOPPING
                state = RUNNING if stopping else attempt.state
                seen[attempt.attempt_id] = ObservedAttempt(
                    attempt.attempt_id, state, blocked=attempt.blocked
                )
        seen.update(said or {})
        observed = tuple(
            value if isinstance(value, ObservedAttempt) else ObservedAttempt(key, value)
            for key, value in seen.items()
            if value is not None
        )
        generation = record.generation if generation is None else generation
        return self.do(ReportAttempts(worker, boot or record.boot_id, generation, observed))

    def tell(self, job: str, index: int, state: AttemptState, **values) -> Applied:
        attempt = self.attempt(job, index)
        seen = ObservedAttempt(attempt.attempt_id, state, **values)
        return self.report(attempt.worker_id, {attempt.attempt_id: seen})

    def run(self, job: str) -> None:
        """Brings every live attempt of a job to running."""
        for attempt in self.ledger.attempts(job):
            self.tell(job, attempt.task_index, RUNNING)

    def start(self, *specs: JobSpec | str, group: GroupSpec | None = None) -> list[str]:
        jobs = self.submit(*specs, group=group)
        self.schedule()
        for job in jobs:
            self.run(job)
        return jobs

    # What is to be seen

    def info(self, job: str) -> JobInfo:
        return self.ledger.info(job)

    def status(self, job: str) -> str:
        return self.ledger.info(job).status.value

    def tasks(self, job: str) -> list[str]:
        return [task.status.value for task in self.ledger.info(job).tasks]

    def states(self, job: str) -> list[str]:
        live = self.ledger.tables.attempts
        tasks = self.ledger.tasks(job)
        return [live[task.live].state.value if task.live else "-" for task in tasks]

    def on(self, job: str) -> list[str]:
        return [attempt.worker_id for attempt in self.ledger.attempts(job)]

    def free(self) -> bool:
        return all(w.used == Resources() and not w.devices for w in self.workers())

    def workers(self):
        return list(self.ledger.tables.workers.values())
