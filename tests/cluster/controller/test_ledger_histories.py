"""Random histories of a cluster, with agents whose reports are late, repeated and reordered.

Beside the ledger stands the truth: which processes really run on which host. Whatever happens, the
ledger's invariants hold, no task ever has two processes, no gang has processes of two lives, and
a ledger that is replayed from its journal is the same ledger.
"""

from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fray.cluster.controller import cordons
from fray.cluster.controller.attempt import LIVE, AttemptState
from fray.cluster.controller.codec import decode_tables, encode_command, encode_tables
from fray.cluster.controller.commands import (
    ApplyPlan,
    Command,
    CordonWorker,
    CreateReservation,
    EndActor,
    ExpireReservations,
    ForgetJobs,
    ForgetReservations,
    ForgetUsers,
    GroupSpec,
    MarkWorker,
    ObservedAttempt,
    RegisterWorker,
    ReleaseReservation,
    RenewReservation,
    ReportAttempts,
    SessionEnded,
    SetPolicy,
    SetUser,
    StartActor,
    StopActor,
    StopJob,
    SubmitJobs,
    UncordonWorker,
    WorkerLost,
)
from fray.cluster.controller.desired import AttemptSpec, Desired, Standing
from fray.cluster.controller.events import AttemptChanged, UnitRefused
from fray.cluster.controller.invariants import violations
from fray.cluster.controller.journal import Entry, Recovered, recover
from fray.cluster.controller.records import CordonKind
from fray.cluster.controller.rules.attempts import ENDED
from fray.cluster.controller.scheduler import command_of
from fray.cluster.controller.specs import ActorRole, GangScope, JobSpec, Program, WorkerSpec
from fray.cluster.controller.state import Ledger
from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import Resources
from fray.cluster.scheduling.accounts import Budget
from fray.cluster.scheduling.hosts import SliceMember
from fray.cluster.scheduling.planner import plan
from fray.cluster.scheduling.policy import Policy
from fray.errors import DeathKind, InvalidRequestError, ReservationNotFoundError

GIB = 1 << 30
SLICES = [f"{name}-{index}" for name in ("s", "t") for index in range(4)]
NAMES = ["big", "gpu", "small", *SLICES]

ENDS = [
    AttemptState.SUCCEEDED,
    AttemptState.SUCCEEDED,
    AttemptState.FAILED,
    AttemptState.PREEMPTED,
]

few = st.sampled_from([0, 1, 1, 2, 5])


def host_spec(name: str) -> WorkerSpec:
    has = Resources(4000, 32 * GIB, 64 * GIB)
    if name in SLICES:
        has = Resources(2000, 32 * GIB, 64 * GIB, tpus={"v6e": 4})
        member = SliceMember(name[0], "v6e-16", int(name[2:]), 4)
        return WorkerSpec(
            name, f"{name}:1", has, f"region-{name[0]}", f"zone-{name[0]}", slice=member
        )
    if name == "gpu":
        has = Resources(4000, 32 * GIB, 64 * GIB, gpus={"H100": 2000})
    slots = 2 if name == "small" else None
    return WorkerSpec(name, f"{name}:1", has, "region-s", "zone-s", name == "small", slots=slots)


RESOURCES = {
    "cpu": ResourceConfig(cpu=1),
    "pair": ResourceConfig(cpu=1, replicas=2),
    "wide": ResourceConfig(cpu=2, replicas=3, preemptible=False),
    "half": ResourceConfig.with_gpu("auto", 0.5, replicas=2),
    "gpu": ResourceConfig.with_gpu("H100", 1),
    "slice": ResourceConfig.with_tpu("v6e-16"),
    "slices": ResourceConfig.with_tpu("v6e-16", 2),
    "multislice": ResourceConfig.with_tpu("v6e-16", 2),
}


@dataclass
class Process:
    spec: AttemptSpec
    state: AttemptState
    told_to_stop: bool = False


@dataclass
class Agent:
    """A host as it really is."""

    boot: str
    generation: int = 0
    processes: dict[str, Process] = field(default_factory=dict)
    outbox: list[ReportAttempts] = field(default_factory=list)
    inbox: list[Desired] = field(default_factory=list)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.entries: list[Entry] = []
        self.snapshot: bytes | None = None
        self.agents: dict[str, Agent | None] = dict.fromkeys(NAMES)
        self.boots = 0
        self.now = 0.0
        self.jobs: list[str] = []
        self.plans: list[ApplyPlan] = []
        self.late: list[ReportAttempts] = []
        self.reservations = 0

    def do(self, command: Command) -> bool:
        self.now += 0.5
        fresh = isinstance(command, ApplyPlan) and command.revision == self.ledger.revision
        try:
            applied = self.ledger.apply(command, self.now)
        except (InvalidRequestError, ReservationNotFoundError):
            return False
        if applied.changed:
            self.entries.append(Entry(applied.revision, self.now, encode_command(command)))
        for event in applied.events:
            # Else it would be proposed and refused for ever.
            assert not fresh or not isinstance(event, UnitRefused), event
            # These agents forget nothing, so nothing may ever count as forgotten.
            if isinstance(event, AttemptChanged) and event.cause is not None:
                assert "no longer knows" not in event.cause.message, event
        return True

    @initialize()
    def hosts_come(self) -> None:
        self.do(SetPolicy(Policy(hold_s=10.0, half_life_s=100.0)))
        for name in NAMES:
            self.host_comes(name)

    # Hosts and their agents

    def busy(self, data: st.DataObject) -> str:
        """A host on which something is, or should be, or was."""
        names = {attempt.worker_id: None for attempt in self.ledger.tables.attempts.values()}
        for name, agent in self.agents.items():
            if agent is None or agent.processes or agent.outbox:
                names[name] = None
        return data.draw(st.sampled_from(sorted(names) or NAMES))

    @rule(data=st.data())
    def fate_of_a_host(self, data: st.DataObject) -> None:
        name = self.busy(data)
        match data.draw(st.integers(0, 7)):
            case 0:
                self.host_goes(name, told=True, preempted=data.draw(st.booleans()))
            case 1:
                self.host_goes(name, told=False, preempted=False)
            case 2:
                kind = data.draw(st.sampled_from(CordonKind))
                self.do(CordonWorker(name, kind, "because", evict=True))
            case 3:
                until = data.draw(st.sampled_from([None, self.now + 5.0]))
                self.do(CordonWorker(name, CordonKind.DRAINING, "because", until=until))
            case 4 if self.agents[name] is not None:
                suspect = data.draw(st.booleans())
                self.do(MarkWorker(name, self.agents[name].boot, suspect, "silent"))
            case _:
                self.do(UncordonWorker(name))
                self.host_comes(name)

    @rule()
    def cordons_begin_and_end(self) -> None:
        for command in cordons.due(self.ledger.tables.workers, self.now):
            assert self.do(command)

    def host_comes(self, name: str) -> None:
        if self.agents[name] is None:
            self.boots += 1
            self.agents[name] = Agent(f"b{self.boots}")
        known = self.ledger.tables.workers.get(name)
        earlier = () if known is None else (known.boot_id,)
        self.do(RegisterWorker(host_spec(name), self.agents[name].boot, earlier))

    def host_goes(self, name: str, told: bool, preempted: bool) -> None:
        """All of its processes are dead; the ledger hears of it now, or by its next life."""
        agent, self.agents[name] = self.agents[name], None
        self.late += agent.outbox if agent is not None else []
        if told and agent is not None:
            self.do(WorkerLost(name, agent.boot, "gone", preempted=preempted))

    @rule(data=st.data())
    def agent_hears(self, data: st.DataObject) -> None:
        name = self.busy(data)
        agent = self.agents[name]
        if agent is None:
            return
        if self.ledger.standing(name, agent.boot) is Standing.FENCED:
            self.agents[name] = None  # it ends all that it runs; a new life may follow
            return
        agent.inbox.append(self.ledger.desired(name))
        wanted = agent.inbox.pop(data.draw(st.integers(0, len(agent.inbox) - 1)))
        if wanted.generation < agent.generation:
            return
        agent.generation = wanted.generation
        specs = {spec.attempt_id: spec for spec in wanted.attempts}
        for attempt_id in [each for each in agent.processes if each not in specs]:
            del agent.processes[attempt_id]
        for attempt_id, spec in specs.items():
            process = agent.processes.setdefault(attempt_id, Process(spec, AttemptState.ASSIGNED))
            process.told_to_stop = spec.stop is not None

    @rule(data=st.data(), told=st.booleans(), host_fault=st.booleans())
    def process_moves(self, data: st.DataObject, told: bool, host_fault: bool) -> None:
        """One process goes on or ends; its agent may report it at once, or not."""
        name = self.busy(data)
        self.move_one(name, data)
        if told and self.agents[name] is not None:
            self.agent_reports(name, blocked=False, host_fault=host_fault)
            self.do(self.agents[name].outbox.pop())

    def move_one(self, name: str, data: st.DataObject) -> None:
        agent = self.agents[name]
        alive = sorted(k for k, p in agent.processes.items() if p.state in LIVE) if agent else []
        if not alive:
            return
        process = agent.processes[data.draw(st.sampled_from(alive))]
        if process.told_to_stop:
            ends = [AttemptState.STOPPED, AttemptState.FAILED, AttemptState.SUCCEEDED]
            process.state = data.draw(st.sampled_from(ends))
        elif process.state is AttemptState.RUNNING:
            process.state = data.draw(st.sampled_from(ENDS))
        else:
            steps = [AttemptState.BUILDING, AttemptState.RUNNING, AttemptState.FAILED]
            process.state = data.draw(st.sampled_from(steps))

    @rule(data=st.data(), blocked=st.booleans())
    def report_is_sent(self, data: st.DataObject, blocked: bool) -> None:
        self.agent_reports(self.busy(data), blocked=blocked, host_fault=False)

    def agent_reports(self, name: str, blocked: bool, host_fault: bool) -> None:
        agent = self.agents[name]
        if agent is not None:
            seen = tuple(
                ObservedAttempt(
                    attempt_id,
                    process.state,
                    host_fault=host_fault and process.state is AttemptState.FAILED,
                    blocked=blocked,
                    checkpoints=len(agent.outbox),
                    ran_s=float(len(agent.outbox)) if process.state in ENDED else None,
                )
                for attempt_id, process in agent.processes.items()
            )
            agent.outbox.append(ReportAttempts(name, agent.boot, agent.generation, seen))

    @rule(data=st.data(), repeated=st.booleans())
    def report_arrives(self, data: st.DataObject, repeated: bool) -> None:
        agent = self.agents[self.busy(data)]
        outbox = agent.outbox if agent is not None and agent.outbox else self.late
        if outbox:
            index = data.draw(st.integers(0, len(outbox) - 1))
            self.do(outbox[index] if repeated else outbox.pop(index))

    @rule()
    def all_goes_well_for_a_while(self) -> None:
        """Every agent hears, moves one step and reports in time."""
        self.plan_is_made()
        self.plan_arrives()
        for name, agent in self.agents.items():
            if agent is None or self.ledger.standing(name, agent.boot) is not Standing.CURRENT:
                continue
            agent.inbox.clear()
            agent.outbox.clear()
            wanted = self.ledger.desired(name)
            agent.generation = max(agent.generation, wanted.generation)
            specs = {spec.attempt_id: spec for spec in wanted.attempts}
            known = agent.processes
            agent.processes = {
                key: known.get(key, Process(spec, AttemptState.ASSIGNED))
                for key, spec in specs.items()
            }
            for key, process in agent.processes.items():
                if specs[key].stop is not None and process.state in LIVE:
                    process.state = AttemptState.STOPPED
                elif process.state in (AttemptState.ASSIGNED, AttemptState.BUILDING):
                    process.state = AttemptState.RUNNING
            self.agent_reports(name, blocked=False, host_fault=False)
            self.do(agent.outbox.pop())

    # Users

    def spec(
        self, kind: str, failures: int, parent: str | None, session: str, rank: int = 1
    ) -> JobSpec:
        """A job; of its rank follow how important it is, whose, and whether it may be stopped."""
        resources = RESOURCES[kind]
        hosts = 4 if kind in ("slice", "slices", "multislice") else 1
        gang = GangScope.REPLICA if hosts > 1 else GangScope.TASK
        if kind == "multislice" or (kind == "half" and failures == 1):
            gang = GangScope.JOB
        job_id = f"u/{kind}-{len(self.jobs)}"
        self.jobs.append(job_id)
        namespace, name = "ns" if rank % 2 else "other", f"name-{rank % 3}"
        if self.ledger.job_of_name(namespace, name) is not None:
            name = ""
        return JobSpec(
            job_id,
            kind,
            "v" if rank % 5 == 0 else "u",
            namespace,
            Program(blob="d"),
            resources=resources,
            hosts_per_replica=hosts,
            gang=gang,
            max_retries_failure=failures,
            max_retries_preemption=failures + 1,
            parent=parent,
            actor=ActorRole(f"actor-{job_id}", session, name=name) if session else None,
            priority=[0, None, 200, 100][rank % 4],
            evictable=rank % 3 != 0,
            time_limit_s=40.0 if rank % 7 == 6 else None,
        )

    @rule(session=st.sampled_from(["d1", "d2"]), data=st.data())
    def supervised_actor_is_made(self, session, data) -> None:
        live = [a for a in self.ledger.tables.attempts.values() if a.job_id in self.jobs[-5:]]
        owner = data.draw(st.sampled_from([None, *sorted(live, key=lambda a: a.attempt_id)]))
        spec = self.spec("cpu", -1, owner.job_id if owner is not None else None, "")
        owner_id = owner.attempt_id if owner is not None else ""
        session = session if owner is None else ""
        role = ActorRole(f"actor-{spec.job_id}", session, supervised=True, owner_attempt=owner_id)
        spec = replace(spec, actor=role, max_retries_preemption=-1)
        self.do(SubmitJobs(f"s-{spec.job_id}", (spec,)))

    @rule(data=st.data(), grace_s=st.sampled_from([0.0, 30.0]))
    def supervisor_speaks(self, data, grace_s) -> None:
        jobs = self.ledger.tables.jobs.values()
        mine = sorted(job.spec.job_id for job in jobs if job.spec.supervised)
        if not mine:
            return
        job_id = data.draw(st.sampled_from(mine))
        attempts = self.ledger.tasks(job_id)[0].attempts
        match data.draw(st.integers(0, 5)):
            case 0:
                self.do(StopActor(job_id, "restart", grace_s, down=data.draw(st.booleans())))
            case 1:
                self.do(EndActor(job_id, DeathKind.SIGNAL, "it was temporary"))
            case _:
                self.do(StartActor(job_id, data.draw(st.sampled_from([attempts, attempts - 1]))))

    @rule(
        kind=st.sampled_from(sorted(RESOURCES)),
        failures=few,
        session=st.sampled_from(["", "", "d1", "d2"]),
        rank=st.integers(0, 20),
        data=st.data(),
    )
    def job_is_submitted(self, kind, failures, session, rank, data) -> None:
        parent = data.draw(st.sampled_from([None, None, None, *self.jobs[-2:]]))
        if parent not in self.ledger.tables.jobs:
            parent = None
        spec = self.spec(kind, failures, parent, session, rank)
        self.do(SubmitJobs(f"s-{spec.job_id}", (spec,)))

    @rule(
        kinds=st.lists(st.sampled_from(sorted(RESOURCES)), min_size=1, max_size=3),
        failures=few,
        region=st.booleans(),
        rank=st.integers(0, 20),
    )
    def group_is_submitted(self, kinds, failures, region, rank) -> None:
        specs = tuple(self.spec(kind, failures, None, "", rank) for kind in kinds)
        group = GroupSpec("g", same_region=region, same_zone=False)
        self.do(SubmitJobs(f"g-{specs[0].job_id}", specs, group))

    @rule(
        kind=st.sampled_from(["cpu", "half", "slice"]),
        least=st.integers(1, 2),
        more=st.integers(0, 2),
        rank=st.sampled_from([0, 100, 205]),
        ttl_s=st.sampled_from([5.0, 1000.0]),
    )
    def reservation_is_made(self, kind, least, more, rank, ttl_s) -> None:
        resources = RESOURCES[kind]
        self.reservations += 1
        self.do(
            CreateReservation(
                f"r{self.reservations}",
                "u",
                "ns",
                replace(resources, replicas=least),
                replace(resources, replicas=least + more),
                4 if kind == "slice" else 1,
                rank,
                True,
                ttl_s,
            )
        )

    @precondition(lambda self: self.reservations)
    @rule(data=st.data())
    def something_becomes_of_a_reservation(self, data: st.DataObject) -> None:
        name = f"r{data.draw(st.integers(1, self.reservations))}"
        match data.draw(st.integers(0, 3)):
            case 0:
                self.do(ReleaseReservation(name, "not wanted"))
            case 1:
                self.do(RenewReservation(name, 20.0))
            case _:
                self.now += 5.0
                self.do(ExpireReservations())

    @rule(
        user=st.sampled_from(["u", "v"]),
        cpus=st.sampled_from([1, 4, 8]),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
    )
    def user_is_set(self, user, cpus, weight) -> None:
        quota = {"cpus": cpus, "chips": 16.0} if weight > 1 else {}
        self.do(SetUser(user, weight, quota, Budget({"cpus": 50.0 * cpus}, 100.0)))

    @precondition(lambda self: self.ledger.tables.jobs)
    @rule(data=st.data(), grace_s=st.sampled_from([0.0, 30.0]))
    def something_is_ended(self, data: st.DataObject, grace_s: float) -> None:
        jobs = self.ledger.tables.jobs
        match data.draw(st.integers(0, 5)):
            case 0:
                job_id = data.draw(st.sampled_from(sorted(jobs)))
                self.do(StopJob(job_id, "asked to", grace_s))
            case 1:
                self.do(SessionEnded(data.draw(st.sampled_from(["d1", "d2"])), "gone"))
            case 2:
                ended = (k for k, job in jobs.items() if job.status.finished())
                self.do(ForgetJobs(tuple(ended)))
                self.do(ForgetReservations(tuple(self.ledger.tables.reservations)))
                self.do(ForgetUsers(tuple(self.ledger.tables.users)))
            case _:
                self.now += 10.0

    # The controller

    @rule()
    def plan_is_made(self) -> None:
        view = self.ledger.view()
        made = plan(view, self.now + 0.5)
        placed = {assignment.unit_id for assignment in made.assignments}
        for unit in view.units:
            told = all(made.reasons.get(job_id) for job_id in unit.job_ids())
            assert unit.unit_id in placed or told, unit
        going = [job for u in view.units if u.unit_id in placed for job in u.job_ids()]
        for task in self.ledger.tables.tasks.values():
            if task.live is None and not task.status.finished():
                assert task.job_id in going or made.reasons.get(task.job_id), task
        self.plans.append(command_of(made))

    @precondition(lambda self: self.plans)
    @rule()
    def plan_arrives(self) -> None:
        self.do(self.plans.pop())

    @rule(snapshot=st.booleans())
    def controller_restarts(self, snapshot: bool) -> None:
        if snapshot:
            self.snapshot = encode_tables(self.ledger.tables)
            self.entries.clear()
        self.ledger = self.replayed()

    # What always holds

    def replayed(self) -> Ledger:
        return recover(Recovered(1, self.snapshot, tuple(self.entries)))

    @invariant()
    def the_invariants_hold(self) -> None:
        assert violations(self.ledger.tables) == []

    @invariant()
    def no_task_has_two_processes_and_no_gang_two_lives(self) -> None:
        tasks: dict[tuple[str, int], str] = {}
        epochs: dict[str, int] = {}
        for agent in self.agents.values():
            for attempt_id, process in agent.processes.items() if agent else ():
                if process.state not in LIVE:
                    continue
                spec = process.spec
                key = spec.job.job_id, spec.task_index
                assert key not in tasks, f"{attempt_id} runs beside {tasks[key]}"
                tasks[key] = attempt_id
                if spec.gang is not None:
                    epoch = epochs.setdefault(spec.gang.gang_id, spec.gang.epoch)
                    assert epoch == spec.gang.epoch

    def teardown(self) -> None:
        again = self.replayed()
        assert again.tables == self.ledger.tables
        assert again.tables.indexes == self.ledger.tables.indexes
        views = again.view(), self.ledger.view()
        assert sorted(views[0].units, key=str) == sorted(views[1].units, key=str)
        assert sorted(views[0].running, key=str) == sorted(views[1].running, key=str)
        assert plan(again.view(), self.now) == plan(self.ledger.view(), self.now)
        assert decode_tables(encode_tables(again.tables)) == again.tables


def test_random_histories_keep_the_invariants_and_replay_to_the_same_state():
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=60,
            stateful_step_count=60,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate),
        ),
    )
