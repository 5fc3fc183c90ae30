"""Commands and tables as JSON.

Journals outlive releases: fields are written by name, unknown ones are ignored and missing ones
take their defaults, so that a new field with a default reads old journals. What cannot be read
at all is an `InvalidRequestError` that names the path to it, and no other error.
"""

from dataclasses import dataclass
from typing import Any, cast, get_args

import cattrs
import cattrs.v
import orjson
from cattrs.preconf.orjson import OrjsonConverter, make_converter
from cattrs.strategies import configure_tagged_union

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.commands import Command
from fray.cluster.controller.records import Gang, Group, Job, Task, Worker
from fray.cluster.controller.tables import Tables
from fray.cluster.devices import CpuConfig, DeviceConfig, GpuConfig, TpuConfig
from fray.errors import InvalidRequestError
from fray.ids import JobId

FORMAT = 1
"""Of snapshots; another one is refused."""


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


def _make_converter() -> OrjsonConverter:
    converter = make_converter()
    configure(converter)
    return converter


_CONVERTER = _make_converter()
"""Never changed after it is made."""


def encode_command(command: Command) -> bytes:
    """A command as JSON.

    Args:
        command: Any.
    """
    return orjson.dumps(_CONVERTER.unstructure(command, unstructure_as=Command))


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
    """All tables as JSON.

    Args:
        tables: As they are.
    """
    snapshot = _Snapshot(
        format=FORMAT,
        revision=tables.revision,
        submitted=tables.submitted,
        workers=tuple(tables.workers.values()),
        jobs=tuple(tables.jobs.values()),
        tasks=tuple(tables.tasks.values()),
        attempts=tuple(tables.attempts.values()),
        gangs=tuple(tables.gangs.values()),
        groups=tuple(tables.groups.values()),
        submissions=tables.submissions,
    )
    return orjson.dumps(_CONVERTER.unstructure(snapshot))


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
    )
    tables.reindex()
    return tables


def _load(data: bytes, what: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequestError(f"this is not {what}, and no JSON: {exc}") from exc


def _structure(value: Any, kind: Any, what: str) -> Any:
    try:
        return _CONVERTER.structure(value, kind)
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
    "decode_tables",
    "encode_command",
    "encode_tables",
]
