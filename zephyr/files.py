"""Files anywhere that fsspec knows: found, read and written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from importlib import import_module
from typing import IO, Any, cast

import zstandard

GZIP_LEVEL = 2
ZSTD_LEVEL = 3
ZSTD_READ_BYTES = 1 << 16
"""What is decompressed at once: little, for a frame may hold a thousand times as much."""

WRITE_BYTES = 1 << 18
"""Compressors get blocks of this size, so that what they make depends on the content alone."""

_WHOLE_AT_CLOSE = frozenset({"gs", "gcs", "s3", "s3a", "abfs", "abfss", "az", "adl", "memory"})
"""Stores in which an object appears whole, so that no other name has to be used first."""

_COMPRESSED = (".gz", ".zst", ".zstd", ".bz2", ".xz")

_ROOT_OF = re.compile(r"^([a-z][a-z0-9+.-]*)://")


def protocol_of(path: str) -> str:
    """The scheme of a URL; ``"file"`` for a plain path.

    Args:
        path: The URL or path.
    """
    match = _ROOT_OF.match(path)
    scheme = match.group(1) if match else "file"
    return "file" if scheme == "local" else scheme


def local_path(path: str) -> str | None:
    """A path on this machine's file systems; None where it is elsewhere.

    Args:
        path: The URL or path.
    """
    if protocol_of(path) != "file":
        return None
    return _ROOT_OF.sub("", path)


def suffix_of(path: str) -> str:
    """The last suffix of a path, with its dot; empty where there is none.

    Args:
        path: The URL or path.
    """
    return os.path.splitext(path)[1]


def is_disk(folder: str) -> bool:
    """Whether a folder is on a disk of this machine, rather than in a store or in memory.

    A disk, with the memory that the kernel spends on it, takes more than a compressor gives.

    Args:
        folder: The URL or path.
    """
    local = local_path(folder)
    if local is None:
        return False
    here = os.path.realpath(local)
    kinds: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/mounts") as mounts:  # elsewhere than on Linux
        for line in mounts:
            _, point, kind, *_ = line.split()
            if os.path.commonpath((here, point)) == point:
                kinds[point] = kind
    return kinds[max(kinds, key=len)] not in ("tmpfs", "ramfs") if kinds else True


def join(folder: str, *names: str) -> str:
    """A path below a folder.

    Args:
        folder: A path or URL.
        *names: What follows.
    """
    return "/".join((folder.rstrip("/"), *names))


def glob(pattern: str) -> list[str]:
    """The files that match a pattern, sorted.

    As in a shell, what begins with a dot is found by a pattern that has a dot there: files that
    are being written are no input.

    Args:
        pattern: A path or URL with ``*``, ``**``, ``?``, ``[…]`` and ``{a,b}``.
    """
    scheme = _ROOT_OF.match(pattern)
    fs, _ = filesystem(pattern)
    fs.invalidate_cache()  # other processes write, too: what was listed once may be old
    found: set[str] = set()
    for one in _braces(re.sub(r"(?<!:)//+", "/", pattern)):
        literal = re.match(r"([^*?\[]*/)?", one)
        assert literal is not None, "it may match nothing"
        inside = len(filesystem(literal[0] or ".")[1])
        shows = re.search(r"(^|/)\.[^./]", one[literal.end() :]) is not None
        for path, info in cast("dict[str, Any]", fs.glob(one, detail=True)).items():
            hidden = not shows and re.search(r"(^|/)\.", path[inside:]) is not None
            if info["type"] != "directory" and not hidden:
                found.add(fs.unstrip_protocol(path) if scheme else path)
    return sorted(found)


def _braces(pattern: str) -> list[str]:
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [each for part in match.group(1).split(",") for each in _braces(before + part + after)]


def filesystem(path: str) -> tuple[Any, str]:
    """The file system of a path, and the path within.

    Args:
        path: The URL or path.
    """
    fsspec: Any = import_module("fsspec")  # only where it is needed: workers are to start at once
    fs, within = fsspec.url_to_fs(path)
    return fs, within


def exists(path: str) -> bool:
    """Whether a file is there.

    Args:
        path: The URL or path.
    """
    local = local_path(path)
    if local is not None:
        return os.path.exists(local)
    fs, within = filesystem(path)
    fs.invalidate_cache(within)
    return bool(fs.exists(within))


def remove_tree(folder: str) -> None:
    """Removes a folder and all below it; nothing where it is not there.

    Args:
        folder: A path or URL.
    """
    local = local_path(folder)
    if local is not None:
        shutil.rmtree(local, ignore_errors=True)
        return
    fs, within = filesystem(folder)
    with contextlib.suppress(FileNotFoundError):
        fs.rm(within, recursive=True)


def read_range(path: str, offset: int, length: int) -> bytes:
    """A part of a file. No file stays open in between.

    Args:
        path: The URL or path.
        offset: Where it begins, in bytes.
        length: How long it is, in bytes.
    """
    local = local_path(path)
    if local is not None:
        with open(local, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)
    fs, within = filesystem(path)
    return cast(bytes, fs.cat_file(within, start=offset, end=offset + length))


def write_bytes(path: str, content: bytes) -> None:
    """Writes a small file.

    Args:
        path: The URL or path.
        content: All of it.
    """
    local = local_path(path)
    if local is not None:
        os.makedirs(os.path.dirname(local) or ".", exist_ok=True)
        with open(local, "wb") as file:
            file.write(content)
        return
    fs, within = filesystem(path)
    fs.pipe_file(within, content)


@contextlib.contextmanager
def open_stored(path: str) -> Generator[IO[bytes]]:
    """Opens a file as it is.

    Args:
        path: The URL or path.
    """
    local = local_path(path)
    if local is not None:
        with open(local, "rb", buffering=0) as file:
            yield file  # pyright: ignore[reportReturnType]
        return
    fs, within = filesystem(path)
    fs.invalidate_cache(within)  # of its size, as it was when it was listed
    with fs.open(within, "rb") as file:
        yield file


@contextlib.contextmanager
def open_read(path: str) -> Generator[IO[bytes]]:
    """Opens a file, decompressed by its suffix: ``.gz``, ``.zst``, ``.bz2``, ``.xz``.

    Args:
        path: The URL or path.

    Raises:
        EOFError: It is empty, and ought to be compressed. What else is damaged raises one of
            `damage` when it is read.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_stored(path))
        suffix = suffix_of(path)
        if suffix in _COMPRESSED:
            if not file.read(1):
                raise EOFError("it is empty, which nothing compressed is")
            file.seek(0)
        if suffix == ".gz":
            from isal import igzip  # as other libraries: only where it is needed

            reader = igzip.IGzipFile(fileobj=file, mode="rb")
            yield cast("IO[bytes]", stack.enter_context(reader))
        elif suffix in (".zst", ".zstd"):
            yield cast("IO[bytes]", stack.enter_context(_ZstdReader(file)))
        elif suffix == ".bz2":
            import bz2

            yield cast("IO[bytes]", stack.enter_context(bz2.BZ2File(file)))
        elif suffix == ".xz":
            import lzma

            yield cast("IO[bytes]", stack.enter_context(lzma.LZMAFile(file)))
        else:
            yield file


class _ZstdReader(io.RawIOBase):
    """Decompresses frames, one after the other, and does not take the end of a file for theirs.

    The library's own reader gives what there is of a frame that was cut, and no error.

    Args:
        file: Stays the caller's.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._frame: Any = None
        self._unread = b""
        self._given = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._given:
            self._given = memoryview(self._more())
        size = min(len(buffer), len(self._given))
        buffer[:size] = self._given[:size]
        self._given = self._given[size:]
        return size

    def _more(self) -> bytes:
        """The next bytes; none at the end."""
        while True:
            data = self._unread or self._file.read(ZSTD_READ_BYTES)
            self._unread = b""
            if self._frame is None:
                if not data:
                    return b""
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            elif not data:
                raise EOFError("the file ends within what was compressed")
            made = self._frame.decompress(data)
            if self._frame.eof:
                self._unread, self._frame = self._frame.unused_data, None
            if made:
                return made


class BlockWriter:
    """Hands what is written on in blocks of one size, to a compressor where there is one."""

    def __init__(self, path: str, file: IO[bytes]) -> None:
        self._file = file
        self._waiting = bytearray()
        suffix = suffix_of(path)
        self._compressor: Any = None
        if suffix == ".gz":  # neither name nor time: equal content is to give equal files
            from isal import igzip

            self._compressor = igzip.IGzipFile("", "wb", GZIP_LEVEL, file, mtime=0)
        elif suffix in (".zst", ".zstd"):
            compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
            self._compressor = compressor.stream_writer(file, closefd=False)
        elif suffix in (".bz2", ".xz"):
            raise ValueError(f"files are written as .gz or .zst, not {suffix}: {path}")

    def write(self, content: bytes) -> None:
        """Writes some more.

        Args:
            content: The bytes.
        """
        if self._compressor is None:
            self._file.write(content)
            return
        self._waiting += content
        if len(self._waiting) < WRITE_BYTES:
            return
        view = memoryview(self._waiting)
        whole = len(view) - len(view) % WRITE_BYTES
        for at in range(0, whole, WRITE_BYTES):
            self._compressor.write(view[at : at + WRITE_BYTES])
        rest = bytes(view[whole:])
        view.release()
        self._waiting = bytearray(rest)

    def close(self) -> None:
        """Writes what is left; the file stays open."""
        if self._compressor is not None:
            self._compressor.write(bytes(self._waiting))
            self._compressor.close()


@contextlib.contextmanager
def write_whole(path: str, tag: str, may_appear: Callable[[], object]) -> Generator[IO[bytes]]:
    """Opens a file for writing that appears under its name, whole, at the end of the block.

    Where the block fails, or its process is killed, what is under that name stays as it is.

    Args:
        path: The URL or path; folders are made.
        tag: Makes the name under which a local file is written first its own.
        may_appear: Called before it appears; raises where it may not.
    """
    local = local_path(path)
    if local is not None:
        folder, name = os.path.split(local)
        os.makedirs(folder or ".", exist_ok=True)
        first = os.path.join(folder, unfinished(name, tag))
        file = _new_file(first)
        mine = os.dup(file.fileno())  # so that it can be told from any other one
        try:
            with file:
                yield file
            may_appear()
            if not _leads_to(first, mine):
                raise FileExistsError(f"{path} is being written by another process, as {first}")
            os.replace(first, local)
        except BaseException:
            if _leads_to(first, mine):
                os.remove(first)
            raise
        finally:
            os.close(mine)
        return
    with tempfile.NamedTemporaryFile(prefix="zephyr-") as file:
        yield cast("IO[bytes]", file)
        file.flush()
        may_appear()
        upload(file.name, path, tag)


def _new_file(path: str) -> IO[bytes]:
    """A file that nobody else writes.

    A job context starts an attempt again whose process it takes for dead. Should that live, it
    keeps the file that it has.
    """
    while True:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        with contextlib.suppress(FileExistsError):
            return open(path, "xb")


def _leads_to(path: str, number: int) -> bool:
    """Whether a path is that of a file which is open under a number."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except FileNotFoundError:
        return False


def upload(source: str, path: str, tag: str) -> None:
    """Brings a local file to a store, where it appears whole.

    Args:
        source: The local file.
        path: Its URL.
        tag: Makes the first name its own, where one is needed.
    """
    fs, within = filesystem(path)
    folder, _, name = within.rpartition("/")
    fs.makedirs(folder, exist_ok=True)
    if protocol_of(path) in _WHOLE_AT_CLOSE:
        fs.put_file(source, within)
        return
    first = f"{folder}/{unfinished(name, tag)}"
    fs.put_file(source, first)
    fs.mv(first, within)


def unfinished(name: str, tag: str) -> str:
    """The name of a file that is being written.

    Args:
        name: Its name at last.
        tag: By whom.
    """
    return f".{name}.{tag}.unfinished"


def forget_unfinished(path: str, tag: str) -> None:
    """Removes what a writer that was killed has left.

    Args:
        path: The name at last.
        tag: Of that writer.
    """
    local = local_path(path)
    if local is not None:
        folder, name = os.path.split(local)
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, unfinished(name, tag)))


def damage() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises."""
    import gzip

    from isal import isal_zlib

    bad_deflate = cast("type[Exception]", isal_zlib.error)
    return gzip.BadGzipFile, bad_deflate, zstandard.ZstdError, EOFError


__all__ = [
    "BlockWriter",
    "damage",
    "exists",
    "filesystem",
    "forget_unfinished",
    "glob",
    "is_disk",
    "join",
    "local_path",
    "open_read",
    "open_stored",
    "protocol_of",
    "read_range",
    "remove_tree",
    "suffix_of",
    "unfinished",
    "upload",
    "write_bytes",
    "write_whole",
]
