"""Requests, entrypoints and statuses."""

import functools

import pytest

from fray.cluster.types import (
    BinaryEntrypoint,
    CallableEntrypoint,
    Entrypoint,
    JobGroupConfig,
    JobRequest,
    JobStatus,
    ReservationConfig,
    ResourceConfig,
)
from fray.errors import InvalidRequestError


def work(x: int = 0, y: int = 1) -> int:
    return x + y


def request(**values) -> JobRequest:
    return JobRequest(**{"name": "job", "entrypoint": Entrypoint.from_callable(work), **values})


def test_an_entrypoint_is_a_function_or_a_program():
    function = Entrypoint.from_callable(work, args=[1], kwargs={"y": 2})
    assert function.callable_entrypoint == CallableEntrypoint(work, (1,), {"y": 2})
    assert function.binary_entrypoint is None
    program = Entrypoint.from_binary("python", ["-c", "pass"])
    assert program.binary_entrypoint == BinaryEntrypoint("python", ["-c", "pass"])
    assert Entrypoint.from_callable(work).callable_entrypoint == CallableEntrypoint(work)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Entrypoint(), "either a function or a program"),
        (
            lambda: Entrypoint(CallableEntrypoint(work), BinaryEntrypoint("a", [])),
            "either a function or a program",
        ),
        (lambda: Entrypoint.from_callable(42), "something callable, not 42"),
        (lambda: Entrypoint.from_binary("", []), "command is empty"),
        (lambda: Entrypoint.from_binary("a", "b"), r"args must be a list of strings: \['b'\]"),
        (lambda: Entrypoint.from_binary("a", [1]), "args must be a list of strings"),
    ],
)
def test_a_wrong_entrypoint_is_told_at_once(make, message):
    with pytest.raises(InvalidRequestError, match=message):
        make()


def plain_generator(n):
    yield n


async def asynchronous_generator(n):
    yield n


class CalledGenerator:
    def __call__(self, n):
        yield n


@pytest.mark.parametrize(
    "function",
    [
        plain_generator,
        asynchronous_generator,
        CalledGenerator(),
        functools.partial(plain_generator, n=1),
    ],
)
def test_a_generator_is_refused_as_an_entrypoint_for_a_call_would_run_nothing(function):
    with pytest.raises(InvalidRequestError, match="is a generator"):
        Entrypoint.from_callable(function, args=[1])


@pytest.mark.parametrize("name", ["a", "rl-train-7f3a", "user/rl/rollout", "a" * 200, "α", "x:y@z"])
def test_ordinary_names_are_accepted(name):
    assert request(name=name).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my job", "must not contain spaces"),
        ("a\tb", "must not contain spaces"),
        ("", "non-empty string"),
        (None, "non-empty string"),
        ("a" * 201, "at most 200 characters"),
        ("a#1", "'#' or a backslash"),
        ("a\x00", "'#' or a backslash"),
        ("../etc", "empty parts, '.' or '..'"),
        ("/a", "empty parts"),
        ("a//b", "empty parts"),
    ],
)
def test_a_name_that_would_break_ids_or_paths_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        request(name=name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_retries_failure": -2}, "max_retries_failure must be a whole number, at least 0"),
        ({"max_retries_preemption": 1.5}, "max_retries_preemption must be a whole number"),
        ({"ports": "http"}, r"ports must be a list of names: \['http'\]"),
        ({"ports": ["9p"]}, "a port's name consists of"),
        ({"ports": ["a-b", "a_b"]}, "ports 'a-b' and 'a_b' would share FRAY_PORT_A_B"),
    ],
)
def test_a_request_that_makes_no_sense_is_told_at_once(values, message):
    with pytest.raises(InvalidRequestError, match=message):
        request(**values)


def test_ports_may_be_a_set_as_in_the_seed():
    assert request(ports={"actor_service"}).ports == {"actor_service"}


def test_resources_that_were_changed_are_checked_again():
    resources = ResourceConfig()
    resources.ram = "none"
    with pytest.raises(InvalidRequestError, match="ram must be"):
        request(resources=resources)


def test_requests_do_not_share_their_defaults():
    one, other = request(), request()
    one.resources.cpu = 7
    assert other.resources.cpu == 1


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_status_knows_whether_it_is_the_last(status):
    finished = status in ("succeeded", "failed", "stopped")
    assert JobStatus.finished(status) is finished
    assert status.finished() is finished


def test_a_status_is_a_string():
    assert JobStatus("failed") is JobStatus.FAILED
    assert f"{JobStatus.FAILED}" == "failed"


def test_a_reservation_grows_in_replicas_only():
    slices = ResourceConfig.with_tpu
    ReservationConfig(slices("v6e-8", 2), slices("v6e-8", 4))
    with pytest.raises(InvalidRequestError, match="differ in device"):
        ReservationConfig(slices("v6e-8", 2), slices("v6e-4", 4))
    with pytest.raises(InvalidRequestError, match=r"minimum \(4 replicas\) is above its maximum"):
        ReservationConfig(slices("v6e-8", 4), slices("v6e-8", 2))
    with pytest.raises(InvalidRequestError, match="ttl_seconds must be above 0"):
        ReservationConfig(slices("v6e-8"), slices("v6e-8"), ttl_seconds=0)


def test_a_group_is_near_by_default():
    group = JobGroupConfig("pool")
    assert (group.same_region, group.same_zone, group.namespace) == (True, False, None)
    with pytest.raises(InvalidRequestError, match="group name"):
        JobGroupConfig("my pool")
