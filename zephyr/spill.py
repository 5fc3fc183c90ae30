"""Items in storage: blocks in files, compressed where that pays, read back block by block."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import cloudpickle
import zstandard

from zephyr.files import join, local_path, read_range, upload

BLOCK_BYTES = 1 << 18
"""Of a block, before it is compressed."""

INLINE_BYTES = 1 << 16
"""What is smaller travels with the answer of a task, and needs no file."""

SPILL_LEVEL = 1
_HEAD = struct.Struct(">IIQ")
_READ_BYTES = 1 << 18
_SMALL_BYTES = 1 << 16

Packer = Callable[[Any], bytes]
"""Gives the bytes of an object."""


class _Pieces:
    """A file, to a pickler: all that it needs of one."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


def _pickler(pieces: list[bytes]) -> tuple[Callable[[Any], None], Callable[[], None]]:
    """Pickles into a list; and forgets what was pickled, before the next object."""
    pickler: Any = cloudpickle.Pickler(_Pieces(pieces.append), protocol=5)
    # Its own `dump` explains an error better, and takes half again the time.
    plain: Any = super(cloudpickle.Pickler, pickler)
    return plain.dump, pickler.clear_memo


def packer() -> Packer:
    """A function that pickles one object after the other, those of ``__main__`` by value."""
    pieces: list[bytes] = []
    dump, forget = _pickler(pieces)

    def pack(value: Any) -> bytes:
        try:
            forget()
            dump(value)
            return pieces.pop() if len(pieces) == 1 else b"".join(pieces)
        finally:
            if pieces:
                pieces.clear()

    return pack


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of blocks: a part of a file, or inline.

    Attributes:
        count: Items.
        path: The file; empty where it is inline.
        offset: Where it begins there, in bytes.
        length: How long it is, in bytes.
        inline: The blocks themselves.
        skip: Items at the beginning that are not meant.
        take: Items that are meant then; None for all.
    """

    count: int
    path: str = ""
    offset: int = 0
    length: int = 0
    inline: bytes = b""
    skip: int = 0
    take: int | None = None

    @property
    def meant(self) -> int:
        """How many items are meant."""
        left = self.count - self.skip
        return left if self.take is None else min(left, self.take)

    def part(self, skip: int, take: int) -> Segment:
        """A part of it.

        Args:
            skip: Items to leave out at the beginning.
            take: Items that follow.
        """
        return Segment(
            self.count, self.path, self.offset, self.length, self.inline, self.skip + skip, take
        )


class SpillFile:
    """Writes segments to a new file, or keeps them inline while they are few.

    Args:
        path: Where, if anywhere.
        compress: Whether blocks are compressed.
    """

    def __init__(self, path: str, compress: bool = True) -> None:
        self._path = path
        self._compressor = zstandard.ZstdCompressor(level=SPILL_LEVEL) if compress else None
        self._pieces: list[bytes] = []
        self._dump, self._forget = _pickler(self._pieces)
        self._file: IO[bytes] | None = None
        self._local = ""
        self._held: list[bytes] = []
        self._segments: list[tuple[int, int, int]] = []
        self._at = self._begun = self._count = 0

    def add(self, block: list[Any], count: int | None = None) -> None:
        """Adds a block to the present segment.

        Args:
            block: What is pickled.
            count: Items in it; None for the length of the list.
        """
        items = len(block) if count is None else count
        pieces = self._pieces
        try:
            self._forget()
            self._dump(block)
            size, raw_size = sum(map(len, pieces)), 0
            if self._compressor is not None:
                pieces[:] = (self._compressor.compress(b"".join(pieces)),)
                size, raw_size = len(pieces[0]), size
            self._write(_HEAD.pack(size, items, raw_size), pieces, size)
        finally:
            pieces.clear()
        self._count += items

    def cut(self) -> int:
        """Ends the present segment.

        Returns:
            Its number, from 0.
        """
        self._segments.append((self._begun, self._at - self._begun, self._count))
        self._begun, self._count = self._at, 0
        return len(self._segments) - 1

    def close(self) -> list[Segment]:
        """Ends the file, which is in storage then.

        Returns:
            Its segments.
        """
        if self._file is None:
            data = b"".join(self._held)
            return [
                Segment(count, inline=data[begin : begin + size], length=size)
                for begin, size, count in self._segments
            ]
        self._file.close()
        if local_path(self._path) is None:
            try:
                upload(self._local, self._path, "spill")
            finally:
                os.remove(self._local)
        return [Segment(count, self._path, begin, size) for begin, size, count in self._segments]

    def discard(self) -> None:
        """Forgets the file, for its task has failed."""
        if self._file is not None:
            self._file.close()
            if os.path.exists(self._local):
                os.remove(self._local)

    def _write(self, head: bytes, block: list[bytes], size: int) -> None:
        self._at += len(head) + size
        if self._file is not None:
            self._file.write(head)
            self._file.writelines(block)
            return
        self._held += (head, *block)
        if self._at > INLINE_BYTES:
            self._file = self._open()
            self._file.writelines(self._held)
            self._held.clear()

    def _open(self) -> IO[bytes]:
        local = local_path(self._path)
        if local is None:
            number, self._local = tempfile.mkstemp(prefix="zephyr-")
            return os.fdopen(number, "wb")
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(local))  # not the run's folder: that is there, or was removed
        self._local = local
        return open(local, "wb")


def blocks_of(segment: Segment) -> Iterator[list[Any]]:
    """The blocks of a segment, as they were given to `SpillFile.add`.

    Args:
        segment: The segment; what is left out of it is not looked at here.
    """
    for _, raw in _packed_blocks(segment):
        yield pickle.loads(raw() if callable(raw) else raw)


def items_of(segment: Segment) -> Iterator[list[Any]]:
    """The items that a segment means, in batches; each block is a list of items.

    Args:
        segment: The segment.
    """
    skip, left = segment.skip, segment.meant
    for count, raw in _packed_blocks(segment):
        if not left:
            return
        if skip >= count:
            skip -= count
            continue
        batch: list[Any] = pickle.loads(raw() if callable(raw) else raw)
        if skip or left < count:
            batch = batch[skip : skip + left]
            skip = 0
        left -= len(batch)
        yield batch


def _packed_blocks(segment: Segment) -> Iterator[tuple[int, memoryview | Callable[[], bytes]]]:
    """The number of items of each block, and the block, or a function that decompresses it."""
    decompress = zstandard.ZstdDecompressor().decompress
    source = _Source(segment)
    while not source.at_end:
        size, count, raw_size = _HEAD.unpack(source.read(_HEAD.size))
        packed = source.read(size)
        yield count, partial(decompress, packed, raw_size) if raw_size else packed


class _Source:
    """Reads a segment ahead by a bounded amount."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._buffer = segment.inline
        self._at = 0
        self._fetched = len(segment.inline)

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._buffer) and self._fetched >= self._segment.length

    def read(self, size: int) -> memoryview:
        missing = self._at + size - len(self._buffer)
        if missing > 0:
            # Small blocks, and those of a store, are fetched together. A large one comes with the
            # head of the next one, so that what is fetched need not be put together.
            segment = self._segment
            ahead = size <= _SMALL_BYTES or local_path(segment.path) is None
            wanted = max(missing + _HEAD.size, _READ_BYTES if ahead else 0)
            wanted = min(wanted, segment.length - self._fetched)
            more = read_range(segment.path, segment.offset + self._fetched, wanted)
            if len(more) < missing:
                raise EOFError(f"{segment.path} ends too early")
            self._fetched += len(more)
            left = self._buffer[self._at :]
            self._buffer = left + more if left else more
            self._at = 0
        begin, self._at = self._at, self._at + size
        found = memoryview(self._buffer)[begin : self._at]
        if len(self._buffer) - self._at <= _HEAD.size:  # it is not held while the block is used
            self._buffer, self._at = self._buffer[self._at :], 0
        return found


def spill_path(scratch: str, stage: int, name: str) -> str:
    """Where a file of a stage goes.

    Args:
        scratch: The folder of the run.
        stage: The stage's number.
        name: The file's name.
    """
    return join(scratch, f"stage-{stage}", name)


__all__ = [
    "BLOCK_BYTES",
    "Packer",
    "Segment",
    "SpillFile",
    "blocks_of",
    "items_of",
    "packer",
    "spill_path",
]
