"""Reading files as batches of records: one call of a C library for many records."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import chain, islice
from typing import Any

from zephyr.files import damage, open_read, open_stored

READ_BYTES = 1 << 16
"""Of JSON lines, decoded together; what is read and made of it stays in the processor's cache."""

PARQUET_ROWS = 1024

_MARK = b"\xef\xbb\xbf"
"""At the beginning of a file, as some programs write UTF-8."""
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_PACKED = (".gz", ".zst", ".zstd", ".bz2", ".xz")


def format_of(path: str) -> str:
    """How a file is read, by its suffix.

    Args:
        path: Its path or URL.

    Raises:
        ValueError: Its suffix is not known.
    """
    name = path.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    raise ValueError(
        f"{path}: load_file knows {', '.join(_SUFFIXES)} (and {', '.join(_PACKED)} after them); "
        "use load_jsonl or load_parquet where the name says nothing"
    )


def batches_of(path: str, kind: str, columns: Sequence[str] | None) -> Iterator[list[Any]]:
    """The records of a file, in batches.

    Args:
        path: Its path or URL.
        kind: ``"jsonl"``, ``"parquet"`` or ``"auto"``.
        columns: Fields to keep; None for all.

    Raises:
        ValueError: It is not what it should be; the message names the line.
    """
    if not isinstance(path, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a file is loaded by its path, a string, not {path!r}")
    if kind == "auto":
        kind = format_of(path)
    if kind == "parquet":
        return _parquet(path, columns)
    return _jsonl(path, columns)


def _jsonl(path: str, columns: Sequence[str] | None) -> Iterator[list[Any]]:
    import msgspec  # only where it is needed: drivers and workers are to start at once

    decoder = msgspec.json.Decoder()
    for number, block in enumerate(_whole_lines(path)):
        if not number and bytes(block[: len(_MARK)]) == _MARK:
            block = block[len(_MARK) :]
        try:
            records = decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            records = _line_by_line(path, number, bytes(block))
        if columns is not None:
            records = [{name: each[name] for name in columns if name in each} for each in records]
        if records:
            yield records


def _whole_lines(path: str) -> Iterator[memoryview]:
    """A file, some lines at a time; each block is overwritten by the next one."""
    buffer = bytearray(READ_BYTES)
    held = 0
    with contextlib.ExitStack() as stack:
        try:
            source: Any = stack.enter_context(open_read(path))
        except damage() as exc:
            raise ValueError(f"{path} is damaged: {exc}") from exc
        while True:
            if held == len(buffer):  # one line is longer
                buffer = buffer + bytes(len(buffer))
            view = memoryview(buffer)
            try:
                size = source.readinto(view[held:])
            except damage() as exc:
                raise ValueError(f"{path} is damaged: {exc}") from exc
            if not size:
                break
            end = buffer.rfind(b"\n", held, held + size) + 1
            held += size
            if end:
                yield view[:end]
                view[: held - end] = view[end:held]
                held -= end
    if held:
        yield memoryview(buffer)[:held]


def _line_by_line(path: str, number: int, block: bytes) -> list[Any]:
    """For what the fast decoder refuses: NaN, lone surrogates, and lines that are wrong."""
    records: list[Any] = []
    for index, text in enumerate(block.split(b"\n")):
        if text.strip():
            try:
                records.append(json.loads(text))
            except ValueError as exc:
                before = islice(_whole_lines(path), number)
                line = 1 + index + sum(bytes(each).count(b"\n") for each in before)
                raise ValueError(f"{path}, line {line}: not JSON ({exc}): {text[:80]!r}") from exc
    return records


def _parquet(path: str, columns: Sequence[str] | None) -> Iterator[list[Any]]:
    parquet: Any = import_module("pyarrow.parquet")  # it has no types of its own
    with open_stored(path) as file, parquet.ParquetFile(file) as table:
        wanted: Any = columns
        if columns is not None:
            there = set(table.schema_arrow.names)
            wanted = [name for name in columns if name in there]
        for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
            if batch.num_rows:
                yield batch.to_pylist()


def load_file(path: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The records of a file, by its suffix; for `Dataset.flat_map`.

    Args:
        path: Its path or URL.
        columns: Fields to keep; None for all.
    """
    return chain.from_iterable(batches_of(path, "auto", columns))


def load_jsonl(path: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The values of a file's lines; for `Dataset.flat_map`.

    Args:
        path: Its path or URL; ``.gz``, ``.zst``, ``.bz2`` and ``.xz`` are decompressed.
        columns: Fields to keep; None for all.
    """
    return chain.from_iterable(batches_of(path, "jsonl", columns))


def load_parquet(path: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of a parquet file; for `Dataset.flat_map`.

    Args:
        path: Its path or URL.
        columns: Fields to read; None for all.
    """
    return chain.from_iterable(batches_of(path, "parquet", columns))


__all__ = ["batches_of", "format_of", "load_file", "load_jsonl", "load_parquet"]
