"""Where the files of a log archive are: a directory, or any location that fsspec knows.

A store keeps whole files by their paths. Whoever reads one sees all of it or none. What blocks is
done on a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from urllib.parse import unquote, urlsplit

from fray.cluster.archive.layout import Entry, check_path
from fray.cluster.files import write_atomically
from fray.errors import ClusterUnavailable, InvalidRequestError

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem  # pyright: ignore[reportMissingTypeStubs]

T = TypeVar("T")


class Store(Protocol):
    """Files by their paths. What cannot be done now, but perhaps later, is `ClusterUnavailable`."""

    async def put(self, path: str, data: bytes) -> None:
        """Keeps a file, in place of an earlier one."""
        ...

    async def get(self, path: str) -> bytes | None:
        """A file; None where there is none."""
        ...

    async def list(self, folder: str) -> Sequence[Entry]:
        """All files below a folder, sorted by path; of the whole store for an empty name."""
        ...

    async def remove(self, paths: Sequence[str]) -> None:
        """Removes files; no effect for those that are not there."""
        ...


class DirectoryStore:
    """Files below a directory, readable by their owner alone.

    Args:
        root: Created when there is something to keep.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self._root)!r})"

    def _path(self, path: str) -> Path:
        check_path(path)
        return self._root / path

    async def put(self, path: str, data: bytes) -> None:
        """See `Store.put`."""
        await _off_loop(f"writing {path}", self._put, self._path(path), data)

    def _put(self, path: Path, data: bytes) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)  # nobody else gets further
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, data)

    async def get(self, path: str) -> bytes | None:
        """See `Store.get`."""
        return await _off_loop(f"reading {path}", self._get, self._path(path))

    @staticmethod
    def _get(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    async def list(self, folder: str) -> Sequence[Entry]:
        """See `Store.list`."""
        top = self._path(folder) if folder else self._root
        return await _off_loop(f"listing {folder or 'all'}", self._list, top)

    def _list(self, top: Path) -> Sequence[Entry]:
        found: list[Entry] = []
        for directory, _, names in os.walk(top):
            for name in names:
                path = Path(directory, name)
                try:
                    stat = path.stat()
                except FileNotFoundError:  # replaced or removed just now
                    continue
                if not name.startswith("."):
                    relative = path.relative_to(self._root).as_posix()
                    found.append(Entry(relative, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda entry: entry.path)

    async def remove(self, paths: Sequence[str]) -> None:
        """See `Store.remove`."""
        await _off_loop("removing files", self._remove, [self._path(path) for path in paths])

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in sorted({path.parent for path in paths}, key=lambda p: -len(p.parts)):
            self._remove_empty(folder)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._root and self._root in folder.parents:
            try:
                folder.rmdir()
            except OSError:  # something is in it, or it is gone
                return
            folder = folder.parent


class FsspecStore:
    """Files below a location of fsspec: ``gs://``, ``s3://``, ``memory://``, whatever is installed.

    Args:
        url: The location.

    Raises:
        InvalidRequestError: fsspec does not know such locations, or lacks a package for them.
        ClusterUnavailable: It cannot be opened now: there are no credentials for it, say.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # pyright: ignore[reportMissingTypeStubs]

        try:
            found = cast("Any", fsspec).core.url_to_fs(url)
        except (ImportError, ValueError) as exc:
            raise InvalidRequestError(
                f"logs cannot be kept in {url}: {exc} (every host needs what fsspec needs for it)"
            ) from exc
        except Exception as exc:  # each file system of fsspec has errors of its own
            raise ClusterUnavailable(
                f"the log archive {url} cannot be opened: {type(exc).__name__}: {exc}"
            ) from exc
        self._url = url
        self._fs: AbstractFileSystem = found[0]
        self._root: str = found[1].rstrip("/")

    def __repr__(self) -> str:
        return f"FsspecStore({self._url!r})"

    def _path(self, path: str) -> str:
        check_path(path)
        return f"{self._root}/{path}"

    async def put(self, path: str, data: bytes) -> None:
        """See `Store.put`."""
        fs: Any = self._fs
        await _off_loop(f"writing {path}", fs.pipe_file, self._path(path), data)

    async def get(self, path: str) -> bytes | None:
        """See `Store.get`."""
        return await _off_loop(f"reading {path}", self._get, self._path(path))

    def _get(self, path: str) -> bytes | None:
        fs: Any = self._fs
        try:
            return fs.cat_file(path)
        except FileNotFoundError:
            return None

    async def list(self, folder: str) -> Sequence[Entry]:
        """See `Store.list`."""
        top = self._path(folder) if folder else self._root
        return await _off_loop(f"listing {folder or 'all'}", self._list, top)

    def _list(self, top: str) -> Sequence[Entry]:
        fs: Any = self._fs
        fs.invalidate_cache()
        try:
            found: dict[str, dict[str, Any]] = fs.find(top, detail=True)
        except FileNotFoundError:
            return []
        return sorted(
            (
                Entry(path[len(self._root) + 1 :], int(info.get("size") or 0), _modified(info))
                for path, info in found.items()
            ),
            key=lambda entry: entry.path,
        )

    async def remove(self, paths: Sequence[str]) -> None:
        """See `Store.remove`."""
        await _off_loop("removing files", self._remove, [self._path(path) for path in paths])

    def _remove(self, paths: Sequence[str]) -> None:
        fs: Any = self._fs
        for path in paths:
            try:
                fs.rm_file(path)
            except FileNotFoundError:
                pass  # that is what was wanted


def _modified(info: dict[str, Any]) -> float:
    """When a file was written: each file system of fsspec says it by another name."""
    for key in ("mtime", "updated", "LastModified", "last_modified", "created"):
        value = info.get(key)
        if isinstance(value, int | float):
            return float(value)
        if hasattr(value, "timestamp"):
            return float(cast("Any", value).timestamp())
        if isinstance(value, str):
            from datetime import datetime

            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                continue
    return 0.0


async def _off_loop(what: str, fn: Callable[..., T], *args: Any) -> T:
    try:
        return await asyncio.to_thread(fn, *args)
    except InvalidRequestError:
        raise
    except Exception as exc:  # each file system of fsspec has errors of its own
        told = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        name = type(exc).__name__
        raise ClusterUnavailable(f"the log archive: {what} failed: {name}: {told}") from exc


def open_store(location: str) -> DirectoryStore | FsspecStore:
    """The store at a location.

    Args:
        location: A path of this machine, also as ``file://``, or a URL of fsspec.

    Raises:
        InvalidRequestError: It cannot be one.
        ClusterUnavailable: It cannot be opened now.
    """
    if "://" not in location:
        return DirectoryStore(Path(location).expanduser().absolute())
    parts = urlsplit(location)
    if parts.scheme in ("file", "local"):
        return DirectoryStore(Path(unquote(parts.path)))
    return FsspecStore(location)


def check_location(location: str) -> str:
    """Where logs are to be kept, as every host understands it.

    Args:
        location: What a person wrote: a path, or a URL.

    Returns:
        A URL, or an absolute path.

    Raises:
        InvalidRequestError: It cannot be one, or has a secret in it, which would be told around.
    """
    if not location.strip():
        raise InvalidRequestError("the location of the logs is empty")
    if "://" not in location:
        return str(Path(location).expanduser().absolute())
    if urlsplit(location).password:
        raise InvalidRequestError(
            "the location of the logs has a password in it; give hosts their credentials in the "
            "way of that storage (environment, instance role)"
        )
    if not urlsplit(location).scheme.isidentifier():
        raise InvalidRequestError(f"{location!r} is neither a path nor a URL")
    return location.rstrip("/")


def joined(location: str, folder: str) -> str:
    """The location of a folder of a location.

    Args:
        location: See `check_location`.
        folder: A name.
    """
    return f"{location.rstrip('/')}/{folder}"


__all__ = ["DirectoryStore", "FsspecStore", "Store", "check_location", "joined", "open_store"]
