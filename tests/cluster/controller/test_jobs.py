"""Submitting, stopping and forgetting jobs; what belongs to whom."""

from dataclasses import replace

import pytest

from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import (
    CordonWorker,
    ForgetJobs,
    GroupSpec,
    SessionEnded,
    StopJob,
    SubmitJobs,
    UncordonWorker,
    WorkerLost,
)
from fray.cluster.controller.events import JobEnding, JobsForgotten, JobsSubmitted
from fray.cluster.controller.jobs import Jobs
from fray.cluster.controller.journal import MemoryDisk, MemoryStore
from fray.cluster.controller.names import Names
from fray.cluster.controller.records import CordonKind
from fray.cluster.controller.speclimits import JOBS_MAX, SPEC_BYTES_MAX
from fray.cluster.controller.specs import (
    ActorRole,
    Environment,
    GangScope,
    JobKind,
    Program,
    job_spec,
)
from fray.cluster.devices import ResourceConfig
from fray.cluster.names import TASKS_MAX
from fray.cluster.types import Entrypoint, JobRequest
from fray.errors import InfeasibleError, InvalidRequestError, JobNotFoundError, NameTakenError
from fray.runtime.clock import SystemClock

from .world import FAILED, STOPPED, SUCCEEDED, World

TPU = ResourceConfig.with_tpu("v5litepod-16")


def actor(world: World, name: str, owner: str = "", **values):
    return world.spec(name, actor=ActorRole(f"id-{name}", owner), **values)


def test_a_submission_is_answered_with_its_jobs_in_order(world):
    command = SubmitJobs("s1", (world.spec("b"), world.spec("a")))
    (answer,) = world.events(command, JobsSubmitted)
    assert (answer.job_ids, answer.again) == (("u/b", "u/a"), False)
    assert list(world.ledger.list_jobs()) == ["u/b", "u/a"]


def test_a_job_of_too_many_tasks_is_refused_before_anything_is_added(world):
    for job in (
        world.spec("many", hosts_per_replica=TASKS_MAX + 1),
        world.spec("many", ResourceConfig(replicas=TASKS_MAX), hosts_per_replica=2),
    ):
        with pytest.raises(InvalidRequestError, match="at most 20,000 tasks, not"):
            world.do(SubmitJobs("s1", (world.spec("a"), job)))
    assert not list(world.ledger.list_jobs())
    assert not world.ledger.tables.tasks
    config = ResourceConfig()
    config.replicas = 100_000_000  # it may be changed after it was made
    with pytest.raises(InvalidRequestError, match="at most 20,000 tasks, not 100,000,000"):
        world.do(SubmitJobs("s1", (world.spec("many", config),)))


def test_jobs_of_a_submission_share_the_bound_on_tasks_and_have_one_of_their_own(world):
    half = ResourceConfig(replicas=TASKS_MAX // 2 + 1)
    with pytest.raises(InvalidRequestError, match="a submission has at most 20,000 tasks"):
        world.do(SubmitJobs("s1", (world.spec("a", half), world.spec("b", half))))
    jobs = tuple(world.spec(f"j{number}") for number in range(JOBS_MAX + 1))
    with pytest.raises(InvalidRequestError, match="at most 1,000 jobs, not 1,001"):
        world.do(SubmitJobs("s1", jobs))
    world.do(SubmitJobs("s1", jobs[:-1]))
    assert len(list(world.ledger.list_jobs())) == JOBS_MAX


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"program": Program(command=("sh", "x" * SPEC_BYTES_MAX))}, "is its command line, with"),
        ({"program": Program(command=("",) * SPEC_BYTES_MAX)}, "is its command line, with"),
        ({"environment": Environment(env_names=("V" * 300_000,))}, "names of variables of its env"),
        ({"hints": {"path": "ä" * SPEC_BYTES_MAX}}, "is the module search path"),
        ({"user": "u" * 300_000}, "is its user, with 300,004 bytes: shorten that"),
    ],
)
async def test_a_job_that_is_too_large_to_be_kept_is_refused_and_told_what_of_it_is(
    world, values, told
):
    book = await Book.open(MemoryStore(MemoryDisk()), SystemClock())
    jobs = Jobs(book, Names(book, SystemClock(), 1), SystemClock())
    large = replace(world.spec("a"), **values)
    for asked in (jobs.submit(SubmitJobs("s1", (large,))), jobs.preview(large)):
        with pytest.raises(InvalidRequestError, match=f"has more than 256 KiB.*{told}"):
            await asked
    assert book.ledger.revision == 0
    await book.close()


def test_a_repeated_submission_changes_nothing_and_answers_with_the_first_jobs(world):
    world.do(SubmitJobs("s1", (world.spec("a"),)))
    again = world.do(SubmitJobs("s1", (world.spec("a", job_id="u/other"),)))
    assert again.events == (JobsSubmitted("s1", ("u/a",), again=True),)
    assert not again.changed
    assert list(world.ledger.list_jobs()) == ["u/a"]


def test_a_repeated_submission_that_asks_for_something_else_is_refused(world):
    world.do(SubmitJobs("s1", (world.spec("a"), world.spec("b"))))
    variables = Environment(env_names=("MODE",))
    for jobs, told in (
        ((world.spec("a"),), "made with 2 jobs .* now has 1"),
        ((world.spec("a"), world.spec("c")), "another name"),
        ((world.spec("a"), world.spec("b", ResourceConfig(cpu=2))), "for job u/b, .* resources"),
        ((world.spec("a"), world.spec("b", time_limit_s=3)), "another time_limit_s"),
        ((world.spec("a"), world.spec("b", evictable=False)), "another evictable"),
        ((world.spec("a"), world.spec("b", reservation="r-1")), "another reservation"),
        ((world.spec("a"), world.spec("b", environment=variables)), "another set of variables"),
    ):
        with pytest.raises(InvalidRequestError, match=told):
            world.do(SubmitJobs("s1", jobs))
    world.do(SubmitJobs("s1", (world.spec("a"), world.spec("b", program=Program(blob="new")))))
    assert list(world.ledger.list_jobs()) == ["u/a", "u/b"]


def test_jobs_of_one_submission_are_admitted_all_or_none(world):
    wrong = world.spec("wrong", program=Program())
    with pytest.raises(InvalidRequestError, match="needs a function or a command"):
        world.do(SubmitJobs("s1", (world.spec("fine"), wrong)))
    assert list(world.ledger.list_jobs()) == []
    world.submit("fine")


WRONG = [
    ({"user": ""}, "has no user"),
    ({"namespace": ""}, "has no namespace"),
    ({"program": Program("x", ("y",))}, "needs a function or a command, not both"),
    ({"environment": Environment("w", "i")}, "has a workspace and a docker_image"),
    ({"max_retries_failure": -2}, "max_retries_failure must be"),
    ({"ports": ("9",)}, "a port's name consists of"),
    ({"hosts": 3}, "has 3 tasks per replica; a replica of cpu has 1 host$"),
    ({"job_id": "u/a b"}, "a job id must not contain spaces"),
    ({"name": "a b", "job_id": "u/a"}, "a job name must not contain spaces"),
    ({"parent": "u/none"}, "there is no job u/none"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_a_job_that_makes_no_sense_is_refused_and_changes_nothing(world, values, message):
    with pytest.raises((InvalidRequestError, JobNotFoundError), match=message):
        world.do(SubmitJobs("s1", (world.spec(**values),)))
    assert world.ledger.revision == 0


def test_a_slice_with_several_hosts_needs_a_gang(world):
    resources = ResourceConfig.with_tpu("v5litepod-16")
    with pytest.raises(InvalidRequestError, match="its tasks form a gang"):
        world.do(SubmitJobs("s1", (world.spec(resources=resources, gang=GangScope.TASK),)))


def test_ids_are_unique_for_ever(world):
    world.submit("a")
    with pytest.raises(InvalidRequestError, match="there already is a job u/a"):
        world.do(SubmitJobs("s9", (world.spec("a"),)))
    with pytest.raises(InvalidRequestError, match="two jobs of one id"):
        world.do(SubmitJobs("s9", (world.spec("b"), world.spec("b"))))
    with pytest.raises(InvalidRequestError, match="an id and at least one job"):
        world.do(SubmitJobs("s9", ()))


def test_what_the_submitter_changes_later_is_not_seen(world):
    regions = ["us"]
    resources = ResourceConfig(cpu=2, regions=regions)
    world.ledger.apply(SubmitJobs("s1", (world.spec("a", resources),)), world.now)
    resources.cpu = 7
    regions.append("eu")
    taken = world.ledger.job("u/a").spec.resources
    assert (taken.cpu, taken.regions) == (2, ("us",))


def test_stopping_waits_until_everything_is_gone(world):
    world.host("a")
    (job,) = world.start(world.spec(resources=ResourceConfig(replicas=2)))
    applied = world.stop(job, grace_s=10.0)
    assert JobEnding(job, "stopped", "asked to") in applied.events
    assert world.status(job) == "running"
    assert [spec.stop.grace_s for spec in world.ledger.desired("a").attempts] == [10.0, 10.0]
    world.tell(job, 0, STOPPED)
    assert world.status(job) == "running"
    world.tell(job, 1, STOPPED)
    info = world.info(job)
    assert (info.status, info.error_message) == ("stopped", "asked to")


def test_stopping_what_has_no_place_is_immediate(world):
    (job,) = world.submit("a")
    world.stop(job)
    assert (world.status(job), world.tasks(job)) == ("stopped", ["stopped"])


def test_stopping_again_only_shortens_the_grace(world):
    world.host("a")
    (job,) = world.start("a")
    world.stop(job, grace_s=10.0)
    assert not world.stop(job, grace_s=20.0).changed
    generation = world.ledger.desired("a").generation
    world.stop(job, grace_s=0.0)
    assert world.attempt(job).stop.grace_s == 0.0
    assert world.ledger.desired("a").generation == generation + 1
    world.tell(job, 0, STOPPED)
    assert not world.stop(job).changed, "it has ended"


def test_stopping_is_checked(world):
    with pytest.raises(KeyError, match="there is no job u/none"):
        world.stop("u/none")
    world.submit("a")
    with pytest.raises(InvalidRequestError, match="grace_s must be at least 0"):
        world.do(StopJob("u/a", "", -1.0))


def test_children_are_stopped_with_their_parent_and_theirs_too_unless_detached(world):
    world.host("a")
    world.start("parent")
    world.start(world.spec("child", parent="u/parent"))
    world.start(world.spec("grandchild", parent="u/child"))
    world.start(world.spec("free", parent="u/parent", detached=True))
    world.stop("u/parent")
    assert world.states("u/grandchild") == ["stopping"]
    assert world.attempt("u/child").stop.reason == "the job that launched it, u/parent, has ended"
    assert world.states("u/free") == ["running"]


@pytest.mark.parametrize("end", [SUCCEEDED, FAILED])
def test_children_end_however_their_parent_ends(world, end):
    world.host("a")
    world.start("parent")
    world.start(world.spec("child", parent="u/parent"))
    world.tell("u/parent", 0, end)
    assert world.states("u/child") == ["stopping"]
    world.tell("u/child", 0, STOPPED)
    assert world.status("u/child") == "stopped"


def test_an_ended_or_ending_parent_launches_nothing_more(world):
    world.host("a")
    world.start("parent")
    world.stop("u/parent")
    late = world.spec("late", parent="u/parent")
    with pytest.raises(InvalidRequestError, match="has ended, and what it launches would end"):
        world.do(SubmitJobs("s9", (late,)))
    world.submit(world.spec("detached", parent="u/parent", detached=True))


def test_a_driver_that_is_gone_takes_its_actors_along_but_not_its_jobs(world):
    world.host("a", cpu=16)
    world.start(actor(world, "mine", "driver"), actor(world, "other", "someone"), "job")
    world.start(actor(world, "kept", "driver", detached=True))
    world.submit(actor(world, "waiting", "driver"))
    ended = SessionEnded("driver", "its driver has gone")
    world.do(ended)
    assert world.states("u/mine") == ["stopping"]
    assert world.status("u/waiting") == "stopped"
    assert [world.states(f"u/{name}") for name in ("other", "kept", "job")] == [["running"]] * 3
    assert not world.do(ended).changed


def test_an_actor_is_found_by_its_id_until_its_job_has_ended(world):
    world.host("a")
    world.start(actor(world, "mine"))
    assert world.ledger.job("u/mine").spec.kind is JobKind.ACTOR
    assert world.ledger.job_of_actor("id-mine") == "u/mine"
    twin = world.spec("twin", actor=ActorRole("id-mine"))
    with pytest.raises(InvalidRequestError, match="actor id-mine already runs as job u/mine"):
        world.do(SubmitJobs("s9", (twin,)))
    world.stop("u/mine")
    world.tell("u/mine", 0, STOPPED)
    assert world.ledger.job_of_actor("id-mine") is None
    world.submit(twin)
    assert world.ledger.job_of_actor("id-mine") == "u/twin"


def test_an_actor_is_restarted_within_its_budget(world):
    world.host("a")
    (job,) = world.start(actor(world, "mine", max_retries_failure=1))
    world.tell(job, 0, FAILED)
    world.schedule()
    assert world.ledger.job_of_actor("id-mine") == job
    world.tell(job, 0, FAILED)
    assert world.status(job) == "failed"


def test_only_ended_jobs_are_forgotten_and_nothing_of_them_is_left(world):
    world.host("a")
    world.slice("s")
    world.start("one", world.spec("two", TPU), group=GroupSpec("g"))
    with pytest.raises(InvalidRequestError, match="job u/one has not ended; stop it first"):
        world.do(ForgetJobs(("u/one",)))
    for job in ("u/one", "u/two"):
        world.stop(job)
        for attempt in world.ledger.attempts(job):
            world.tell(job, attempt.task_index, STOPPED)
    assert world.events(ForgetJobs(("u/one", "u/none")), JobsForgotten) == [
        JobsForgotten(("u/one",))
    ]
    again = world.do(SubmitJobs("s1", (world.spec("one"), world.spec("two", TPU))))
    assert again.events == (JobsSubmitted("s1", ("u/one", "u/two"), again=True),)
    world.do(ForgetJobs(("u/two",)))
    tables = world.ledger.tables
    assert [tables.jobs, tables.tasks, tables.gangs, tables.groups, tables.submissions] == [{}] * 5
    with pytest.raises(JobNotFoundError):
        world.info("u/one")
    assert not world.do(ForgetJobs(("u/two",))).changed


def test_what_could_never_run_is_refused_before_it_is_submitted(world):
    huge = SubmitJobs("s1", (world.spec("huge", ResourceConfig(cpu=64)),))
    world.ledger.check_feasible(huge)
    world.host("host-a")
    with pytest.raises(
        InfeasibleError, match=r"u/huge can never run here: needs 64 cpus; .*host-a"
    ):
        world.ledger.check_feasible(huge)
    world.ledger.check_feasible(huge, elastic=True)
    world.do(huge)
    world.ledger.check_feasible(huge)  # it has been admitted, and a repetition must not fail
    group = (world.spec("a", ResourceConfig(cpu=5)), world.spec("b", ResourceConfig(cpu=5)))
    world.ledger.check_feasible(SubmitJobs("s2", group))
    with pytest.raises(InfeasibleError, match="2 tasks must start at once"):
        world.ledger.check_feasible(SubmitJobs("s2", group, GroupSpec("g")))
    assert list(world.ledger.list_jobs()) == ["u/huge"]


def test_what_could_run_once_is_judged_anew_when_hosts_have_changed(world):
    big = SubmitJobs("later", (world.spec("big", ResourceConfig(cpu=64)),))
    world.host("small", cpu=8)
    world.host("large", cpu=64)
    world.ledger.check_feasible(big)
    world.start(world.spec("fills", ResourceConfig(cpu=60)))
    world.ledger.check_feasible(big)  # how full they are does not matter
    world.do(CordonWorker("large", CordonKind.DRAINING, "it goes"))
    with pytest.raises(InfeasibleError, match="the largest host"):
        world.ledger.check_feasible(big)
    world.do(UncordonWorker("large"))
    world.ledger.check_feasible(big)
    world.do(WorkerLost("large", "b1", "silent"))
    with pytest.raises(InfeasibleError, match="the largest host"):
        world.ledger.check_feasible(big)
    world.host("larger", cpu=128)
    world.ledger.check_feasible(big)


def test_jobs_are_listed_by_namespace(world):
    world.submit("a", world.spec("b", namespace="other"), "c")
    assert list(world.ledger.list_jobs(namespace="ns")) == ["u/a", "u/c"]


def test_a_request_becomes_a_spec():
    request = JobRequest(
        "train",
        Entrypoint.from_callable(print),
        ResourceConfig.with_tpu("v5litepod-16", slice_count=2),
        max_retries_failure=3,
        ports={"b", "a"},
    )
    program = Program(blob="d")
    spec = job_spec(request, job_id="u/train-1", user="u", namespace="ns", program=program)
    assert (spec.num_tasks, spec.hosts_per_replica, spec.gang) == (8, 4, GangScope.REPLICA)
    assert (spec.ports, spec.max_retries_failure) == (("a", "b"), 3)
    assert [spec.gang_of(i) for i in (0, 3, 4)] == ["u/train-1/r0", "u/train-1/r0", "u/train-1/r1"]
    assert spec.members(5) == range(4, 8)
    local = job_spec(request, job_id="u/t", user="u", namespace="ns", program=program, virtual=True)
    assert (local.num_tasks, local.gang) == (2, GangScope.TASK)
    assert local.gang_of(1) == ""
    request.resources.cpu = -1
    with pytest.raises(InvalidRequestError):
        job_spec(request, job_id="u/t", user="u", namespace="ns", program=program)


def test_an_exclusive_name_is_its_actors_from_the_submission_until_its_job_has_ended(world):
    world.host("a")
    named = [world.spec(n, actor=ActorRole(f"id-{n}", name="only")) for n in ("one", "two")]
    with pytest.raises(InvalidRequestError, match="two actors of the name 'only'"):
        world.do(SubmitJobs("both", tuple(named)))
    world.start(named[0])
    with pytest.raises(NameTakenError, match="'only' belongs to the actor of job u/one"):
        world.do(SubmitJobs("second", (named[1],)))
    assert world.ledger.job_of_name(named[0].namespace, "only") == "u/one"
    world.submit(
        replace(
            named[1], namespace="elsewhere", job_id="u/other", actor=ActorRole("o", name="only")
        )
    )
    world.stop("u/one")
    world.tell("u/one", 0, STOPPED)
    world.submit(named[1])
    assert world.ledger.job_of_name(named[0].namespace, "only") == "u/two"
