from __future__ import annotations

import enum
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fray
from fray.errors import DeathCause, DeathKind, ErrorData, PayloadError
from fray.ids import JobId
from fray.runtime.codecs import JsonArguments, json_payload, read_json_payload
from fray.runtime.jsoncodec import (
    json_dumps,
    json_loads,
    result_type,
    structure,
    structure_arguments,
)
from fray.runtime.payload import Codec, Payload

if TYPE_CHECKING:
    from decimal import Decimal


class State(enum.StrEnum):
    PENDING = "pending"
    RUNNING = "running"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Plain(enum.Enum):
    A = "a"


@dataclass(frozen=True, slots=True)
class Resources:
    cpu: int = 1
    ram_gib: float = 0.0
    device: str | None = None

    def __post_init__(self) -> None:
        if self.cpu < 0:
            raise ValueError(f"cpu must not be negative, not {self.cpu}")


@dataclass(frozen=True)
class Job:
    id: JobId
    resources: Resources
    state: State = State.PENDING
    level: Level = Level.LOW
    plain: Plain = Plain.A
    tasks: tuple[Resources, ...] = ()
    pair: tuple[int, str] = (0, "")
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[int, tuple[str, ...]] = field(default_factory=dict)
    blob: bytes = b""
    tags: frozenset[str] = frozenset()
    hosts: list[str] = field(default_factory=list)
    previous: Job | None = None
    mode: Literal["a", "b"] = "a"
    anything: Any = None
    scalar: int | str | None = None


@dataclass(frozen=True)
class Cpu:
    cores: int = 1
    kind: Literal["cpu"] = "cpu"


@dataclass(frozen=True)
class Gpu:
    model: str = "any"
    kind: Literal["gpu"] = "gpu"


@dataclass(frozen=True)
class Host:
    device: Cpu | Gpu = field(default_factory=Cpu)


EXAMPLE = Job(
    JobId("me/train-1"),
    Resources(4, 1.5, "tpu"),
    State.RUNNING,
    Level.HIGH,
    tasks=(Resources(), Resources(2)),
    pair=(3, "x"),
    labels={"a": "b"},
    ports={8080: ("h1", "h2"), -1: ()},
    blob=bytes(range(256)),
    tags=frozenset({"x", "y"}),
    hosts=["h"],
    previous=Job(JobId("me/train-0"), Resources()),
    mode="b",
    anything={"k": [1, None, {"n": 1.5}]},
    scalar="s",
)


def wrong(data: object, kind: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        structure(data, kind)
    return str(caught.value)


# ---- there and back


def test_a_nested_dataclass_comes_back_equal() -> None:
    assert json_loads(json_dumps(EXAMPLE), Job) == EXAMPLE


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (DeathCause(DeathKind.SIGNAL, "x", signal=9), DeathCause),
        (ErrorData("E", "m", notes=("n",), cause=ErrorData("F", "c")), ErrorData),
        ([Resources(1)], list[Resources]),
        ((Resources(1),), Sequence[Resources]),
        ({"a": Resources(1)}, Mapping[str, Resources]),
        ({State.RUNNING: 1}, dict[State, int]),
        ({JobId("x"): 1}, dict[JobId, int]),
        (None, None),
        (None, Resources | None),
        (Resources(2), Resources | None),
        (1.5, int | float | None),
        (True, bool | int),
        (3, float),
        ({"any": [1, "x"]}, Any),
        ({"any": [1, "x"]}, dict[str, Any]),
        (set(), set[int]),
        (frozenset({3, 1}), frozenset[int]),
        (Level.HIGH, Level),
        (JobId("j"), JobId),
    ],
)
def test_typed_values_come_back_equal(value: object, kind: Any) -> None:
    rebuilt = json_loads(json_dumps(value), kind)
    assert rebuilt == value


def test_integers_may_stand_for_floats_and_become_floats() -> None:
    assert type(json_loads(b"3", float)) is float


def test_read_only_mappings_and_views_of_bytes_can_be_written() -> None:
    value = {"m": MappingProxyType({"a": 1}), "b": memoryview(b"xyz")}
    assert json_loads(json_dumps(value), dict[str, Any]) == {"m": {"a": 1}, "b": "eHl6"}


def test_named_tuples_are_written_as_arrays() -> None:
    class Pair(NamedTuple):
        a: int
        b: str

    assert json_dumps(Pair(1, "x")) == b'[1,"x"]'


def test_sets_are_written_in_one_order_whatever_the_hash_seed() -> None:
    assert json_dumps({"c", "a", "b"}) == b'["a","b","c"]'


@given(
    st.builds(
        Job,
        id=st.text().map(JobId),
        resources=st.builds(
            Resources,
            st.integers(0, 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.text(),
        ),
        state=st.sampled_from(State),
        labels=st.dictionaries(st.text(), st.text()),
        ports=st.dictionaries(st.integers(-(2**53), 2**53), st.just(("a",))),
        blob=st.binary(),
        tags=st.frozensets(st.text()),
        pair=st.tuples(st.integers(-(2**63), 2**63 - 1), st.text()),
        scalar=st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    )
)
def test_any_job_comes_back_equal(job: Job) -> None:
    assert json_loads(json_dumps(job), Job) == job


# ---- what is wrong is named with its path


def test_a_value_of_the_wrong_type_is_named_by_its_path() -> None:
    data = {"id": "x", "resources": {"cpu": "two"}}
    assert wrong(data, Job) == "Job.resources.cpu: expected int, got str 'two'"


def test_an_unknown_field_is_refused() -> None:
    assert wrong({"cpu": 1, "gpu": 2}, Resources) == "Resources: has no field 'gpu'"


def test_a_missing_field_is_named() -> None:
    assert wrong({"resources": {}}, Job) == "Job.id: missing"


def test_a_class_s_own_check_speaks_for_itself() -> None:
    data = {"id": "x", "resources": {}, "tasks": [{}, {"cpu": -1}]}
    assert wrong(data, Job) == "Job.tasks[1]: cpu must not be negative, not -1"


def test_every_fault_is_named_up_to_a_bound() -> None:
    assert wrong({"cpu": "a", "ram_gib": "b", "x": 1}, Resources) == (
        "Resources.cpu: expected int, got str 'a'; "
        "Resources.ram_gib: expected float, got str 'b'; "
        "Resources: has no field 'x'"
    )
    many = {f"field_{number}": 0 for number in range(20)}
    assert wrong(many, Resources).endswith("and 15 more")


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (True, int, "int: expected int, got bool True"),
        (1.0, int, "int: expected int, got float 1.0"),
        ("1", int, "int: expected int, got str '1'"),
        (None, int, "int: expected int, got null"),
        (1, bool, "bool: expected bool, got int 1"),
        (True, float, "float: expected float, got bool True"),
        (5, str, "str: expected str, got int 5"),
        (5, JobId, "JobId: expected str, got int 5"),
        ("no base64!", bytes, "bytes: expected bytes in base64, got str 'no base64!'"),
        ("abc", list[str], "list[str]: expected an array, got str 'abc'"),
        ({"a": 1}, list[str], "list[str]: expected an array, got object {'a': 1}"),
        ([1], dict[str, int], "dict[str, int]: expected an object, got array [1]"),
        (["a", 1], list[str], "list[str][1]: expected str, got int 1"),
        ({"a": "b"}, dict[str, int], "dict[str, int]['a']: expected int, got str 'b'"),
        ({"a": 1}, dict[int, int], "dict[int, int]['a'] (key): expected an integer, got str 'a'"),
        ([1], tuple[int, str], "tuple[int, str]: expected an array of 2, got array [1]"),
        ([1, 2], tuple[int, str], "tuple[int, str][1]: expected str, got int 2"),
        ("done", State, "State: expected one of 'pending', 'running', got str 'done'"),
        (3, Level, "Level: expected one of 1, 2, got int 3"),
        ("b", Plain, "Plain: expected one of 'a', got str 'b'"),
        ([], Resources, "Resources: expected an object (Resources), got array []"),
        ("x", Resources | None, "Resources | None: expected an object (Resources), got str 'x'"),
        (0, None, "None: expected null, got int 0"),
    ],
)
def test_nothing_is_coerced(data: object, kind: Any, message: str) -> None:
    assert wrong(data, kind) == message


def test_a_literal_of_another_value_is_refused() -> None:
    assert "c" in wrong({"id": "x", "resources": {}, "mode": "c"}, Job)


def test_long_values_are_not_quoted_whole() -> None:
    assert len(wrong("x" * 10_000, int)) < 200


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[1,]", b"NaN"])
def test_what_is_not_json_is_reported(data: bytes) -> None:
    with pytest.raises(PayloadError, match="request is not JSON"):
        json_loads(data, Resources, what="request")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text() | st.sampled_from(["id", "resources", "cpu", "previous"]), inner
        )
    ),
    max_leaves=10,
)


@given(json_values)
def test_any_json_gives_a_job_or_a_payload_error(value: object) -> None:
    try:
        job = json_loads(json_dumps(value), Job)
    except PayloadError:
        return
    assert isinstance(job, Job)


def test_a_union_of_classes_is_told_apart_by_its_kind() -> None:
    for host in (Host(Cpu(4)), Host(Gpu("h100"))):
        assert json_loads(json_dumps(host), Host) == host
    expected = "Host.device: expected an object whose kind is one of cpu, gpu, got"
    for device in ({"kind": "abacus"}, {"cores": 1}, {"kind": 1}, "cpu", None):
        assert wrong({"device": device}, Host).startswith(expected)
    assert wrong({"device": {"kind": "gpu", "cores": 1}}, Host) == (
        "Host.device: has no field 'cores'"
    )


# ---- what cannot be written


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, object()]}, "value['a'][1] cannot be written as JSON: object has no form"),
        (2**70, "value cannot be written as JSON: Integer exceeds 64-bit range"),
        (["\ud800"], r"value[0] cannot be written as JSON: str is not valid UTF-8"),
        (Job(JobId("x"), Resources(2**70)), "value.resources.cpu cannot be written as JSON"),
    ],
)
def test_what_json_cannot_carry_is_named_by_its_path(value: object, message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        json_dumps(value)
    assert str(caught.value).startswith(message)


# ---- calls


class Service:
    async def submit(self, job: Job, *, priority: int = 0) -> State:
        raise NotImplementedError

    def many(self, *jobs: Resources, **limits: int) -> list[str]:
        raise NotImplementedError

    def untyped(self, x, y=3):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    async def watch(self, names: Sequence[str]) -> AsyncIterator[Resources]:
        raise NotImplementedError
        yield

    def hidden(self, x: Decimal) -> None:
        raise NotImplementedError

    def impossible(self, x: type[int]) -> None:
        raise NotImplementedError


def refused(fn: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        structure_arguments(fn, args, kwargs)
    return str(caught.value)


def test_arguments_are_read_by_the_hints_of_their_parameters() -> None:
    args, kwargs = structure_arguments(
        Service().submit, [{"id": "a", "resources": {"cpu": 2}}], {"priority": 3}
    )
    assert args == (Job(JobId("a"), Resources(2)),)
    assert kwargs == {"priority": 3}


def test_defaults_are_left_to_the_function() -> None:
    assert structure_arguments(Service().untyped, [1], {}) == ((1,), {})


def test_collecting_parameters_are_read_one_by_one() -> None:
    args, kwargs = structure_arguments(Service().many, [{"cpu": 1}, {"cpu": 2}], {"a": 1})
    assert args == (Resources(1), Resources(2))
    assert kwargs == {"a": 1}
    assert refused(Service().many, {"cpu": 1}, {"cpu": ""}) == (
        "Service.many(): argument 'jobs'[1].cpu: expected int, got str ''"
    )
    assert refused(Service().many, a="x") == (
        "Service.many(): argument 'limits'['a']: expected int, got str 'x'"
    )


def test_a_wrong_argument_is_named_with_its_function_and_path() -> None:
    assert refused(Service().submit, {"id": "a", "resources": {"cpu": ""}}) == (
        "Service.submit(): argument 'job'.resources.cpu: expected int, got str ''"
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        ((), {}, "missing a required argument: 'job'"),
        (({}, 1), {}, "too many positional arguments"),
        (({},), {"urgency": 1}, "got an unexpected keyword argument 'urgency'"),
        (({},), {"job": {}}, "multiple values for argument 'job'"),
    ],
)
def test_missing_and_extra_arguments_are_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], reason: str
) -> None:
    assert refused(Service().submit, *args, **kwargs) == f"Service.submit(): {reason}"


def test_functions_are_served_as_methods_are() -> None:
    def double(x: int) -> int:
        return 2 * x

    assert structure_arguments(double, [2], {}) == ((2,), {})
    assert (
        structure_arguments(Service.submit, [None, {"id": "a", "resources": {}}], {})[0][0] is None
    )


def test_hints_that_only_type_checkers_see_are_reported_as_a_mistake_of_the_function() -> None:
    with pytest.raises(TypeError, match=r"Service\.hidden\(\) cannot be resolved.*at run time"):
        structure_arguments(Service().hidden, [1], {})


def test_types_that_json_cannot_carry_are_reported_as_a_mistake_of_the_function() -> None:
    with pytest.raises(TypeError, match=r"Service\.impossible\(\): JSON cannot carry"):
        structure_arguments(Service().impossible, [1], {})


def test_the_result_type_is_the_hint_or_the_item_of_a_stream() -> None:
    assert result_type(Service().submit) is State
    assert result_type(Service().watch) is Resources
    assert result_type(Service().many) == list[str]
    assert result_type(Service().untyped) is Any


def test_importing_and_writing_do_not_import_cattrs() -> None:
    script = (
        "import sys; from fray.runtime.jsoncodec import json_dumps; json_dumps({'a': b'x'});"
        "print('cattrs' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(fray.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


# ---- large bytes


@dataclass(frozen=True)
class Parcel:
    name: str
    content: bytes
    more: tuple[bytes, ...] = ()


def test_large_bytes_travel_beside_the_json_and_small_ones_in_it():
    parcel = Parcel("p", bytes(range(256)) * 1000, (b"small", b"x" * 5000))
    payload = json_payload([parcel])
    assert len(payload.data) < 200
    assert [bytes(buffer) for buffer in payload.buffers] == [parcel.content, b"x" * 5000]
    assert read_json_payload(payload, list[Parcel]) == [parcel]


def test_large_arguments_arrive_as_they_were():
    def store(parcel: Parcel, note: str = "") -> None: ...

    parcel = Parcel("p", b"y" * 100_000)
    payload = json_payload([[parcel], {"note": "n"}])
    args, kwargs = JsonArguments().decode(store, payload, take=True)
    assert (args, kwargs) == ((parcel,), {"note": "n"})


@pytest.mark.parametrize("index", ["5", "-1", "true", '"0"', "null"])
def test_bytes_that_did_not_come_are_refused(index: str):
    data = b'{"name": "p", "content": {"$beside": %s}}' % index.encode()
    with pytest.raises(PayloadError, match=r"Parcel.content: expected bytes"):
        read_json_payload(Payload(data, (b"something",), codec=Codec.JSON), Parcel)
