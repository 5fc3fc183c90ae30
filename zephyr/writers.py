"""Writing the items of a shard to a file, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, cast

from zephyr.files import BlockWriter, write_whole

if TYPE_CHECKING:
    import msgspec

    from zephyr.operations import WriteOp


def path_of(operation: WriteOp, shard: int, total: int) -> str:
    """Where a shard is written.

    Args:
        operation: What is to be written.
        shard: Its number, from 0.
        total: How many there are.
    """
    if isinstance(operation.pattern, str):
        return operation.pattern.format(shard=shard, total=total, basename=f"shard_{shard}")
    return str(operation.pattern(shard, total))


def write_shard(
    operation: WriteOp,
    path: str,
    batches: Iterator[list[Any]],
    tag: str,
    may_appear: Callable[[], object],
) -> None:
    """Writes a file that appears whole, or not at all.

    Args:
        operation: How.
        path: Where.
        batches: What.
        tag: By whom, see `zephyr.files.write_whole`.
        may_appear: Raises where this one may not write it.
    """
    write = _WRITERS[operation.format]
    with write_whole(path, tag, may_appear) as file:
        write(operation, path, batches, file)


def _jsonl(_operation: WriteOp, path: str, batches: Iterator[list[Any]], file: IO[bytes]) -> None:
    import msgspec  # only where it is needed: drivers and workers are to start at once

    encoder = msgspec.json.Encoder(enc_hook=_other)
    writer = BlockWriter(path, file)
    for batch in batches:
        try:
            lines = encoder.encode_lines(batch)
        except (TypeError, UnicodeEncodeError, NotImplementedError):
            lines = b"".join(_one_line(encoder, item) for item in batch)
        writer.write(lines)
    writer.close()


def _one_line(encoder: msgspec.json.Encoder, item: Any) -> bytes:
    """For what the fast encoder refuses: lone surrogates, None as a key, and what is no JSON."""
    try:
        return encoder.encode(item) + b"\n"
    except (TypeError, UnicodeEncodeError, NotImplementedError) as exc:
        try:
            return json.dumps(item, default=_other).encode() + b"\n"
        except (TypeError, NotImplementedError):
            raise TypeError(f"write_jsonl: {exc}: {item!r:.200}") from exc


def _other(value: Any) -> Any:
    """Arrays and numbers of numpy, and of whatever behaves like it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} is no JSON")


def _binary(_operation: WriteOp, path: str, batches: Iterator[list[Any]], file: IO[bytes]) -> None:
    writer = BlockWriter(path, file)
    for batch in batches:
        for item in batch:
            if not isinstance(item, bytes | bytearray | memoryview):
                raise TypeError(f"write_binary writes bytes, not {type(item).__name__}")
        writer.write(b"".join(batch))
    writer.close()


def _parquet(operation: WriteOp, _path: str, batches: Iterator[list[Any]], file: IO[bytes]) -> None:
    parquet: Any = import_module("pyarrow.parquet")  # it has no types of its own
    schema: Any = operation.schema
    writer: Any = None
    try:
        for rows in _of_size(batches, operation.batch_size):
            table = _table(rows, schema, inferred=operation.schema is None)
            if writer is None:
                schema = table.schema
                writer = parquet.ParquetWriter(file, schema)
            writer.write_table(table)
        if writer is None:  # a file without rows is a file nevertheless
            empty = import_module("pyarrow").schema([]) if schema is None else schema
            writer = parquet.ParquetWriter(file, empty)
    finally:
        if writer is not None:
            writer.close()


def _table(rows: list[dict[str, Any]], schema: Any, *, inferred: bool) -> Any:
    """Rows in columns; refuses those that would not come back as they are.

    pyarrow itself leaves out the fields that a schema lacks, and cuts 1.5 to the 1 of a column of
    whole numbers.
    """
    pyarrow: Any = import_module("pyarrow")
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    try:
        found = pyarrow.table({name: [row.get(name) for row in rows] for name in names})
        if schema is None or found.schema == schema:
            return found
        for name in names:
            told = "there is no such column"
            if name not in schema.names or (told := _loses(found.field(name), schema.field(name))):
                raise ValueError(_unfit(schema, inferred, f"{name} would be lost: {told}"))
        return pyarrow.Table.from_pylist(rows, schema=schema)
    except (pyarrow.ArrowException, OverflowError) as exc:
        raise ValueError(_unfit(schema, inferred, str(exc))) from exc


def _loses(found: Any, wanted: Any) -> str:
    """What would get lost of a column of one type in a column of another; empty for nothing.

    What pyarrow refuses by itself is left to it.
    """
    types: Any = import_module("pyarrow.types")
    one, other = found.type, wanted.type
    if types.is_floating(one) and types.is_integer(other):
        return f"a {one} is no {other}"
    if types.is_struct(one) and types.is_struct(other):
        there = {other.field(index).name: other.field(index) for index in range(other.num_fields)}
        for index in range(one.num_fields):
            field = one.field(index)
            if field.name not in there:
                return f"its {field.name}"
            if told := _loses(field, there[field.name]):
                return f"its {field.name}: {told}"
    if types.is_list(one) and (types.is_list(other) or types.is_large_list(other)):
        return _loses(one.value_field, other.value_field)
    return ""


def _unfit(schema: Any, inferred: bool, told: str) -> str:
    if schema is None:
        return f"write_parquet: {told}"
    if not inferred:
        return f"write_parquet: {told}; the schema has {schema.names}"
    return (
        f"write_parquet: {told}; the schema was inferred from the first rows ({schema.names}): "
        "give write_parquet a schema"
    )


def _of_size(batches: Iterator[list[Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    rows: list[Any] = []
    for batch in batches:
        rows += [_row(item) for item in batch]
        while len(rows) >= size:
            yield rows[:size]
            rows = rows[size:]
    if rows:
        yield rows


def _row(item: Any) -> dict[str, Any]:
    if isinstance(item, dict):
        return cast("dict[str, Any]", item)
    import msgspec

    made = msgspec.to_builtins(item, builtin_types=(bytes,))  # a dataclass, for one
    if not isinstance(made, dict):
        raise TypeError(f"write_parquet writes dicts, not {type(item).__name__}")
    return cast("dict[str, Any]", made)


_WRITERS: dict[str, Callable[[WriteOp, str, Iterator[list[Any]], IO[bytes]], None]] = {
    "jsonl": _jsonl,
    "binary": _binary,
    "parquet": _parquet,
}

__all__ = ["path_of", "write_shard"]
