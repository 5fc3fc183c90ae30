"""A project folder as one piece of bytes: made where a job is launched, unpacked where it runs.

The same files give the same bytes, and so the same digest: entries are sorted, and times and owners
are left out. What comes in is not trusted: nothing is written outside of the folder.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fray.cluster.blobs import digest_of
from fray.errors import InvalidRequestError, PayloadError

if TYPE_CHECKING:
    from fray.cluster.workspace import WorkspaceFile

DIGEST_FILE = "bundle.sha256"
"""Beside an unpacked bundle: its digest, so that a task may launch what runs on the same code."""

COMPRESSION_LEVEL = 3
"""Source compresses well at any level; what does not is not worth the time."""

_DAMAGED = (
    *(tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error),
    *(ValueError, FileExistsError),  # a name that no file can have, or that two have
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A project folder, packed.

    Attributes:
        digest: The name of the bytes.
        data: A compressed tar archive.
    """

    digest: str
    data: bytes


def pack_workspace(root: Path, files: Sequence[WorkspaceFile]) -> Bundle:
    """Packs files of a folder.

    Args:
        root: The folder.
        files: Of it, sorted by path.

    Raises:
        InvalidRequestError: A file went away meanwhile.
        OSError: One cannot be read.
    """
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", COMPRESSION_LEVEL, packed, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in files:
            entry = tarfile.TarInfo(file.path)
            entry.mode = file.mode
            if file.link:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
                archive.addfile(entry)
                continue
            content = _read(root, file)
            entry.size = len(content)  # of what was read: it may have grown since it was found
            archive.addfile(entry, io.BytesIO(content))
    data = packed.getvalue()
    return Bundle(digest_of(data), data)


def _read(root: Path, file: WorkspaceFile) -> bytes:
    try:
        return (root / file.path).read_bytes()
    except FileNotFoundError as exc:
        raise InvalidRequestError(
            f"{file.path} went away while the workspace {root} was packed: launch again"
        ) from exc


def unpack_workspace(data: bytes, folder: Path) -> None:
    """Unpacks what `pack_workspace` packed. Files become read-only: others share them.

    Args:
        data: A compressed tar archive.
        folder: An empty folder.

    Raises:
        PayloadError: It is none, or wants to write elsewhere.
        OSError: Something cannot be written.
    """
    links: list[tuple[Path, str]] = []
    made = {folder}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for entry in archive:
                path = folder / _checked(entry.name)
                if path.parent not in made:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    made.add(path.parent)
                if entry.issym():
                    links.append((path, _checked_link(entry)))
                elif entry.isreg():
                    content = archive.extractfile(entry)
                    assert content is not None
                    with open(path, "xb") as file:
                        file.write(content.read())
                    path.chmod(entry.mode & 0o555 | 0o400)
                else:
                    raise PayloadError(
                        f"a bundle has something in it that is no file: {entry.name}"
                    )
    except _DAMAGED as exc:
        raise PayloadError(f"a bundle is damaged: {exc}") from exc
    for path, target in links:  # last, so that nothing is written through them
        path.symlink_to(target)


def _checked(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise PayloadError(f"a bundle wants to write outside of its folder: {name}")
    return name


def _checked_link(entry: tarfile.TarInfo) -> str:
    target = os.path.normpath(PurePosixPath(entry.name).parent / entry.linkname)
    if entry.linkname.startswith("/") or target == ".." or target.startswith("../"):
        raise PayloadError(f"a bundle has a link out of its folder: {entry.name}")
    return entry.linkname


__all__ = ["DIGEST_FILE", "Bundle", "pack_workspace", "unpack_workspace"]
