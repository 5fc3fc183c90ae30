"""What is whose: users, jobs and hosts that reach for what is not theirs, against a real ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fray.actor.directory import ActorKey, Endpoint, Watched
from fray.cluster.access import Scope
from fray.cluster.control import ACTORS_NAMESPACE, ExecRequest, NameClaim
from fray.cluster.controller.book import Book
from fray.cluster.controller.commands import CreateReservation, SetUser, SubmitJobs
from fray.cluster.controller.journal import MemoryStore
from fray.cluster.controller.rulebook import REMEMBERED_MAX, Rulebook
from fray.cluster.controller.specs import ActorRole, JobSpec, Program
from fray.cluster.devices import ResourceConfig
from fray.cluster.priority import Band
from fray.cluster.reports import JobQuery
from fray.cluster.schedcontrol import ReservationRequest
from fray.cluster.worker.rulebook import rules_of
from fray.cluster.worker.taskfile import HostedActor
from fray.ids import ActorId, AttemptId, JobId, Namespace, ReservationId
from fray.runtime.clock import SystemClock
from fray.runtime.jsoncodec import json_dumps
from fray.runtime.transport import Principal

ALICE = Principal("alice", "user")
BOB = Principal("bob", "user")
PARENT, CHILD, SIBLING = (JobId(f"alice/{name}-1") for name in ("parent", "child", "sibling"))
URGENT = JobId("alice/urgent-1")
ELSEWHERE, BOBS = JobId("alice/elsewhere-1"), JobId("bob/bobs-1")


def job(job_id: JobId, namespace: str = "ns", **more: Any) -> JobSpec:
    user, _, name = job_id.partition("/")
    program = Program(command=("true",))
    return JobSpec(job_id, name, user, Namespace(namespace), program, **more)


def actor(job_id: JobId, actor_id: str, namespace: str = "ns", **more: Any) -> JobSpec:
    hosted = HostedActor(actor_id, "label", "", namespace)
    hints = {"actor": json_dumps(hosted).decode()}
    return job(job_id, namespace, actor=ActorRole(ActorId(actor_id), **more), hints=hints)


def reservation(name: str, user: str, namespace: str) -> CreateReservation:
    return CreateReservation(
        reservation_id=ReservationId(name),
        user=user,
        namespace=Namespace(namespace),
        minimum=ResourceConfig(replicas=1),
        maximum=ResourceConfig(replicas=1),
        hosts_per_replica=1,
        priority=100,
        preemptible=True,
        ttl_s=600.0,
    )


def inside(job_id: JobId, namespace: str = "ns") -> Principal:
    user = job_id.partition("/")[0]
    return Principal(user, "job", namespace=namespace, job_id=job_id, attempt_id=f"{job_id}/0#0")


@pytest.fixture
async def rules() -> Any:
    clock = SystemClock()
    book = await Book.open(MemoryStore(), clock)
    jobs = (
        job(PARENT),
        job(CHILD, parent=PARENT),
        job(SIBLING),
        job(ELSEWHERE, "other"),
        job(BOBS, "bobs"),
        job(URGENT, priority=int(Band.CRITICAL)),
        actor(JobId("alice/actor-1"), "a-1"),
        actor(JobId("bob/actor-1"), "a-2", "bobs"),
    )
    for spec in jobs:
        await book.commit(SubmitJobs(spec.job_id, (spec,)))
    for user, namespace in (("alice", "ns"), ("alice", "reserved"), ("bob", "bobs")):
        await book.commit(reservation(f"r-{user}-{namespace}", user, namespace))
    rulebook = Rulebook(book)

    def ask(scope: Scope, who: Principal, **arguments: Any) -> str | None:
        refusal = rulebook.rules[scope](who, arguments)
        ask.arguments = arguments  # type: ignore[attr-defined]
        return refusal

    ask.book = book  # type: ignore[attr-defined]
    yield ask
    await book.close()


@pytest.mark.parametrize(
    ("who", "readable", "stoppable"),
    [
        (ALICE, {PARENT, CHILD, SIBLING, ELSEWHERE}, {PARENT, CHILD, SIBLING, ELSEWHERE}),
        (BOB, {BOBS}, {BOBS}),
        (inside(PARENT), {PARENT, CHILD, SIBLING}, {PARENT, CHILD}),
        (inside(CHILD), {PARENT, CHILD, SIBLING}, {CHILD}),
        (inside(ELSEWHERE, "other"), {ELSEWHERE}, {ELSEWHERE}),
    ],
    ids=["alice", "bob", "parent", "child", "elsewhere"],
)
async def test_jobs_are_read_and_stopped_by_whom_they_belong_to(
    rules: Any, who: Principal, readable: set[JobId], stoppable: set[JobId]
) -> None:
    every = {PARENT, CHILD, SIBLING, ELSEWHERE, BOBS}
    assert {j for j in every if rules(Scope.READ_JOB, who, job_id=j) is None} == readable
    assert {j for j in every if rules(Scope.STOP_JOB, who, job_id=j) is None} == stoppable
    own = JobId(f"{who.user}/no-such")
    assert rules(Scope.READ_JOB, who, job_id=own) is None, "told as unknown"


@pytest.mark.parametrize("scope", [Scope.READ_JOB, Scope.STOP_JOB])
async def test_nobody_hears_whether_another_has_a_job(rules: Any, scope: Scope) -> None:
    there, nowhere = BOBS, JobId("bob/nowhere-1")
    for who in (ALICE, inside(PARENT)):
        told = rules(scope, who, job_id=there)
        assert told == f"job {there} is another user's"
        assert rules(scope, who, job_id=nowhere) == told.replace(there, nowhere)


@pytest.mark.parametrize(
    ("who", "own"),
    [(ALICE, {"ns", "other", "new"}), (BOB, {"bobs", "new"}), (inside(CHILD), {"ns"})],
    ids=["alice", "bob", "child"],
)
async def test_namespaces_are_of_whoever_used_them_first(
    rules: Any, who: Principal, own: set[str]
) -> None:
    every = {"ns", "other", "bobs", "new", ACTORS_NAMESPACE}
    assert {n for n in every if rules(Scope.NAMESPACE, who, namespace=n) is None} == own
    keys = {n: ActorKey(n, name="x") for n in every}
    assert {n for n in every if rules(Scope.KEY, who, key=keys[n]) is None} == own


@pytest.mark.parametrize(
    ("who", "own"), [(ALICE, "a-1"), (inside(PARENT), "a-1"), (BOB, "a-2")], ids=str
)
async def test_actors_are_of_whoever_made_them(rules: Any, who: Principal, own: str) -> None:
    for actor_id in ("a-1", "a-2"):
        mine = actor_id == own
        key = ActorKey(ACTORS_NAMESPACE, actor_id=actor_id)
        assert (rules(Scope.ACTOR, who, actor_id=actor_id) is None) == mine
        assert (rules(Scope.ACTORS, who, incarnations={actor_id: 1}) is None) == mine
        assert (rules(Scope.KEY, who, key=key) is None) == mine
        assert (rules(Scope.WATCHED, who, watched=[Watched(actor_id)]) is None) == mine


async def test_submission_is_its_submitters_whatever_it_says(rules: Any) -> None:
    claimed = job(JobId("root/x"), "fresh")
    assert rules(Scope.SUBMIT, ALICE, submission=SubmitJobs("s1", (claimed,))) is None
    (spec,) = rules.arguments["submission"].jobs
    assert (spec.job_id, spec.user, spec.parent) == ("alice/x", "alice", None)
    assert rules(Scope.NAMESPACE, BOB, namespace="fresh"), "it is alice's from now on"
    assert rules(Scope.SUBMIT, inside(CHILD), submission=SubmitJobs("s2", (job(CHILD),))) is None
    (spec,) = rules.arguments["submission"].jobs
    assert (spec.user, spec.parent) == ("alice", CHILD)


async def test_name_of_a_submission_is_its_submitters_whatever_it_says(rules: Any) -> None:
    for given, kept in (("alice:night:1", "bob:night:1"), ("s-0123", "s-0123")):
        submission = SubmitJobs(given, (job(JobId("bob/x"), "bobs"),))
        assert rules(Scope.SUBMIT, BOB, submission=submission) is None
        assert rules.arguments["submission"].submission_id == kept


@pytest.mark.parametrize(
    ("who", "spec"),
    [
        (BOB, job(JobId("bob/x"), "ns")),
        (BOB, job(JobId("bob/x"), "bobs", parent=PARENT)),
        (BOB, actor(JobId("bob/x"), "a-1", "bobs")),
        (BOB, actor(JobId("bob/x"), "a-9", "bobs", owner_attempt="alice/parent-1/0#0")),
        (BOB, replace(actor(JobId("bob/x"), "a-9", "ns"), namespace=Namespace("bobs"))),
        (BOB, replace(actor(JobId("bob/x"), "a-9", "bobs"), actor=ActorRole(ActorId("a-8")))),
        (inside(CHILD), job(CHILD, "other")),
        (inside(CHILD), job(CHILD, "ns", parent=PARENT)),
        (inside(CHILD), actor(CHILD, "a-9", owner_attempt=f"{PARENT}/0#0")),
    ],
    ids=[
        "another's namespace",
        "another's parent",
        "another's actor",
        "another's attempt",
        "its actor elsewhere",
        "two actors",
        "a job elsewhere",
        "its parent's child",
        "its parent's attempt",
    ],
)
async def test_submission_that_takes_what_is_anothers_is_refused(
    rules: Any, who: Principal, spec: JobSpec
) -> None:
    assert rules(Scope.SUBMIT, who, submission=SubmitJobs("s", (spec,)))


@pytest.mark.parametrize(
    ("who", "spec"),
    [
        (ALICE, job(JobId("alice/x"), priority=int(Band.HIGH) + 5)),
        (ALICE, job(JobId("alice/x"), parent=URGENT, priority=int(Band.CRITICAL))),
        (ALICE, job(JobId("alice/x"), parent=URGENT)),
        (inside(URGENT), job(JobId("alice/x"), priority=int(Band.CRITICAL) + 7)),
        (BOB, job(JobId("bob/x"), "bobs", priority=int(Band.CRITICAL))),
    ],
    ids=["up to high", "as its parent", "its parent's", "a child", "raised by an administrator"],
)
async def test_job_may_be_as_urgent_as_its_user_or_its_parent(
    rules: Any, who: Principal, spec: JobSpec
) -> None:
    await rules.book.commit(SetUser("bob", highest_band=Band.CRITICAL))
    assert rules(Scope.SUBMIT, who, submission=SubmitJobs("s", (spec,))) is None
    assert rules(Scope.PREVIEW, who, spec=spec) is None


@pytest.mark.parametrize(
    ("who", "spec"),
    [
        (ALICE, job(JobId("alice/x"), priority=int(Band.CRITICAL))),
        (ALICE, actor(JobId("alice/x"), "a-9")),
        (inside(PARENT), job(JobId("alice/x"), priority=int(Band.CRITICAL))),
        (BOB, job(JobId("bob/x"), "bobs")),
    ],
    ids=["critical", "an actor", "a child", "lowered by an administrator"],
)
async def test_job_above_its_users_highest_band_is_refused(
    rules: Any, who: Principal, spec: JobSpec
) -> None:
    await rules.book.commit(SetUser("bob", highest_band=Band.BATCH))
    if spec.actor is not None:
        spec = replace(spec, priority=int(Band.CRITICAL))
    submission = SubmitJobs("s", (job(JobId(f"{who.user}/y"), spec.namespace, priority=0), spec))
    for told in (
        rules(Scope.SUBMIT, who, submission=submission),
        rules(Scope.PREVIEW, who, spec=spec),
    ):
        assert told is not None
        assert f"the highest of user {who.user}; an administrator may raise that" in told


async def test_reservation_above_its_users_highest_band_is_refused(rules: Any) -> None:
    one = ResourceConfig()
    request = ReservationRequest("t", "bob", Namespace("bobs"), one, one, 0, 60.0, False)
    assert rules(Scope.RESERVE, BOB, request=request) is None
    await rules.book.commit(SetUser("bob", highest_band=Band.BATCH))
    assert "'normal' is above 'batch'" in str(rules(Scope.RESERVE, BOB, request=request))


def claim(namespace: str, name: str, actor_id: str, job_id: str = "") -> NameClaim:
    endpoint = Endpoint(actor_id, 1, "p", "h:1", job_id, f"{job_id}/0#0" if job_id else "")
    return NameClaim(namespace, name, endpoint, False, "slot", 1, 10.0)


async def test_names_are_claimed_for_ones_own_actors_only(rules: Any) -> None:
    hosting = inside(JobId("alice/actor-1"))
    good = [claim("ns", "x", "a-9", CHILD), claim("ns", "x", "a-1", "alice/actor-1")]
    bad = [
        claim("other", "x", "a-9", CHILD),
        claim("ns", "x", "a-2", "bob/actor-1"),
        claim("ns", "x", "a-9", BOBS),
        claim(ACTORS_NAMESPACE, "a-1", "a-1", CHILD),
        claim(ACTORS_NAMESPACE, "a-1", "a-9", CHILD),
    ]
    for each in good:
        assert rules(Scope.CLAIM, inside(CHILD), claim=each) is None
    for each in bad:
        assert rules(Scope.CLAIM, inside(CHILD), claim=each), each
        assert rules(Scope.CLAIMS, inside(CHILD), claims=[good[0], each])
    own = claim(ACTORS_NAMESPACE, "a-1", "a-1", "alice/actor-1")
    assert rules(Scope.CLAIM, hosting, claim=own) is None
    assert rules(Scope.CLAIM, ALICE, claim=own), "only the process that hosts it says where it is"


async def test_who_may_take_a_name_may_give_it_back_and_nobody_else(rules: Any) -> None:
    hosting = inside(JobId("alice/actor-1"))

    def gives_back(who: Principal, namespace: str, name: str, actor_id: str) -> bool:
        args = {"namespace": namespace, "name": name, "actor_id": actor_id}
        return rules(Scope.DISCLAIM, who, **args) is None

    assert gives_back(hosting, "ns", "name", "a-1")
    assert gives_back(hosting, ACTORS_NAMESPACE, "a-1", "a-1")
    assert not gives_back(hosting, "bobs", "name", "a-1")
    assert not gives_back(hosting, ACTORS_NAMESPACE, "a-2", "a-2")
    assert not gives_back(inside(CHILD), ACTORS_NAMESPACE, "a-1", "a-1")
    assert not gives_back(ALICE, ACTORS_NAMESPACE, "a-1", "a-1")


async def test_nobody_hears_what_became_of_anothers_processes(rules: Any) -> None:
    def heard_of(who: Principal) -> set[str]:
        ids = (CHILD, ELSEWHERE, BOBS, "alice/forgotten-1", "bob/forgotten-1", "")
        endpoints = [claim("ns", "x", f"a-{job_id}", job_id).endpoint for job_id in ids]
        assert rules(Scope.ENDPOINTS, who, endpoints=endpoints) is None
        return {each.job_id for each in rules.arguments["endpoints"]}

    drivers = ""  # what is no attempt's is known by its process alone
    assert heard_of(ALICE) == {CHILD, ELSEWHERE, "alice/forgotten-1", drivers}
    assert heard_of(BOB) == {BOBS, "bob/forgotten-1", drivers}
    assert heard_of(inside(PARENT)) == {CHILD, "alice/forgotten-1", drivers}


async def test_sessions_are_of_whoever_began_them(rules: Any) -> None:
    assert rules(Scope.SESSION, ALICE, session_id="d-1") is None
    assert rules(Scope.SESSION, BOB, session_id="d-1")
    taken = actor(JobId("bob/x"), "a-9", "bobs", owner_session="d-1")
    assert rules(Scope.SUBMIT, BOB, submission=SubmitJobs("s", (taken,)))
    for number in range(REMEMBERED_MAX + 10):
        assert rules(Scope.SESSION, BOB, session_id=f"b-{number}") is None


async def test_host_is_the_one_that_its_token_names(rules: Any) -> None:
    bound, anybody = Principal("ops", "worker", worker_id="w1"), Principal("ops", "worker")
    assert rules(Scope.WORKER, bound, worker_id="w1") is None
    assert rules(Scope.WORKER, bound, worker_id="w2")
    assert rules(Scope.WORKER, anybody, worker_id="w2") is None


def test_agent_judges_by_user_and_namespace() -> None:
    namespaces = {f"{CHILD}/0#0": "ns", f"{ELSEWHERE}/0#0": "other"}
    rule = rules_of(namespaces.get)[Scope.ATTEMPT]
    for who, own in (
        (ALICE, {CHILD, ELSEWHERE, PARENT}),
        (BOB, {BOBS}),
        (inside(CHILD), {CHILD, PARENT}),  # of the last nobody here knows any more
        (Principal("alic", "user"), set()),
    ):
        for job_id in (CHILD, ELSEWHERE, PARENT, BOBS):
            refusal = rule(who, {"attempt_id": f"{job_id}/0#0"})
            assert (refusal is None) == (job_id in own), (who, job_id)


@pytest.mark.parametrize(
    ("who", "own"),
    [
        (ALICE, {"r-alice-ns", "r-alice-reserved"}),
        (BOB, {"r-bob-bobs"}),
        (inside(CHILD), {"r-alice-ns"}),
    ],
    ids=["alice", "bob", "child"],
)
async def test_reservations_are_used_and_released_by_whom_they_belong_to(
    rules: Any, who: Principal, own: set[str]
) -> None:
    every = {"r-alice-ns", "r-alice-reserved", "r-bob-bobs"}
    assert {r for r in every if rules(Scope.RESERVATION, who, reservation_id=r) is None} == own
    assert rules(Scope.RESERVATION, who, reservation_id="r-unknown") is None, "told as unknown"
    namespace = {"alice": "ns", "bob": "bobs"}[who.user]
    name = JobId(f"{who.user}/new")
    jobs = {r: SubmitJobs("s", (job(name, namespace, reservation=r),)) for r in every}
    assert {r for r in every if rules(Scope.SUBMIT, who, submission=jobs[r]) is None} == own


async def test_reservations_are_made_in_ones_own_name_and_namespace(rules: Any) -> None:
    def request(namespace: str) -> ReservationRequest:
        some = ResourceConfig(replicas=1)
        return ReservationRequest("t", "root", Namespace(namespace), some, some, 0, 60.0, True)

    assert rules(Scope.RESERVE, BOB, request=request("new")) is None
    assert rules.arguments["request"].user == "bob"
    assert rules(Scope.NAMESPACE, ALICE, namespace="new") is not None, "bob was there first"
    assert rules(Scope.RESERVE, BOB, request=request("reserved")) is not None
    assert rules(Scope.NAMESPACE, BOB, namespace="reserved") is not None, "reserved, no job yet"
    assert rules(Scope.RESERVE, inside(CHILD), request=request("other")) is not None


async def test_list_of_reservations_holds_ones_own(rules: Any) -> None:
    assert rules(Scope.RESERVATIONS, BOB, user=None, ended=True) is None
    assert rules.arguments["user"] == "bob"
    assert rules(Scope.RESERVATIONS, BOB, user="alice", ended=True) is not None


async def test_queries_are_narrowed_down_to_ones_own_jobs(rules: Any) -> None:
    assert rules(Scope.QUERY_JOBS, BOB, query=JobQuery()) is None
    assert rules.arguments["query"] == JobQuery(user="bob")
    assert rules(Scope.QUERY_JOBS, BOB, query=JobQuery(user="alice")) is not None
    assert rules(Scope.QUERY_JOBS, inside(CHILD), query=JobQuery()) is None
    assert rules.arguments["query"] == JobQuery(user="alice", namespace="ns")
    assert rules(Scope.QUERY_JOBS, inside(CHILD), query=JobQuery(namespace="other")) is not None
    asked = JobQuery(job_ids=(SIBLING, ELSEWHERE, BOBS))
    assert rules(Scope.QUERY_JOBS, inside(CHILD), query=asked) is None
    assert rules.arguments["query"].job_ids == (SIBLING,)


async def test_previews_are_of_ones_own_jobs(rules: Any) -> None:
    assert rules(Scope.PREVIEW, BOB, spec=job(JobId("root/x"), "bobs")) is None
    assert rules.arguments["spec"].user == "bob"
    assert rules(Scope.PREVIEW, BOB, spec=job(JobId("bob/x"), "ns")) is not None


async def test_names_are_mapped_to_ones_own_jobs_in_ones_own_namespace(rules: Any) -> None:
    def asked(who: Principal, job_id: JobId, namespace: str) -> bool:
        return rules(Scope.MAPPING, who, job_id=job_id, namespace=namespace) is None

    assert asked(ALICE, CHILD, "ns")
    assert not asked(ALICE, CHILD, "bobs")
    assert not asked(BOB, CHILD, "bobs")
    assert asked(inside(PARENT), CHILD, "ns")
    assert not asked(inside(PARENT), SIBLING, "ns")


@pytest.mark.parametrize(
    ("who", "own"),
    [
        (ALICE, {CHILD, ELSEWHERE, JobId("alice/forgotten-1")}),
        (BOB, {BOBS}),
        (inside(PARENT), {CHILD}),
        (Principal("ops", "worker"), {CHILD, ELSEWHERE, JobId("alice/forgotten-1"), BOBS}),
    ],
    ids=["alice", "bob", "parent", "host"],
)
async def test_archived_output_is_read_by_whom_it_belongs_to(
    rules: Any, who: Principal, own: set[JobId]
) -> None:
    every = {CHILD, ELSEWHERE, JobId("alice/forgotten-1"), BOBS}
    files = {each: f"{each}/0-0/end.json" for each in every}
    assert {j for j in every if rules(Scope.ARCHIVED, who, path=files[j]) is None} == own
    assert {j for j in every if rules(Scope.ARCHIVED, who, folder=j) is None} == own


async def test_list_of_the_whole_archive_holds_ones_own(rules: Any) -> None:
    assert rules(Scope.ARCHIVED, BOB, folder="") is None
    assert rules.arguments["folder"] == "bob"
    assert rules(Scope.ARCHIVED, inside(CHILD), folder="") is not None


def test_channels_are_of_whoever_opened_them() -> None:
    rules = rules_of(lambda _: "ns")

    def opened(who: Principal, channel: str, attempt: str) -> bool:
        request = ExecRequest(AttemptId(attempt), ("true",))
        return rules[Scope.EXEC](who, {"channel_id": channel, "request": request}) is None

    def used(who: Principal, channel: str) -> bool:
        return rules[Scope.CHANNEL](who, {"channel_id": channel}) is None

    assert not used(ALICE, "c1")
    assert opened(ALICE, "c1", "alice/j-1/0#0")
    assert opened(ALICE, "c1", "alice/j-1/0#0"), "a call may be repeated"
    assert used(ALICE, "c1")
    assert not opened(BOB, "c2", "alice/j-1/0#0")
    assert not opened(BOB, "c1", "bob/j-1/0#0")
    assert not used(BOB, "c1")
    assert not used(BOB, "c2")
    port = {"channel_id": "c3", "attempt_id": "bob/j-1/0#0"}
    assert rules[Scope.OPEN_PORT](BOB, port) is None
    assert used(BOB, "c3")
