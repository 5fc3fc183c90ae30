"""Commands and tables as JSON.

Journals outlive releases: fields are written by name, unknown ones are ignored and missing ones
take their defaults, so that a new field with a default reads old journals. What cannot be read
at all is an `InvalidRequestError` that names the path to it, and no other error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import cattrs
import cattrs.v
import orjson
from cattrs.preconf.orjson import OrjsonConverter, make_converter
from cattrs.strategies import configure_tagged_union

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.commands import Command
from fray.cluster.controller.records import Gang, Group, Job, Task, Worker
from fray.cluster.controller.reservation import Reservation
from fray.cluster.controller.tables import Tables
from fray.cluster.devices import CpuConfig, DeviceConfig, GpuConfig, ResourceConfig, TpuConfig
from fray.cluster.scheduling.accounts import Standing
from fray.cluster.scheduling.policy import DEFAULT_POLICY, Policy
from fray.cluster.scheduling.view import (
    Claim,
    ClusterView,
)
from fray.errors import InvalidRequestError
from fray.ids import JobId

FORMAT = 1
"""Of snapshots; another one is refused."""

_TABLES = (
    "workers",
    "jobs",
    "tasks",
    "attempts",
    "gangs",
    "groups",
    "reservations",
    "claims",
)
"""Whose records know their own keys."""

PIECE_RECORDS = 100
"""Records that are encoded at once: about half a millisecond."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Tables as lists of records: every record knows its own key."""

    format: int
    revision: int
    submitted: int
    workers: tuple[Worker, ...]
    jobs: tuple[Job, ...]
    tasks: tuple[Task, ...]
    attempts: tuple[Attempt, ...]
    gangs: tuple[Gang, ...]
    groups: tuple[Group, ...]
    submissions: dict[str, tuple[JobId, ...]]
    users: dict[str, Standing] = field(default_factory=dict[str, Standing])
    reservations: tuple[Reservation, ...] = ()
    claims: tuple[Claim, ...] = ()
    policy: Policy = DEFAULT_POLICY


_DEVICES: dict[str, type[CpuConfig] | type[GpuConfig] | type[TpuConfig]] = {
    "cpu": CpuConfig,
    "gpu": GpuConfig,
    "tpu": TpuConfig,
}


def configure(converter: cattrs.Converter) -> None:
    """Teaches a converter the unions of this package: devices by ``kind``, commands by ``type``.

    Args:
        converter: Any; it is changed.
    """

    def structure_device(value: Any, _: Any) -> DeviceConfig:
        kind = _DEVICES.get(value["kind"])
        if kind is None:
            raise InvalidRequestError(f"{value['kind']!r} is no kind of device")
        return converter.structure(value, kind)

    def unstructure_device(value: DeviceConfig) -> Any:
        return converter.unstructure(value, unstructure_as=type(value))

    converter.register_structure_hook_func(lambda kind: kind == DeviceConfig, structure_device)
    converter.register_unstructure_hook_func(lambda kind: kind == DeviceConfig, unstructure_device)
    configure_tagged_union(Command, converter, tag_name="type")


def _make_converter(*, detailed: bool) -> OrjsonConverter:
    converter = make_converter(detailed_validation=detailed)
    configure(converter)
    return converter


_CONVERTER = _make_converter(detailed=False)
_TELLING_CONVERTER = _make_converter(detailed=True)
"""Takes twice the time and says where something is wrong. Neither is changed after it is made."""


def _encode(record: Any) -> bytes:
    """Frozen records as JSON: ten times as fast as taking them apart in Python first."""
    return orjson.dumps(record, default=_plain)


def _plain(value: Any) -> Any:
    """What orjson does not know: named tuples, and mappings that are no dicts."""
    if isinstance(value, tuple):
        return list(cast("tuple[Any, ...]", value))
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    raise TypeError(f"{type(value).__name__} is not kept in journals")


def encode_command(command: Command) -> bytes:
    """A command as JSON.

    Args:
        command: Any.
    """
    tag, fields = b'{"type":"%s"' % type(command).__name__.encode(), _encode(command)[1:]
    return tag + fields if fields == b"}" else tag + b"," + fields


def decode_command(data: bytes) -> Command:
    """Reads a command.

    Args:
        data: As `encode_command` wrote it, or as a client did.

    Raises:
        InvalidRequestError: It is no command.
    """
    return cast("Command", _structure(_tagged(data), Command, "a command"))


def _tagged(data: bytes) -> Any:
    value: Any = _load(data, "a command")
    names = [each.__name__ for each in get_args(Command)]
    tag = value.get("type") if hasattr(value, "get") else None
    if tag not in names:
        raise InvalidRequestError(f"{tag!r} is no command; there are {', '.join(names)}")
    return value


def encode_tables(tables: Tables) -> bytes:
    """All tables as JSON, at once.

    Args:
        tables: As they are.
    """
    return b"".join(pieces_of(tables))


def pieces_of(tables: Tables) -> Iterator[bytes]:
    """All tables as JSON, in pieces: the tables may change between two of them.

    Args:
        tables: As they are when the first piece is asked for; that is what all pieces tell.
    """
    lists = {name: list(getattr(tables, name).values()) for name in _TABLES}
    keyed = {name: list(getattr(tables, name).items()) for name in ("submissions", "users")}
    policy = _encode(tables.policy)
    yield b'{"format":%d,"revision":%d,"submitted":%d' % (FORMAT, tables.revision, tables.submitted)
    yield b',"policy":' + policy
    for name, records in lists.items():
        yield b',"%s":[' % name.encode()
        for at in range(0, len(records), PIECE_RECORDS):
            piece = _encode(records[at : at + PIECE_RECORDS])[1:-1]
            yield piece if at == 0 else b"," + piece
        yield b"]"
    for name, items in keyed.items():
        yield b',"%s":{' % name.encode()
        for at in range(0, len(items), PIECE_RECORDS):
            piece = _encode(dict(items[at : at + PIECE_RECORDS]))[1:-1]
            yield piece if at == 0 else b"," + piece
        yield b"}"
    yield b"}"


def decode_tables(data: bytes) -> Tables:
    """Reads tables and derives their indexes.

    Args:
        data: As `encode_tables` wrote it.

    Raises:
        InvalidRequestError: It is no snapshot, or one of another format.
    """
    read: _Snapshot = _structure(_load(data, "a snapshot"), _Snapshot, "a snapshot")
    if read.format != FORMAT:
        raise InvalidRequestError(
            f"this snapshot has format {read.format}, and only {FORMAT} can be read; use the "
            "version of fray that wrote it"
        )
    tables = Tables(
        revision=read.revision,
        submitted=read.submitted,
        workers={worker.spec.worker_id: worker for worker in read.workers},
        jobs={job.spec.job_id: job for job in read.jobs},
        tasks={task.key: task for task in read.tasks},
        attempts={attempt.attempt_id: attempt for attempt in read.attempts},
        gangs={gang.gang_id: gang for gang in read.gangs},
        groups={group.group_id: group for group in read.groups},
        submissions=read.submissions,
        users=read.users,
        reservations={each.reservation_id: each for each in read.reservations},
        claims={claim.unit_id: claim for claim in read.claims},
        policy=read.policy,
    )
    tables.reindex()
    return tables


@dataclass(frozen=True, slots=True)
class _RecordedView:
    """A view as it was at a time."""

    format: int
    now: float
    view: ClusterView


def encode_view(view: ClusterView, now: float) -> bytes:
    """What the scheduler sees, as JSON: a recording that plans can be made from again.

    Args:
        view: As it is.
        now: The time, in seconds since 1970.
    """
    return orjson.dumps(_CONVERTER.unstructure(_RecordedView(FORMAT, now, view)))


def decode_view(data: bytes) -> tuple[ClusterView, float]:
    """Reads a view.

    Args:
        data: As `encode_view` wrote it.

    Returns:
        The view, and its time.

    Raises:
        InvalidRequestError: It is no view, or one of another format.
    """
    read: _RecordedView = _structure(_load(data, "a recorded view"), _RecordedView, "a view")
    if read.format != FORMAT:
        raise InvalidRequestError(f"this view has format {read.format}; only {FORMAT} can be read")
    return read.view, read.now


def decode_resources(data: bytes) -> ResourceConfig:
    """Reads what a job needs.

    Args:
        data: JSON with the fields of `ResourceConfig`; the device has a ``kind``.

    Raises:
        InvalidRequestError: It is no such thing.
    """
    return cast("ResourceConfig", _structure(_load(data, "resources"), ResourceConfig, "resources"))


def _load(data: bytes, what: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequestError(f"this is not {what}, and no JSON: {exc}") from exc


_WRONG = (AttributeError, KeyError, TypeError, ValueError, cattrs.StructureHandlerNotFoundError)
"""What a converter raises that does not say where."""


def _structure(value: Any, kind: Any, what: str) -> Any:
    try:
        return _CONVERTER.structure(value, kind)
    except _WRONG:
        pass  # the other converter says where
    try:
        return _TELLING_CONVERTER.structure(value, kind)
    except (cattrs.BaseValidationError, KeyError, TypeError, ValueError) as exc:
        detail = "; ".join(cattrs.transform_error(exc, format_exception=_describe))
        raise InvalidRequestError(f"this is not {what}: {detail}") from exc


def _describe(exc: BaseException, kind: type | None) -> str:
    """What is wrong with one value: our own words where a class checks itself."""
    if isinstance(exc, InvalidRequestError):
        return str(exc)
    return cattrs.v.format_exception(exc, kind)


__all__ = [
    "FORMAT",
    "configure",
    "decode_command",
    "decode_resources",
    "decode_tables",
    "decode_view",
    "encode_command",
    "encode_tables",
    "encode_view",
    "pieces_of",
]
